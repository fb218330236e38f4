import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from app.domain.channel import Channel
from app.domain.position import Position
from app.errors import MalformedRequest
from app.hub import sse
from tests.given import made
from tests.oracle.sse import Block, Reader, read

TEXTS = st.text(st.characters(codec="utf-8")) | st.sampled_from(
    [
        "\r",
        "\n",
        "\r\n",
        "\0",
        "\u2028",
        "\u2029",
        "\x85",
        "\x0b",
        "\x0c",
        "\x1c\x1d\x1e",
        "\ufeff",
        "data: x\n\nevent: error",
        ": ",
    ]
)


@given(data=st.dictionaries(TEXTS, TEXTS), identified=st.booleans(), cuts=st.integers(1, 40))
def test_a_reader_gets_exactly_what_was_framed(
    data: dict[str, str], *, identified: bool, cuts: int
) -> None:
    envelope = made("depth:BTC_USDT:0", "7-48213", data)
    raw = sse.frame(envelope, identified=identified)
    reader = Reader()
    for start in range(0, len(raw), cuts):
        reader.feed(raw[start : start + cuts])
    position = "7-48213" if identified else None
    expected = Block("depth", envelope.raw.decode(), position or "", position)
    assert [expected] == reader.blocks
    assert data == reader.blocks[0].json()["data"]
    assert not reader.unfinished


@given(fields=st.dictionaries(TEXTS, TEXTS), retry=st.none() | st.integers(0, 10**6))
def test_nothing_breaks_out_of_an_event_of_the_gateway_s_own(
    fields: dict[str, str], retry: int | None
) -> None:
    (block,) = read([sse.control(fields, retry=retry)])
    assert (block.event, block.id) == ("gateway", None)
    assert block.json() == fields


@given(text=st.text() | TEXTS.map("ticker:{}".format) | TEXTS.map("{}:BTC_USDT".format))
def test_what_a_channel_or_a_position_is_read_from_cannot_add_a_line(text: str) -> None:
    """The only texts of others that come near an event's name and id."""
    lines = ("\r", "\n", "\0")
    try:
        assert not any(sign in Channel.parse(text).kind for sign in lines)
    except MalformedRequest:
        pass
    position = Position.parse(text)
    assert position is None or not any(sign in str(position) for sign in lines)


def test_a_frame_is_written_as_the_contract_shows() -> None:
    envelope = made("ticker:BTC_USDT", "7-48213")
    expected = b"event: ticker\nid: 7-48213\ndata: " + envelope.raw + b"\n\n"
    assert expected == sse.frame(envelope)


def test_a_frame_without_an_id_leaves_the_reader_s_last_id_as_it_is() -> None:
    first = sse.frame(made("ticker:BTC_USDT", "7-1"))
    second = sse.frame(made("ticker:BTC_USDT", "7-2"), identified=False)
    assert [block.last_event_id for block in read([first, second])] == ["7-1", "7-1"]


def test_the_event_name_is_the_kind() -> None:
    for name in ("lastprice:X_Y", "trade:X_Y", "depth:X_Y:1", "order:X_Y", "balance:X", "deal:X_Y"):
        (block,) = read([sse.frame(made(name, "7-1"))])
        assert Channel.parse(name).kind == block.event


@given(st.dictionaries(TEXTS, TEXTS | st.integers(0, 2**53)))
def test_a_control_event_is_a_gateway_event_without_an_id(fields: dict[str, Any]) -> None:
    (block,) = read([sse.control(fields)])
    assert (block.event, block.id, block.retry) == ("gateway", None, None)
    assert fields == json.loads(block.data)


def test_a_control_event_can_begin_with_the_reconnection_time() -> None:
    raw = sse.control({"type": "status"}, retry=2000)
    assert raw.startswith(b"retry: 2000\n")
    (block,) = read([raw])
    assert block.retry == 2000


def test_a_heartbeat_is_one_comment_line_that_ends_no_block() -> None:
    assert sse.HEARTBEAT == b": hb\n"
    reader = Reader()
    reader.feed(sse.HEARTBEAT * 3 + sse.control({}) + sse.HEARTBEAT)
    assert reader.comments == [" hb"] * 4
    assert len(reader.blocks) == 1
    assert reader.empty_blocks == 0
