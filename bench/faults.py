"""What goes wrong in a soak, one thing at a time."""

import asyncio
import random
import signal
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Protocol

import httpx

from bench.followers import Follower, Tally
from tests.redis.servers import Server


class Process(Protocol):
    """A gateway, as far as faults go."""

    name: str

    def tell(self, number: signal.Signals) -> None: ...
    async def end(self, number: signal.Signals) -> None: ...
    async def start(self) -> None: ...
    async def status(self) -> dict[str, Any]: ...


class Exchange:
    """The simulator's control endpoint."""

    def __init__(self, port: int) -> None:
        self._http = httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=20
        )

    async def set(self, **switches: object) -> None:
        (await self._http.post("/control", json=switches)).raise_for_status()

    async def act(self, action: str, **given: object) -> None:
        # a connection may be gone just then
        with suppress(httpx.HTTPStatusError):
            (await self._http.post(f"/control/{action}", json=given)).raise_for_status()

    async def report(self) -> dict[str, Any]:
        told: dict[str, Any] = (await self._http.get("/control")).raise_for_status().json()
        return told


class Faults:
    """``stays`` lives as long as the soak; ``dies`` is killed whenever it leads."""

    def __init__(
        self,
        exchange: Exchange,
        redis: Server,
        stays: Process,
        dies: Process,
        followers: list[Follower],
        tally: Tally,
        chance: random.Random,
    ) -> None:
        self._exchange = exchange
        self._redis = redis
        self._stays = stays
        self._dies = dies
        self._followers = followers
        self._tally = tally
        self._chance = chance
        self.back: dict[str, list[float]] = defaultdict(list)
        """Seconds from the end of each fault until both processes were live, by fault."""
        self._all: dict[str, Callable[[], Awaitable[None]]] = {
            "exchange: all sockets cut": lambda: exchange.act("cut"),
            "exchange: garbage": lambda: exchange.act("garbage", kind=chance.choice(GARBAGE)),
            "exchange: stalled 15 s": lambda: self._switched(15, stall=True),
            "exchange: no pongs 15 s": lambda: self._switched(15, pong=False),
            "exchange: away 10 s": lambda: self._switched(10, away=True),
            "exchange: mute 20 s": lambda: self._switched(20, mute=True),
            "exchange: REST 500, cut": lambda: self._cut_and(20, rest="500"),
            "exchange: tokens 500, cut": lambda: self._cut_and(20, token="500"),
            "redis: stalled 2 s": lambda: self._paused(2),
            "redis: stalled 8 s": lambda: self._paused(8),
            "redis: restarted": lambda: self._redis.restart(keep_data=True),
            "redis: clients cut": self._clients_cut,
            "leader killed, or made one": self._leader,
            "process restarted": self._restarted,
            "process frozen 3 s": lambda: self._frozen(3),
            "a third of the streams cut": self._streams_cut,
        }

    async def run(self, pause: float) -> None:
        """One after the other, ``pause`` seconds or so after all is well; each once in a round."""
        while True:
            names = list(self._all)
            self._chance.shuffle(names)
            for name in names:
                await asyncio.sleep(self._chance.uniform(0.5, 1.5) * pause)
                self._tally.fault = name
                await self._all[name]()
                ended = time.monotonic()
                await self.well()
                self.back[name].append(time.monotonic() - ended)

    async def well(self, limit: float = 90) -> None:
        """Wait until both processes say that the exchange is live."""
        end = time.monotonic() + limit
        while time.monotonic() < end:
            with suppress(httpx.HTTPError):
                told = [await one.status() for one in (self._stays, self._dies)]
                if all(one["upstream"]["status"] == "live" for one in told):
                    return
            await asyncio.sleep(0.2)
        self._tally.violate(f"not well within {limit:.0f} s")

    async def _switched(self, seconds: float, **switches: object) -> None:
        before = (await self._exchange.report())["switches"]
        await self._exchange.set(**switches)
        await asyncio.sleep(seconds)
        await self._exchange.set(**{name: before[name] for name in switches})

    async def _cut_and(self, seconds: float, **switches: object) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._switched(seconds, **switches))
            await asyncio.sleep(1)
            await self._exchange.act("cut")

    async def _paused(self, seconds: float) -> None:
        self._redis.pause()
        await asyncio.sleep(seconds)
        self._redis.resume()

    async def _clients_cut(self) -> None:
        for kind in ("normal", "pubsub"):
            await self._redis.ask("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")

    async def _leader(self) -> None:
        """Kill the one that may die, or freeze the other so that the one leads next time."""
        told = await self._dies.status()
        if told["lease"]["leader"] == told["process"]:
            await self._dies.end(signal.SIGKILL)
            await asyncio.sleep(3)
            await self._dies.start()
        else:
            await self._frozen(8)

    async def _restarted(self) -> None:
        await self._dies.end(signal.SIGTERM)
        await self._dies.start()

    async def _frozen(self, seconds: float) -> None:
        self._stays.tell(signal.SIGSTOP)
        try:
            await asyncio.sleep(seconds)
        finally:
            self._stays.tell(signal.SIGCONT)

    async def _streams_cut(self) -> None:
        for one in self._chance.sample(self._followers, len(self._followers) // 3):
            one.cut()


GARBAGE = ("json", "text", "utf8", "binary", "array", "oversized")
