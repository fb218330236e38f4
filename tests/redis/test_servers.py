"""A server keeps or loses what it should, hangs and ends when told, and outlives nothing."""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from redis.asyncio import Redis
from redis.exceptions import AuthenticationError

from tests.e2e.waiting import until
from tests.redis.servers import BINARIES, HOST, Server, server

ROOT = Path(__file__).parents[2]

ALONE = """
import asyncio, pathlib, sys
from tests.redis.servers import server

async def main():
    async with server(pathlib.Path(sys.argv[1])) as one:
        print(one.port, flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.fixture(params=BINARIES)
def binary(request: pytest.FixtureRequest) -> Path:
    return BINARIES[request.param]


@pytest.fixture
async def one(tmp_path: Path, binary: Path) -> AsyncIterator[Server]:
    async with server(tmp_path, binary=binary) as started:
        yield started


async def listens(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection(HOST, port)
    except ConnectionRefusedError:
        return False
    writer.transport.abort()
    return True


def test_there_is_a_server_to_test_with() -> None:
    assert "valkey" in BINARIES


async def test_a_server_answers_at_its_url(one: Server) -> None:
    async with Redis.from_url(one.url) as client:
        assert await client.ping()


async def test_what_was_answered_survives_a_kill_on_the_same_port(one: Server) -> None:
    port = one.port
    async with one.client() as client:
        await client.set("key", "value")
    await one.kill()
    assert not one.running
    assert not await listens(port)
    await one.start()
    async with Redis(host=one.host, port=port) as client:
        assert await client.get("key") == b"value"


@pytest.mark.parametrize(("keep_data", "found"), [(True, b"value"), (False, None)])
async def test_a_restart_keeps_data_or_loses_it(
    one: Server, keep_data: bool, found: bytes | None
) -> None:
    await one.ask("SET", "key", "value")
    await one.restart(keep_data=keep_data)
    assert await one.ask("GET", "key") == found


async def test_a_server_that_runs_cannot_forget_or_start_twice(one: Server) -> None:
    with pytest.raises(AssertionError):
        one.forget()
    with pytest.raises(AssertionError):
        await one.start()


async def test_a_server_stops_in_order_even_when_paused(one: Server) -> None:
    one.pause()
    await one.stop()
    assert not one.running
    assert "ready to exit" in one.log.read_text()


async def test_a_paused_server_answers_when_it_is_resumed(one: Server) -> None:
    one.pause()
    assert not one.running
    async with asyncio.TaskGroup() as tasks:
        answer = tasks.create_task(one.ask("INCR", "number"))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await asyncio.shield(answer)
        one.resume()
    assert answer.result() == 1


async def test_options_reach_the_server(tmp_path: Path, binary: Path) -> None:
    async with server(tmp_path, binary=binary, requirepass="x", maxmemory="2mb") as one:
        assert await one.ask("CONFIG GET", "maxmemory") == {"maxmemory": "2097152"}
        async with Redis.from_url(one.url) as stranger:
            with pytest.raises(AuthenticationError):
                await stranger.ping()


async def test_a_server_that_cannot_start_says_why(tmp_path: Path, binary: Path) -> None:
    with pytest.raises(AssertionError, match="must be 'yes' or 'no'"):
        async with server(tmp_path, binary=binary, appendonly="perhaps"):
            pass


async def test_a_server_ends_with_its_block_however_that_ends(tmp_path: Path) -> None:
    ports = []

    async def fails() -> None:
        async with server(tmp_path) as one, server(tmp_path) as paused:
            ports.extend([one.port, paused.port])
            paused.pause()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fails()
    assert len(ports) == 2
    assert not [port for port in ports if await listens(port)]


async def test_a_server_ends_with_the_process_that_started_it(tmp_path: Path) -> None:
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", ALONE, tmp_path, cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    assert parent.stdout
    port = int(await parent.stdout.readline())
    assert await listens(port)
    parent.kill()
    assert await parent.wait() == -signal.SIGKILL

    async def gone() -> bool:
        return not await listens(port)

    await until(gone, "nobody listens")
