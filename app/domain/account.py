"""The reducers of the private channels: orders, one balance, deals (protocol 3.5 to 3.8).

Orders and deals also tell whether what a socket said is ``news``: the exchange may repeat itself,
and what a socket says may have been learnt over REST before. Decimals stay text and compare as
numbers.
"""

from collections.abc import Iterable
from decimal import Decimal
from typing import Literal

from app.domain.channel import Channel, Kind
from app.domain.event import Data

LAST = 100
"""How many finished orders, and how many deals, a channel remembers."""

AMOUNTS = frozenset({"price", "quantity", "value", "filledQuantity", "filledValue"})

Change = Literal["created", "updated", "finished"]
Age = tuple[int, str]
"""Sorts from old to new: Unix seconds, then the id, whose ULID tells milliseconds."""


def finished(order: Data) -> bool:
    """Whether an order is over: only then it has a time of its end, or a state."""
    return order.get("finishTs") is not None or order.get("state") is not None


def filled(order: Data) -> Decimal:
    """How much of an order was matched; it never becomes less."""
    return Decimal(order.get("filledQuantity") or 0)


def created_at(order: Data) -> Age:
    """When an order was made."""
    return order.get("createTs") or 0, order["id"]


def finished_at(order: Data) -> Age:
    """When a finished order ended."""
    return order.get("finishTs") or time_of(order) or 0, order["id"]


def time_of(order: Data) -> int | None:
    """The latest of an order's three times, in Unix seconds."""
    times = [order.get(name) for name in ("createTs", "updateTs", "finishTs")]
    return max((time for time in times if time is not None), default=None)


def committed_at(deal: Data) -> Age:
    """When a deal was made."""
    return deal["committedAt"], deal["transactionId"]


def differs(new: Data, held: Data) -> bool:
    """Whether ``new`` contradicts ``held`` in an amount, or in the time of its last change."""
    common = new.keys() & held.keys()
    return any(_number(new[name]) != _number(held[name]) for name in AMOUNTS & common) or (
        "updateTs" in common and new["updateTs"] != held["updateTs"]
    )


def _number(amount: str | None) -> Decimal | None:
    return None if amount is None else Decimal(amount)


class Orders:
    """order: all that are open and the last hundred finished ones, newest first."""

    def __init__(self) -> None:
        self._symbol = ""
        self._orders: dict[str, Data] = {}

    def replace(self, data: Data) -> None:
        self._symbol = data["symbol"]
        self._orders = {order["id"]: order for order in data["orders"]}
        self._trim()

    def update(self, data: Data) -> None:
        order = data["info"]
        self._symbol = order["symbol"]
        self._orders[order["id"]] = order
        if finished(order):
            self._trim()

    def data(self, limit: int | None = None) -> Data:
        """The state, as a snapshot's ``data``."""
        newest_first = sorted(self._orders.values(), key=created_at, reverse=True)
        return {"symbol": self._symbol, "orders": newest_first[:limit]}

    def get(self, id_: str) -> Data | None:
        """An order that is remembered."""
        return self._orders.get(id_)

    def open(self) -> list[Data]:
        """The orders that are not finished."""
        return [order for order in self._orders.values() if not finished(order)]

    def finished(self) -> list[Data]:
        """The finished orders remembered."""
        return [order for order in self._orders.values() if finished(order)]

    def news(self, data: Data) -> bool:
        """Whether this says more than what is known: a finished order is never revived."""
        new = data["info"]
        held = self._orders.get(new["id"])
        if held is None:
            return not self.forgotten(new)
        if finished(held):
            return False
        if finished(new):
            return True
        if filled(new) != filled(held):
            return filled(new) > filled(held)
        return differs(new, held)

    def forgotten(self, order: Data) -> bool:
        """Whether an order that is not held must have been finished before those that are."""
        ends = [finished_at(one) for one in self.finished()]
        if len(ends) < LAST:
            return False
        if finished(order):
            return finished_at(order) < min(ends)
        return (time_of(order) or 0) < min(ends)[0]

    def _trim(self) -> None:
        """Forget all finished orders but the last."""
        over = sorted(self.finished(), key=finished_at)[:-LAST]
        for order in over:
            del self._orders[order["id"]]


class Deals:
    """deal: the last hundred, newest first; one is known by its transaction."""

    def __init__(self) -> None:
        self._symbol = ""
        self._deals: dict[str, Data] = {}

    def replace(self, data: Data) -> None:
        self._symbol = data["symbol"]
        self._keep(data["deals"])

    def update(self, data: Data) -> None:
        self._symbol = data["info"]["symbol"]
        self._keep([*self._deals.values(), data["info"]])

    def data(self, limit: int | None = None) -> Data:
        return {"symbol": self._symbol, "deals": list(self._deals.values())[:limit]}

    def get(self, transaction: str) -> Data | None:
        """A deal that is remembered."""
        return self._deals.get(transaction)

    def news(self, data: Data) -> bool:
        """Whether this deal is neither known nor older than all that are."""
        deal = data["info"]
        return deal["transactionId"] not in self._deals and not self.forgotten(deal)

    def forgotten(self, deal: Data) -> bool:
        """Whether a deal that is not held must be older than those that are."""
        ages = [committed_at(one) for one in self._deals.values()]
        return len(ages) >= LAST and committed_at(deal) < min(ages)

    def _keep(self, deals: Iterable[Data]) -> None:
        newest_first = sorted(deals, key=committed_at, reverse=True)[:LAST]
        self._deals = {deal["transactionId"]: deal for deal in newest_first}


class Balance:
    """balance: what the exchange said last, beside what REST said last.

    It is not known whether ``newBalance`` is the available or the total amount (protocol 3.6): none
    is computed from the other.
    """

    def __init__(self) -> None:
        self._data: Data = {}

    def replace(self, data: Data) -> None:
        self._data = data

    def update(self, data: Data) -> None:
        self._data = {**self._data, **data}

    def data(self, _limit: int | None = None) -> Data:
        return self._data


def empty(channel: Channel) -> Data:
    """A snapshot's ``data`` where the account has nothing."""
    if channel.kind is Kind.BALANCE:
        return {"info": {"currencyCode": channel.subject}}
    return (
        orders_in(channel.subject, ())
        if channel.kind is Kind.ORDER
        else deals_in(channel.subject, ())
    )


def orders_in(symbol: str, orders: Iterable[Data]) -> Data:
    """A snapshot's ``data`` of these orders."""
    reducer = Orders()
    reducer.replace({"symbol": symbol, "orders": list(orders)})
    return reducer.data()


def deals_in(symbol: str, deals: Iterable[Data]) -> Data:
    """A snapshot's ``data`` of these deals."""
    reducer = Deals()
    reducer.replace({"symbol": symbol, "deals": list(deals)})
    return reducer.data()
