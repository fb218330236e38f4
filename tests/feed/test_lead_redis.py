"""Leading over a real Redis, with its lease and its journal."""

import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from app.bus.journal import Journal
from app.bus.lease import RedisLease
from app.bus.link import Link
from app.bus.scripts import RAISE
from app.domain.position import START
from app.feed.lead import Upstream
from tests.bus.road import broker_on, linked, put
from tests.feed.leading import candidate
from tests.feed.place import replica
from tests.given import at, entry, made
from tests.redis.servers import Server, server

PRICES = "lastprice:*"
BTC = "lastprice:BTC_USDT"
TTL = 1.5
LEAD = sys.modules[Upstream.__module__]
"""The module: the package hands on a function of the same name."""


@pytest.fixture(name="one")
async def _one(tmp_path: Path) -> AsyncIterator[Server]:
    async with server(tmp_path, appendonly="no") as started:
        yield started


@pytest.fixture(name="link")
async def _link(one: Server) -> AsyncIterator[Link]:
    async with linked(one.url, limit=TTL * 0.4) as link:
        yield link


async def test_who_finds_a_higher_epoch_begun_leads_in_one_above_it(link: Link) -> None:
    lease = RedisLease(link, "one", ttl=TTL)
    async with candidate(lease, broker_on(link), replica(PRICES)) as process:
        await process.fresh(BTC, 1)
        higher = process.epoch(BTC) + 10**6
        await link.run(RAISE, ("epoch",), higher)
        await process.fresh(BTC, higher + 1)


async def test_where_no_snapshots_meet_the_journal_the_leader_makes_some(
    one: Server, link: Link, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LEAD, "CATCH_UP", 0.2)
    await put(one, entry("7-49", made(BTC, "7-50")))
    lease = RedisLease(link, "one", ttl=TTL)
    async with candidate(lease, broker_on(link), replica(PRICES)) as process:
        await process.fresh(BTC, 8)
        opening = await anext(Journal(link).after(at("7-50")))
        assert opening.previous == at("7-50")


async def test_over_a_restart_without_data_it_leads_on_from_what_it_knows(
    one: Server, link: Link
) -> None:
    lease = RedisLease(link, "one", ttl=TTL)
    async with candidate(lease, broker_on(link), replica(PRICES)) as process:
        await process.fresh(BTC, 1)
        before = process.epoch(BTC)
        await one.restart(keep_data=False)
        await process.fresh(BTC, before + 1)
        assert await Journal(link).floor() > START
