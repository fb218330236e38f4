"""What the gateway says of what happens: told in the documents, not without end, no secret."""

import ast
import json
import logging
import re
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.logs import (
    MOST,
    REQUEST,
    Repeats,
    configure_logging,
    logger,
    redact,
    redact_line,
)

ROOT = Path(__file__).parents[1]


pytestmark = pytest.mark.usefixtures("logging_as_before")


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
        ("no/path a?b /c/d?e/f?g h", "no/path a?b /c/d?*** h"),
    ],
)
def test_redact_line(text: str, left: str) -> None:
    assert redact_line(text) == left


@pytest.mark.timeout(10)
@pytest.mark.parametrize("piece", ["/", "a", "/a", "a://", "?", "/?", "cookie: ", "token=", "'"])
def test_what_is_long_takes_no_more_than_its_length(piece: str) -> None:
    """Twice as long in four times the time would be hours here."""
    redact_line(piece * 500_000)


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


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_what_uvicorn_tells_takes_the_same_road(capsys: pytest.CaptureFixture[str]) -> None:
    """It gives its loggers handlers of their own before it loads the application."""
    served = logging.getLogger("uvicorn.access")
    served.addHandler(logging.StreamHandler(sys.stderr))
    served.propagate = False
    served.setLevel(logging.INFO)
    try:
        configure_logging("json")
        asked = ("x:1", "GET", "/v1?any=abc", "1.1", 200)
        served.info('%s - "%s %s HTTP/%s" %d', *asked, extra={"color_message": "abc"})
    finally:
        served.setLevel(logging.NOTSET)
    (line,) = lines(capsys)
    assert line["event"] == 'x:1 - "GET /v1?*** HTTP/1.1" 200'
    assert line["logger"] == "uvicorn.access"
    assert "color_message" not in line


def test_a_line_names_the_request_that_it_is_told_in(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("json")
    token = REQUEST.set("abc-1")
    try:
        logger("room").info("hello")
        logging.getLogger("library").warning("hello")
        logger("room").info("of another", request_id="abc-2")
    finally:
        REQUEST.reset(token)
    logger("room").info("of none")
    told = [line.get("request_id") for line in lines(capsys)]
    assert told == ["abc-1", "abc-1", "abc-2", None]


def test_the_level_is_what_is_wanted(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("json", "warning")
    logger("room").info("no")
    logger("room").warning("yes")
    configure_logging("json", "debug")
    logger("room").debug("yes")
    assert [line["event"] for line in lines(capsys)] == ["yes", "yes"]


def test_of_many_lines_of_a_kind_some_are_held_back_and_counted() -> None:
    repeats = Repeats(most=2, window=10.0)
    assert [repeats.admit("a", now) for now in (0.0, 1.0, 2.0, 9.0)] == [0, 0, None, None]
    assert repeats.admit("b", 9.0) == 0, "another kind"
    assert [repeats.admit("a", now) for now in (10.0, 11.0, 12.0)] == [2, 0, None]
    assert repeats.admit("a", 30.0) == 1
    assert repeats.admit("a", 90.0) == 0, "a quiet time holds nothing back"


def test_what_is_counted_is_bounded_and_the_oldest_is_forgotten() -> None:
    repeats = Repeats(most=1, window=10.0, kinds=3)
    for number in range(100):
        assert repeats.admit(number, number / 100) == 0
        assert len(repeats) <= 3
    assert [repeats.admit(number, 1.0) for number in (99, 98, 97)] == [None] * 3
    assert repeats.admit(0, 1.0) == 0


def test_repeats_are_held_back_by_what_they_are_about(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("json", "debug")
    for _ in range(MOST + 5):
        logger("room").info("crossed", channel="a", reason="any text")
        logger("room").info("crossed", channel="b", reason="any other text")
        logger("room").info("stream ended", reason="slow")
        logger("room").info("stream ended", reason="gone")
        logger("room").debug("crossed")
        logging.getLogger("library").warning("%s", "crossed")
        logging.getLogger("library").info("asked for")
    told = lines(capsys)
    assert sum(line.get("channel") == "a" for line in told) == MOST
    assert sum(line.get("reason") == "gone" for line in told) == MOST
    assert sum(line["level"] == "debug" for line in told) == MOST + 5
    assert sum(line["event"] == "asked for" for line in told) == MOST + 5
    assert len(told) == 5 * MOST + 2 * (MOST + 5)


def test_the_next_line_says_how_many_were_held_back(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr("app.logs.time.monotonic", lambda: now)
    configure_logging("json")
    for _ in range(MOST + 5):
        logger("room").info("crossed")
        logging.getLogger("library").warning("hello")
    now += 60
    logger("room").info("crossed")
    logging.getLogger("library").warning("hello")
    assert [line.get("suppressed") for line in lines(capsys)[-2:]] == [5, 5]


LEVELS = {"debug", "info", "warning", "error", "critical", "exception", "log"}
Told = dict[str, set[tuple[str, frozenset[str]]]]


def logged() -> Told:
    """Every event that the gateway logs: its levels and the names of its fields."""
    found: Told = {}
    for path in sorted((ROOT / "app").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Call(
                    func=ast.Attribute(value=ast.Name(id="log" | "_log"), attr=level)
                ) if level in LEVELS:
                    event = node.args[-1]
                    where = f"{path.name}:{node.lineno}"
                    assert isinstance(event, ast.Constant), f"{where}: no constant event"
                    fields = {str(one.arg) for one in node.keywords} - {"request_id"}
                    if level == "exception" or "exc_info" in fields:
                        fields = fields - {"exc_info"} | {"exception"}
                    level = {"exception": "error", "log": "by status"}.get(level, level)
                    found.setdefault(str(event.value), set()).add((level, frozenset(fields)))
    return found


def documented() -> Told:
    """The same, as the table in the operator's guide has it."""
    text = (ROOT / "docs" / "operations.md").read_text()
    table = text.partition("| Event | Level | Fields | |\n")[2].partition("\n\n")[0]
    found: Told = {}
    for row in table.splitlines()[1:]:
        _, event, level, fields, _, _ = row.split("|")
        kind = level.strip(), frozenset(re.findall(r"`(\w+)`", fields))
        found.setdefault(event.strip(" `"), set()).add(kind)
    return found


def test_the_documents_tell_every_event_its_level_and_its_fields() -> None:
    assert logged() == documented()
