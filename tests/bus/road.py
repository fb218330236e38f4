"""Ways to a real Redis for tests, and what goes over them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from app.bus.broker import Heard, Wish
from app.bus.link import Link
from app.bus.messages import Packed
from app.bus.redis import RedisBroker
from app.domain.event import Entry
from app.telemetry import Metrics
from tests.given import entry, made
from tests.redis.servers import Server

LIMIT = 5.0
"""Seconds after which what should be heard counts as lost."""

BTC = "ticker:BTC_USDT"
ETH = "ticker:ETH_USDT"

OPEN = entry(None, opens="7-0")


def ticks(first: int, last: int, *, epoch: int = 7, size: int = 1) -> list[Entry]:
    """Entries ``epoch-first`` to ``epoch-last``, chained, of ``size`` events each."""
    return [
        entry(
            f"{epoch}-{number - 1}",
            *(made(BTC, f"{epoch}-{position}") for position in range(number, number + size)),
        )
        for number in range(first, last + 1, size)
    ]


@asynccontextmanager
async def linked(url: str, *, limit: float = LIMIT) -> AsyncIterator[Link]:
    """A link, closed at the end."""
    link = Link(url, limit=limit)
    try:
        yield link
    finally:
        await link.close()


def broker_on(
    link: Link,
    *,
    keep: int = 100_000,
    linger: float = 60.0,
    health_ttl: float = 60.0,
    metrics: Metrics | None = None,
) -> RedisBroker:
    return RedisBroker(
        link, keep, linger=linger, health_ttl=health_ttl, metrics=metrics or Metrics()
    )


async def append(broker: RedisBroker, *entries: Entry) -> list[Entry]:
    for one in entries:
        await broker.append(one)
    return list(entries)


async def heard(listening: AsyncIterator[Heard], *, within: float = LIMIT) -> Heard:
    async with asyncio.timeout(within):
        return await anext(listening)


async def heard_entries(listening: AsyncIterator[Heard], number: int) -> list[Entry]:
    """The next entries, and nothing between them."""
    found = [await heard(listening) for _ in range(number)]
    assert all(isinstance(one, Entry) for one in found), found
    return [one for one in found if isinstance(one, Entry)]


async def no_more(broker: RedisBroker, listening: AsyncIterator[Heard]) -> None:
    """Nothing waits: the next thing heard is a notice given only now."""
    wish = Wish("no more", frozenset())
    await broker.tell(wish)
    assert wish == await heard(listening)


async def listeners(server: Server, link: Link) -> int:
    """How many connections hear what is published."""
    return int((await server.ask("PUBSUB", "SHARDNUMSUB", link.channel))[1])


async def put(server: Server, one: Entry, *, total: int = 1, text: bytes | None = None) -> None:
    """Put an entry into the journal past the scripts, so that nobody hears of it."""
    data = Packed.of(one).dumps() if text is None else text
    await server.ask("XADD", Link.key("journal"), str(one.position), "total", total, "entry", data)


def count(metrics: Metrics, name: str) -> float:
    """A counter's value."""
    return metrics.registry.get_sample_value(f"sluice_{name}_total") or 0.0
