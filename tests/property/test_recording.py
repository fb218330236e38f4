"""Five minutes of real market data through Sequencer and Store, digit by digit.

The frames are read with the standard library alone, so that a misreading in the gateway's own
wire code cannot hide here.
"""

import gzip
import json
from collections.abc import Iterator
from decimal import Decimal
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

from app.domain.channel import Channel, Kind, depth
from app.domain.event import Entry, Event
from app.domain.sequencer import Sequencer
from app.domain.store import Store
from tests.oracle.client import Client

FOLDER = Path(__file__).parents[2].parent / "shared" / "recordings"

pytestmark = pytest.mark.skipif(
    not (FOLDER / "market.jsonl.gz").exists(),
    reason="the recordings are not there: expected them in ../shared/recordings",
)


def digits(number: str) -> str:
    return format(Decimal(number), "f") if "e" in number.lower() else number


def event(message: dict[str, Any], received: float) -> Event:
    """A frame of the recording, read by protocol 3 and nothing else."""
    data = message["data"]
    kind = Kind(message["method"].removesuffix("_update"))
    if kind is Kind.DEPTH:
        channel = depth(data["symbol"], data["scale_index"])
        return Event(channel, data, data["timestamp"], received, 1, data["full_reload"])
    return Event(Channel(kind, data["symbol"]), data, data["timestamp"], received, 1)


def turns() -> Iterator[list[Event]]:
    """The events that came at the same moment, moment by moment."""
    with gzip.open(FOLDER / "market.jsonl.gz", "rt") as lines:
        records = (json.loads(line, parse_float=digits) for line in lines)
        for moment, group in groupby(records, key=lambda record: record["at"]):
            yield [event(record["message"], 1.7e9 + float(moment)) for record in group]


@pytest.fixture(name="entries", scope="module")
def _entries() -> list[Entry]:
    sequencer = Sequencer(7, Store())
    opened = [sequencer.open()]
    published = [entry for turn in turns() if (entry := sequencer.sequence(turn)) is not None]
    assert sequencer.take_crossed() == []
    return opened + published


@pytest.fixture(name="expected", scope="module")
def _expected() -> dict[str, Any]:
    expected: dict[str, Any] = json.loads((FOLDER / "market_expected.json").read_text())
    return expected


@pytest.fixture(name="state", scope="module")
def _state(entries: list[Entry]) -> dict[str, Any]:
    """What a replica holds at the end, by channel, as clients would read it."""
    replica = Store()
    for entry in entries:
        for envelope in entry.envelopes:
            assert replica.apply(envelope)
    return {str(one.channel): json.loads(one.snapshot().raw)["data"] for one in replica}


def test_every_message_is_published_in_one_unbroken_order(
    entries: list[Entry], expected: dict[str, Any]
) -> None:
    previous = None
    for entry in entries:
        assert entry.previous == previous
        previous = entry.position
    positions = [envelope.position for entry in entries for envelope in entry.envelopes]
    assert sorted(set(positions)) == positions
    counts = {f"{kind}_update": 0 for kind in ("depth", "trade", "lastprice", "ticker")}
    for entry in entries:
        for envelope in entry.envelopes:
            counts[f"{envelope.channel.kind}_update"] += 1
    assert expected["messages"] == counts


def test_every_channel_s_chain_is_unbroken_and_has_no_gap(
    entries: list[Entry], state: dict[str, Any], expected: dict[str, Any]
) -> None:
    """Read from the encoded bytes by a client that shares nothing with the Store."""
    client, reloads = Client(), 0
    for entry in entries:
        for envelope in entry.envelopes:
            told = json.loads(envelope.raw)
            assert "gap" not in told
            reloads += told["type"] == "snapshot" and told["channel"] in client.at
            client.take(told)
    assert expected["checks"]["mid_stream_reloads"] == reloads
    assert set(state) == set(client.at)
    for name, book in expected["depth"].items():
        view = client.view(f"depth:{name}")
        assert (book["asks"], book["bids"]) == (view["asks"], view["bids"])


def test_the_books_are_right_to_the_digit(state: dict[str, Any], expected: dict[str, Any]) -> None:
    books = {name for name in state if name.startswith("depth:")}
    assert {f"depth:{name}" for name in expected["depth"]} == books
    for name, book in expected["depth"].items():
        held = state[f"depth:{name}"]
        assert (book["asks"], book["bids"]) == (held["asks"], held["bids"])


def test_last_prices_and_tickers_are_right_to_the_digit(
    state: dict[str, Any], expected: dict[str, Any]
) -> None:
    for symbol, last in expected["last_price"].items():
        assert {"symbol": symbol} | last == state[f"lastprice:{symbol}"]
    for symbol, ticker in expected["ticker"].items():
        assert ticker == state[f"ticker:{symbol}"]


def test_the_last_trades_are_right_to_the_digit_and_newest_first(
    state: dict[str, Any], expected: dict[str, Any]
) -> None:
    """The expected state drops the ``.0`` of a price that the recording, and so we, keep."""
    for symbol, trades in expected["last_50_trades_oldest_first"].items():
        held = state[f"trade:{symbol}"]["trades"]
        assert len(held) == 100
        short = [row | {"price": row["price"].removesuffix(".0")} for row in held[:50]]
        assert trades[::-1] == short


def test_trades_keep_the_exchange_s_own_digits(state: dict[str, Any]) -> None:
    rows: dict[str, list[Any]] = {}
    for turn in turns():
        for one in turn:
            if one.channel.kind is Kind.TRADE:
                rows.setdefault(str(one.channel), []).extend(one.data["trades"])
    for channel, all_rows in rows.items():
        assert all_rows[:-101:-1] == state[channel]["trades"]


def test_no_trade_is_lost(entries: list[Entry], expected: dict[str, Any]) -> None:
    counts = dict.fromkeys(expected["trade_count"], 0)
    for entry in entries:
        for envelope in entry.envelopes:
            if envelope.channel.kind is Kind.TRADE:
                counts[envelope.data["symbol"]] += len(envelope.data["trades"])
    assert expected["trade_count"] == counts
