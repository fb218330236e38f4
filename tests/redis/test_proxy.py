"""Each fault of the proxy is what it says, and over when it is switched off."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
from redis.asyncio import Redis

from tests.e2e.waiting import LIMIT, until
from tests.redis.proxy import HOST, Proxy, proxy
from tests.redis.servers import Server, server

PING, PONG = b"PING\r\n", b"+PONG\r\n"


@pytest.fixture
async def one(tmp_path: Path) -> AsyncIterator[Server]:
    async with server(tmp_path) as started:
        yield started


@pytest.fixture
async def between(one: Server) -> AsyncIterator[Proxy]:
    async with proxy(one.port) as opened:
        yield opened


class Line:
    """A connection of which every byte is seen."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.send = writer.write

    async def pings(self) -> bool:
        self.send(PING)
        async with asyncio.timeout(LIMIT):
            return await self.reader.readexactly(len(PONG)) == PONG

    async def is_reset(self) -> bool:
        with pytest.raises(ConnectionResetError):
            async with asyncio.timeout(LIMIT):
                await self.reader.read()
        return True

    async def hangs(self) -> bool:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await self.reader.read(1)
        return True


@asynccontextmanager
async def line(port: int) -> AsyncIterator[Line]:
    reader, writer = await asyncio.open_connection(HOST, port)
    try:
        yield Line(reader, writer)
    finally:
        writer.transport.abort()


async def talk(port: int) -> bool:
    async with line(port) as client:
        return await client.pings()


async def test_a_client_works_through_the_proxy(between: Proxy) -> None:
    async with Redis.from_url(between.url) as client:
        text = "x" * 1_000_000
        await client.set("key", text)
        assert await client.get("key") == text.encode()


async def test_an_orderly_end_passes_through_as_one(one: Server, between: Proxy) -> None:
    async with line(between.port) as client:
        client.send(b"QUIT\r\n")
        async with asyncio.timeout(LIMIT):
            assert await client.reader.read() == b"+OK\r\n"


async def test_a_cut_aborts_what_is_open_and_nothing_later(between: Proxy) -> None:
    async with line(between.port) as used, line(between.port) as fresh:
        assert await used.pings()
        between.cut()
        assert await used.is_reset()
        assert await fresh.is_reset()
        assert await talk(between.port)


async def test_answers_are_delayed_while_a_delay_is_set(between: Proxy) -> None:
    loop = asyncio.get_running_loop()
    async with line(between.port) as client:
        between.delay = 0.2
        asked = loop.time()
        assert await client.pings()
        assert loop.time() - asked >= between.delay
        between.delay = 0.0
        assert await client.pings()


async def test_a_partition_carries_nothing_and_tells_nobody(one: Server, between: Proxy) -> None:
    async with line(between.port) as asking, line(between.port) as hearing:
        assert await asking.pings()
        hearing.send(b"SUBSCRIBE news\r\n")
        await hearing.reader.readuntil(b":1\r\n")

        between.partition()
        asking.send(b"SET key value\r\n")
        assert await one.ask("PUBLISH", "news", "unheard") == 1
        async with line(between.port) as fresh:
            fresh.send(PING)
            assert await fresh.hangs()
            assert await asking.hangs()
            await one.kill()
            assert await hearing.hangs()
            await one.start()

            between.heal()
            for client in (asking, hearing, fresh):
                assert await client.is_reset()
        assert await talk(between.port)
    assert await one.ask("GET", "key") is None


async def test_refused_connections_are_reset_while_open_ones_go_on(between: Proxy) -> None:
    async with line(between.port) as before:
        between.refuse()
        with pytest.raises(ConnectionResetError):
            await talk(between.port)
        assert await before.pings()
        between.accept()
        assert await talk(between.port)


async def test_a_server_that_ends_or_is_away_resets_its_clients(
    one: Server, between: Proxy
) -> None:
    async with line(between.port) as client:
        assert await client.pings()
        await one.kill()
        async with asyncio.timeout(LIMIT):
            assert await client.reader.read() == b""
    async with line(between.port) as client:
        assert await client.is_reset()


async def test_what_a_client_does_not_read_stays_with_the_server(
    one: Server, between: Proxy
) -> None:
    size = 64 * 1024 * 1024
    await one.ask("SETRANGE", "long", size - 1, "x")
    seen: list[int] = []

    async def stands_still() -> bool:
        listed = await one.ask("CLIENT LIST")
        seen.append(max(int(client["omem"]) for client in listed))
        return seen[-1] > 0 and len(seen) > 10 and len(set(seen[-10:])) == 1

    async with line(between.port) as client:
        client.send(b"GET long\r\n")
        await until(stands_still, lambda: f"an answer that waits: {seen}")
        head = await client.reader.readuntil(b"\r\n")
        assert head == b"$%d\r\n" % size
        async with asyncio.timeout(LIMIT):
            assert (await client.reader.readexactly(size))[-1:] == b"x"


@pytest.mark.parametrize("switch", [Proxy.accept, Proxy.partition, Proxy.refuse])
async def test_nothing_is_left_when_it_ends(one: Server, switch: Callable[[Proxy], None]) -> None:
    async with AsyncExitStack() as clients:
        async with proxy(one.port) as between:
            used = await clients.enter_async_context(line(between.port))
            assert await used.pings()
            fresh = await clients.enter_async_context(line(between.port))
            switch(between)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert await used.is_reset()
        assert await fresh.is_reset()
    with pytest.raises(ConnectionRefusedError):
        await talk(between.port)
