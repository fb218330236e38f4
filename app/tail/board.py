"""What the followed channels say now. Pure: envelopes in, state out, nothing drawn.

Amounts stay the text they came as; Decimal only compares and sorts them.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any, Literal

import msgspec

TAPE = 200
"""Trades, and deals, that are remembered over all markets."""

FINISHED = 100
"""Finished orders that are remembered over all markets."""

Data = dict[str, Any]


class Envelope(msgspec.Struct, frozen=True):
    """The JSON object of the contract."""

    channel: str
    type: Literal["snapshot", "update"]
    position: str
    previous: str | None
    received: float
    data: Data
    time: int | None = None
    gap: bool = False
    origin: str | None = None


class Unreadable(ValueError):
    """An event that is no envelope of the contract."""


@dataclass(slots=True)
class Quote:
    """The last object of a market or currency; ``trend`` is the last move of its price: -1, 0, 1.

    ``moved`` is when this client saw the price change, Unix seconds.
    """

    data: Data
    received: float
    time: int | None
    trend: int = 0
    moved: float = 0.0


class Book:
    """Both sides of an order book; a level is known by its number, shown with its last text."""

    def __init__(self) -> None:
        self.time: int | None = None
        self._asks: dict[Decimal, tuple[str, str]] = {}
        self._bids: dict[Decimal, tuple[str, str]] = {}

    def apply(self, data: Data, *, whole: bool) -> None:
        """Take in a snapshot (``whole``) or the levels that changed."""
        if whole:
            self._asks, self._bids = {}, {}
        _set_levels(self._asks, data.get("asks", ()))
        _set_levels(self._bids, data.get("bids", ()))
        self.time = data.get("timestamp", self.time)

    def asks(self, limit: int) -> list[tuple[str, str]]:
        """The best levels to sell, lowest first."""
        return [self._asks[price] for price in sorted(self._asks)[:limit]]

    def bids(self, limit: int) -> list[tuple[str, str]]:
        """The best levels to buy, highest first."""
        return [self._bids[price] for price in sorted(self._bids, reverse=True)[:limit]]

    def __len__(self) -> int:
        return len(self._asks) + len(self._bids)

    @property
    def spread(self) -> tuple[Decimal, Decimal] | None:
        """Best ask less best bid, and that in percent of their middle; None without both."""
        if not self._asks or not self._bids:
            return None
        ask, bid = min(self._asks), max(self._bids)
        middle = (ask + bid) / 2
        return ask - bid, (ask - bid) / middle * 100 if middle else Decimal(0)


class Board:
    """All channels of one stream, by what is shown of them."""

    def __init__(self) -> None:
        self.prices: dict[str, Quote] = {}
        self.tickers: dict[str, Quote] = {}
        self.balances: dict[str, Quote] = {}
        self.books: dict[str, Book] = {}
        self.trades: deque[Data] = deque(maxlen=TAPE)
        self.deals: deque[Data] = deque(maxlen=TAPE)
        self.orders: dict[str, Data] = {}
        self._held: dict[str, str] = {}

    def apply(self, envelope: Envelope, now: float) -> bool:
        """Take in an envelope; False if what it holds is already contained.

        Raises Unreadable if its data is not what the contract says.
        """
        channel = envelope.channel
        held = self._held.get(channel)
        try:
            if held is not None and _position(envelope.position) <= _position(held):
                return False
            self._take(envelope, now)
        except (KeyError, TypeError, ValueError, AttributeError, InvalidOperation) as error:
            raise Unreadable(f"{channel} at {envelope.position}: {error!r}") from error
        self._held[channel] = envelope.position
        return True

    def follows(self, envelope: Envelope) -> bool:
        """Whether nothing is missing between what is held and ``envelope`` (its ``previous``)."""
        return envelope.type == "snapshot" or self._held.get(envelope.channel) == envelope.previous

    def _take(self, envelope: Envelope, now: float) -> None:
        kind, _, subject = envelope.channel.partition(":")
        whole, data = envelope.type == "snapshot", envelope.data
        match kind:
            case "lastprice":
                _quote(self.prices, subject, envelope, data, now)
            case "ticker":
                _quote(self.tickers, subject, envelope, data, now)
            case "balance":
                known = self.balances.get(subject)
                kept = {} if whole or known is None else known.data
                _quote(self.balances, subject, envelope, {**kept, **data}, now)
            case "depth":
                self.books.setdefault(subject, Book()).apply(data, whole=whole)
            case "trade":
                new = [{**trade, "symbol": subject} for trade in data["trades"]]
                _roll(self.trades, new, "timestamp", subject if whole else None)
            case "deal":
                new = data["deals"] if whole else [data["info"]]
                _roll(self.deals, new, "committedAt", subject if whole else None)
            case "order":
                self._take_orders(subject, data, whole=whole)
            case _:
                raise ValueError(f"unknown kind {kind!r}")

    def _take_orders(self, market: str, data: Data, *, whole: bool) -> None:
        if whole:
            others = {key: one for key, one in self.orders.items() if one["symbol"] != market}
            self.orders = others | {one["id"]: one for one in reversed(data["orders"])}
        else:
            info = data["info"]
            self.orders[info["id"]] = info
        done = [key for key, one in self.orders.items() if finished(one)]
        for key in done[:-FINISHED]:
            del self.orders[key]


def finished(order: Data) -> bool:
    """Whether an order is done with: only then it has a finish time (protocol 3.5)."""
    return order.get("finishTs") is not None


def decode(text: str) -> Envelope:
    """Read an envelope; raises Unreadable."""
    try:
        return _decode(text)
    except msgspec.DecodeError as error:
        raise Unreadable(f"no envelope: {error}") from error


_decode = msgspec.json.Decoder(Envelope).decode


def _position(text: str) -> tuple[int, int]:
    epoch, _, sequence = text.partition("-")
    return int(epoch), int(sequence)


def _set_levels(side: dict[Decimal, tuple[str, str]], levels: Iterable[Sequence[str]]) -> None:
    for price, value in levels:
        if Decimal(value):
            side[Decimal(price)] = (price, value)
        else:
            side.pop(Decimal(price), None)


def _price(data: Data) -> Decimal:
    """What its trend is seen from; of a balance that only REST has told, what is available."""
    if "price" in data:
        return Decimal(data["price"])
    return Decimal(data["info"].get("newBalance") or data.get("available") or 0)


def _quote(
    quotes: dict[str, Quote], subject: str, envelope: Envelope, data: Data, now: float
) -> None:
    before, price = quotes.get(subject), _price(data)
    quote = Quote(data, envelope.received, envelope.time)
    if before is not None:
        move = price.compare(_price(before.data))
        quote.trend = int(move) or before.trend
        quote.moved = now if move else before.moved
    quotes[subject] = quote


def _roll(tape: deque[Data], new: list[Data], time: str, replaced: str | None) -> None:
    """Put rows on top of a tape; or replace all rows of a market, the newest on top."""
    if replaced is None:
        tape.extendleft(new)
        return
    rest = [row for row in tape if row["symbol"] != replaced]
    rows = sorted([*new, *rest], key=lambda row: -int(row[time]))[:TAPE]
    tape.clear()
    tape.extend(rows)
