"""Several gateway processes on one real broker and one simulated exchange, and their clients."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

from app.simulator import Options, Simulator
from tests.e2e.gateway import gateway
from tests.e2e.market import BOOKS, WILD, Market
from tests.e2e.member import Member, Network
from tests.e2e.reconstruct import Json, Place, place, state_of
from tests.e2e.record import Client, covered
from tests.e2e.waiting import until
from tests.redis.proxy import proxy
from tests.redis.servers import Server, server

JOURNAL = "{sluice}:journal"
SNAPSHOTS = "{sluice}:snapshots"

BUSY = 3.0
"""How many times the promised time something may take: other tests share the machine."""
BACK = 30.0
"""Seconds within which data must be fresh where no time is promised: tokens are paced."""
NUDGE = 0.2
"""Seconds between events on every channel while fresh data is waited for."""
TRUE = 20.0
"""Seconds that the truth may take to everyone once the market stands still."""

SETTINGS: dict[str, object] = {
    "lease_ttl": 1,
    "linger": 1,
    "stale_after": 0.5,
    "drain": 0,
    "upstream_connections": 1,
    "upstream_ping_interval": 1,
    "upstream_pong_timeout": 3,
}
"""Settings with which a fault shows soon. One upstream connection: each leader wants tokens."""


@dataclass(frozen=True, slots=True)
class Written:
    """An entry of the journal: the position before it, its own, and envelopes as text."""

    previous: Place
    position: Place
    envelopes: list[str]


@dataclass(kw_only=True)
class Fleet(Market):
    """All of it.

    ``most`` is how many upstream connections were open at once, ``held`` where the journal ended
    when the test began.
    """

    folder: Path
    broker: str
    redis: Server | None
    settings: dict[str, object]
    stack: AsyncExitStack
    tasks: asyncio.TaskGroup
    members: list[Member] = field(default_factory=list)
    clients: list[Client] = field(default_factory=list)
    most: int = 0
    held: Place = (0, 0)
    made: float = field(default_factory=time.time)
    _names: Iterator[int] = field(default_factory=count)
    _nudged: float = 0.0

    # Processes and clients

    async def start(self, **settings: Any) -> Member:
        """One more process, once it can take traffic."""
        return await self._launch(None, **settings)

    async def start_many(self, number: int, *, network: bool = False) -> None:
        """So many more, with ``network`` each over ways of its own."""
        ways = [await self._network() if network else None for _ in range(number)]
        async with asyncio.TaskGroup() as tasks:
            for one in ways:
                tasks.create_task(self._launch(one))

    async def _network(self) -> Network:
        assert self.redis is not None
        to_redis = await self.stack.enter_async_context(proxy(self.redis.port))
        to_exchange = await self.stack.enter_async_context(proxy(self.exchange.port))
        return Network(to_redis, to_exchange)

    async def _launch(self, network: Network | None, **settings: Any) -> Member:
        exchange, broker = self.exchange.url, self.broker
        if network is not None:
            exchange = f"http://127.0.0.1:{network.to_exchange.port}"
            broker = network.to_redis.url
        given = self.settings | {"broker_url": broker} | settings
        name = f"gateway-{next(self._names)}"
        running = await self.stack.enter_async_context(
            gateway(exchange, self.folder, name=name, **given)
        )
        member = Member(running, network, given.get("role") == "feed")
        self.members.append(member)
        return member

    def join(self, member: Member, *channels: str, **given: Any) -> Client:
        """A client of one process, on all that is watched if no channels are named."""
        client = Client(member.url, channels or (*WILD, *BOOKS), **given)
        client.start(self.tasks)
        self.clients.append(client)
        return client

    @property
    def alive(self) -> list[Member]:
        """The processes that can answer."""
        return [one for one in self.members if one.alive and not one.paused]

    @property
    def serving(self) -> list[Member]:
        """Those of them that serve data."""
        return [one for one in self.alive if not one.feeds_only]

    def others(self, member: Member) -> list[Member]:
        return [one for one in self.alive if one is not member]

    async def leader(self) -> Member:
        """Who leads, once all processes that can answer agree on it."""

        async def agreed() -> Member | None:
            names: dict[str, Member] = {}
            said = set()
            for member in self.alive:
                status = await member.status()
                names[status["process"]] = member
                said.add((status["lease"]["leader"], status["lease"]["epoch"]))
            return names.get(said.pop()[0]) if len(said) == 1 else None

        found = await until(agreed, "one leader of one mind", limit=BACK)
        assert found is not None
        return found

    # The journal

    async def journal(self, after: Place = (0, 0), at: Server | None = None) -> list[Written]:
        """What Redis itself says was published after a position."""
        holder = at or self.redis
        assert holder is not None
        rows = await holder.ask("XRANGE", JOURNAL, f"({after[0]}-{after[1]}", "+")
        return [_written(*row) for row in rows]

    async def told(self, client: Client, after: Place | None = None) -> list[str]:
        """The envelopes in the journal that a client is to have got since then, as text."""
        after = self.held if after is None else after
        entries = await self.journal()
        assert entries[0].previous <= after, "the journal does not reach back so far"
        return [
            text
            for entry in entries
            for text in entry.envelopes
            if place(json.loads(text)["position"]) > after
            and covered(json.loads(text)["channel"], client.channels)
        ]

    async def epochs(self, after: Place | None = None) -> list[int]:
        """The epochs that have begun since then."""
        entries = await self.journal(self.held if after is None else after)
        return [one.position[0] for one in entries if one.position[1] == 0]

    async def saved(self) -> Place:
        """How far the snapshots in Redis reach: where the history of a new process begins."""
        assert self.redis is not None
        return place((await self.redis.ask("HGET", SNAPSHOTS, "watermark")).decode())

    # What must hold

    async def begin(self, at: Server | None = None) -> int:
        """Wait until all is fine, forget what it took, and let the market play; the epoch."""
        await self.fine(self.made)
        for client in self.clients:
            client.mirror.forget()
        self.most = 0
        self.held = (await self.journal(at=at))[-1].position
        self.act("play")
        return self.held[0]

    async def fresh(
        self, since: float, *members: Member, epoch: int = 0, limit: float = BACK
    ) -> None:
        """Wait until these processes, or all, have everything anew, not stale, and say so.

        After an ``epoch``, if one is given: its own last events are not what is waited for.
        """
        missing: dict[str, object] = {}

        async def again() -> bool:
            self.stir()
            missing.clear()
            for member in members or self.serving:
                if lacks := await self._lacks(member, since, epoch):
                    missing[member.running.log_path.name] = lacks
            return not missing

        await until(again, lambda: f"fresh data; {missing}", limit=limit)

    async def _lacks(self, member: Member, since: float, epoch: int) -> object:
        for names in (("lastprice:*", "ticker:*", *BOOKS), ("trade:*",)):  # the long ones last
            answers = await member.answers(*names)
            new = {
                one["channel"]
                for one in answers
                if one["received"] > since
                and place(one["position"])[0] > epoch
                and not one["stale"]
            }
            wanted = {one for one in self.channels if covered(one, names)}
            if not wanted <= new:
                return sorted(wanted - new)[:3]
        answer = await member.running.http.get("/readyz")
        return None if answer.status_code == 200 else answer.text

    def stir(self) -> None:
        """An event on every channel, now and then."""
        now = time.monotonic()
        if now - self._nudged >= NUDGE:
            self._nudged = now
            self.nudge()

    async def settle(self) -> None:
        """Hold the market: all answers and clients must come to equal its truth."""
        self.act("pause")
        untrue: dict[str, object] = {}
        await until(partial(self._level, untrue), lambda: f"the truth; {untrue}", limit=TRUE)

    async def _level(self, untrue: dict[str, object]) -> bool:
        """Whether all processes and clients are equally far, and hold the truth."""
        untrue.clear()
        reached: dict[str, Place] = {}
        for member in self.serving:
            for one in await member.answers(*WILD, *BOOKS):
                channel, position = one["channel"], place(one["position"])
                if reached.setdefault(channel, position) != position:
                    untrue[channel] = {reached[channel], position}
                held, true = state_of(one), self.truth(channel)
                if channel.startswith("trade:"):  # some may be missing between two leaders
                    held, true = held[0], true[-1]
                if held != true:
                    untrue[channel] = {"held": held, "true": true}
        for client in self.clients:
            untrue |= self.untrue(client.mirror)
            for channel, position in reached.items():
                held = client.mirror.at.get(channel)
                if covered(channel, client.channels) and held != position:
                    untrue[channel] = {"held": held, "reached": position}
        return reached.keys() >= self.channels and not untrue

    async def fine(self, since: float, *, epoch: int = 0) -> None:
        """After a fault: fresh and true everywhere, and nothing went wrong on the way.

        The market is held when this ends.
        """
        await self.fresh(since, epoch=epoch)
        for client in self.clients:
            await until(partial(client.is_told, "live"), "status live on a stream")
        await self.settle()
        self.check()
        assert self.report()["violations"] == []
        wanted = self.settings["upstream_connections"]
        await until(lambda: len(self.open()) == wanted, "one pool")

    def check(self) -> None:
        """What no client may ever have seen; the mirrors check the chains and the ids."""
        for client in self.clients:
            assert client.mirror.repeated == 0 or client.mirror.resets()
            epochs = client.mirror.epochs()
            assert epochs == sorted(epochs), "an epoch went back"

    async def _count_connections(self) -> None:
        while True:
            self.most = max(self.most, len(self.exchange.exchange.clients))
            await asyncio.sleep(0.01)


def _written(number: bytes, fields: dict[bytes, bytes]) -> Written:
    head, *envelopes = fields[b"entry"].decode().split("\n")
    previous, _, position = head.partition(" ")
    assert position == number.decode()
    return Written(place(previous or "0-0"), place(position), envelopes)


@asynccontextmanager
async def fleet(
    folder: Path,
    number: int = 3,
    *,
    network: bool = False,
    broker: str | None = None,
    binary: Path | None = None,
    market: Json | None = None,
    **settings: Any,
) -> AsyncIterator[Fleet]:
    """So many processes on a lively market; with ``network`` each has ways of its own.

    ``broker`` is the URL of a broker that is there already, ``binary`` the Redis to be started
    else. At the end every process that was not ended must end well, and no log may hold a crash.
    """
    options = Options(**{"port": 0, "rate": 60.0, "account": False, **(market or {})})
    try:
        async with AsyncExitStack() as stack:
            exchange = await stack.enter_async_context(Simulator(options))
            redis = None
            if broker is None:
                redis = await stack.enter_async_context(server(folder, binary=binary))
            tasks = await stack.enter_async_context(asyncio.TaskGroup())
            made = Fleet(
                exchange=exchange,
                folder=folder,
                broker=broker or (redis.url if redis else ""),
                redis=redis,
                settings=SETTINGS | settings,
                stack=stack,
                tasks=tasks,
            )
            counting = tasks.create_task(made._count_connections())
            await made.start_many(number, network=network)
            yield made
            for client in made.clients:
                client.stop()
            counting.cancel()
            async with asyncio.TaskGroup() as ends:
                for member in made.alive:
                    ends.create_task(member.terminate())
    except BaseExceptionGroup as found:
        raise _first(found) from None


def _first(found: BaseException) -> BaseException:
    """What a group of groups is about."""
    return _first(found.exceptions[0]) if isinstance(found, BaseExceptionGroup) else found
