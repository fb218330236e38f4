"""The settings: defaults, what they accept, and that everything wrong is told at once."""

import math
import os
import re
from typing import Any

import pytest
from pydantic import SecretStr

from app.domain.channel import Channel
from app.settings import Settings, SettingsError, read_settings
from tests.e2e.process import run

SECRET = "hush-hush"


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: Any) -> None:
    """No setting of this machine, and no .env file."""
    for name in list(os.environ):
        if name.startswith("SLUICE_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path_factory.mktemp("empty"))


def refusal(monkeypatch: pytest.MonkeyPatch, **given: str) -> list[str]:
    """The problems that environment variables cause, named in lower case."""
    for name, text in given.items():
        monkeypatch.setenv(f"SLUICE_{name.upper()}", text)
    with pytest.raises(SettingsError) as caught:
        read_settings()
    assert str(caught.value) == "\n".join(caught.value.problems)
    return caught.value.problems


def test_the_defaults_of_the_contract() -> None:
    settings = read_settings()
    found = {
        name: getattr(settings, name)
        for name in (
            "broker_url",
            "role",
            "upstream_user_id",
            "upstream_api_key",
            "upstream_connections",
            "upstream_ping_interval",
            "upstream_pong_timeout",
            "channels",
            "max_followed",
            "linger",
            "history",
            "heartbeat",
            "stream_lifetime",
            "drain",
            "stale_after",
            "mute_after",
            "lease_ttl",
            "anonymous",
            "cors_origins",
            "allowed_hosts",
            "forwarded_allow_ips",
            "max_streams",
            "max_streams_per_client",
            "rate_limit",
            "log_format",
        )
    }
    assert found == {
        "broker_url": SecretStr("memory://"),
        "role": "all",
        "upstream_user_id": None,
        "upstream_api_key": None,
        "upstream_connections": 2,
        "upstream_ping_interval": 20,
        "upstream_pong_timeout": 10,
        "channels": ("lastprice:*", "ticker:*", "trade:*"),
        "max_followed": 1000,
        "linger": 60,
        "history": 100_000,
        "heartbeat": 15,
        "stream_lifetime": 3600,
        "drain": 1,
        "stale_after": 30,
        "mute_after": 60,
        "lease_ttl": 5,
        "anonymous": "market",
        "cors_origins": (),
        "allowed_hosts": None,
        "forwarded_allow_ips": "127.0.0.1",
        "max_streams": 20_000,
        "max_streams_per_client": 64,
        "rate_limit": "100/second",
        "log_format": None,
    }
    assert settings.upstream_ws_url.startswith("wss://")
    assert settings.upstream_api_url.startswith("https://")


def test_the_environment_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLUICE_CHANNELS", " ticker:*, depth:BTC_USDT:0 ,")
    monkeypatch.setenv("SLUICE_UPSTREAM_API_URL", "http://127.0.0.1:9000/")
    monkeypatch.setenv("SLUICE_CORS_ORIGINS", "https://a.example,http://localhost:3000")
    monkeypatch.setenv("SLUICE_HEARTBEAT", "0.5")
    monkeypatch.setenv("SLUICE_LINGER", "")
    settings = read_settings()
    assert settings.channels == ("ticker:*", "depth:BTC_USDT:0")
    assert settings.pinned == {Channel.parse("ticker:*"), Channel.parse("depth:BTC_USDT:0")}
    assert settings.upstream_api_url == "http://127.0.0.1:9000"
    assert settings.cors_origins == ("https://a.example", "http://localhost:3000")
    assert settings.heartbeat == 0.5
    assert settings.linger == 60, "what is empty is not set"


def test_a_file_is_read_and_the_environment_wins(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    (tmp_path / ".env").write_text("SLUICE_HISTORY=5\nSLUICE_LINGER=7\nOTHER=1\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SLUICE_LINGER", "8")
    settings = read_settings()
    assert (settings.history, settings.linger) == (5, 8)


def test_what_is_given_wins_over_both(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLUICE_HISTORY", "5")
    assert read_settings(history=6).history == 6
    monkeypatch.setenv("SLUICE_LINGER", "never")
    with pytest.raises(SettingsError, match="SLUICE_LINGER"):
        read_settings(history=6)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("broker_url", "kafka://x"),
        ("broker_url", "redis+kafka://localhost"),
        ("broker_url", "redis://"),
        ("broker_url", "redis://localhost/mine"),
        ("broker_url", "redis://localhost:0/0"),
        ("broker_url", "redis://one:1,two:2/0"),
        ("broker_url", "redis+sentinel://one:1,two:2"),
        ("broker_url", "redis://localhost?db=x"),
        ("role", "leader"),
        ("upstream_ws_url", "http://x"),
        ("upstream_ws_url", "wss://"),
        ("upstream_ws_url", "ws://x/ws?token=1"),
        ("upstream_api_url", "example.org"),
        ("upstream_api_url", "ftp://example.org"),
        ("upstream_markets_url", "https://user@example.org"),
        ("upstream_scales_url", "https://example.org#x"),
        ("upstream_api_url", "http://[::1"),
        ("upstream_api_url", "http://127.0.0.1:99999"),
        ("upstream_api_url", "http://xn--/"),
        ("jwt_jwks_url", "https://xn--a.example/keys"),
        ("upstream_connections", "0"),
        ("upstream_connections", "1.5"),
        ("upstream_ping_interval", "60"),
        ("upstream_pong_timeout", "-1"),
        ("channels", "ticker"),
        ("channels", "depth:*"),
        ("channels", "order:btc_usdt"),
        ("max_followed", "0"),
        ("linger", "0"),
        ("history", "0"),
        ("history", "1e3"),
        ("history", "10000001"),
        ("heartbeat", "nan"),
        ("heartbeat", "inf"),
        ("stream_lifetime", "soon"),
        ("drain", "-1"),
        ("drain", "nan"),
        ("anonymous", "all"),
        ("cors_origins", "*"),
        ("cors_origins", "https://a.example/"),
        ("cors_origins", "https://*.example"),
        ("cors_origins", "a.example"),
        ("cors_origins", "https://"),
        ("cors_origins", "https://A.example"),
        ("cors_origins", "https://a.example:443"),
        ("cors_origins", "http://a.example:80"),
        ("cors_origins", "https://a.example:"),
        ("cors_origins", "https://a.example:x"),
        ("cors_origins", "https://me@a.example"),
        ("cors_origins", "https://a.example,null"),
        ("allowed_hosts", "https://gate.example"),
        ("allowed_hosts", "gate.example,*.example"),
        ("forwarded_allow_ips", "10.0.0.1/8"),
        ("forwarded_allow_ips", "127.0.0.1,proxy"),
        ("jwt_secret", "short"),
        ("jwt_secret", "-----BEGIN PUBLIC KEY----- and some more text"),
        ("jwt_jwks_url", "keys.example/set"),
        ("jwt_jwks_url", "file:///etc/passwd"),
        ("jwt_audience", "us"),
        ("jwt_issuer", "them"),
        ("anonymous", "none"),
        ("max_streams", "0"),
        ("max_streams_per_client", "x"),
        ("rate_limit", "100"),
        ("rate_limit", "0/second"),
        ("log_format", "xml"),
    ],
)
def test_a_wrong_value_names_its_variable(
    monkeypatch: pytest.MonkeyPatch, name: str, text: str
) -> None:
    (problem,) = refusal(monkeypatch, **{name: text})
    assert re.match(f"SLUICE_{name.upper()}\\b.{{5}}", problem) or name == "jwt_issuer"
    assert f"SLUICE_{name.upper()}" in problem


def test_contradictions_between_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    problems = refusal(
        monkeypatch,
        upstream_user_id="someone",
        upstream_ping_interval="40",
        upstream_pong_timeout="30",
    )
    assert len(problems) == 2, "a line each"
    assert "SLUICE_UPSTREAM_API_KEY" in problems[0]
    assert "SLUICE_UPSTREAM_PING_INTERVAL" in problems[1]


@pytest.mark.parametrize(
    ("wrong", "beside"),
    [
        ({"jwt_secret": "short"}, {"anonymous": "none"}),
        ({"jwt_secret": "short"}, {"jwt_audience": "us"}),
        ({"broker_url": "redis://host:bad"}, {"role": "serve"}),
        ({"upstream_ping_interval": "55"}, {"upstream_pong_timeout": "59"}),
    ],
)
def test_what_cannot_be_read_contradicts_nothing(
    monkeypatch: pytest.MonkeyPatch, wrong: dict[str, str], beside: dict[str, str]
) -> None:
    """What others contradict is told beside it."""
    (name,) = wrong
    first, second = refusal(monkeypatch, **wrong, **beside, upstream_user_id="someone")
    assert first.startswith(f"SLUICE_{name.upper()}: ")
    assert second.startswith("SLUICE_UPSTREAM_USER_ID and ")


def test_all_that_is_wrong_about_rights_and_limits_is_told_at_once_with_status_2() -> None:
    wrong = {
        "SLUICE_ANONYMOUS": "none",
        "SLUICE_JWT_AUDIENCE": "us",
        "SLUICE_CORS_ORIGINS": "https://a.example/",
        "SLUICE_ALLOWED_HOSTS": "https://gate.example",
        "SLUICE_FORWARDED_ALLOW_IPS": "proxy",
        "SLUICE_RATE_LIMIT": "fast",
        "SLUICE_MAX_STREAMS": "0",
        "SLUICE_MAX_STREAMS_PER_CLIENT": "-1",
    }
    for command, status in ((["serve"], 2), (["keys", "list"], 2), (["check"], 1)):
        ended = run(*command, environment=wrong)
        assert ended.returncode == status, ended.stderr
        assert [name for name in wrong if name not in ended.stderr + ended.stdout] == []
    secret = {"SLUICE_JWT_SECRET": SECRET, "SLUICE_JWT_JWKS_URL": f"https://me:{SECRET}@host/set"}
    ended = run("serve", environment=secret)
    assert ended.returncode == 2
    assert all(name in ended.stderr for name in secret)
    assert SECRET not in ended.stderr + ended.stdout


@pytest.mark.parametrize("role", ["feed", "serve"])
def test_a_role_needs_other_processes(monkeypatch: pytest.MonkeyPatch, role: str) -> None:
    (problem,) = refusal(monkeypatch, role=role)
    assert problem.startswith(f"SLUICE_ROLE {role} needs other processes")


def test_everything_that_is_wrong_is_told_at_once_and_no_secret(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    problems = refusal(
        monkeypatch,
        history="many",
        broker_url=f"kafka://:{SECRET}@localhost/0",
        upstream_api_url=f"https://me:{SECRET}@example.org",
        upstream_ws_url=f"wss://example.org?token={SECRET}",
        upstream_api_key=SECRET,
    )
    told = "\n".join(problems)
    for name in ("HISTORY", "BROKER_URL", "UPSTREAM_API_URL", "UPSTREAM_WS_URL", "USER_ID"):
        assert name in told
    assert SECRET not in told


@pytest.mark.parametrize(
    "url",
    [
        "redis://localhost:6379/0",
        "rediss://user:word@redis.example.org/3?ssl_cert_reqs=none",
        "redis+sentinel://one:26379,two:26379,three/sluice?db=2",
        "redis+cluster://:word@one:6379,two",
    ],
)
def test_every_form_of_a_broker_is_taken(url: str) -> None:
    settings = read_settings(broker_url=SecretStr(url), role="serve")
    assert settings.shared
    assert settings.broker_url.get_secret_value() == url
    assert "word" not in repr(settings)


@pytest.mark.parametrize(
    "text",
    [
        f"{SECRET}@localhost",
        f":{SECRET}",
        SECRET,
        f"redis://:{SECRET}@localhost:none/0",
        f"redis://:{SECRET}\u2100@localhost/0?db=x",
        f"redis://:{SECRET}/x@localhost/0",
        f"redis+sentinel://:{SECRET}@localhost",
    ],
)
def test_a_misspelt_broker_is_not_printed_whole(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    assert SECRET not in "\n".join(refusal(monkeypatch, broker_url=text))


def test_a_password_that_breaks_a_url_is_not_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    for text in ("wss://user:hunter2/x@host/ws", "wss://user:hunter2\u2100@host/ws"):
        (problem,) = refusal(monkeypatch, upstream_ws_url=text)
        assert problem.startswith("SLUICE_UPSTREAM_WS_URL: ")
        assert "hunter" not in problem
        assert "user:" not in problem


def test_a_secret_is_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLUICE_UPSTREAM_USER_ID", "someone-secret")
    monkeypatch.setenv("SLUICE_UPSTREAM_API_KEY", SECRET)
    settings = read_settings()
    assert SECRET not in repr(settings) + str(settings)
    assert "someone-secret" not in repr(settings)
    assert settings.upstream_api_key is not None
    assert settings.upstream_api_key.get_secret_value() == SECRET


def test_settings_do_not_change() -> None:
    settings = read_settings()
    with pytest.raises(ValueError, match="frozen"):
        settings.history = 1


def test_every_number_has_a_bound() -> None:
    for name, field in Settings.model_fields.items():
        if field.annotation in {int, float}:
            assert field.metadata, f"{name} takes any number"
            assert math.isfinite(field.default)
