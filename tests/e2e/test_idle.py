"""Connections that only wait, or send a byte now and then, do not stop the service.

``IDLE_CONNECTIONS=10000 pytest tests/e2e/test_idle.py`` tries it with as many as a server keeps:
this process and the server take a descriptor each for every one.
"""

import asyncio
import os
import resource
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from tests.e2e.gateway import Running, exchange, gateway
from tests.e2e.process import following, opened
from tests.e2e.waiting import LIMIT

pytestmark = pytest.mark.e2e

IDLE = int(os.environ.get("IDLE_CONNECTIONS", "500")) // 2
"""Connections of each kind."""
ANSWERS = 50
PROMPT = 2.0
"""Seconds for an answer, on a machine that may be busy; it takes a millisecond alone."""
PATIENCE = LIMIT + 10 + IDLE / 500
"""Seconds after which a server must have ended whoever sends no request."""

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@pytest.fixture(autouse=True)
def _descriptors() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


@asynccontextmanager
async def connected(process: Running, begin: bytes) -> AsyncIterator[list[Connection]]:
    """Connections on which something was sent that is no whole request."""
    port = int(process.url.rpartition(":")[2])
    made: list[Connection] = []
    try:
        while len(made) < IDLE:
            made.append(await asyncio.open_connection("127.0.0.1", port))
            made[-1][1].write(begin)
        yield made
    finally:
        for _, writer in made:
            writer.transport.abort()


async def still_serves(process: Running) -> None:
    for _ in range(ANSWERS):
        began = time.monotonic()
        assert (await process.http.get("/v1/markets")).status_code == 200
        assert time.monotonic() - began < PROMPT
    async with opened(process.url, following("lastprice:BTC_USDT")) as stream:
        await stream.gateway("status")


async def drip(connections: list[Connection], end: asyncio.Event) -> None:
    """A byte on each, again and again."""
    while not end.is_set():
        for _, writer in connections:
            if not writer.transport.is_closing():
                writer.write(b"a")
            await asyncio.sleep(0)


async def ended(connections: list[Connection]) -> list[bytes]:
    """What each was told before the server ended it."""
    told = []
    async with asyncio.timeout(PATIENCE):
        for reader, _ in connections:
            try:
                told.append(await reader.read())
            except ConnectionError:
                told.append(b"")
    return told


async def test_idle_and_slow_connections(tmp_path: Path) -> None:
    async with (
        exchange(tmp_path, rate=0) as source,
        gateway(source.url, tmp_path) as process,
        AsyncExitStack() as held,
    ):
        idle = await held.enter_async_context(connected(process, b""))
        slow = await held.enter_async_context(
            connected(process, b"GET /livez HTTP/1.1\r\nhost: x\r\nx-y: ")
        )
        over = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(drip(slow, over))
            await still_serves(process)
            assert await ended(idle) == [b""] * IDLE
            told = await ended(slow)
            over.set()
        refusals = [text.split()[1] for text in told if text]
        assert set(refusals) <= {b"408"}
        assert len(refusals) > IDLE / 2, "some are reset as bytes of theirs cross it"
        await still_serves(process)
        metrics = (await process.http.get("/metrics")).text
        assert 'sluice_http_refused_total{reason="idle"}' in metrics
        assert 'sluice_http_refused_total{reason="slow"}' in metrics
