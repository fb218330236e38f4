"""Events have the shapes documented."""

import pytest
from pydantic import BaseModel, ValidationError

from app.api import shapes
from app.domain.event import Event
from app.domain.sequencer import Sequencer
from app.domain.store import Store
from tests import given

EVENTS = {model.__name__: model for model in shapes.EVENTS}
TICKER = {
    "symbol": "BTC_USDT",
    "timestamp": 100,
    "price": "101.5",
    "open": "100",
    "high": "102",
    "low": "99",
    "volume": "5",
    "quote_volume": "500",
    "price_change": "1.5",
}


def ticker() -> Event:
    event = given.ticker("BTC_USDT", "1")
    return Event(event.channel, TICKER, event.time, event.received, event.continuity)


@pytest.mark.parametrize(
    ("name", "first", "then"),
    [
        ("LastPrice", given.price("BTC_USDT", "1"), given.price("BTC_USDT", "2")),
        ("Ticker", ticker(), ticker()),
        (
            "Trade",
            given.trades("BTC_USDT", [given.row("1")]),
            given.trades("BTC_USDT", [given.row("2")]),
        ),
        (
            "Depth",
            given.book("BTC_USDT", asks=[("2", "1")], bids=[("1", "1")], full=True),
            given.book("BTC_USDT", asks=[("2", "0")], bids=None, full=False),
        ),
    ],
)
def test_what_the_sequencer_makes(name: str, first: Event, then: Event) -> None:
    entry = Sequencer(7, Store()).sequence([first, then])
    assert entry is not None
    snapshot, update = entry.envelopes
    check(EVENTS[f"{name}Snapshot"], snapshot.raw)
    check(EVENTS[f"{name}Update"], update.raw)
    with pytest.raises(ValidationError):
        check(EVENTS[f"{name}Snapshot"], update.raw)


def test_every_kind_has_its_shapes() -> None:
    assert len(shapes.DATA) == 7
    assert len(shapes.EVENTS) == 2 * 7 + 3


def check(model: type[BaseModel], raw: bytes) -> None:
    model.model_validate_json(raw, strict=True, extra="forbid")
