"""A limit order book with price-time priority, in whole ticks and lots. PURE."""

from collections import deque
from dataclasses import dataclass
from typing import Literal

Side = Literal["buy", "sell"]


@dataclass(slots=True)
class Resting:
    """An order in the book; `owner` names the order of someone who wants to know."""

    number: int
    side: Side
    price: int
    size: int
    owner: str | None = None


@dataclass(frozen=True, slots=True)
class Fill:
    """`side` is the taker's."""

    price: int
    size: int
    side: Side
    maker: Resting


class Matching:
    def __init__(self) -> None:
        self._sides: dict[Side, dict[int, deque[Resting]]] = {"buy": {}, "sell": {}}
        self._totals: dict[Side, dict[int, int]] = {"buy": {}, "sell": {}}  # of the same prices
        self.orders: dict[int, Resting] = {}
        self._number = 0
        self.changes = 0  # grows whenever a level may have changed

    def best(self, side: Side) -> int | None:
        levels = self._sides[side]
        if not levels:
            return None
        return max(levels) if side == "buy" else min(levels)

    def levels(self, side: Side) -> dict[int, int]:
        """Price to total size."""
        return self._totals[side].copy()

    def count(self, side: Side) -> int:
        """How many price levels a side has."""
        return len(self._sides[side])

    def limit(
        self, side: Side, price: int, size: int, owner: str | None = None
    ) -> tuple[list[Fill], Resting | None]:
        """Match what the price allows, rest with what is left."""
        fills = self.take(side, size, price)
        left = size - sum(fill.size for fill in fills)
        if not left:
            return fills, None
        self._number += 1
        order = Resting(self._number, side, price, left, owner)
        self._sides[side].setdefault(price, deque()).append(order)
        self._totals[side][price] = self._totals[side].get(price, 0) + left
        self.changes += 1
        self.orders[order.number] = order
        return fills, order

    def take(self, side: Side, size: int, limit: int | None = None) -> list[Fill]:
        """Match up to `size` at no worse than `limit`, without resting; oldest first per price."""
        against: Side = "sell" if side == "buy" else "buy"
        fills: list[Fill] = []
        while size and (price := self.best(against)) is not None:
            if limit is not None and (price > limit if side == "buy" else price < limit):
                break
            maker = self._sides[against][price][0]
            matched = min(size, maker.size)
            size -= matched
            maker.size -= matched
            self._totals[against][price] -= matched
            self.changes += 1
            fills.append(Fill(price, matched, side, maker))
            if not maker.size:
                self.remove(maker)
        return fills

    def remove(self, order: Resting) -> None:
        """Take an order off; one that is not there any more is no error."""
        if self.orders.pop(order.number, None) is None:
            return
        self.changes += 1
        queue = self._sides[order.side][order.price]
        queue.remove(order)
        self._totals[order.side][order.price] -= order.size
        if not queue:
            del self._sides[order.side][order.price]
            del self._totals[order.side][order.price]
