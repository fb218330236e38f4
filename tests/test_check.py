"""``sluice check`` against a simulated exchange: a line for everything wrong, naming variables."""

import asyncio
import json
import re
import resource
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from jwt.algorithms import OKPAlgorithm

from app.check import SPARE, Finding
from app.check import check as look
from app.settings import Settings
from app.simulator import Options, Simulator
from tests.e2e.gateway import ROOT, free_port
from tests.e2e.process import on_exchange, run, settings_for
from tests.redis.servers import Server, server
from tests.tail.gateway import Answer, serving

KEY = "hush-hush"


def installed(exchange: Simulator, **given: Any) -> Settings:
    """Settings that any machine has descriptors for."""
    return settings_for(exchange, **({"max_streams": 100} | given))


async def check(settings: Settings, **given: Any) -> list[str]:
    """The lines that are told."""
    return [str(one) for one in await look(settings, **given)]


async def warned(settings: Settings, **given: Any) -> Finding:
    """The only thing that is told, which is nothing wrong."""
    (found,) = await look(settings, **given)
    assert not found.wrong
    assert str(found).startswith(f"warning: {found.names}: ")
    return found


@pytest.fixture(name="options")
def _options() -> Options:
    return Options(port=0, rate=0, account=False, api_key=KEY)


async def test_nothing_is_wrong(options: Options) -> None:
    async with Simulator(options) as exchange:
        assert await check(installed(exchange)) == []


@pytest.mark.parametrize(
    "wrong", [{"upstream_api_key": "another"}, {"upstream_user_id": "somebody-else"}]
)
async def test_credentials_that_the_exchange_refuses(
    options: Options, wrong: dict[str, str]
) -> None:
    async with Simulator(options) as exchange:
        (problem,) = await check(installed(exchange, **wrong))
        assert problem.startswith("SLUICE_UPSTREAM_USER_ID, SLUICE_UPSTREAM_API_KEY")
        assert not any(secret in problem for secret in (KEY, *wrong.values()))


async def test_no_credentials(options: Options) -> None:
    async with Simulator(options) as exchange:
        (problem,) = await check(installed(exchange, upstream_user_id=None, upstream_api_key=None))
        assert "SLUICE_UPSTREAM_USER_ID" in problem
        assert "not set" in problem


async def test_each_host_that_does_not_answer_is_named(options: Options) -> None:
    silent = f"http://127.0.0.1:{free_port()}"
    async with Simulator(options) as exchange:
        problems = await check(
            installed(exchange, upstream_api_url=silent, upstream_scales_url=silent)
        )
        assert len(problems) == 2
        assert "SLUICE_UPSTREAM_API_URL" in problems[0]
        assert "SLUICE_UPSTREAM_SCALES_URL" in problems[1]
        dead = silent.replace("http", "ws")
        (problem,) = await check(installed(exchange, upstream_ws_url=dead))
        assert problem.startswith("SLUICE_UPSTREAM_WS_URL")
        problems = await check(installed(exchange, upstream_markets_url=silent))
        assert [problem.partition(":")[0] for problem in problems] == [
            "SLUICE_UPSTREAM_MARKETS_URL"
        ]


async def test_an_exchange_that_fails(options: Options) -> None:
    async with Simulator(options) as exchange:
        exchange.control.set(token="500", rest="malformed")
        problems = await check(installed(exchange))
        assert len(problems) == 3
        assert "500" in problems[0]
        assert "json" in problems[1]
        assert "json" in problems[2]
        assert KEY not in "".join(problems)


async def test_an_empty_market_list(options: Options) -> None:
    empty = Answer(kind="application/json", body=b'{"result": []}')
    async with Simulator(options) as exchange, serving(empty) as other:
        (problem,) = await check(installed(exchange, upstream_markets_url=other.url))
        assert problem.startswith("SLUICE_UPSTREAM_MARKETS_URL")


async def test_workers_without_a_broker_to_share(options: Options) -> None:
    async with Simulator(options) as exchange:
        (problem,) = await check(installed(exchange), workers=2)
        assert problem.startswith("SLUICE_BROKER_URL: 2 workers need a Redis")


async def test_an_address_that_is_not_ours(options: Options) -> None:
    async with Simulator(options) as exchange:
        (problem,) = await check(installed(exchange), host="192.0.2.1")
        assert problem.startswith("--host: 192.0.2.1 cannot be served on: ")


async def test_an_address_that_others_reach_wants_names(options: Options) -> None:
    async with Simulator(options) as exchange:
        found = await warned(installed(exchange), host="0.0.0.0")
        assert found.names == "SLUICE_ALLOWED_HOSTS"
        assert "421" in found.text
        named = installed(exchange, allowed_hosts="gateway.example")
        assert await check(named, host="0.0.0.0") == []
        assert await check(installed(exchange), host="localhost") == []


async def test_believing_every_proxy(options: Options) -> None:
    async with Simulator(options) as exchange:
        good = installed(exchange, forwarded_allow_ips="10.0.0.1, 10.1.0.0/16,::1")
        assert await check(good) == []
        found = await warned(installed(exchange, forwarded_allow_ips="*"))
        assert "SLUICE_RATE_LIMIT" in found.text


async def test_more_streams_than_open_files(options: Options) -> None:
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY:
        pytest.skip("there is no limit here")
    async with Simulator(options) as exchange:
        assert await check(installed(exchange, max_streams=hard - SPARE)) == []
        found = await warned(installed(exchange, max_streams=hard - SPARE + 1))
        assert found.names == "SLUICE_MAX_STREAMS"
        assert f"gives a process {hard} open files" in found.text


async def test_a_file_of_keys(options: Options, tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    async with Simulator(options) as exchange:
        settings = installed(exchange, api_keys_file=file)
        assert "is not there" in (await warned(settings)).text
        made = run("keys", "create", "--name", "x", "--scopes", "market", "--file", str(file))
        assert made.returncode == 0
        assert await check(settings) == []
        file.chmod(0o644)
        assert "others may read" in (await warned(settings)).text
        for mode in (0o620, 0o602):
            file.chmod(mode)
            (problem,) = await check(settings)
            assert problem.startswith(f"SLUICE_API_KEYS_FILE: others may write {file} (mode 0")
        folder = installed(exchange, api_keys_file=tmp_path)
        (problem,) = await check(folder)
        assert problem.startswith("SLUICE_API_KEYS_FILE: ")


async def test_where_the_keys_of_tokens_come_from(options: Options) -> None:
    key = json.loads(OKPAlgorithm.to_jwk(Ed25519PrivateKey.generate().public_key()))
    good = Answer(kind="application/json", body=json.dumps({"keys": [key]}).encode())
    empty = Answer(kind="application/json", body=b'{"keys": []}')
    async with Simulator(options) as exchange, serving(good, empty) as source:
        settings = installed(exchange, jwt_jwks_url=source.url)
        assert await check(settings) == []
        (problem,) = await check(settings)
        assert problem.startswith(f"SLUICE_JWT_JWKS_URL: no keys from {source.url}: the set holds")
        silent = f"http://127.0.0.1:{free_port()}"
        (problem,) = await check(installed(exchange, jwt_jwks_url=silent))
        assert problem.startswith(f"SLUICE_JWT_JWKS_URL: no keys from {silent}: ")


async def test_a_misspelt_variable_is_named_wherever_it_stands(
    options: Options, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SLUICE_HISTROY", "5")
    (tmp_path / ".env").write_text("SLUICE_DRIAN=5\nexport SLUICE_DRAIN=5\nANOTHERS=1\n")
    async with Simulator(options) as exchange:
        assert await check(installed(exchange)) == [
            "SLUICE_DRIAN: there is no such setting",
            "SLUICE_HISTROY: there is no such setting",
        ]


async def test_the_command_tells_warnings_from_what_is_wrong(
    options: Options,
) -> None:
    async with Simulator(options) as exchange:
        environment = on_exchange(
            exchange.url, upstream_api_key=KEY, forwarded_allow_ips="*", max_streams=100
        )
        done = await asyncio.to_thread(run, "check", environment=environment)
        assert done.returncode == 0, done.stdout
        first, last = done.stdout.splitlines()
        assert first.startswith("warning: SLUICE_FORWARDED_ALLOW_IPS: ")
        assert last == "nothing is wrong"
        done = await asyncio.to_thread(run, "check", "--workers", "2", environment=environment)
        assert done.returncode == 1
        assert "nothing is wrong" not in done.stdout


class TestBroker:
    """What keeps a real Redis from being the broker."""

    @pytest.fixture(name="redis")
    async def _redis(self, tmp_path: Path) -> AsyncIterator[Server]:
        async with server(tmp_path, requirepass=KEY) as running:
            yield running

    @staticmethod
    def url(redis: Server, password: str = KEY) -> str:
        return f"redis://:{password}@127.0.0.1:{redis.port}/0"

    async def check(self, options: Options, url: str, **given: Any) -> list[str]:
        async with Simulator(options) as exchange:
            problems = await check(installed(exchange, broker_url=url, **given))
        assert KEY not in "".join(problems)
        assert all(problem.startswith("SLUICE_BROKER_URL: ") for problem in problems)
        return problems

    async def test_a_good_one(self, options: Options, redis: Server) -> None:
        assert await self.check(options, self.url(redis)) == []

    async def test_a_process_that_only_serves_needs_no_credentials(
        self, options: Options, redis: Server
    ) -> None:
        nobody = {"upstream_user_id": None, "upstream_api_key": None}
        assert await self.check(options, self.url(redis), role="serve", **nobody) == []

    async def test_a_wrong_password(self, options: Options, redis: Server) -> None:
        (problem,) = await self.check(options, self.url(redis, "another"))
        assert f"redis://127.0.0.1:{redis.port}/0 cannot be used" in problem
        assert "another" not in problem

    async def test_nobody_there(self, options: Options, redis: Server) -> None:
        await redis.kill()
        (problem,) = await self.check(options, self.url(redis))
        assert "cannot be used" in problem

    async def test_a_replica(self, options: Options, redis: Server, tmp_path: Path) -> None:
        async with server(tmp_path, replicaof=f"127.0.0.1 {redis.port}") as replica:
            problems = await self.check(options, replica.url)
        assert "replica" in problems[0]

    async def test_one_that_keeps_nothing_is_a_warning(
        self, options: Options, redis: Server
    ) -> None:
        await redis.ask("CONFIG", "SET", "appendonly", "no")
        async with Simulator(options) as exchange:
            found = await warned(installed(exchange, broker_url=self.url(redis)))
        assert (found.names, "appendonly no" in found.text) == ("SLUICE_BROKER_URL", True)

    async def test_one_that_evicts_keys(self, options: Options, redis: Server) -> None:
        await redis.ask("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
        (problem,) = await self.check(options, self.url(redis))
        assert "maxmemory-policy allkeys-lru" in problem

    async def test_a_user_without_rights(self, options: Options, redis: Server) -> None:
        await redis.ask("ACL", "SETUSER", "poor", "on", f">{KEY}", "~*", "&*", "+@all", "-eval")
        url = f"redis://poor:{KEY}@127.0.0.1:{redis.port}/0"
        (problem,) = await self.check(options, url)
        assert "eval" in problem.lower()

    @pytest.mark.parametrize(("user", "role"), [("sluice-feed", "feed"), ("sluice-serve", "serve")])
    async def test_the_users_that_the_operations_guide_makes(
        self, options: Options, redis: Server, user: str, role: str
    ) -> None:
        guide = (ROOT / "docs" / "operations.md").read_text()
        (line,) = re.findall(rf"^user {user} +(.*)$", guide, re.MULTILINE)
        await redis.ask("ACL", "SETUSER", user, *line.replace(">…", f">{KEY}").split())
        url = f"redis://{user}:{KEY}@127.0.0.1:{redis.port}/0"
        assert await self.check(options, url, role=role) == []

    async def test_a_user_that_may_not_keep_tickets(self, options: Options, redis: Server) -> None:
        keys = ("%R~{sluice}:*", "~{sluice}:probe", "~{sluice}:events:*", "&*")
        await redis.ask("ACL", "SETUSER", "poor", "on", f">{KEY}", *keys, "+@all")
        url = f"redis://poor:{KEY}@127.0.0.1:{redis.port}/0"
        (problem,) = await self.check(options, url, role="serve")
        assert "keeps no tickets and sessions: NoPermissionError" in problem
        assert "~{sluice}:ticket:* and ~{sluice}:session:*" in problem
        assert await self.check(options, url, role="feed") == []
