"""What is true on the exchange now: books, last prices, tickers and trades.

Rules: a level is known by its number and shown with the text it was set with; every source of
events goes through `apply`, so REST and a new subscriber see the same market. PURE.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from app.simulator import wire
from app.simulator.wire import Event

TRADES_KEPT = 1000
RECENT_KEPT = 20

Level = Sequence[str]


@dataclass(slots=True)
class Book:
    """One order book (protocol 3.2)."""

    timestamp: int = 0
    asks: dict[Decimal, Level] = field(default_factory=dict)
    bids: dict[Decimal, Level] = field(default_factory=dict)

    def apply(self, data: dict[str, Any]) -> None:
        self.timestamp = data["timestamp"]
        if data["full_reload"]:
            self.asks, self.bids = {}, {}
        _set(self.asks, data.get("asks", ()))
        _set(self.bids, data.get("bids", ()))

    def best_first(self) -> tuple[list[Level], list[Level]]:
        """Asks ascending, bids descending."""
        asks = [self.asks[price] for price in sorted(self.asks)]
        return asks, [self.bids[price] for price in sorted(self.bids, reverse=True)]

    @property
    def crossed(self) -> bool:
        return bool(self.asks and self.bids) and max(self.bids) >= min(self.asks)


@dataclass(frozen=True, slots=True)
class Trade:
    """Plain digits, whatever the wire wrote; `number` counts all trades of the exchange."""

    number: int
    price: str
    quantity: str
    timestamp: int
    direction: str


class Truth:
    def __init__(self) -> None:
        self.books: dict[str, Book] = {}
        self.lastprices: dict[str, dict[str, Any]] = {}
        self.tickers: dict[str, dict[str, Any]] = {}
        self.trades: dict[str, deque[Trade]] = {}
        self.recent: dict[str, deque[Event]] = {}
        self._traded = 0

    def apply(self, event: Event) -> None:
        data = event.data
        if event.kind == "depth":
            self.books.setdefault(event.subject, Book()).apply(data)
            return
        self.recent.setdefault(event.channel, deque(maxlen=RECENT_KEPT)).append(event)
        if event.kind == "lastprice":
            self.lastprices[event.subject] = data
        elif event.kind == "ticker":
            self.tickers[event.subject] = data
        elif event.kind == "trade":
            kept = self.trades.setdefault(event.subject, deque(maxlen=TRADES_KEPT))
            for row in data["trades"]:
                self._traded += 1
                kept.append(_trade(self._traded, row))

    def reload(self, subject: str) -> Event | None:
        """The whole book as an event; None while nothing is known of it."""
        book = self.books.get(subject)
        if book is None:
            return None
        asks, bids = book.best_first()
        return depth(subject, book.timestamp, (asks, bids), full=True)


def depth(
    subject: str, timestamp: int, sides: tuple[Iterable[Level], Iterable[Level]], *, full: bool
) -> Event:
    """A depth event of asks and bids."""
    symbol, _, index = subject.rpartition(":")
    asks, bids = sides
    data = {
        "symbol": symbol,
        "timestamp": timestamp,
        "full_reload": full,
        "scale_index": int(index),
        "asks": list(asks),
        "bids": list(bids),
    }
    return wire.event("depth", data)


def _set(side: dict[Decimal, Level], levels: Iterable[Level]) -> None:
    for level in levels:
        price = Decimal(level[0])
        if Decimal(level[1]):
            side[price] = level
        else:
            side.pop(price, None)


def _trade(number: int, row: dict[str, Any]) -> Trade:
    price, quantity = wire.plain(row["price"]), wire.plain(row["quantity"])
    return Trade(number, price, quantity, row["timestamp"], row["direction"])
