"""The same application under another server, over HTTP/2: nothing of uvicorn's is there."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from app.simulator import Options, Simulator
from tests.e2e.process import EVENT_STREAM, command, following, on_exchange, soon
from tests.e2e.reconstruct import Block, Parser

pytestmark = pytest.mark.e2e

SERVED = """
import asyncio, sys
from hypercorn.asyncio import serve
from hypercorn.config import Config
from app.main import create_app
config = Config()
config.bind = [f"127.0.0.1:{sys.argv[-1]}"]
asyncio.run(serve(create_app(), config))
"""


async def test_two_streams_and_an_answer_share_one_connection(tmp_path: Path) -> None:
    async with Simulator(Options(port=0, rate=40, account=False)) as exchange:
        environment = on_exchange(exchange.url, heartbeat=0.5)
        async with command(tmp_path, "-c", SERVED, environment=environment) as server:
            await server.up("/readyz?for=traffic")
            only_one = httpx.Limits(max_connections=1)
            async with httpx.AsyncClient(base_url=server.url, trust_env=False) as aside:

                async def streams() -> int:
                    status = (await aside.get("/v1/status")).json()
                    return int(status["streams"]["open"])

                async def none_left() -> bool:
                    return await streams() == 0

                async with (
                    httpx.AsyncClient(
                        base_url=server.url,
                        trust_env=False,
                        http1=False,
                        http2=True,
                        limits=only_one,
                        headers={"accept": EVENT_STREAM},
                    ) as http,
                    http.stream("GET", following("depth:BTC_USDT:0")) as book,
                    http.stream("GET", following("ticker:*")) as tickers,
                ):
                    assert book.http_version == tickers.http_version == "HTTP/2"
                    assert "transfer-encoding" not in book.headers
                    assert await kinds(events(book)) == {"snapshot", "update"}
                    assert await kinds(events(tickers)) == {"snapshot", "update"}
                    assert (await http.get("/v1/ticker/BTC_USDT")).status_code == 200
                    assert await streams() == 2
                await soon(none_left, "the connection has gone, and both with it")
            assert "Traceback" not in server.output


async def events(answer: httpx.Response) -> AsyncIterator[Block]:
    parser = Parser()
    async for piece in answer.aiter_raw():
        for block in parser.feed(piece):
            yield block


async def kinds(blocks: AsyncIterator[Block]) -> set[str]:
    """What types of envelope come, of the first twenty."""
    found = []
    async for block in blocks:
        if block.event != "gateway":
            found.append(json.loads(block.data)["type"])
        if len(found) == 20:
            break
    return set(found)
