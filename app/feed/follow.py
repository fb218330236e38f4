"""follow() = broker → store → hub: what every process does, the one that leads too."""

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field

from app.bus.broker import Broker, Snapshots, Wish
from app.domain.channel import Channel
from app.domain.event import Entry
from app.domain.health import Health
from app.domain.position import START, Position
from app.domain.store import State, Store
from app.errors import BrokerUnavailable
from app.hub.hub import Hub
from app.hub.wishes import Wishes

BEAT = 1.0
"""Seconds between looks at what is wanted now."""


@dataclass
class Replica:
    """What one process knows: the state, and how far in the journal that reaches.

    ``heard_health`` and ``heard_live`` are in the loop's time: when the leader last said anything,
    and when it last had a live connection.
    """

    store: Store
    hub: Hub
    wishes: Wishes
    process: str
    head: Position | None = None
    loaded: asyncio.Event = field(default_factory=asyncio.Event)
    moved: asyncio.Event = field(default_factory=asyncio.Event)
    heard_health: float = 0.0
    heard_live: float = 0.0
    bell: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.wishes.on_more = self.ring

    def ring(self) -> None:
        """Wake everyone who took the bell; the next wish rings another."""
        self.bell.set()
        self.bell = asyncio.Event()

    def reach(self, head: Position | None) -> None:
        """Everything up to ``head`` is in."""
        self.head = head
        self.loaded.set()
        self.moved.set()

    async def caught_up(self, end: Position | None) -> None:
        """Wait until everything up to ``end`` is in."""
        while not self.loaded.is_set() or (self.head or START) < (end or START):
            self.moved.clear()
            await self.moved.wait()


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
                    replica.reach(one.position)
                    hub.publish(one)
                    await asyncio.sleep(0)  # a long backlog must not keep others waiting
                case Health():
                    replica.heard_health = now() - one.late
                    if one.upstream != "down":
                        replica.heard_live = replica.heard_health
                    for state in _unfollowed(store, one):
                        store.forget(state.channel)
                    hub.report(one, one.upstream, one.since)
                case Wish():
                    if one.process != replica.process:
                        replica.wishes.heard(one.process, one.channels, now())
                case Snapshots():
                    store.reload(one.watermark or START, one.envelopes)
                    hub.reload(one.watermark)
                    replica.reach(one.watermark)


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
            with suppress(BrokerUnavailable):  # the next look tries again
                await broker.tell(Wish(replica.process, own))
                told, told_at = own, now()
        await either(bell, min(BEAT, replica.wishes.linger / 3))


async def _expire_health(replica: Replica, ttl: float) -> None:
    """No health for a lease's time: nobody leads, and the upstream counts as down."""
    now = asyncio.get_running_loop().time
    while True:
        await asyncio.sleep(ttl / 4)
        health = replica.hub.health
        if health is not None and now() - replica.heard_health > ttl:
            replica.hub.report(None, "down", health.at + ttl)  # the same on every process


async def either(event: asyncio.Event, seconds: float) -> None:
    """Wait for an event, but not longer than some seconds."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        pass
