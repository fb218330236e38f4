"""What the gateway says of what happens: no secret, no control character."""

import json
import logging
import re
import sys
from collections.abc import Iterator

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from app.logs import configure_logging, logger, redact, redact_line


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    handlers, level = logging.root.handlers, logging.root.level
    yield
    logging.root.handlers, logging.root.level = handlers, level
    structlog.reset_defaults()


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("ws://x/ws?token=abc123 failed", "ws://x/ws?token=*** failed"),
        ("?a=1&ticket=t&b=2", "?a=1&ticket=***&b=2"),
        ("SIGN=00ff", "SIGN=***"),
        ("api_key='x'", "api_key='x'"),
        ("authorization=Bearer", "authorization=***"),
        ("monkey=banana", "monkey=banana"),
        ("access_token=abc", "access_token=***"),
        ("api_key=abc&apikey=abc", "api_key=***&apikey=***"),
        ("password=abc x", "password=*** x"),
        ("authorization=Bearer abc", "authorization=Bearer ***"),
        ("Authorization: Bearer abc", "Authorization: Bearer ***"),
        ("Authorization: Basic abc", "Authorization: Basic ***"),
        ("x-api-key: abc", "x-api-key: ***"),
        ("{'sign': 'abc'}", "{'sign': '***'}"),
        ('{"a": 1, "token": "abc"}', '{"a": 1, "token": "***"}'),
        ("{'X-API-Key': 'abc', 'a': 'b'}", "{'X-API-Key': '***', 'a': 'b'}"),
        ("{'authorization': 'Bearer abc'}", "{'authorization': 'Bearer ***'}"),
        ("{'monkey': 'banana'}", "{'monkey': 'banana'}"),
        (
            "no socket token: token endpoint answered with status 500",
            "no socket token: token endpoint answered with status 500",
        ),
        ("line\nbreak\x1b[31m\u2028", "line\\nbreak\\x1b[31m\\u2028"),
    ],
)
def test_redact(text: str, left: str) -> None:
    assert redact(text) == left


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("GET /v1/stream?channels=a&any=abc HTTP/1.1", "GET /v1/stream?*** HTTP/1.1"),
        ("wss://x.example/ws?any=abc: refused", "wss://x.example/ws?*** refused"),
        ("cookie: a=abc; b=abc", "cookie: ***"),
        ("Set-Cookie: a=abc; Path=/", "Set-Cookie: ***"),
        ("[(b'cookie', b'a=abc; b=abc'), (b'x', b'y')]", "[(b'cookie', b'***'), (b'x', b'y')]"),
        ("(b'authorization', b'Bearer abc')", "(b'authorization', b'***')"),
        ("(b'x-api-key', b'abc')", "(b'x-api-key', b'***')"),
        ("is it so? yes", "is it so? yes"),
        ("how? /path", "how? /path"),
        ("token=abc", "token=***"),
    ],
)
def test_redact_line(text: str, left: str) -> None:
    assert redact_line(text) == left


@given(st.text())
def test_what_is_redacted_is_one_line_without_control_characters(text: str) -> None:
    assert not re.search(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]", redact(text))


def test_json_lines(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("json")
    logger("room").info("hello\nworld", url="ws://x?token=abc", count=3)
    logging.getLogger("uvicorn.error").warning("from a library: %s", "sign=abc")
    crash = ValueError("token=abc\x1b[31m at /v1?any=abc")
    logger("room").critical("crashed", exc_info=crash)
    told = capsys.readouterr().err
    first, second, third = map(json.loads, told.splitlines())
    assert (first["level"], first["logger"]) == ("info", "room")
    assert first["url"] == "ws://x?***"
    assert first["count"] == 3
    assert first["timestamp"].endswith("Z")
    assert second["event"] == "from a library: sign=***"
    assert "ValueError" in json.dumps(third)
    assert "abc" not in told
    assert "\x1b" not in told


def test_what_is_inside_of_a_field_is_redacted_too(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("json")
    logger("room").info(
        "hello",
        ticket="abc",
        headers={"Cookie": "abc", "x-api-key": "abc", "host": "x"},
        seen=["token=abc", {"password": "abc"}, ("/path?q=abc", 1)],
        raw=b"authorization: Bearer abc",
        found=None,
    )
    (line,) = map(json.loads, capsys.readouterr().err.splitlines())
    assert "abc" not in json.dumps(line)
    assert line["headers"]["host"] == "x"
    assert line["seen"][2] == ["/path?***", 1]
    assert line["found"] is None


def test_loggers_with_handlers_of_their_own_are_redacted(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """As uvicorn sets them up itself."""
    for _ in range(2):
        configure_logging("json")
    for name in ("uvicorn.access", "uvicorn.error", "uvicorn.asgi"):
        own, handler = logging.getLogger(name), logging.StreamHandler(sys.stderr)
        own.addHandler(handler)
        own.setLevel(1)
        try:
            own.log(5, '%s - "%s %s" %d %s', "x", "GET", "/v1?any=abc", 200, "ticket=abc")
        finally:
            own.removeHandler(handler)
            own.setLevel(logging.NOTSET)
        assert sum(isinstance(one, logging.Filter) for one in own.filters) == 1
    told = capsys.readouterr().err
    assert 'x - "GET /v1?***" 200 ticket=***' in told
    assert "abc" not in told


def test_console_lines(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("console")
    logger("room").info("hello", url="ws://x?token=abc")
    told = capsys.readouterr().err
    assert "hello" in told
    assert "abc" not in told


def test_chatty_libraries_are_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("json")
    for name in ("httpx", "httpcore", "websockets", "uvicorn.access"):
        logging.getLogger(name).info("every request")
    assert capsys.readouterr().err == ""
