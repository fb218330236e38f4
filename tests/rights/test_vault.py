"""Tickets and sessions: in memory and through a real Redis."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from app.errors import NotReady, TooManyRequests
from app.rights.rights import Rights
from app.rights.vault import MOST, Memory, Outstanding, Purpose, Shared, Shelf, Vault
from tests.bus.road import linked
from tests.redis.servers import server

RIGHTS = Rights(frozenset({"market", "account"}), ("order:BTC_*",), time.time() + 3600, "key:1")


@pytest.fixture(name="shelf", params=["memory", "redis"])
async def _shelf(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Shelf]:
    if request.param == "memory":
        yield Memory()
        return
    async with server(tmp_path, appendonly="no") as one, linked(one.url) as link:
        yield Shared(link)


async def test_a_ticket_is_taken_once(shelf: Shelf) -> None:
    vault = Vault(shelf)
    ticket, expires = await vault.deposit("ticket", RIGHTS, 30)
    assert 25 < expires - time.time() <= 30
    async with asyncio.TaskGroup() as tasks:
        asked = [tasks.create_task(vault.redeem(ticket)) for _ in range(10)]
    assert [one for one in (task.result() for task in asked) if one] == [RIGHTS]
    assert await vault.redeem(ticket) is None


async def test_a_session_is_looked_up_until_it_is_ended(shelf: Shelf) -> None:
    vault = Vault(shelf)
    secret, ends = await vault.deposit("session", RIGHTS, 600)
    for _ in range(2):
        found = await vault.session(secret)
        assert found is not None
        assert found.ends == ends
        assert found.patterns == RIGHTS.patterns
    assert await vault.redeem(secret) is None
    await vault.end(secret)
    assert await vault.session(secret) is None


async def test_what_was_never_given_out_is_nothing(shelf: Shelf) -> None:
    vault = Vault(shelf)
    for text in ("", "x", "é" * 10, "x" * 10_000):
        assert await vault.redeem(text) is None
        assert await vault.session(text) is None
        await vault.end(text)


async def test_it_ends_with_the_rights_at_latest(shelf: Shelf) -> None:
    soon = Rights(frozenset({"market"}), None, time.time() + 5, "key:1")
    assert (await Vault(shelf).deposit("ticket", soon, 30))[1] == soon.ends


async def test_a_process_keeps_no_secret_in_memory() -> None:
    shelf = Memory()
    ticket, _ = await Vault(shelf).deposit("ticket", RIGHTS, 30)
    assert ticket not in str(shelf._kept)


async def test_a_ticket_in_memory_expires() -> None:
    now = 0.0
    shelf = Memory(now=lambda: now)
    vault = Vault(shelf)
    ticket, _ = await vault.deposit("ticket", RIGHTS, 30)
    now = 31.0
    assert await vault.redeem(ticket) is None


async def test_memory_is_bounded() -> None:
    now = 0.0
    shelf = Memory(most=2, now=lambda: now)
    vault = Vault(shelf)
    for _ in range(2):
        await vault.deposit("ticket", RIGHTS, 30)
    with pytest.raises(NotReady):
        await vault.deposit("ticket", RIGHTS, 30)
    now = 31.0
    await vault.deposit("ticket", RIGHTS, 30)


async def test_nobody_can_have_so_many_that_others_get_none() -> None:
    vault = Vault(Memory(), most_of_one=3)
    purposes: tuple[Purpose, ...] = ("ticket", "session")
    for purpose in purposes:
        for _ in range(3):
            await vault.deposit(purpose, Rights(frozenset(), holder="key:greedy"), 60)
        with pytest.raises(TooManyRequests, match=f"3 {purpose}s") as caught:
            await vault.deposit(purpose, Rights(frozenset(), holder="key:greedy"), 60)
        assert caught.value.retry_after in {59, 60}
        await vault.deposit(purpose, Rights(frozenset(), holder="key:other"), 60)


def test_what_has_ended_is_out_no_more_and_forgotten() -> None:
    out = Outstanding(1)
    out.add("ticket", "key:1", 100.0, 130.0)
    with pytest.raises(TooManyRequests):
        out.add("ticket", "key:1", 129.0, 159.0)
    out.add("ticket", "key:1", 130.0, 160.0)
    for number in range(2 * MOST - 1):
        out.add("session", f"token:{number}", 130.0, 140.0)
    assert len(out) == 2 * MOST
    out.add("session", "token:last", 150.0, 160.0)
    assert len(out) == 2
