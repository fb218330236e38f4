"""The reducer for depth: full reloads and deltas to an order book (protocol 3.2, 6.3).

A level is known by its number and shown with the text it was last set with, so ``27123.45`` and
``27123.450`` are one level. Prices compare as numbers to the last digit, never as floats.
"""

from bisect import bisect_left, insort
from collections.abc import Iterable
from functools import lru_cache

Level = list[str]
"""``[price, value]``, both as the exchange wrote them."""

ZERO = "0."
"""The characters of a number that is zero, however long it is written."""


@lru_cache(maxsize=16384)
def _key(price: str) -> str:
    """One text for each number, in the order of numbers: how many whole digits, then all digits.

    The same few thousand prices come again and again, so it is remembered; not much longer, as
    prices wander and each one remembered is 220 bytes.
    """
    whole, _, fraction = price.partition(".")
    whole = whole.lstrip("0")
    return f"{chr(len(whole))}{whole}.{fraction.rstrip('0')}"


class Side:
    """One side of a book: levels by the keys of their prices, and these in ascending order."""

    __slots__ = ("_keys", "_levels")

    def __init__(self, levels: Iterable[Level] = ()) -> None:
        last = {_key(level[0]): level for level in levels}
        self._levels = {key: level for key, level in last.items() if level[1].strip(ZERO)}
        self._keys = sorted(self._levels)

    def update(self, levels: Iterable[Level]) -> None:
        """Put each level in place of what stood at its price; a value of zero removes it."""
        held, keys = self._levels, self._keys
        for level in levels:
            price, value = level
            key = _key(price)
            if value.strip(ZERO):
                if key not in held:
                    insort(keys, key)
                held[key] = level
            elif held.pop(key, None) is not None:
                del keys[bisect_left(keys, key)]

    def lowest(self) -> str | None:
        """The key of the lowest price."""
        return self._keys[0] if self._keys else None

    def highest(self) -> str | None:
        """The key of the highest price."""
        return self._keys[-1] if self._keys else None

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
        self._asks.update(asks)
        self._bids.update(bids)

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
