"""A generated market as the exchange shows it: its flow turned into the four public kinds of event.

Rules: books are looked at once a turn and told as what changed since (protocol 6.3); last price
and ticker are told on change, not more often than their pace; integers become digits here. PURE.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from app.simulator import wire
from app.simulator.day import Day
from app.simulator.flow import Flow, Spec
from app.simulator.listing import Market
from app.simulator.matching import Fill, Side
from app.simulator.truth import depth
from app.simulator.wire import Event

LASTPRICE_PACE = 0.25  # seconds at least between two
TICKER_PACE = 1.0
RELOAD_PACE = 60.0  # between two full reloads of a book


@dataclass(slots=True)
class _Shown:
    """One scale's book as last told, asks and bids by price in ticks."""

    reloaded: float
    changes: int
    asks: dict[int, int]
    bids: dict[int, int]


class GeneratedMarket:
    def __init__(self, spec: Spec, seed: int, now: float) -> None:
        self.spec = spec
        self.flow = Flow(spec, seed)
        lots = max(1, round(spec.lot * 10 ** spec.places[1]))
        self._day = Day(self.flow.fair, lots, now, f"{seed} day {spec.symbol}")
        self._shown = [
            _Shown(now - RELOAD_PACE * (1 + index / 10), -1, {}, {})
            for index in range(len(spec.scales))
        ]
        self._told_price = (0, 0.0)
        self._told_ticker = ((0, 0), 0.0)

    @property
    def listed(self) -> Market:
        steps = (Decimal(scale).scaleb(-self.spec.places[0]) for scale in self.spec.scales)
        return Market(self.spec.symbol, tuple(short(step) for step in steps))

    def told(self, fills: Sequence[Fill], now: float) -> list[Event]:
        """What goes out after a turn: trades, prices, books."""
        events: list[Event] = []
        for fill in fills:
            self._day.trade(fill.price, fill.size, now)
        if fills:
            events.append(self._trades(fills, now))
        events += self._prices(now)
        for index in range(len(self.spec.scales)):
            events += self._book(index, now)
        return events

    def price(self, ticks: int) -> Decimal:
        return Decimal(ticks).scaleb(-self.spec.places[0])

    def size(self, lots: int) -> Decimal:
        return Decimal(lots).scaleb(-self.spec.places[1])

    def _trades(self, fills: Sequence[Fill], now: float) -> Event:
        second = int(now)
        rows = [
            {
                "price": wire.number(self.price(fill.price)),
                "quantity": wire.number(self.size(fill.size)),
                "timestamp": second,
                "direction": fill.side,
            }
            for fill in fills
        ]
        data = {"symbol": self.spec.symbol, "timestamp": second, "trades": rows}
        # Read back, so that everyone else sees decimals and not raw text.
        return wire.read_event(wire.event("trade", data).text)

    def _prices(self, now: float) -> list[Event]:
        self._day.roll(now)
        events = []
        price, at = self._told_price
        if self._day.last != price and now - at >= LASTPRICE_PACE:
            self._told_price = (self._day.last, now)
            data = {"symbol": self.spec.symbol, "timestamp": int(now)}
            events.append(wire.event("lastprice", data | {"price": self._digits(self._day.last)}))
        volumes, at = self._told_ticker
        if self._day.volumes != volumes and now - at >= TICKER_PACE:
            self._told_ticker = (self._day.volumes, now)
            events.append(self._ticker(now))
        return events

    def _ticker(self, now: float) -> Event:
        day = self._day
        base, quote = day.volumes
        change = Decimal(100 * (day.last - day.open)) / day.open
        data = {
            "symbol": self.spec.symbol,
            "timestamp": int(now),
            "price": self._digits(day.last),
            "open": self._digits(day.open),
            "high": self._digits(day.high),
            "low": self._digits(day.low),
            "volume": short(self.size(base)),
            "quote_volume": short(Decimal(quote).scaleb(-sum(self.spec.places))),
            "price_change": f"{change:.2f}",
        }
        return wire.event("ticker", data)

    def _book(self, index: int, now: float) -> list[Event]:
        step, shown = self.spec.scales[index], self._shown[index]
        full = now - shown.reloaded >= RELOAD_PACE
        if not full and shown.changes == self.flow.matching.changes:
            return []
        shown.changes = self.flow.matching.changes
        asks = gathered(self.flow.matching.levels("sell"), step, "sell")
        bids = gathered(self.flow.matching.levels("buy"), step, "buy")
        if full:
            shown.reloaded = now
            shown.asks, shown.bids = {}, {}
        changed = (_changes(shown.asks, asks), _changes(shown.bids, bids))
        shown.asks, shown.bids = asks, bids
        if not full and not any(changed):
            return []
        sides = (
            [self._level(price, size) for price, size in sorted(changed[0].items())],
            [self._level(price, size) for price, size in sorted(changed[1].items(), reverse=True)],
        )
        return [depth(f"{self.spec.symbol}:{index}", int(now), sides, full=full)]

    def _level(self, price: int, size: int) -> list[str]:
        return [self._digits(price), short(self.size(size))]

    def _digits(self, ticks: int) -> str:
        return short(self.price(ticks))


def gathered(levels: dict[int, int], step: int, side: Side) -> dict[int, int]:
    """The levels on a coarser grid: bids rounded down, asks up, so they never meet."""
    if step == 1:
        return levels
    coarse: dict[int, int] = {}
    for price, size in levels.items():
        on_grid = price - price % step if side == "buy" else price + -price % step
        coarse[on_grid] = coarse.get(on_grid, 0) + size
    return coarse


def short(amount: Decimal) -> str:
    """Plain digits without trailing zeros."""
    digits = wire.plain(amount)
    return digits.rstrip("0").rstrip(".") if "." in digits else digits


def _changes(before: dict[int, int], after: dict[int, int]) -> dict[int, int]:
    changed = {price: size for price, size in after.items() if before.get(price) != size}
    return changed | dict.fromkeys(before.keys() - after.keys(), 0)
