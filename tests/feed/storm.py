"""Random lives of an account on the simulated exchange: its truth beside what was published."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from app.domain.channel import Channel, Kind
from app.domain.event import Envelope
from app.feed import Replica
from app.simulator.actions import ActionError
from app.simulator.statements import Order
from tests.e2e.waiting import until
from tests.feed.leading import Process, candidate, lease_on
from tests.feed.place import FaultyBroker, replica

ACCOUNT = ("order:*", "balance:*", "deal:*")
MARKETS = {"BTC_USDT": "100", "ETH_USDT": "10", "TRX_USDT": "2"}
KEPT = 100
Json = dict[str, Any]


@dataclass
class Follower:
    """A client that holds what the envelopes tell, and checks their chain."""

    at: dict[str, str] = field(default_factory=dict)
    held: dict[str, Any] = field(default_factory=dict)
    seen: Counter[tuple[str, ...]] = field(default_factory=Counter)
    gaps: list[str] = field(default_factory=list)
    taken: int = 0

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


class Storm:
    """One account's life, with all that may go wrong on the way."""

    def __init__(self, process: Process, broker: FaultyBroker, seed: int) -> None:
        self.process = process
        self.broker = broker
        self.random = random.Random(seed)
        self.client = Follower()
        self.control = process.exchange.control
        self.account = process.exchange.exchange.account

    # What the owner does

    def trade(self) -> None:
        """One step of some order's life."""
        chosen = self.random.choice(list(self.account.active) or [""])
        move = self.random.random()
        if not chosen or move < 0.4:
            market = self.random.choice(list(MARKETS))
            price = {"price": MARKETS[market], "filled_price": MARKETS[market]}
            kind = "market" if self.random.random() < 0.2 else "limit"
            side = self.random.choice(("buy", "sell"))
            oid = f"mine-{self.random.random()}" if self.random.random() < 0.3 else None
            self.order(
                do="create", symbol=market, type=kind, direction=side,
                quantity="0.008", client_oid=oid, **price,
            )  # fmt: skip
        elif move < 0.75:
            left = self.account.active[chosen].left
            if left > Decimal("0.001"):
                self.order(do="update", id=chosen, quantity="0.001")
        else:
            self.order(do=self.random.choice(("finish", "cancel")), id=chosen)

    def order(self, **step: Any) -> None:
        self.control.act("order", **step)

    # What goes wrong

    async def turn(self) -> None:
        """Something happens, good or bad."""
        for _ in range(self.random.choice((1, 3, 20))):
            self.trade()
        half = self.random.random() < 0.5
        trouble: Json = self.random.choice(
            [
                {"act": "cut"},
                {"act": "cut"},
                {"act": "stall"},
                {"stall": False},
                {"rest": "500" if half else "malformed"},
                {"rest": "ok"},
                {"rest": "ok"},
                {"rest": "slow", "rest_delay": 0.05},
                {"duplicate_after_reconnect": half},
                {"drop_every": self.random.choice((0, 2, 5))},
                {"balance_gap": self.random.random() < 0.3},
                {"wrapper": "data" if half else "result"},
            ]
        )
        if "act" in trouble:
            self.control.act(trouble["act"])
        else:
            self.control.set(**trouble)
        await asyncio.sleep(self.random.choice((0.0, 0.01, 0.05)))

    async def calm(self) -> None:
        """Everything works again, on new connections."""
        self.control.set(rest="ok", stall=False, drop_every=0, balance_gap=False)
        self.control.act("cut")
        await self.process.settled()


@asynccontextmanager
async def storm(seed: int = 0, *pinned: str, **switches: object) -> AsyncIterator[Storm]:
    broker, here = FaultyBroker(), replica(*(pinned or ACCOUNT))
    async with candidate(
        lease_on(broker), broker, here, rate=0.0, **{"seed": seed, **switches}
    ) as process:
        it = Storm(process, broker, seed)
        await process.settled()
        yield it


def take_all(it: Storm) -> None:
    """Have the client read what was appended since."""
    for entry in it.broker.appended[it.client.taken :]:
        for one in entry.envelopes:
            it.client.take(one)
    it.client.taken = len(it.broker.appended)


# The truth, of the exchange's own objects


def difference(it: Storm) -> str:
    """Where the account's state is not the exchange's; nothing if it is."""
    found = [
        *_orders_differ(it.process.replica, it.account.active.values(), it.account.finished),
        *_deals_differ(it.process.replica, [*it.account.active.values(), *it.account.finished]),
        *_balances_differ(it.process.replica, it),
    ]
    return "; ".join(found[:5])


def data_of(here: Replica, channel: str) -> Json | None:
    state = here.store.get(Channel.parse(channel))
    return None if state is None else state.snapshot().data


def _by_market(orders: Iterable[Order]) -> dict[str, list[Order]]:
    found: dict[str, list[Order]] = {}
    for order in orders:
        found.setdefault(order.symbol, []).append(order)
    return found


def _orders_differ(
    here: Replica, active: Iterable[Order], finished: Iterable[Order]
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


def _deals_differ(here: Replica, orders: Iterable[Order]) -> Iterable[str]:
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


def _balances_differ(here: Replica, it: Storm) -> Iterable[str]:
    for currency, balance in it.account.balances.items():
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


async def equals_the_truth(it: Storm) -> None:
    await until(lambda: not difference(it), lambda: difference(it), limit=30)


async def live(it: Storm, turns: int) -> None:
    """A whole life, checked at its end and at every event on the way."""
    for _ in range(turns):
        try:
            await it.turn()
        except ActionError:
            continue  # too little money for it
        take_all(it)
    await it.calm()
    for id_ in list(it.account.active):
        it.order(do="cancel", id=id_)
    await equals_the_truth(it)
    take_all(it)
    for channel, held in it.client.held.items():
        data = data_of(it.process.replica, channel)
        assert data is not None
        if channel.startswith("balance"):
            assert data == held
        else:
            shown = data.get("orders") or data.get("deals") or []
            assert all(info in held.values() for info in shown)
