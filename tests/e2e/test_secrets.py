"""What a client sends in confidence stands in no log, no metric and no error."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from tests.e2e.gateway import free_port
from tests.e2e.process import Command, command

pytestmark = pytest.mark.e2e

PLANTED = "hush-4f1c-hush"
HEADERS = {
    "authorization": f"Bearer {PLANTED}",
    "x-api-key": PLANTED,
    "proxy-authorization": f"Basic {PLANTED}",
    "cookie": f"session={PLANTED}; other={PLANTED}",
    "x-forwarded-for": "198.51.100.1",
    "last-event-id": PLANTED,
    "if-none-match": f'"{PLANTED}"',
    "referer": f"http://x.example/?ticket={PLANTED}",
    "user-agent": PLANTED,
    "x-other": PLANTED,
    "x-request-id": f"ticket={PLANTED}",
}
NAMES = (
    *("ticket", "token", "access_token", "key", "api_key", "apikey", "sign", "password", "other"),
    *("after", "lastEventId", "limit", "wait", "max_age", "scale", "for"),
)
QUERY = "&".join(f"{name}={PLANTED}" for name in NAMES)
PATHS = (
    "/v1/stream?channels=order:BTC_USDT&",
    "/v1/stream?",
    "/v1/markets?",
    "/v1/ticker/BTC_USDT?",
    "/v1/ticker?",
    "/v1/depth/NOPE?",
    "/v1/orders?",
    "/v1/status?",
    "/v1/tickets?",
    "/readyz?",
    "/livez?",
    "/nothing?",
)


WAYS = {
    "sluice": ("-m", "app", "serve"),
    "uvicorn at its lowest level": (
        *("-m", "uvicorn", "app.main:create_app", "--factory", "--log-level", "trace"),
    ),
}
"""How a server is started."""


@asynccontextmanager
async def started(way: tuple[str, ...], folder: Path) -> AsyncIterator[Command]:
    nobody = f"http://127.0.0.1:{free_port()}"
    settings = {
        "SLUICE_UPSTREAM_WS_URL": nobody.replace("http", "ws"),
        "SLUICE_UPSTREAM_API_URL": nobody,
        "SLUICE_UPSTREAM_MARKETS_URL": nobody,
        "SLUICE_UPSTREAM_SCALES_URL": nobody,
        "SLUICE_UPSTREAM_USER_ID": PLANTED,
        "SLUICE_UPSTREAM_API_KEY": PLANTED,
        "SLUICE_LOG_LEVEL": "debug",
        "OTEL_TRACES_EXPORTER": "console",
    }
    async with command(folder, *way, environment=settings) as running:
        await running.up()
        yield running


@pytest.mark.parametrize("name", WAYS)
async def test_nothing_that_was_planted_comes_up_again(tmp_path: Path, name: str) -> None:
    async with started(WAYS[name], tmp_path) as running:
        told = []
        async with httpx.AsyncClient(base_url=running.url, trust_env=False) as http:
            for path in PATHS:
                for method in ("GET", "POST", "DELETE"):
                    answer = await http.request(method, path + QUERY, headers=HEADERS)
                    told += [f"{method} {path}", answer.text, *map(str, answer.headers.values())]
            told.append((await http.get("/metrics")).text)
        told.append(await broken(running))
        await running.stop()
    assert PLANTED not in "\n".join(told)
    assert PLANTED not in running.output
    assert "Traceback" not in running.output
    assert '"event": "request"' in running.output, "every request is told"
    for span in ("GET /v1/ticker/{symbol}", "GET /v1/stream"):
        assert f'"name": "{span}"' in running.output, "and traced"
    if name != "sluice":
        assert '"logger": "uvicorn.access"' in running.output, "there is an access log"
        assert "/v1/ticker?***" in running.output


async def broken(running: Command) -> str:
    """What is answered to something that is no request."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(running.url.split(":")[2]))
    writer.write(f"{PLANTED} /?ticket={PLANTED} {PLANTED}\r\n\r\n".encode())
    try:
        return (await reader.read()).decode()
    finally:
        writer.close()
        await writer.wait_closed()
