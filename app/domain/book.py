"""The reducer for depth: full reloads and deltas to an order book (protocol 3.2, 6.3).

A level is known by its number and shown with the text it was last set with, so ``27123.45`` and
``27123.450`` are one level. Prices compare as decimals, never as strings or floats.
"""

from bisect import bisect_left
from collections.abc import Iterable
from decimal import Decimal

Level = list[str]
"""``[price, value]``, both as the exchange wrote them."""


def _canonical(number: str) -> str:
    """One spelling for each number: without trailing zeros of a fraction and leading zeros."""
    if "." in number:
        number = number.rstrip("0").removesuffix(".")
    return number if number[:1] not in {"0", ""} else _without_leading_zeros(number)


def _without_leading_zeros(number: str) -> str:
    stripped = number.lstrip("0")
    return stripped if stripped[:1].isdigit() else "0" + stripped


def _is_zero(number: str) -> bool:
    return not number.strip("0.")


class Side:
    """One side of a book: levels by number, and their prices kept in ascending order."""

    __slots__ = ("_keys", "_levels", "_prices")

    def __init__(self, levels: Iterable[Level] = ()) -> None:
        self._levels: dict[str, Level] = {}
        for level in levels:
            key = _canonical(level[0])
            if _is_zero(level[1]):
                self._levels.pop(key, None)
            else:
                self._levels[key] = level
        self._keys = sorted(self._levels, key=Decimal)
        self._prices = [Decimal(key) for key in self._keys]

    def set(self, level: Level) -> None:
        """Put the level in place of what stood at its price; a value of zero removes it."""
        key = _canonical(level[0])
        if _is_zero(level[1]):
            if self._levels.pop(key, None) is not None:
                at = bisect_left(self._prices, Decimal(key))
                del self._prices[at], self._keys[at]
            return
        if key not in self._levels:
            price = Decimal(key)
            at = bisect_left(self._prices, price)
            self._prices.insert(at, price)
            self._keys.insert(at, key)
        self._levels[key] = level

    def lowest(self) -> Decimal | None:
        return self._prices[0] if self._prices else None

    def highest(self) -> Decimal | None:
        return self._prices[-1] if self._prices else None

    def ascending(self, limit: int | None = None) -> list[Level]:
        return [self._levels[key] for key in self._keys[:limit]]

    def descending(self, limit: int | None = None) -> list[Level]:
        stop = None if limit is None else -limit - 1
        return [self._levels[key] for key in self._keys[:stop:-1]]


class OrderBook:
    """Both sides of one (market, scale)."""

    __slots__ = ("_asks", "_bids")

    def __init__(self) -> None:
        self._asks = Side()
        self._bids = Side()

    def reload(self, asks: Iterable[Level], bids: Iterable[Level]) -> None:
        """Replace the whole book."""
        self._asks = Side(asks)
        self._bids = Side(bids)

    def update(self, asks: Iterable[Level], bids: Iterable[Level]) -> None:
        """Set the levels that changed; removing a level nobody holds is normal."""
        for level in asks:
            self._asks.set(level)
        for level in bids:
            self._bids.set(level)

    @property
    def crossed(self) -> bool:
        """Whether the best bid is not below the best ask: something was missed.

        Equal prices count: bids are rounded down and asks up on a coarser scale (protocol 5,
        lineage), so the sides of a right book never meet.
        """
        ask, bid = self._asks.lowest(), self._bids.highest()
        return ask is not None and bid is not None and bid >= ask

    def asks(self, limit: int | None = None) -> list[Level]:
        """Levels to sell, best (lowest) first."""
        return self._asks.ascending(limit)

    def bids(self, limit: int | None = None) -> list[Level]:
        """Levels to buy, best (highest) first."""
        return self._bids.descending(limit)
