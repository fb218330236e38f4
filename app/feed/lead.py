"""lead() = lease → pool → sequencer → broker: one process of a deployment at a time.

What ends a term is never an error of the process: it follows on, and may lead again.
"""

import asyncio
import random
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Never

from app.bus.broker import Broker, delays
from app.bus.lease import Lease, Term
from app.domain.channel import Channel
from app.domain.event import Entry, Event
from app.domain.health import ConnectionHealth, Following, Health
from app.domain.health import Upstream as Status
from app.domain.position import START
from app.domain.sequencer import Sequencer
from app.domain.store import Depth, Store
from app.errors import BrokerUnavailable, LeaseLost, UnknownChannel, UpstreamUnavailable
from app.feed.account import Account
from app.feed.follow import Replica, either
from app.logs import logger
from app.telemetry import Metrics
from app.upstream.account import Books
from app.upstream.audit import Audit
from app.upstream.markets import Markets
from app.upstream.pool import Pool

log = logger("feed")

SETTLING = 2.0
"""Seconds that a channel may take to be confirmed before the upstream counts as degraded."""

UNLISTED = 60.0
"""Seconds for which a channel that the exchange does not list is not asked about again."""

BEAT = 1.0
"""Seconds between the leader's health reports, its saves, and its looks at what is wanted."""

BATCH = 1024
"""Events in one entry at most: what follows them in the same turn makes the next."""

CATCH_UP = 5.0
"""Seconds that a new leader waits for its replica to reach the journal's end. If it cannot, no
snapshots meet the journal, and only a leader can make some."""

PAUSE = 0.1
"""Seconds between two terms: what ends each of them at once must not make a process spin."""

OBJECTIONS = 0.25
"""Seconds that a new leader gives the others to object when the journal has lost something, before
it connects to the exchange in vain."""

CUT_OFF = 3
"""Lease times without a live connection after which another process may try."""

STAY_OUT = 60.0
"""Seconds for which who has handed over leaves the lease to the others, jittered down by half."""


@dataclass(frozen=True, slots=True)
class Upstream:
    """What a leader talks to the exchange with."""

    pool: Pool
    markets: Markets
    audit: Audit
    books: Books


class Outage:
    """When a leader that cannot reach the exchange hands over. Pure: monotonic seconds.

    Once in an outage: if nobody can reach it, the lease does not go round for ever.
    """

    def __init__(self, ttl: float) -> None:
        self._ttl = ttl
        self._handed_over = float("-inf")
        self._out_until = float("-inf")

    def due(self, cut_off_since: float, live_at: float, now: float) -> bool:
        """Whether to hand over: cut off for long, and anyone was live since the last time."""
        return now - cut_off_since >= CUT_OFF * self._ttl and self._handed_over <= live_at

    def hand_over(self, now: float, jitter: float) -> None:
        """Stay out for a while; ``jitter`` is in [0, 1)."""
        self._handed_over = now
        self._out_until = now + STAY_OUT * (1 - jitter / 2)

    def patience(self, now: float) -> float:
        """Seconds for which to leave a free lease to the others."""
        return self._ttl if now < self._out_until else 0.0


async def lead(
    lease: Lease, broker: Broker, replica: Replica, upstream: Upstream, metrics: Metrics
) -> Never:
    """Lead whenever the lease is to be had, until cancelled."""
    now = asyncio.get_running_loop().time
    outage = Outage(lease.ttl)
    while True:
        term = await lease.acquire(
            lambda: replica.head.epoch if replica.head else 0,
            patience=lambda: outage.patience(now()),
        )
        metrics.terms.inc()
        metrics.leading.set(1)
        try:
            async with asyncio.TaskGroup() as alone:
                # a task of its own, as a TaskGroup that ends by an error forgets a cancellation
                alone.create_task(
                    _serve(term, lease, broker, replica, upstream, outage), name="lead-term"
                )
        finally:
            metrics.leading.set(0)
            await lease.release()
        await asyncio.sleep(PAUSE)


async def _serve(
    term: Term,
    lease: Lease,
    broker: Broker,
    replica: Replica,
    upstream: Upstream,
    outage: Outage,
) -> None:
    """One term, until it is over; what ends it is told, and no error."""
    pool = upstream.pool
    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(lease.keep(), name="lead-keep")
            with suppress(TimeoutError):
                async with asyncio.timeout(CATCH_UP):
                    await replica.caught_up(term.end)
            leader = _Leader(term, lease, broker, replica, upstream)
            await leader.open()
            log.info("leading", epoch=term.epoch)
            tasks.create_task(pool.run(), name="lead-pool")
            tasks.create_task(leader.publish(), name="lead-publish")
            tasks.create_task(leader.want(), name="lead-want")
            tasks.create_task(leader.report(), name="lead-report")
            tasks.create_task(leader.account.run(leader.number), name="lead-account")
            tasks.create_task(leader.save(), name="lead-save")
            if lease.shared:
                tasks.create_task(leader.hand_over_when_cut_off(outage), name="lead-hand-over")
            tasks.create_task(upstream.audit.run(pool, leader.top), name="lead-audit")
    except* (LeaseLost, BrokerUnavailable) as ended:
        log.warning("not leading", epoch=term.epoch, reason=_reason(ended))


def _reason(ended: BaseExceptionGroup[Exception]) -> str:
    """What ended a term: the first of what its tasks say."""
    first = ended.exceptions[0]
    return _reason(first) if isinstance(first, BaseExceptionGroup) else str(first)


def _judge(
    connections: Iterable[ConnectionHealth], following: Iterable[Following], now: float
) -> Status:
    """Down: no connection is live. Degraded: a followed channel is not.

    While all connections are live a channel may take a moment to be confirmed: one that a client
    has just asked for is no degradation.
    """
    states = [one.state for one in connections]
    if "live" not in states:
        return "down"
    patience = SETTLING if all(state == "live" for state in states) else 0.0
    confirmed = (one.live or now - one.since < patience for one in following)
    return "live" if all(confirmed) else "degraded"


class _Leader:
    """One term of leading."""

    def __init__(
        self, term: Term, lease: Lease, broker: Broker, replica: Replica, upstream: Upstream
    ) -> None:
        self._lease = lease
        self._broker = broker
        self._replica = replica
        self._pool = upstream.pool
        self._markets = upstream.markets
        self._audit = upstream.audit
        self._looked_up: set[Channel] = set()
        self._upstream: tuple[Status, float] = ("down", time.time())
        self._states = Store()
        head = replica.head or START
        self._states.reload(head, (state.snapshot() for state in replica.store))
        previous = max(head, term.end or START)
        self._after_loss = previous > (term.end or (START if lease.shared else previous))
        self.epoch = term.epoch
        lost = term.lost or head != (term.end or head)
        self.sequencer = Sequencer(
            self.epoch,
            self._states,
            previous=None if previous == START else previous,
            lost=lost,
        )
        self.account = Account(self._states, self._pool, upstream.books, lost=lost)
        self._numbering = asyncio.Lock()
        self._saved: set[Channel] = set()
        self._watermark = START

    async def open(self) -> None:
        """Begin the epoch: an entry of its own, all states as snapshots, and what is followed.

        What was followed before is followed on for a linger: who wants it may not be known yet.
        """
        if (health := self._replica.hub.health) is not None:
            self.account.widen(channel for channel in health.following if channel.private)
        self._replica.wishes.touch(
            [state.channel for state in self._states], asyncio.get_running_loop().time()
        )
        self._follow_wanted()
        await self._append(self.sequencer.open())
        await self._save()
        if self._after_loss:
            await asyncio.sleep(OBJECTIONS)
            await self._broker.tell(self._health())

    async def publish(self) -> None:
        """Number what the pool hears, turn by turn, and append it to the journal."""
        async for batch in self._pool.batches():
            await self.number(partial(self.account.sift, batch))
            for channel in self.sequencer.take_crossed():
                log.warning("book crossed", channel=str(channel))
                self._pool.resync(channel, "crossed")

    async def number(self, decide: Callable[[], list[Event]]) -> None:
        """Append what is decided to be told now; nothing else is numbered in between."""
        async with self._numbering:
            for events in _parts(decide()):
                entry = self.sequencer.sequence(events)
                if entry is not None:
                    await self._append(entry)

    async def _append(self, entry: Entry) -> None:
        """Append it, however often that takes while the lease is ours."""
        for number, pause in enumerate(delays()):
            self._lease.check()
            try:
                await self._broker.append(entry)
                break
            except BrokerUnavailable as error:
                if not number:
                    log.warning("entry not appended yet", reason=str(error))
                await asyncio.sleep(pause)

    async def want(self) -> None:
        """Follow what the clients of all processes want and the exchange lists."""
        async with asyncio.TaskGroup() as tasks:
            while True:
                bell = self._replica.bell
                for channel in self._follow_wanted() - self._looked_up:
                    self._looked_up.add(channel)
                    tasks.create_task(self._look_up(channel), name="lead-look-up")
                await either(bell, BEAT)

    def _follow_wanted(self) -> frozenset[Channel]:
        """Follow what is wanted now; what remains is not known to be listed.

        What there is a state of needs no list: the exchange has sent it.
        """
        wishes = self._replica.wishes.wanted(asyncio.get_running_loop().time())
        wanted = self.account.widen(wishes)
        listed = frozenset(
            channel
            for channel in wanted
            if self._markets.knows(channel) or self._states.get(channel) is not None
        )
        self._pool.want(listed)
        single = {one for one in wishes if one.private and not one.wildcard}
        self.account.ask(one for one in single if self._markets.knows(one))
        for channel in self._dropped(listed):
            self.sequencer.forget(channel)
        unknown = {one for one in single if self._markets.knows(one) is None}
        return (wanted - listed) | unknown

    async def _look_up(self, channel: Channel) -> None:
        """Have the exchange's lists fetched; what is not on them is not followed.

        Nor asked about again for a while: a client may hold on to it for long.
        """
        try:
            await self._markets.require(channel)
            self._replica.ring()
        except UnknownChannel as error:
            log.info("not followed", channel=str(channel), reason=str(error))
            await asyncio.sleep(UNLISTED)
        except UpstreamUnavailable as error:
            log.debug("not followed yet", channel=str(channel), reason=str(error))
        finally:
            self._looked_up.discard(channel)

    def _dropped(self, wanted: frozenset[Channel]) -> list[Channel]:
        return [
            state.channel
            for state in self._states
            if state.channel not in wanted and state.channel.everything not in wanted
        ]

    async def report(self) -> None:
        """Tell every process how the upstream is: on every change, and each second."""
        while True:
            with suppress(BrokerUnavailable):  # unheard, it counts as down after a lease's time
                await self._broker.tell(self._health())
            await either(self._pool.changed, min(BEAT, self._lease.ttl / 4))
            self._pool.changed.clear()
            self.account.look()

    def _health(self) -> Health:
        connections = self._pool.connections()
        following = self.account.following(self._pool.following())
        upstream = _judge(connections, following.values(), time.time())
        if upstream != self._upstream[0]:
            self._upstream = (upstream, time.time())
            log.info("upstream", status=upstream)
        return Health(
            epoch=self.epoch,
            at=time.time(),
            upstream=upstream,
            since=self._upstream[1],
            connections=connections,
            following=following,
            audits=self._audit.shares(),
            leader=self._replica.process,
        )

    async def save(self) -> None:
        """Keep the changed snapshots with their watermark, each second."""
        while True:
            await asyncio.sleep(BEAT)
            with suppress(BrokerUnavailable):  # the next one saves this too
                await self._save()

    async def _save(self) -> None:
        async with self._numbering:  # what is numbered and not appended yet may never be
            at = self.sequencer.head
            changed = [one.snapshot() for one in self._states if one.position > self._watermark]
            present = {state.channel for state in self._states}
        await self._broker.save(at, changed, self._saved - present)
        self._saved, self._watermark = present, at

    async def hand_over_when_cut_off(self, outage: Outage) -> Never:
        """Raise LeaseLost when another process should try to reach the exchange."""
        now = asyncio.get_running_loop().time
        began = now()
        while True:
            await asyncio.sleep(min(BEAT, self._lease.ttl))
            live_at = self._replica.heard_live
            if outage.due(max(began, live_at), live_at, now()):
                outage.hand_over(now(), random.random())  # noqa: S311 -- jitter
                raise LeaseLost("no live connection to the exchange: another process may have one")

    def top(self, channel: Channel, levels: int) -> tuple[list[list[str]], list[list[str]]] | None:
        """The best levels of a book as published: asks, bids; None if it is not served."""
        state = self.sequencer.state(channel)
        if state is None or not isinstance(state.reducer, Depth):
            return None
        return state.reducer.book.asks(levels), state.reducer.book.bids(levels)


def _parts(batch: list[Event]) -> Iterator[list[Event]]:
    """What fits into one entry, in order."""
    for start in range(0, len(batch), BATCH):
        yield batch[start : start + BATCH]
