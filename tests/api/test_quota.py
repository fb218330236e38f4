"""Processes that give a client one quota together, over a real Redis."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from app.api.quota import AWAY, Quotas
from app.api.rate import SHARE, Rate
from app.bus.tally import Tally
from tests.bus.road import linked
from tests.redis.servers import Server, server

RATE = Rate(100, 3600)
"""A window that no test outlives, but for one in whose middle the hour turns: that one is let
through less."""
PART = RATE.quota // SHARE


@pytest.fixture(name="one")
async def _one(tmp_path: Path) -> AsyncIterator[Server]:
    async with server(tmp_path, appendonly="no") as started:
        yield started


async def take(quotas: Quotas, client: str) -> bool:
    """One request, as the limiter has it."""
    if quotas.owes(client):
        await quotas.settle(client)
    return not quotas.take(client).refused


async def all_of(quotas: Quotas, client: str, requests: int) -> int:
    """So many requests at the same time; how many were let through."""
    async with asyncio.TaskGroup() as tasks:
        asked = [tasks.create_task(take(quotas, client)) for _ in range(requests)]
    return sum(task.result() for task in asked)


async def test_alone_it_needs_nobody() -> None:
    quotas = Quotas(RATE)
    assert await all_of(quotas, "a", 300) == RATE.quota


async def test_two_processes_give_a_client_one_quota_and_at_most_a_part_more(one: Server) -> None:
    async with linked(one.url) as first, linked(one.url) as second:
        here, there = (Quotas(RATE, Tally(link, RATE.seconds)) for link in (first, second))
        async with asyncio.TaskGroup() as tasks:
            asked = [tasks.create_task(all_of(each, "a", 300)) for each in (here, there)]
        given = [task.result() for task in asked]
        assert RATE.quota <= sum(given) <= RATE.quota + PART
        assert min(given) > 0
        assert await all_of(there, "b", 300) == RATE.quota


async def test_in_turns_too(one: Server) -> None:
    async with linked(one.url) as first, linked(one.url) as second:
        both = [Quotas(RATE, Tally(link, RATE.seconds)) for link in (first, second)]
        given = 0
        for number in range(400):
            given += await take(both[number % 2], "a")
        assert RATE.quota <= given <= RATE.quota + PART


async def test_a_process_that_comes_later_learns_it_within_a_part(one: Server) -> None:
    async with linked(one.url) as first, linked(one.url) as second:
        assert await all_of(Quotas(RATE, Tally(first, RATE.seconds)), "a", 300) == RATE.quota
        assert await all_of(Quotas(RATE, Tally(second, RATE.seconds)), "a", 300) <= PART


async def test_while_redis_is_away_it_counts_alone_and_later_together_again(
    one: Server, caplog: pytest.LogCaptureFixture
) -> None:
    now = 1_000_000_000.0
    async with linked(one.url, limit=0.2) as link:
        quotas = Quotas(RATE, Tally(link, RATE.seconds), clock=lambda: now)
        await one.kill()
        assert await all_of(quotas, "a", 300) == RATE.quota
        assert await all_of(quotas, "b", 300) == RATE.quota
        await one.start()
        now += AWAY
        assert await take(quotas, "c")
        assert await all_of(quotas, "c", 2 * PART) == 2 * PART
        assert await one.ask("KEYS", "*")
    told = [record.message for record in caplog.records if "alone" in record.message]
    assert len(told) <= 1


async def test_a_hanging_redis_holds_requests_up_once_and_not_for_long(one: Server) -> None:
    async with linked(one.url) as link:
        quotas = Quotas(RATE, Tally(link, RATE.seconds))
        assert await all_of(quotas, "a", PART + 1) == PART + 1
        one.pause()
        try:
            async with asyncio.timeout(2):
                assert await all_of(quotas, "a", 300) == RATE.quota - PART - 1
        finally:
            one.resume()
