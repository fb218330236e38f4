"""A simulated exchange whose truth is at hand, the real gateway on it, and clients that watch."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial

import httpx

from app.simulator import Options, Simulator
from tests.e2e.clients import Follower, Join, crowd
from tests.e2e.market import BOOKS, WILD, Market
from tests.e2e.process import serving, settings_for
from tests.e2e.reconstruct import Json, state_of
from tests.e2e.waiting import until

QUICK: dict[str, object] = {
    "upstream_ping_interval": 0.5,
    "upstream_pong_timeout": 0.5,
    "stale_after": 0.5,
    "linger": 1,
    "drain": 0,
}
"""Settings with which a fault shows within a second."""

BACK = 25.0
"""Seconds within which data must be fresh again: backoff, token pacing, and a busy machine."""


@dataclass(kw_only=True)
class Scene(Market):
    http: httpx.AsyncClient
    join: Join
    watcher: Follower
    extra: list[Follower] = field(default_factory=list)

    # What the gateway says

    async def answers(self, *channels: str) -> list[Json]:
        """The states, with ``stale`` and ``received``; none if one of them is not served."""
        names = ",".join(channels or [*WILD, *BOOKS])
        answer = await self.http.get("/v1/state", params={"channels": names})
        if answer.status_code == 503:
            return []
        found: list[Json] = answer.json()["data"]
        return found

    async def stale(self) -> bool:
        """Whether some answer says that it is stale."""
        return any(one["stale"] for one in await self.answers(*WILD))

    async def unready(self) -> bool:
        return (await self.http.get("/readyz")).status_code == 503

    async def ready(self) -> bool:
        return (await self.http.get("/readyz")).status_code == 200

    # What must hold

    async def fresh(self, since: float) -> None:
        """Wait until everything has been heard anew, is not stale, and the gateway is ready."""

        async def again() -> bool:
            self.nudge()
            answers = await self.answers()
            return (
                {one["channel"] for one in answers} >= self.channels
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
            mirror = client.mirror
            await until(partial(self.true_of, mirror), partial(self.untrue, mirror), limit=5)
        self.act("play")

    async def fine(self, since: float) -> None:
        """After a fault: fresh, true, and the exchange has nothing to complain of."""
        await self.fresh(since)
        await self.settle()
        assert self.report()["violations"] == []

    async def _answers_true(self) -> bool:
        answers = await self.answers()
        known = [one for one in answers if not one["channel"].startswith("trade:")]
        return bool(answers) and all(state_of(one) == self.truth(one["channel"]) for one in known)


@asynccontextmanager
async def scene(switches: Json | None = None, **settings: object) -> AsyncIterator[Scene]:
    """A lively generated market, followed; everything known and fresh when the block begins."""
    began = time.time()
    options = Options(**{"port": 0, "rate": 100.0, "account": False, **(switches or {})})
    async with (
        Simulator(options) as exchange,
        serving(settings_for(exchange, **(QUICK | settings))) as url,
        httpx.AsyncClient(base_url=url, trust_env=False, timeout=10) as http,
        crowd(url) as join,
    ):
        watcher = join(*WILD, *BOOKS)
        made = Scene(exchange=exchange, http=http, join=join, watcher=watcher)
        await made.fresh(began)
        yield made
