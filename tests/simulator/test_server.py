"""The whole exchange in one loop: it starts, can be held, and ends."""

import asyncio

import httpx
import pytest

from app.simulator import Options, Simulator
from app.simulator.server import serve
from tests.simulator.talk import PATIENCE, talking, until


async def test_a_generated_market_can_be_held_and_let_go() -> None:
    async with Simulator(Options(port=0, rate=400.0)) as simulator, talking(simulator) as talk:
        await talk.ask("trade_subscribe", "all")
        await talk.event("trade")
        simulator.control.act("pause")
        assert not simulator.control.report()["playing"]
        simulator.control.act("play")
        talk.events.clear()
        await talk.event("trade")


async def test_serve_tells_its_port_and_ends_when_cancelled() -> None:
    ports: list[int] = []
    async with asyncio.TaskGroup() as group:
        task = group.create_task(serve(Options(port=0, rate=0), ready=ports.append))
        await until(lambda: ports)
        async with httpx.AsyncClient() as http:
            answer = await http.get(f"http://127.0.0.1:{ports[0]}/control")
        task.cancel()
    assert answer.json()["open"] == 0


async def test_leaving_ends_the_sockets_and_the_port() -> None:
    async with Simulator(Options(port=0, rate=0)) as simulator:
        reader, writer = await asyncio.open_connection("127.0.0.1", simulator.port)
    async with asyncio.timeout(PATIENCE):
        assert await reader.read() == b""
    writer.close()
    with pytest.raises(OSError, match=r"[Cc]onnect"):
        await asyncio.open_connection("127.0.0.1", simulator.port)


async def test_a_bodys_error_comes_out_as_it_is() -> None:
    with pytest.raises(ZeroDivisionError):
        async with Simulator(Options(port=0, rate=0)):
            raise ZeroDivisionError


@pytest.mark.parametrize("said", [b"no http at all\r\n\r\n", b"GET /control HTTP/9\r\n\r\n"])
async def test_what_is_no_http_is_shut_out(said: bytes) -> None:
    async with Simulator(Options(port=0, rate=0)) as simulator:
        reader, writer = await asyncio.open_connection("127.0.0.1", simulator.port)
        writer.write(said)
        async with asyncio.timeout(PATIENCE):
            assert await reader.read() == b""
        writer.close()


async def test_a_connection_may_be_kept_or_closed() -> None:
    async with Simulator(Options(port=0, rate=0)) as simulator:
        reader, writer = await asyncio.open_connection("127.0.0.1", simulator.port)
        ask = b"GET /v1/exchange/market/assets HTTP/1.1\r\nhost: x\r\n%s\r\n"
        writer.write(ask % b"" + ask % b"connection: close\r\n")
        async with asyncio.timeout(PATIENCE):
            answers = await reader.read()
        writer.close()
    assert answers.count(b"HTTP/1.1 200 OK") == 2
    assert answers.endswith(b"}")
