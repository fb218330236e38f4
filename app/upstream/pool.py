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
from urllib.parse import quote

from app.domain.channel import Channel
from app.domain.event import Event
from app.domain.health import ConnectionHealth, Following
from app.errors import TokenRefused, UpstreamError, retryable
from app.telemetry import Metrics, logger
from app.upstream.backoff import Pace, backoff
from app.upstream.connection import Connection, SocketOptions, open_socket
from app.upstream.interest import Interest
from app.upstream.rest import Rest
from app.upstream.session import Session, SessionOptions, State

_log = logger(__name__)

Leave = Callable[[], Awaitable[float]]
"""Takes leave to ask for a token and gives 0, or the seconds after which to ask again."""


@dataclass(frozen=True, slots=True)
class PoolOptions:
    """Times in seconds.

    A connection is retired at ``max_age``, jittered down by up to 20 %. Backoff starts over after
    ``healthy_after`` of life. ``max_pending`` events may wait to be taken.
    """

    ws_url: str
    connections: int = 2
    max_age: float = 12 * 3600.0
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
        self._runs = _run_numbers()
        self._pending: list[Event] = []
        self._heard = asyncio.Event()
        self._observing = False

    async def run(self) -> None:
        """Keep all connections up until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for slot in self._slots:
                tasks.create_task(self._keep(slot, tasks), name=slot.name)

    def want(self, channels: frozenset[Channel]) -> None:
        """Replace the complete set of channels, wildcards included, that are to be followed."""
        self._interest.want(channels, time.time())
        self._share_out()
        self.changed.set()

    def resync(self, channel: Channel, reason: str) -> None:
        """Have an order book reloaded; the more often, the later."""
        self._metrics.resyncs.labels(reason).inc()
        for slot in self._slots:
            if slot.connection is not None and channel in self._interest.share(slot.name):
                slot.connection.lose(channel)

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
        """How confirmed each followed channel (or the wildcard it is followed by) is."""
        return self._interest.following

    # One connection after the other

    async def _keep(self, slot: _Slot, tasks: asyncio.TaskGroup) -> Never:
        delays = backoff(random.random)
        while True:
            if await self._serve(slot, tasks) >= self._options.healthy_after:
                delays = backoff(random.random)
            await asyncio.sleep(next(delays))

    async def _serve(self, slot: _Slot, tasks: asyncio.TaskGroup) -> float:
        """Bring a connection up and see it through to its end: the seconds it lived."""
        try:
            connection = slot.connection = await self._open(slot)
        except UpstreamError as error:
            self._lost(slot, error)
            return 0.0
        tasks.create_task(connection.run(), name=slot.name)
        self._interest.up(slot.name)
        self._share_out()
        await connection.over.wait()
        slot.connection = None
        slot.reconnects += 1
        if connection.session.fault is not None:
            self._lost(slot, connection.session.fault, opened=connection.opened)
        return time.time() - connection.opened

    async def _open(self, slot: _Slot) -> Connection:
        """Leave, then a token, then at once the socket it is good for (protocol 1)."""
        self._is(slot, "opening")
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
        url = self._options.ws_url
        url += f"{'&' if '?' in url else '?'}token={quote(token, safe='')}"
        socket = await open_socket(url, self._options.socket)
        _log.info("upstream open", connection=slot.name)
        session = Session(
            slot.name,
            asyncio.get_running_loop().time(),
            options=self._options.session,
            metrics=self._metrics,
            runs=self._runs,
        )
        return Connection(
            socket,
            session,
            self._options.socket,
            deliver=self._deliver,
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

    # What is carried by whom, and how it stands

    def _share_out(self) -> None:
        for slot in self._slots:
            if slot.connection is not None:
                slot.connection.want(self._interest.share(slot.name))
        self._observe_soon()

    def _stirred(self, slot: _Slot) -> None:
        if slot.connection is not None:
            state = slot.connection.session.state
            if state is not State.CLOSED:
                self._is(slot, state)
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
                run = None if session is None else session.run(channel)
                live = session is not None and session.confirmed(channel)
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

    def _deliver(self, events: list[Event]) -> None:
        self._pending += events
        if len(self._pending) > self._options.max_pending:
            _log.warning("upstream events dropped", events=len(self._pending))
            self._pending.clear()
            for slot in self._slots:
                if slot.connection is not None:
                    slot.connection.lose()
        self._heard.set()


_MOMENT = 0.02


def _run_numbers() -> Iterator[int]:
    """Ever larger numbers: the Unix microseconds at which a run begins."""
    number = 0
    while True:
        number = max(number + 1, time.time_ns() // 1000)
        yield number


def _own_leave() -> Leave:
    pace = Pace(per_minute=10, burst=5)

    async def leave() -> float:
        return pace.take(asyncio.get_running_loop().time())

    return leave
