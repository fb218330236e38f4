"""The upstream connections: opened, kept, replaced; what they hear leaves as one run of batches.

Expected troubles are retried for ever. Readers of the exchange never wait for anyone downstream:
what is not taken in time is dropped, all of it, and everything starts a new run.
"""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Never

from app.domain.channel import Channel, Kind
from app.domain.event import Event
from app.domain.health import ConnectionHealth, Following
from app.errors import ConnectionLost, TokenRefused, UpstreamError, retryable
from app.logs import logger
from app.telemetry import Metrics
from app.upstream.backoff import Pace, backoff
from app.upstream.connection import Connection, SocketOptions, open_socket, socket_url
from app.upstream.handover import Handover
from app.upstream.interest import Interest
from app.upstream.rest import Rest
from app.upstream.session import Session, SessionOptions, State

_log = logger(__name__)

Leave = Callable[[], Awaitable[float]]
"""Takes leave to ask for a token and gives 0, or the seconds after which to ask again."""


@dataclass(frozen=True, slots=True)
class PoolOptions:
    """Times in seconds.

    A connection is retired at ``max_age``, jittered down by up to 20 %: its successor and it are
    both heard until all is joined, at most for ``overlap_max``. Backoff starts over after
    ``healthy_after`` of life. ``max_pending`` events may wait to be taken.
    """

    ws_url: str
    connections: int = 2
    max_age: float = 12 * 3600.0
    overlap_max: float = 20.0
    healthy_after: float = 30.0
    max_pending: int = 50_000
    session: SessionOptions = field(default_factory=SessionOptions)
    socket: SocketOptions = field(default_factory=SocketOptions)


@dataclass(slots=True, eq=False)
class _Slot:
    """The place of one connection: who is in it now, and how often it was lost."""

    name: str
    state: str = "waiting"
    since: float = field(default_factory=time.time)
    reconnects: int = 0
    connection: Connection | None = None
    successor: Connection | None = None
    handover: Handover | None = None

    @property
    def sockets(self) -> list[Connection]:
        """The open ones: two during a retirement."""
        return [one for one in (self.connection, self.successor) if one is not None]


class Pool:
    """The connections to the exchange. ``changed`` is set whenever their health has changed.

    ``leave`` paces token requests; without it 10 a minute with a burst of 5, for this process.
    """

    def __init__(
        self, rest: Rest, options: PoolOptions, metrics: Metrics, *, leave: Leave | None = None
    ) -> None:
        self.changed = asyncio.Event()
        self._rest = rest
        self._options = options
        self._metrics = metrics
        self._leave = leave or _own_leave()
        self._slots = [_Slot(f"upstream-{n}") for n in range(1, options.connections + 1)]
        self._interest = Interest(slot.name for slot in self._slots)
        self._wanted: frozenset[Channel] = frozenset()
        self._runs = _run_numbers()
        self._pending: list[Event] = []
        self._heard = asyncio.Event()
        self._observing = False
        self._unproven: set[Channel] = set()

    async def run(self) -> None:
        """Keep all connections up until cancelled; may be run again afterwards."""
        try:
            async with asyncio.TaskGroup() as tasks:
                for slot in self._slots:
                    tasks.create_task(self._keep(slot, tasks), name=slot.name)
        finally:
            self._reset()

    def _reset(self) -> None:
        self._pending.clear()
        self._unproven.clear()
        for slot in self._slots:
            slot.connection = slot.successor = slot.handover = None
            self._is(slot, "waiting")
        self._interest = Interest(slot.name for slot in self._slots)
        self._interest.want(self._wanted, time.time())

    def want(self, channels: frozenset[Channel]) -> None:
        """Replace the complete set of channels, wildcards included, that are to be followed."""
        if channels == self._wanted:
            return
        self._wanted = channels
        self._interest.want(channels, time.time())
        self._share_out()
        self.changed.set()

    def resync(self, channel: Channel, reason: str) -> None:
        """Have an order book reloaded; the more often, the later."""
        self._metrics.resyncs.labels(reason).inc()
        for slot in self._slots:
            if channel in self._interest.share(slot.name):
                for connection in slot.sockets:
                    connection.lose(channel)

    async def batches(self) -> AsyncIterator[list[Event]]:
        """What was heard, in order; everything that was read in one turn of the loop together."""
        while True:
            await self._heard.wait()
            self._heard.clear()
            batch, self._pending = self._pending, []
            if batch:
                yield batch

    def connections(self) -> tuple[ConnectionHealth, ...]:
        """How each connection stands."""
        return tuple(
            ConnectionHealth(
                slot.name,
                slot.state,
                slot.since,
                len(self._interest.share(slot.name)),
                slot.reconnects,
            )
            for slot in self._slots
        )

    def following(self) -> dict[Channel, Following]:
        """How confirmed each followed channel (or the wildcard it is followed by) is.

        A channel of which something was lost alone stands beside its wildcard.
        """
        following = self._interest.following
        for slot in self._slots:
            broken = slot.connection.session.broken() if slot.connection is not None else {}
            for channel, run in broken.items():
                whole = following.get(channel.everything)
                if whole is not None:
                    lost = run / 1_000_000
                    following[channel] = Following(whole.live, whole.since, lost, lost)
        return following

    def confirmed(self, kind: Kind) -> int | None:
        """The newest run of a whole kind that the exchange has confirmed; None: it has not."""
        connections = (slot.connection for slot in self._slots if slot.connection is not None)
        return max(filter(None, (one.session.whole(kind) for one in connections)), default=None)

    # One connection after the other

    async def _keep(self, slot: _Slot, tasks: asyncio.TaskGroup) -> Never:
        delays = backoff(random.random)
        while True:
            if await self._serve(slot, tasks) >= self._options.healthy_after:
                delays = backoff(random.random)
            await asyncio.sleep(next(delays))

    async def _serve(self, slot: _Slot, tasks: asyncio.TaskGroup) -> float:
        """Bring a connection up and see it, or its last successor, through: seconds it lived."""
        self._is(slot, "opening")
        try:
            connection = slot.connection = await self._open(slot)
        except UpstreamError as error:
            self._lost(slot, error)
            return 0.0
        opened = connection.opened
        tasks.create_task(connection.run(), name=slot.name)
        self._carries(slot)
        age = self._options.max_age
        while not await self._lived_out(connection, age):
            before, connection = connection, await self._succeed(slot, connection, tasks)
            failed = connection is before
            age = min(_NEXT_SUCCESSION, age) if failed else self._options.max_age
        slot.connection = None
        slot.reconnects += 1
        self._lost(slot, connection.session.fault or ConnectionLost("over"), opened=opened)
        return time.time() - opened

    async def _open(self, slot: _Slot) -> Connection:
        """Leave, then a token, then at once the socket it is good for (protocol 1)."""
        wait = await self._leave()
        while wait > 0:
            await asyncio.sleep(wait)
            wait = await self._leave()
        try:
            token = await self._rest.token()
        except TokenRefused:
            self._metrics.token_fetches.labels("refused").inc()
            raise
        self._metrics.token_fetches.labels("granted").inc()
        url = socket_url(self._options.ws_url, token)
        socket = await open_socket(url, self._options.socket)
        _log.info("upstream open", connection=slot.name)
        session = Session(
            slot.name, _now(), options=self._options.session, metrics=self._metrics, runs=self._runs
        )
        return Connection(
            socket,
            session,
            self._options.socket,
            deliver=partial(self._deliver, slot),
            changed=partial(self._stirred, slot),
        )

    def _lost(self, slot: _Slot, why: UpstreamError, *, opened: float | None = None) -> None:
        if not retryable(why):
            raise why
        self._metrics.upstream_disconnects.labels(str(why)).inc()
        age = None if opened is None else round(time.time() - opened, 1)
        _log.info("upstream lost", connection=slot.name, reason=str(why), age=age)
        self._is(slot, "waiting")
        self._interest.down(slot.name)
        self._share_out()

    # Retirement: the new one up before the old one goes

    async def _lived_out(self, connection: Connection, age: float) -> bool:
        """Whether it ended by itself; False once it is old enough to be retired."""
        age *= 1 - 0.2 * random.random()  # noqa: S311  spread, not secrecy
        try:
            async with asyncio.timeout(age):
                await connection.over.wait()
        except TimeoutError:
            return False
        return True

    async def _succeed(self, slot: _Slot, old: Connection, tasks: asyncio.TaskGroup) -> Connection:
        """Have a new connection take over without a loss: the one that carries on."""
        try:
            new = slot.successor = await self._open(slot)
        except UpstreamError as error:
            _log.warning("upstream not replaced", connection=slot.name, reason=str(error))
            return old
        handover = slot.handover = Handover(old.session, new.session)
        tasks.create_task(new.run(), name=slot.name)
        self._carries(slot)
        try:
            async with asyncio.timeout(self._options.overlap_max):
                while not (handover.done(_now()) or old.over.is_set() or new.over.is_set()):
                    await asyncio.sleep(_TICK)
                    self._step(slot, handover, new)
        except TimeoutError:
            pass  # what was not joined by now has a gap
        slot.successor = slot.handover = None
        if new.session.fault is not None or not handover.confirmed:
            _log.warning("upstream not replaced", connection=slot.name, reason="not confirmed")
            new.retire()
            for channel in handover.joined:  # of which the old one's events were passed over
                old.lose(channel)
            return old
        self._hear(handover.finish(_now()))
        slot.connection = new
        old.retire()
        _log.info("upstream replaced", connection=slot.name)
        return new

    def _step(self, slot: _Slot, handover: Handover, new: Connection) -> None:
        if all(new.session.confirmed(channel) for channel in self._interest.share(slot.name)):
            handover.confirm(_now())
        self._hear(handover.settle(_now()))

    # What is carried by whom, and how it stands

    def _carries(self, slot: _Slot) -> None:
        self._interest.up(slot.name)
        self._share_out()

    def _share_out(self) -> None:
        for slot in self._slots:
            share = self._interest.share(slot.name)
            for connection in slot.sockets:
                connection.want(share)
        self._observe_soon()

    def _stirred(self, slot: _Slot, connection: Connection) -> None:
        state = connection.session.state
        if connection is slot.connection:
            if state is State.MUTE:
                self._unproven |= self._interest.share(slot.name)
            if state is not State.CLOSED:
                self._is(slot, state)
            elif slot.successor is None:  # others are to take over at once
                self._interest.down(slot.name)
                self._share_out()
        self._observe_soon()

    def _observe_soon(self) -> None:
        """Look at how everything stands, once for all that changes within a moment."""
        if not self._observing:
            self._observing = True
            asyncio.get_running_loop().call_later(_MOMENT, self._observe)

    def _observe(self) -> None:
        self._observing = False
        now = time.time()
        news = False
        for channel in self._interest.share(None):
            news |= self._interest.observe(channel, None, live=False, now=now)
        for slot in self._slots:
            session = None if slot.connection is None else slot.connection.session
            for channel in self._interest.share(slot.name):
                heard = session is not None and session.fault is None
                run = session.run(channel) if session is not None and heard else None
                live = session is not None and session.confirmed(channel)
                live = live and channel not in self._unproven
                news |= self._interest.observe(channel, run, live=live, now=now)
        if news:
            self.changed.set()

    def _is(self, slot: _Slot, state: str) -> None:
        if slot.state != state:
            slot.state, slot.since = state, time.time()
            live = sum(slot.state == State.LIVE for slot in self._slots)
            self._metrics.upstream_connections.set(live)
            self.changed.set()

    # What is heard

    def _deliver(self, slot: _Slot, connection: Connection, events: list[Event]) -> None:
        """Take what a connection heard.

        What a mute connection carried stays unproven, whoever carries it now, until that one
        is heard: a replaced connection that is just as mute does not count as live.
        """
        if self._unproven:
            self._unproven -= self._interest.share(slot.name)
            self._observe_soon()
        if slot.handover is not None and connection is slot.successor:
            self._hear(slot.handover.new(events, _now()))
        elif connection is slot.connection:
            self._hear(slot.handover.old(events, _now()) if slot.handover else events)

    def _hear(self, events: list[Event]) -> None:
        self._pending += events
        if len(self._pending) > self._options.max_pending:
            _log.warning("upstream events dropped", events=len(self._pending))
            self._pending.clear()
            for slot in self._slots:
                for connection in slot.sockets:
                    connection.lose()
        self._heard.set()


_MOMENT = 0.02
"""Seconds for which changes of health are gathered."""

_NEXT_SUCCESSION = 60.0
"""Seconds after which a retirement that failed is tried again."""

_TICK = 0.1
"""Seconds between two looks at a handover."""


def _now() -> float:
    return asyncio.get_running_loop().time()


def _run_numbers() -> Iterator[int]:
    """Ever larger numbers: the Unix microseconds at which a run begins."""
    number = 0
    while True:
        number = max(number + 1, time.time_ns() // 1000)
        yield number


def _own_leave() -> Leave:
    pace = Pace(per_minute=10, burst=5)

    async def leave() -> float:
        return pace.take(_now())

    return leave
