"""What the exchange knows of its account, beside what a client or a store holds."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from app.domain.channel import Channel, Kind
from app.domain.event import Envelope
from app.domain.store import Store
from app.simulator.account import Account
from app.simulator.statements import Order

KEPT = 100
"""How many finished orders, and deals, a channel remembers."""

Json = dict[str, Any]


@dataclass
class Follower:
    """A client that holds what the envelopes tell, and checks their chain."""

    at: dict[str, str] = field(default_factory=dict)
    held: dict[str, Any] = field(default_factory=dict)
    gaps: list[str] = field(default_factory=list)

    def take(self, one: Envelope) -> None:
        name = str(one.channel)
        position, previous = str(one.position), str(one.previous)
        if one.gap:
            self.gaps.append(name)
            assert one.type == "snapshot"
        if one.type == "snapshot":
            assert one.previous is None
            self.held[name] = self._whole(one)
        else:
            assert previous == self.at[name], f"{name}: {previous} does not follow"
            self._change(name, one)
        self.at[name] = position

    def _whole(self, one: Envelope) -> Any:
        if one.channel.kind is Kind.BALANCE:
            return dict(one.data)
        key = "orders" if one.channel.kind is Kind.ORDER else "deals"
        identity = "id" if one.channel.kind is Kind.ORDER else "transactionId"
        return {info[identity]: info for info in one.data[key]}

    def _change(self, name: str, one: Envelope) -> None:
        info = one.data["info"]
        if one.channel.kind is Kind.BALANCE:
            self.held[name] = {**self.held[name], "info": info}
            return
        held = self.held[name]
        if one.channel.kind is Kind.DEAL:
            assert info["transactionId"] not in held, f"{name}: a deal twice"
            held[info["transactionId"]] = info
            return
        assert one.data["type"] == ("finished" if "finishTs" in info else one.data["type"])
        before = held.get(info["id"])
        if before is not None:
            assert "finishTs" not in before, f"{name}: a finished order goes on"
            assert Decimal(before["filledQuantity"]) <= Decimal(info["filledQuantity"])
            assert before != info, f"{name}: the same twice"
        held[info["id"]] = info


# The truth, of the exchange's own objects


def difference(here: Store, account: Account) -> str:
    """Where a store is not what the exchange knows; nothing if it is.

    Of an order learnt over REST alone some fields are not known: those that are must be right.
    """
    found = [
        *_orders_differ(here, account.active.values(), account.finished),
        *_deals_differ(here, [*account.active.values(), *account.finished]),
        *_balances_differ(here, account),
    ]
    return "; ".join(found[:5])


def data_of(here: Store, channel: str) -> Json | None:
    """What a store holds of a channel."""
    state = here.get(Channel.parse(channel))
    return None if state is None else state.snapshot().data


def _by_market(orders: Iterable[Order]) -> dict[str, list[Order]]:
    found: dict[str, list[Order]] = {}
    for order in orders:
        found.setdefault(order.symbol, []).append(order)
    return found


def _orders_differ(
    here: Store, active: Iterable[Order], finished: Iterable[Order]
) -> Iterable[str]:
    over, still = _by_market(finished), _by_market(active)
    for market in over | still:
        ended = sorted(over.get(market, ()), key=lambda one: (int(one.finished or 0), one.id))
        wanted = [*ended[-KEPT:], *still.get(market, ())]
        wanted.sort(key=lambda one: (int(one.created), one.id), reverse=True)
        data = data_of(here, f"order:{market}")
        if data is None:
            yield f"{market} has no orders"
            continue
        if [one.id for one in wanted] != [info["id"] for info in data["orders"]]:
            yield f"{market} orders {len(wanted)} != {len(data['orders'])}"
            continue
        for one, info in zip(wanted, data["orders"], strict=True):
            yield from _order_differs(one, info)


def _order_differs(one: Order, info: Json) -> Iterable[str]:
    truth: Json = {
        "symbol": one.symbol,
        "direction": one.direction,
        "quantity": one.quantity,
        "filledQuantity": one.filled,
        "filledValue": one.filled_value,
        "createTs": int(one.created),
    }
    may: Json = {
        "price": one.price,
        "value": one.value,
        "clientOid": one.client_oid,
        "orderType": "market" if one.price is None else "limit",
    }
    truth |= {name: value for name, value in may.items() if name in info}
    if one.finished is not None:
        truth |= {
            "finishTs": int(one.finished),
            "state": one.state,
            "internalState": one.internal,
        }
    elif "finishTs" in info:
        yield f"{one.id} is not finished"
    for name, value in truth.items():
        said = info.get(name)
        if (Decimal(said) if isinstance(value, Decimal) and said is not None else said) != value:
            yield f"{one.id} {name}: {said} != {value}"


def _deals_differ(here: Store, orders: Iterable[Order]) -> Iterable[str]:
    for market, some in _by_market(orders).items():
        deals = [(one, deal) for one in some for deal in one.deals]
        deals.sort(key=lambda pair: (int(pair[1].at), pair[1].id), reverse=True)
        data = data_of(here, f"deal:{market}")
        wanted = [
            (
                deal.id,
                one.deal_id,
                int(deal.at),
                deal.price,
                deal.quantity,
                deal.fee,
                deal.fee_currency,
                deal.role,
            )
            for one, deal in deals[:KEPT]
        ]
        said = [
            (
                info["transactionId"],
                info["dealId"],
                info["committedAt"],
                Decimal(info["filledPrice"]),
                Decimal(info["filledQuantity"]),
                Decimal(info["fee"]),
                info["feeCurrency"],
                info["tradeRole"],
            )
            for info in (data or {"deals": []})["deals"]
        ]
        if said != wanted:
            yield f"{market} deals {len(said)} != {len(wanted)}"


def _balances_differ(here: Store, account: Account) -> Iterable[str]:
    for currency, balance in account.balances.items():
        data = data_of(here, f"balance:{currency}")
        if data is None:
            yield f"no balance {currency}"
            continue
        new = data["info"].get("newBalance")
        if new is not None and Decimal(new) != balance.available:
            yield f"{currency} {new} != {balance.available}"
        for name, amount in (("available", balance.available), ("held", balance.held)):
            if name not in data or Decimal(data[name]) != amount:
                yield f"{currency} {name} {data.get(name)} != {amount}"
