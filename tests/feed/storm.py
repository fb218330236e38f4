"""Random lives of an account on the simulated exchange: its truth beside what was published."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

from app.simulator.actions import ActionError
from tests.e2e.waiting import until
from tests.feed.leading import Process, candidate, lease_on
from tests.feed.place import FaultyBroker, replica
from tests.oracle.account import Follower, Json, data_of, difference

ACCOUNT = ("order:*", "balance:*", "deal:*")
MARKETS = {"BTC_USDT": "100", "ETH_USDT": "10", "TRX_USDT": "2"}


class Storm:
    """One account's life, with all that may go wrong on the way."""

    def __init__(self, process: Process, broker: FaultyBroker, seed: int) -> None:
        self.process = process
        self.broker = broker
        self.random = random.Random(seed)
        self.client = Follower()
        self.taken = 0
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
async def storm(seed: int = 0, *pinned: str) -> AsyncIterator[Storm]:
    """A leader that follows the account, or what is ``pinned``, on a market that stands still."""
    broker, here = FaultyBroker(), replica(*(pinned or ACCOUNT))
    async with candidate(lease_on(broker), broker, here, rate=0.0, seed=seed) as process:
        it = Storm(process, broker, seed)
        await process.settled()
        yield it


def take_all(it: Storm) -> None:
    """Have the client read what was appended since."""
    for entry in it.broker.appended[it.taken :]:
        for one in entry.envelopes:
            it.client.take(one)
    it.taken = len(it.broker.appended)


async def equals_the_truth(it: Storm) -> None:
    here = it.process.replica.store
    await until(
        lambda: not difference(here, it.account), lambda: difference(here, it.account), limit=30
    )


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
        data = data_of(it.process.replica.store, channel)
        assert data is not None
        if channel.startswith("balance"):
            assert data == held
        else:
            shown = data.get("orders") or data.get("deals") or []
            assert all(info in held.values() for info in shown)
