"""The one simulated account: its orders and its money.

Rules: every change gives the events that tell of it, in the order order, deal, balance. PURE.
"""

import random
from collections import deque
from dataclasses import dataclass
from decimal import ROUND_DOWN, Decimal

from app.simulator.listing import ulid
from app.simulator.statements import ZERO, Deal, Order, balance_event, deal_event, order_event
from app.simulator.wire import Event

FINISHED_KEPT = 2000
FEE = Decimal("0.001")
CENT = Decimal("0.00000001")  # balances move in these


class Refused(ValueError):
    """The account cannot do that: no such order, too little balance, too large a fill."""


@dataclass(slots=True)
class Balance:
    wallet: str
    available: Decimal = ZERO
    held: Decimal = ZERO


class Account:
    """`gap` makes an unannounced deposit before each balance event, so that the chain breaks."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self.balances: dict[str, Balance] = {}
        self.active: dict[str, Order] = {}
        self.finished: deque[Order] = deque(maxlen=FINISHED_KEPT)
        self.gap = False

    def fund(self, currency: str, amount: Decimal, now: float) -> None:
        """Money that was there before anyone looked: no event."""
        self._balance(currency, now).available += amount

    def place(self, order: Order, *, at: Decimal) -> list[Event]:
        """A new order that costs `at` for each. Raises `Refused` where the balance is too low.

        A market order has no created event: it matches at once (protocol 3.5).
        """
        needed = _cents(order.quantity * (at if order.direction == "buy" else 1))
        currency = self._pays(order)
        balance = self._balance(currency, order.created)
        if balance.available < needed:
            raise Refused(f"balance too low: {order.direction} needs {needed} {currency}")
        self.active[order.id] = order
        if order.price is None:
            return []
        order.held = needed
        moved = self._move(currency, -needed, order.created, held=needed)
        return [order_event("created", order, order.created), *moved]

    def fill(
        self, order_id: str, quantity: Decimal, price: Decimal, *, role: str, now: float
    ) -> list[Event]:
        """Part or all of an order is matched. Raises `Refused`."""
        order = self.find(order_id)
        if not ZERO < quantity <= order.left:
            raise Refused(f"fill of {quantity} where {order.left} is left")
        order.filled += quantity
        order.filled_value += price * quantity
        deal = self._deal(order, quantity, price, role, now)
        events = self._settle(order, deal, now)
        if order.left:
            return [order_event("updated", order, now), deal_event(order, deal), *events]
        events += self._finish(order, "completed", "filled", now)
        return [order_event("finished", order, now), deal_event(order, deal), *events]

    def cancel(self, order_id: str, now: float) -> list[Event]:
        """Take an order off. Raises `Refused`."""
        order = self.find(order_id)
        state = "partially_completed" if order.filled else "cancelled"
        events = self._finish(order, state, "cancelled", now)
        return [order_event("finished", order, now), *events]

    def new_order(
        self,
        symbol: str,
        direction: str,
        quantity: Decimal,
        *,
        price: Decimal | None,
        now: float,
        client_oid: str | None = None,
    ) -> Order:
        return Order(
            self._ulid(now), symbol, direction, price, quantity, client_oid, now,
            deal_id=self._ulid(now),
        )  # fmt: skip

    def find(self, order_id: str) -> Order:
        order = self.active.get(order_id)
        if order is None:
            raise Refused(f"no active order {order_id}")
        return order

    def _deal(self, order: Order, quantity: Decimal, price: Decimal, role: str, now: float) -> Deal:
        base, _, quote = order.symbol.partition("_")
        if not order.deals:  # the deal begins with its first transaction
            order.deal_id = self._ulid(now)
        gained = quantity if order.direction == "buy" else price * quantity
        currency = base if order.direction == "buy" else quote
        fee = _cents(gained * FEE)
        deal = Deal(self._ulid(now + 0.003), price, quantity, fee, currency, role, now)
        order.deals.append(deal)
        return deal

    def _settle(self, order: Order, deal: Deal, now: float) -> list[Event]:
        """Money follows the deal; what a fill got cheaper than held comes back at the end."""
        cost = deal.quantity if order.direction == "sell" else deal.price * deal.quantity
        gain = deal.price * deal.quantity if order.direction == "sell" else deal.quantity
        cost, gain = _cents(cost), _cents(gain) - deal.fee
        events = []
        if order.price is None:
            events += self._move(self._pays(order), -cost, now)
        else:
            spent = min(cost, order.held)
            order.held -= spent
            self._balance(self._pays(order), now).held -= spent
        return events + self._move(deal.fee_currency, gain, now)

    def _finish(self, order: Order, state: str, internal: str, now: float) -> list[Event]:
        order.finished, order.state, order.internal = now, state, internal
        del self.active[order.id]
        self.finished.append(order)
        back, order.held = order.held, ZERO
        return self._move(self._pays(order), back, now, held=-back) if back else []

    def _pays(self, order: Order) -> str:
        base, _, quote = order.symbol.partition("_")
        return quote if order.direction == "buy" else base

    def _move(
        self, currency: str, amount: Decimal, now: float, *, held: Decimal = ZERO
    ) -> list[Event]:
        balance = self._balance(currency, now)
        if self.gap:
            balance.available += 1
        old = balance.available
        balance.available += amount
        balance.held += held
        balances = (old, balance.available)
        return [balance_event(balance.wallet, currency, amount, balances)]

    def _balance(self, currency: str, now: float) -> Balance:
        if currency not in self.balances:
            self.balances[currency] = Balance(self._ulid(now))
        return self.balances[currency]

    def _ulid(self, now: float) -> str:
        return ulid(int(now * 1000), self._random.getrandbits(80))


def _cents(amount: Decimal) -> Decimal:
    return amount.quantize(CENT, ROUND_DOWN)
