"""The pipe: lead() = pool → sequencer → broker, follow() = broker → store → hub.

Every process follows; the one that leads also runs the upstream. There is no short cut between the
two: the leader's own clients are served through the broker.
"""

import asyncio
import time
from collections.abc import Iterable
from dataclasses import dataclass, field

from app.bus.broker import Broker, Snapshots, Wish
from app.domain.channel import Channel
from app.domain.event import Entry
from app.domain.health import ConnectionHealth, Following, Health, Upstream
from app.domain.position import Position, next_epoch
from app.domain.sequencer import Sequencer
from app.domain.store import Depth, State, Store
from app.errors import UnknownChannel, UpstreamUnavailable
from app.hub.hub import Hub
from app.hub.wishes import Wishes
from app.telemetry import logger
from app.upstream.audit import Audit
from app.upstream.markets import Markets
from app.upstream.pool import Pool

log = logger("feed")

SETTLING = 2.0
"""Seconds that a channel may take to be confirmed before the upstream counts as degraded."""

UNLISTED = 60.0
"""Seconds for which a channel that the exchange does not list is not asked about again."""

BEAT = 1.0
"""Seconds between the leader's health reports, and between its saves."""


@dataclass
class Replica:
    """What one process knows: the state, and how far in the journal that reaches."""

    store: Store
    hub: Hub
    wishes: Wishes
    process: str
    head: Position | None = None
    loaded: asyncio.Event = field(default_factory=asyncio.Event)
    heard_health: float = 0.0
    bell: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.wishes.on_more = self.ring

    def ring(self) -> None:
        """Wake everyone who took the bell; the next wish rings another."""
        self.bell.set()
        self.bell = asyncio.Event()


async def follow(broker: Broker, replica: Replica, *, health_ttl: float) -> None:
    """Keep the replica and its clients up to date until cancelled."""
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(_hear(broker, replica), name="follow-hear")
        tasks.create_task(_wish(broker, replica), name="follow-wish")
        tasks.create_task(_expire_health(replica, health_ttl), name="follow-health")


async def _hear(broker: Broker, replica: Replica) -> None:
    now = asyncio.get_running_loop().time
    store, hub = replica.store, replica.hub
    async with broker.listen() as heard:
        async for one in heard:
            match one:
                case Entry():
                    for envelope in one.envelopes:
                        store.apply(envelope)
                    replica.head = one.position
                    hub.publish(one)
                case Health():
                    replica.heard_health = now()
                    for state in _unfollowed(store, one):
                        store.forget(state.channel)
                    hub.report(one, one.upstream, one.since)
                case Wish():
                    if one.process != replica.process:
                        replica.wishes.heard(one.process, one.channels, now())
                case Snapshots():
                    replica.head = one.watermark
                    store.reload(one.watermark or Position(0, 0), one.envelopes)
                    hub.reload(one.watermark)
                    replica.loaded.set()


def _unfollowed(store: Store, health: Health) -> list[State]:
    """The states of channels that were no longer followed when the leader said so."""
    return [
        state
        for state in store
        if health.following_of(state.channel) is None and state.received < health.at
    ]


async def _wish(broker: Broker, replica: Replica) -> None:
    """Tell the other processes what this one's clients want: at once, and again in time."""
    now = asyncio.get_running_loop().time
    told: frozenset[Channel] | None = None
    told_at = 0.0
    while True:
        bell = replica.bell
        own = replica.wishes.own(now())
        if own != told or now() - told_at >= replica.wishes.linger / 3:
            await broker.tell(Wish(replica.process, own))
            told, told_at = own, now()
        await _either(bell, BEAT)


async def _expire_health(replica: Replica, ttl: float) -> None:
    """No health for a lease's time: nobody leads, and the upstream counts as down."""
    now = asyncio.get_running_loop().time
    while True:
        await asyncio.sleep(ttl / 4)
        if replica.hub.health is not None and now() - replica.heard_health > ttl:
            replica.hub.report(None, "down", time.time())


async def _either(event: asyncio.Event, seconds: float) -> None:
    """Wait for an event, but not longer than some seconds."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        pass


async def lead(
    broker: Broker, replica: Replica, pool: Pool, markets: Markets, audit: Audit
) -> None:
    """Run the upstream and publish what it says, in a new epoch, until cancelled."""
    await replica.loaded.wait()
    leader = _Leader(broker, replica, pool, markets, audit)
    await broker.append(leader.sequencer.open())
    log.info("leading", epoch=leader.epoch)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(pool.run(), name="lead-pool")
        tasks.create_task(leader.publish(), name="lead-publish")
        tasks.create_task(leader.want(), name="lead-want")
        tasks.create_task(leader.report(), name="lead-report")
        tasks.create_task(leader.save(), name="lead-save")
        tasks.create_task(audit.run(pool, leader.top), name="lead-audit")


def _judge(
    connections: Iterable[ConnectionHealth], following: Iterable[Following], now: float
) -> Upstream:
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
        self, broker: Broker, replica: Replica, pool: Pool, markets: Markets, audit: Audit
    ) -> None:
        self._broker = broker
        self._replica = replica
        self._pool = pool
        self._markets = markets
        self._audit = audit
        self._looked_up: set[Channel] = set()
        self._upstream: tuple[Upstream, float] = ("down", time.time())
        self._states = Store()
        self._states.reload(
            replica.head or Position(0, 0), (state.snapshot() for state in replica.store)
        )
        self.epoch = next_epoch(replica.head.epoch if replica.head else 0, time.time())
        self.sequencer = Sequencer(self.epoch, self._states, previous=replica.head)

    async def publish(self) -> None:
        """Number what the pool hears, turn by turn, and append it to the journal."""
        async for batch in self._pool.batches():
            entry = self.sequencer.sequence(batch)
            for channel in self.sequencer.take_crossed():
                log.warning("book crossed", channel=str(channel))
                self._pool.resync(channel, "crossed")
            if entry is not None:
                await self._broker.append(entry)

    async def want(self) -> None:
        """Follow what the clients of all processes want and the exchange lists."""
        now = asyncio.get_running_loop().time
        async with asyncio.TaskGroup() as tasks:
            while True:
                bell = self._replica.bell
                wanted = self._replica.wishes.wanted(now())
                listed = frozenset(channel for channel in wanted if self._markets.knows(channel))
                self._pool.want(listed)
                for channel in self._dropped(listed):
                    self.sequencer.forget(channel)
                for channel in wanted - listed - self._looked_up:
                    self._looked_up.add(channel)
                    tasks.create_task(self._look_up(channel), name="lead-look-up")
                await _either(bell, BEAT)

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
            await self._broker.tell(self._health())
            await _either(self._pool.changed, BEAT)
            self._pool.changed.clear()

    def _health(self) -> Health:
        connections, following = self._pool.connections(), self._pool.following()
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
        )

    async def save(self) -> None:
        """Keep the changed snapshots with their watermark, each second."""
        saved: set[Channel] = set()
        watermark = Position(0, 0)
        while True:
            await asyncio.sleep(BEAT)
            at = self.sequencer.head
            changed = [state for state in self._states if state.position > watermark]
            present = {state.channel for state in self._states}
            await self._broker.save(at, [state.snapshot() for state in changed], saved - present)
            saved, watermark = present, at

    def top(self, channel: Channel, levels: int) -> tuple[list[list[str]], list[list[str]]] | None:
        """The best levels of a book as published: asks, bids; None if it is not served."""
        state = self.sequencer.state(channel)
        if state is None or not isinstance(state.reducer, Depth):
            return None
        return state.reducer.book.asks(levels), state.reducer.book.bids(levels)
