"""A hub with clients, as tests of streams want it."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

from app.domain.channel import Channel
from app.domain.event import Entry, Envelope
from app.hub.hub import Hub
from tests.fakes.outlet import FakeOutlet
from tests.given import made

BTC, ETH = "ticker:BTC_USDT", "ticker:ETH_USDT"


class Place:
    """A hub, its store, and clients."""

    def __init__(self, hub: Hub) -> None:
        self.hub = hub

    def publish(self, *envelopes: Envelope) -> None:
        """As the pipe does: store first, then hub."""
        for one in envelopes:
            self.hub.store.apply(one)
        self.hub.publish(Entry(None, envelopes[-1].position, envelopes))

    def tick(self, channel: str, first: int, last: int | None = None) -> None:
        """Events ``7-first`` to ``7-last`` on one channel, an entry each."""
        for number in range(first, (last or first) + 1):
            self.publish(made(channel, f"7-{number}"))

    def join(
        self,
        *channels: str,
        after: str | None = None,
        framed: bool = False,
        high: int = 64 * 1024,
        low: int = 0,
    ) -> FakeOutlet:
        outlet = FakeOutlet(framed=framed, high=high, low=low)
        self.hub.join(frozenset(map(Channel.parse, channels)), outlet, after)
        return outlet


@asynccontextmanager
async def looking(place: Place) -> AsyncIterator[None]:
    """While clients that take nothing are looked for."""
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(place.hub.stalls.run())
        yield
        task.cancel()


async def settle() -> None:
    """Let everything happen that is due now."""
    for _ in range(100):
        await asyncio.sleep(0)


def positions(outlet: FakeOutlet) -> list[str]:
    return [event["position"] for event in outlet.events()]


def fields(controls: Iterable[Any], name: str) -> list[Any]:
    return [control.get(name) for control in controls]
