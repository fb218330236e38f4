"""What is told of a real Redis before it is the broker."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from app.bus.condition import Trouble, troubles
from app.bus.link import Link
from app.errors import BrokerUnavailable
from tests.bus.road import linked
from tests.e2e.waiting import until
from tests.redis.servers import BINARIES, Server, in_sync, running, server


@asynccontextmanager
async def connected(folder: Path, *, appendonly: str = "yes") -> AsyncIterator[tuple[Server, Link]]:
    async with server(folder, appendonly=appendonly) as one, linked(one.url) as link:
        yield one, link


async def told(link: Link) -> list[Trouble]:
    return [one async for one in troubles(link)]


@pytest.mark.parametrize("binary", BINARIES.values(), ids=BINARIES)
async def test_a_server_as_it_should_be_has_none(tmp_path: Path, binary: Path) -> None:
    async with server(tmp_path, binary=binary) as one, linked(one.url) as link:
        assert await told(link) == []
        assert await one.ask("GET", Link.key("journal")) is None


@pytest.mark.parametrize(("policy", "grave"), [("allkeys-lru", True), ("volatile-ttl", False)])
async def test_one_that_may_forget_keys_is_named(tmp_path: Path, policy: str, grave: bool) -> None:
    async with connected(tmp_path) as (one, link):
        await one.ask("CONFIG", "SET", "maxmemory-policy", policy)
        (trouble,) = await told(link)
        assert f"(maxmemory-policy {policy}): set noeviction" in trouble.text
        assert trouble.grave is grave


async def test_one_that_keeps_no_log_is_worth_a_word(tmp_path: Path) -> None:
    async with connected(tmp_path, appendonly="no") as (_, link):
        (trouble,) = await told(link)
        assert "appendonly no" in trouble.text
        assert not trouble.grave


@pytest.mark.parametrize(("ahead", "named"), [(0.5, False), (-0.5, False), (5, True), (-5, True)])
async def test_clocks_that_differ(
    tmp_path: Path, ahead: float, named: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with connected(tmp_path) as (_, link):
        real = time.time
        monkeypatch.setattr(time, "time", lambda: real() + ahead)
        found = await told(link)
    assert bool(found) is named
    if named:
        assert "differs from this machine's by" in found[0].text
        assert not found[0].grave


async def test_a_replica_is_named_before_it_refuses(tmp_path: Path) -> None:
    other = Server(tmp_path, repl_diskless_sync_delay=0)
    async with connected(tmp_path) as (one, link), running([other]):
        await one.ask("REPLICAOF", other.host, other.port)
        await until(lambda: in_sync(one), "a replica")
        telling = troubles(link)
        first = await anext(telling)
        assert "replica" in first.text
        assert first.grave
        with pytest.raises(BrokerUnavailable, match="read only"):
            await anext(telling)


async def test_without_a_right_to_what_we_do_it_is_unavailable(tmp_path: Path) -> None:
    async with connected(tmp_path) as (one, _):
        await one.ask(
            "ACL", "SETUSER", "poor", "on", ">secret", "~{sluice}:*", "+@all", "-spublish"
        )
        async with linked(f"redis://poor:secret@{one.host}:{one.port}") as link:
            with pytest.raises(BrokerUnavailable, match="permissions"):
                await told(link)
