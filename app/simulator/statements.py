"""Orders, deals and balances as the exchange writes them: private events and REST rows.

Rules: one value, two sets of names (protocol 3.5-3.7 and 4.3, 4.4). PURE.
"""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from app.simulator import wire
from app.simulator.wire import Event

ZERO = Decimal(0)
CREATED, CHANGED, SETTLED = "1", "3", "4"  # ids of private events (protocol 2.4)


@dataclass(frozen=True, slots=True)
class Deal:
    """One fill: a transaction of its order's deal."""

    id: str
    price: Decimal
    quantity: Decimal
    fee: Decimal
    fee_currency: str
    role: str
    at: float


@dataclass(slots=True)
class Order:
    """`price` is None for a market order; `held` is what is still set aside for it."""

    id: str
    symbol: str
    direction: str
    price: Decimal | None
    quantity: Decimal
    client_oid: str | None
    created: float
    held: Decimal = ZERO
    filled: Decimal = ZERO
    filled_value: Decimal = ZERO
    finished: float | None = None
    state: str = "active"
    internal: str = "active"
    deal_id: str = ""
    deals: list[Deal] = field(default_factory=list)

    @property
    def left(self) -> Decimal:
        return self.quantity - self.filled

    @property
    def value(self) -> Decimal:
        return self.filled_value if self.price is None else self.price * self.quantity


def fixed(amount: Decimal) -> str:
    """16 decimals, as the exchange writes amounts."""
    return f"{amount:.16f}"


def active_row(order: Order) -> dict[str, Any]:
    """An open order over REST (protocol 4.3)."""
    return {
        "id": order.id,
        "direction": order.direction,
        "symbol": order.symbol,
        "price": None if order.price is None else fixed(order.price),
        "quantity": fixed(order.quantity),
        "value": fixed(order.value),
        "filledQuantity": fixed(order.filled),
        "filledValue": fixed(order.filled_value),
        "createdAt": _zoneless(order.created),
        "clientOrderId": order.client_oid,
        "stopLossPrice": None,
    }


def finished_row(order: Order) -> dict[str, Any]:
    """A finished order over REST: no price, value or client id (protocol 4.3)."""
    finished = order.finished if order.finished is not None else order.created
    return {
        "id": order.id,
        "type": "market" if order.price is None else "limit",
        "direction": order.direction,
        "symbol": order.symbol,
        "quantity": fixed(order.quantity),
        "filledQuantity": fixed(order.filled),
        "filledValue": fixed(order.filled_value),
        "state": order.state,
        "internalState": order.internal,
        "createdAt": _zoneless(order.created),
        "finishedAt": _zoneless(finished),
        "stopLossPrice": None,
        "deal": _deal_row(order, finished) if order.deals else None,
    }


def balance_event(
    wallet: str, currency: str, amount: Decimal, balances: tuple[Decimal, Decimal]
) -> Event:
    """`balances` before and after; the new one has 8 decimals as in the exchange's sample."""
    old, new = balances
    info = {
        "walletId": wallet,
        "currencyCode": currency,
        "amount": fixed(abs(amount)),
        "oldBalance": fixed(old),
        "newBalance": f"{new:.8f}",
    }
    return wire.event("balance", {"info": info}, SETTLED)


def _deal_row(order: Order, finished: float) -> dict[str, Any]:
    transactions = [
        {
            "id": deal.id,
            "tradeRole": deal.role,
            "filledPrice": fixed(deal.price),
            "filledQuantity": fixed(deal.quantity),
            "filledValue": fixed(deal.price * deal.quantity),
            "fee": fixed(deal.fee),
            "feeCurrency": deal.fee_currency,
            "committedAt": _zoneless(deal.at),
        }
        for deal in order.deals
    ]
    return {
        "id": order.deal_id,
        "state": "completed",
        "createdAt": _zoneless(order.deals[0].at),
        "completedAt": _zoneless(finished),
        "averageFilledPrice": fixed(order.filled_value / order.filled),
        "transactions": transactions,
    }


def order_event(change: str, order: Order, now: float) -> Event:
    info: dict[str, Any] = {
        "id": order.id,
        "symbol": order.symbol,
        "orderType": "market" if order.price is None else "limit",
        "direction": order.direction,
        "price": None if order.price is None else fixed(order.price),
        "quantity": fixed(order.quantity),
        "value": fixed(order.value),
        "filledQuantity": fixed(order.filled),
        "filledValue": fixed(order.filled_value),
        "clientOid": order.client_oid,
        "createTs": int(order.created),
    }
    if change == "updated":
        info["updateTs"] = int(now)
    elif change == "finished":
        info |= {"finishTs": int(now), "state": order.state, "internalState": order.internal}
    event_id = CREATED if change == "created" else CHANGED
    return wire.event("order", {"type": change, "info": info}, event_id)


def deal_event(order: Order, deal: Deal) -> Event:
    info = {
        "dealId": order.deal_id,
        "symbol": order.symbol,
        "dealState": "completed",
        "transactionId": deal.id,
        "filledPrice": fixed(deal.price),
        "filledQuantity": fixed(deal.quantity),
        "filledValue": fixed(deal.price * deal.quantity),
        "fee": fixed(deal.fee),
        "feeCurrency": deal.fee_currency,
        "tradeRole": deal.role,
        "committedAt": int(deal.at),
    }
    return wire.event("deal", {"info": info}, SETTLED)


def _zoneless(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S")
