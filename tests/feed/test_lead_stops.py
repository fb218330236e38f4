"""A leader that is told to stop stops, whatever it is about; the upstream is a stand-in here."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest

from app.domain.channel import Channel, Kind
from app.domain.event import Event
from app.feed import Upstream, follow, lead
from app.telemetry import Metrics
from tests.bus.road import OPEN
from tests.feed.leading import lease_on
from tests.feed.place import FaultyBroker, replica
from tests.given import at, entry, made, price

pytestmark = pytest.mark.looptime


class SlowPool:
    """Takes a second to close, as with an exchange that does not answer it."""

    def __init__(self, *events: Event) -> None:
        self.changed = asyncio.Event()
        self._events = list(events)

    async def run(self) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(1.0)

    async def batches(self) -> AsyncIterator[list[Event]]:
        yield self._events
        await asyncio.Event().wait()

    def want(self, channels: frozenset[Channel]) -> None: ...

    def connections(self) -> tuple[Any, ...]:
        return ()

    def confirmed(self, _kind: Kind) -> int | None:
        return None

    def following(self) -> dict[Channel, Any]:
        return {}


class Still:
    """A market list and an audit that say nothing."""

    def knows(self, _channel: Channel) -> bool:
        return True

    def shares(self) -> dict[Channel, float]:
        return {}

    async def run(self, *_: object) -> None:
        await asyncio.Event().wait()


def upstream(pool: SlowPool) -> Upstream:
    still = cast("Any", Still())
    return Upstream(cast("Any", pool), still, still, still)


async def test_to_stop_reaches_a_leader_whose_term_is_just_ending() -> None:
    """Both times it is told fall into the closing of its connections."""
    broker, process = FaultyBroker(), replica()
    lease = lease_on(broker)
    async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
        following = tasks.create_task(follow(broker, process, health_ttl=5.0))
        leading = tasks.create_task(lead(lease, broker, process, upstream(SlowPool()), Metrics()))
        await asyncio.sleep(1)
        assert len(lease.terms) == 1
        lease.lost.set()
        await asyncio.sleep(0.2)
        leading.cancel()
        await asyncio.sleep(0.2)
        leading.cancel()
        await asyncio.wait({leading}, timeout=10)
        assert leading.done()
        assert (len(lease.terms), lease.released) == (1, 1)
        following.cancel()


async def test_who_leads_without_having_caught_up_tells_a_gap_on_what_it_does_not_know() -> None:
    """Others may have heard it: the journal ends behind what this process knows."""
    broker, process = FaultyBroker(), replica()
    process.reach(None)
    await broker.append(OPEN)
    await broker.append(entry("7-0", made("ticker:BTC_USDT", "7-1")))
    lease = lease_on(broker)
    told: list[Any] = []
    async with asyncio.TaskGroup() as tasks:
        leading = tasks.create_task(
            lead(lease, broker, process, upstream(SlowPool(price("BTC_USDT", "1"))), Metrics())
        )
        while not told:
            await asyncio.sleep(1)
            told = [
                one for entry in await broker.history(at("7-1")) or [] for one in entry.envelopes
            ]
        leading.cancel()
    assert (told[0].type, told[0].gap) == ("snapshot", True)
