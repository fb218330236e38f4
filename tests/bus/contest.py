"""Processes that want the lease of a real Redis."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from app.bus.lease import Lease, RedisLease, Term
from app.bus.link import Link
from app.errors import LeaseLost
from tests.bus.road import LIMIT, linked
from tests.e2e.waiting import until
from tests.redis.servers import Server

KEY, EPOCH = Link.key("lease"), Link.key("epoch")
LONG = 60.0
"""A lease that does not end during a test."""
TTL = 0.6


def nothing() -> int:
    """A candidate that has heard of no epoch."""
    return 0


def at_once() -> float:
    """The patience of who has none."""
    return 0.0


async def took(
    lease: Lease,
    known: Callable[[], int] = nothing,
    *,
    patience: Callable[[], float] = at_once,
) -> Term:
    """A term, within a time."""
    async with asyncio.timeout(4 * LIMIT):
        return await lease.acquire(known, patience=patience)


async def lost(lease: Lease) -> None:
    """Keep it until it is lost, which must be soon."""
    with pytest.raises(LeaseLost):
        async with asyncio.timeout(LIMIT):
            await lease.keep()


def leads(lease: Lease) -> bool:
    """Whether it believes so."""
    try:
        lease.check()
    except LeaseLost:
        return False
    return True


async def holder(one: Server) -> str:
    """The process that the lease names; ``free``, or none if there is no lease."""
    return (await one.ask("GET", KEY) or b"").decode().partition(" ")[0]


async def renewals(one: Server) -> int:
    """How often it was renewed in this term."""
    return int((await one.ask("GET", KEY)).split()[-1])


async def waiting(one: Server, number: int) -> None:
    """Until so many candidates wait for it to be given back."""

    async def blocked() -> bool:
        return int((await one.ask("INFO", "clients"))["blocked_clients"]) == number

    await until(blocked, f"{number} candidates")


@asynccontextmanager
async def candidates(url: str, number: int, *, ttl: float) -> AsyncIterator[list[RedisLease]]:
    """Processes, each with a link of its own."""
    async with AsyncExitStack() as held:
        links = [await held.enter_async_context(linked(url)) for _ in range(number)]
        yield [RedisLease(one, f"p{at}", ttl=ttl) for at, one in enumerate(links)]


async def passed(seconds: float) -> None:
    """Until so much time has passed, in which something would have happened that must not."""
    began = time.monotonic()
    await until(lambda: time.monotonic() >= began + seconds)
