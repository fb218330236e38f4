"""A command that is cancelled ends as cancelled, at whatever moment that is."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest

from app.bus.link import Link
from app.bus.scripts import PROBE
from tests.redis.cluster import cluster
from tests.redis.sentinel import sentinels
from tests.redis.servers import server

TURNS = 12
"""Turns of the loop after which a command is cancelled: more than one takes."""

Topology = Callable[[Path], AbstractAsyncContextManager[Any]]


@pytest.fixture(params=[server, sentinels, cluster], ids=lambda one: one.__name__)
async def link(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Link]:
    topology: Topology = request.param
    async with topology(tmp_path) as made:
        opened = Link(made.url, limit=2.0)
        yield opened
        await opened.close()


async def test_a_cancelled_command_ends_as_cancelled(link: Link) -> None:
    await link.run(PROBE, ("probe", "events"))

    async def work() -> None:
        while True:
            await link.run(PROBE, ("probe", "events"))

    lost = []
    for turns in range(TURNS):
        async with asyncio.TaskGroup() as tasks:
            working = tasks.create_task(work())
            for _ in range(turns + 1):
                await asyncio.sleep(0)
            working.cancel()
            await asyncio.wait({working}, timeout=0.1)
            while not working.done():
                lost.append(turns)
                working.cancel()
                await asyncio.wait({working}, timeout=0.1)
    assert lost == []
