"""A simulated exchange whose truth is at hand, the real gateway on it, and clients that watch."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from app.simulator import Options, Simulator
from tests.e2e.clients import Follower, Join, crowd
from tests.e2e.gateway import Running, gateway
from tests.e2e.reconstruct import Json, state_of
from tests.e2e.waiting import until

WILD = ("lastprice:*", "ticker:*", "trade:*")
BOOKS = ("depth:BTC_USDT:0", "depth:TRX_USDT:1")

QUICK: dict[str, object] = {
    "upstream_ping_interval": 0.5,
    "upstream_pong_timeout": 0.5,
    "stale_after": 0.5,
    "linger": 1,
}
"""Settings with which a fault shows within a second."""

BACK = 25.0
"""Seconds within which data must be fresh again: backoff, token pacing, and a busy machine."""


@dataclass
class Scene:
    exchange: Simulator
    gateway: Running
    join: Join
    watcher: Follower
    extra: list[Follower] = field(default_factory=list)

    # What the exchange does

    def switch(self, **switches: object) -> None:
        self.exchange.control.set(**switches)

    def act(self, action: str, **given: object) -> Json:
        return self.exchange.control.act(action, **given)

    def report(self) -> Json:
        return self.exchange.control.report()

    def open(self) -> list[int]:
        """The numbers of the open connections."""
        return sorted(one["number"] for one in self.report()["connections"] if not one["closed"])

    def subscribed(self, kind: str) -> set[str]:
        """What the open connections have subscribed, together."""
        found = [one["subscriptions"] for one in self.report()["connections"] if not one["closed"]]
        return {subject for one in found for subject in one.get(kind, ())}

    # What the gateway says

    async def answers(self) -> list[Json]:
        """Every state, with ``stale`` and ``received``."""
        names = ",".join([*WILD, *BOOKS])
        answer = await self.gateway.http.get("/v1/state", params={"channels": names})
        if answer.status_code == 503:
            return []
        found: list[Json] = answer.json()["data"]
        return found

    async def stale(self) -> bool:
        """Whether some answer says that it is stale; a book that is not served counts too."""
        answers = await self.answers()
        return not answers or any(one["stale"] for one in answers)

    async def unready(self) -> bool:
        return await self.gateway.status("/readyz") == 503

    async def ready(self) -> bool:
        return await self.gateway.status("/readyz") == 200

    async def upstream(self) -> str:
        return str((await self.gateway.get("/v1/status"))["upstream"]["status"])

    # What must hold

    async def fresh(self, since: float) -> None:
        """Wait until everything has been heard anew, is not stale, and the gateway is ready."""

        async def again() -> bool:
            answers = await self.answers()
            heard = {one["channel"] for one in answers}
            markets = self.exchange.exchange.truth.lastprices
            return (
                heard
                >= {f"{kind}:{symbol}" for kind in ("lastprice", "ticker") for symbol in markets}
                and all(one["received"] > since and not one["stale"] for one in answers)
                and await self.ready()
            )

        await until(again, "fresh data", limit=BACK)

        def told() -> bool:
            return self.watcher.mirror.statuses()[-1] == "live"

        await until(told, "status live on the stream")

    async def settle(self) -> None:
        """Hold the market: answers and clients must come to equal its truth."""
        self.act("pause")
        await until(self._answers_true, "the truth over REST", limit=5)
        for client in (self.watcher, *self.extra):
            await until(partial(self._mirror_true, client), "the truth on a stream", limit=5)
        self.act("play")

    async def fine(self, since: float) -> None:
        """After a fault: fresh, true, and the exchange has nothing to complain of."""
        await self.fresh(since)
        await self.settle()
        assert self.report()["violations"] == []

    def truth(self, channel: str) -> Any:
        truth = self.exchange.exchange.truth
        kind, _, subject = channel.partition(":")
        if kind == "depth":
            asks, bids = truth.books[subject].best_first()
            return {"asks": [[*level] for level in asks], "bids": [[*level] for level in bids]}
        if kind == "trade":
            return [
                {
                    "price": trade.price,
                    "quantity": trade.quantity,
                    "timestamp": trade.timestamp,
                    "direction": trade.direction,
                }
                for trade in truth.trades[subject]
            ]
        return {"lastprice": truth.lastprices, "ticker": truth.tickers}[kind][subject]

    async def _answers_true(self) -> bool:
        answers = await self.answers()
        known = [one for one in answers if not one["channel"].startswith("trade:")]
        return bool(answers) and all(state_of(one) == self.truth(one["channel"]) for one in known)

    def _mirror_true(self, client: Follower) -> bool:
        return all(self._true(client, channel) for channel in client.mirror.at)

    def _true(self, client: Follower, channel: str) -> bool:
        """Trades: all since the last snapshot, none missing and none twice."""
        if channel.startswith("trade:"):
            tape = client.mirror.tape[channel]
            return not tape or tape == self.truth(channel)[-len(tape) :]
        return bool(client.mirror.state(channel) == self.truth(channel))


@asynccontextmanager
async def scene(
    folder: Path, switches: Json | None = None, **settings: object
) -> AsyncIterator[Scene]:
    """A lively generated market, followed; everything known and fresh when the block begins."""
    began = time.time()
    options = Options(**{"port": 0, "rate": 200.0, "account": False, **(switches or {})})
    async with (
        Simulator(options) as exchange,
        gateway(exchange.url, folder, **(QUICK | settings)) as running,
        crowd(running.url) as join,
    ):
        made = Scene(exchange, running, join, join(*WILD, *BOOKS))
        await made.fresh(began)
        yield made
