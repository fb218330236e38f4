import asyncio
from contextlib import aclosing
from itertools import pairwise

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.tail.events import (
    BLOCK_MAX,
    TIMEOUT,
    Away,
    Cut,
    EventParser,
    Item,
    Message,
    Opened,
    Refused,
    delay,
    follow,
)
from tests.oracle.sse import Reader
from tests.tail.gateway import CUT, HOLD, Answer, Gateway, block, price, problem, serving, status


def parsed(*chunks: bytes) -> list[Message]:
    parser = EventParser()
    return [message for chunk in chunks for message in parser.feed(chunk)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"data: a\n\n", [("message", "a", "")]),
        (b"\xef\xbb\xbfdata: a\n\n", [("message", "a", "")]),
        (b"\xef\xbb\xbf\xef\xbb\xbfdata: a\n\n", []),
        (b"data: a\r\rdata: b\r\n\r\ndata: c\n\n", [("message", t, "") for t in "abc"]),
        (b"data: a\ndata:  b\ndata\n\n", [("message", "a\n b\n", "")]),
        (b"data\n\n", [("message", "", "")]),
        (b": hb\n: data: no\nevent: t\ndata:x\n\n", [("t", "x", "")]),
        (b"event: t\n\ndata: x\n\n", [("message", "x", "")]),
        (b"id: 7-1\n\ndata: x\n\n", [("message", "x", "7-1")]),
        (b"id: 7-1\ndata: x\n\nid\ndata: y\n\n", [("message", "x", "7-1"), ("message", "y", "")]),
        (b"id: a\0b\ndata: x\n\n", [("message", "x", "")]),
        (b"data: unfinished\n", []),
        (b"data: a\xe2\x80\xa8b\x0bc\n\n", [("message", "a\u2028b\x0bc", "")]),
        (b"dat: x\n data: y\n\n", []),
    ],
)
def test_reads_as_the_standard_says(text: bytes, expected: list[tuple[str, str, str]]) -> None:
    assert [(m.event, m.data, m.id) for m in parsed(text)] == expected


@pytest.mark.parametrize(
    ("line", "retry"),
    [("retry: 1500", 1.5), ("retry: 0", 0.0), ("retry: 1.5", None), ("retry", None)],
)
def test_retry_takes_digits_only(line: str, retry: float | None) -> None:
    parser = EventParser()
    list(parser.feed(line.encode() + b"\n\n"))
    assert parser.retry == retry


def test_a_line_end_may_be_torn_between_chunks() -> None:
    assert [m.data for m in parsed(b"data: a\r", b"\ndata: b\r", b"\n\r", b"\n", b"")] == ["a\nb"]


PIECES = st.sampled_from(
    [b"data", b": ", b":", b"x", b"event", b"id", b"7-1", b"\n", b"\r", b"\r\n", b"\n\n", b"\0",
     b"\xef\xbb\xbf", b"\xe2\x82\xac", b"\xff", b" ", b"retry: 12"]
)  # fmt: skip


@given(st.lists(PIECES, max_size=60).map(b"".join), st.lists(st.integers(0, 200), max_size=6))
def test_agrees_with_the_oracle_however_it_is_cut(text: bytes, cuts: list[int]) -> None:
    edges = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    ours = parsed(*(text[start:end] for start, end in pairwise(edges)))
    theirs = Reader().feed(text)
    assert [(m.event, m.data, m.id) for m in ours] == [
        (b.event, b.data, b.last_event_id) for b in theirs
    ]


def test_a_new_connection_drops_the_unfinished_block_and_keeps_the_id() -> None:
    parser = EventParser()
    assert list(parser.feed(b"id: 7-1\ndata: a\n\nid: 7-2\nevent: t\ndata: half")) != []
    parser.begin()
    assert parser.last_id == "7-1"
    assert list(parser.feed(b"data: b\n\n")) == [Message("message", "b", "7-1")]


def test_a_block_without_end_is_given_up() -> None:
    parser = EventParser()
    endless = [b"x" * (1 << 24)] * (BLOCK_MAX // (1 << 24) + 1)
    with pytest.raises(Away, match="a block of more than"):
        [list(parser.feed(chunk)) for chunk in endless]


def test_delays_grow_to_half_a_minute_and_honour_a_longer_retry() -> None:
    assert delay(None, 0) == 2.0
    assert delay(0.5, 0) == 0.5
    assert 15.0 <= delay(2.0, 10) <= 30.0
    assert delay(45.0, 10) == 45.0


async def collect(gateway: Gateway, count: int) -> list[Item]:
    """The first ``count`` items of a followed stream."""
    got: list[Item] = []
    async with (
        asyncio.timeout(10),
        httpx.AsyncClient(timeout=TIMEOUT) as client,
        aclosing(follow(client, gateway.url + "/", ["lastprice:BTC_USDT", "trade:*"])) as items,
    ):
        async for item in items:
            got.append(item)
            if len(got) == count:
                break
    return got


async def test_resumes_by_the_last_id_after_a_cut() -> None:
    first = [status(retry=20), price("7-1", "1"), price("7-2", "2", previous="7-1"), b"id: 9-9\n"]
    async with serving(
        Answer([*first, CUT]), Answer([status(), price("7-3", "3", previous="7-2"), HOLD])
    ) as gateway:
        got = await collect(gateway, 8)
    assert isinstance(got[0], Opened)
    assert [item.id for item in got if isinstance(item, Message)] == [
        "",
        "7-1",
        "7-2",
        "7-2",
        "7-3",
    ]
    assert [item for item in got if isinstance(item, Opened)] == [Opened(""), Opened("7-2")]
    cut = got[4]
    assert isinstance(cut, Cut)
    assert cut.delay == 0.02
    assert [asked.headers.get("last-event-id") for asked in gateway.asked] == [None, "7-2"]
    assert gateway.asked[0].path == "/v1/stream"
    assert gateway.asked[0].query == {"channels": ["lastprice:BTC_USDT,trade:*"]}
    assert gateway.asked[0].headers["accept"] == "text/event-stream"


async def test_a_bye_names_its_own_delay_and_only_this_once() -> None:
    bye = block("gateway", {"type": "bye", "reason": "drain", "retry": 35})
    async with serving(
        Answer([status(retry=20), bye]), Answer([status(retry=20)]), Answer([status(), HOLD])
    ) as gateway:
        got = await collect(gateway, 7)
    cuts = [item for item in got if isinstance(item, Cut)]
    assert [(cut.reason, cut.delay) for cut in cuts] == [
        ("the stream ended", 0.035),
        ("the stream ended", 0.02),
    ]


async def test_a_server_error_is_tried_again() -> None:
    async with serving(
        problem(503, "starting", "retry-after: 0"), Answer([status(), HOLD])
    ) as gateway:
        got = await collect(gateway, 2)
    assert got == [Cut("answered 503: starting", 0.0), Opened("")]


async def test_a_gateway_that_is_not_there_is_waited_for() -> None:
    async with serving() as gateway:
        pass
    got = await collect(gateway, 1)
    assert isinstance(got[0], Cut)
    assert "connect" in got[0].reason.lower()


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (problem(404, "unknown\nmarket X_Y"), "answered 404: unknown market X_Y"),
        (Answer(status="400 Bad Request", body=b"<html>"), "answered 400: Bad Request"),
        (Answer(status="400 Bad Request", body=b"[]"), "answered 400: Bad Request"),
        (Answer(status="200 OK", kind="text/html", body=b""), "answered with text/html"),
        (Answer(status="307 See", headers=["location: /x"], body=b""), "answered 307: See"),
    ],
)
async def test_a_final_answer_ends_it(answer: Answer, text: str) -> None:
    async with serving(answer) as gateway:
        with pytest.raises(Refused, match=text):
            await collect(gateway, 1)


@pytest.mark.parametrize("url", ["ftp://localhost", "http://a:b:c", "http://xn--"])
async def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(Refused, match="is no http"):
        await collect(Gateway(url=url), 1)


async def test_an_unreadable_control_event_asks_for_nothing() -> None:
    async with serving(
        Answer([status(), b"event: gateway\ndata: {\n\n", b"event: gateway\ndata: []\n\n"]),
    ) as gateway:
        got = await collect(gateway, 5)
    assert got[-1] == Cut("the stream ended", 0.02)
