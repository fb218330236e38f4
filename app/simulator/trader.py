"""The simulated account's owner: places small orders near the market, takes some back, buys some.

Its orders rest in the same books as everyone's, so its fills come from the flow. PURE.
"""

import random
from collections.abc import Sequence
from decimal import Decimal

from app.simulator.account import Account
from app.simulator.market import GeneratedMarket
from app.simulator.matching import Fill, Resting, Side
from app.simulator.statements import Order
from app.simulator.wire import Event

PACE = 2.0  # seconds between two of its moves, over all markets, on average
MOST = 8  # orders it keeps open
MONEY = (20.0, 300.0)  # what an order is worth, at least and at most


class Trader:
    def __init__(self, account: Account, seed: int) -> None:
        self._account = account
        self._random = random.Random(f"{seed} trader")
        self._resting: dict[str, tuple[GeneratedMarket, Resting]] = {}

    def filled(self, market: GeneratedMarket, fills: Sequence[Fill], now: float) -> list[Event]:
        """What the market's fills did to its own orders."""
        events: list[Event] = []
        for fill in fills:
            owner = fill.maker.owner
            if owner is None or owner not in self._account.active:
                continue
            quantity, price = market.size(fill.size), market.price(fill.price)
            events += self._account.fill(owner, quantity, price, role="maker", now=now)
            if owner not in self._account.active:
                del self._resting[owner]
        return events

    def step(
        self, market: GeneratedMarket, seconds: float, now: float
    ) -> tuple[list[Fill], list[Event]]:
        """Perhaps make a move on this market; its own trades and what they did to the account."""
        if self._random.random() >= seconds * market.spec.share / PACE:
            return [], []
        move = self._random.random()
        if move < 0.25 and self._resting:
            return [], self._cancel(now)
        side: Side = self._random.choice(("buy", "sell"))
        if move < 0.45:
            return self._take(market, side, now)
        if len(self._resting) < MOST:
            return self._place(market, side, now)
        return [], self._cancel(now)

    def _cancel(self, now: float) -> list[Event]:
        order_id = self._random.choice(list(self._resting))
        market, resting = self._resting.pop(order_id)
        market.flow.matching.remove(resting)
        return self._account.cancel(order_id, now)

    def _take(
        self, market: GeneratedMarket, side: Side, now: float
    ) -> tuple[list[Fill], list[Event]]:
        """A market order; not against its own resting ones."""
        against: Side = "sell" if side == "buy" else "buy"
        matching = market.flow.matching
        best = matching.best(against)
        if best is None or self._rests(market, against):
            return [], []
        lots = min(self._lots(market, best), matching.levels(against)[best])
        order = self._order(market, side, lots, None, now)
        if not self._affords(order, market.price(best)):
            return [], []
        events = self._account.place(order, at=market.price(best))
        fills = matching.take(side, lots)
        for fill in fills:
            quantity, price = market.size(fill.size), market.price(fill.price)
            events += self._account.fill(order.id, quantity, price, role="taker", now=now)
        return fills, events

    def _place(
        self, market: GeneratedMarket, side: Side, now: float
    ) -> tuple[list[Fill], list[Event]]:
        """A limit order at the touch or a little behind it, never across."""
        matching = market.flow.matching
        bid, ask = matching.best("buy"), matching.best("sell")
        if bid is None or ask is None:
            return [], []
        behind = round(bid * self._random.choice((0.0, 0.0001, 0.0005, 0.002)))
        ticks = bid - behind if side == "buy" else ask + behind
        lots = self._lots(market, ticks)
        order = self._order(market, side, lots, market.price(ticks), now)
        if not self._affords(order, market.price(ticks)):
            return [], []
        _, resting = matching.limit(side, ticks, lots, order.id)
        if resting is not None:
            self._resting[order.id] = (market, resting)
        return [], self._account.place(order, at=market.price(ticks))

    def _order(
        self, market: GeneratedMarket, side: Side, lots: int, price: Decimal | None, now: float
    ) -> Order:
        oid = f"demo-{self._random.randrange(10**6):06d}" if self._random.random() < 0.3 else None
        return self._account.new_order(
            market.spec.symbol, side, market.size(lots), price=price, now=now, client_oid=oid
        )

    def _lots(self, market: GeneratedMarket, ticks: int) -> int:
        quantity = self._random.uniform(*MONEY) / float(market.price(ticks))
        lots: float = quantity * 10 ** market.spec.places[1]
        return max(1, round(lots))

    def _affords(self, order: Order, price: Decimal) -> bool:
        base, _, quote = order.symbol.partition("_")
        held = self._account.balances.get(quote if order.direction == "buy" else base)
        needed = order.quantity * (price if order.direction == "buy" else 1)
        return held is not None and held.available > needed

    def _rests(self, market: GeneratedMarket, side: Side) -> bool:
        return any(
            other is market and resting.side == side for other, resting in self._resting.values()
        )
