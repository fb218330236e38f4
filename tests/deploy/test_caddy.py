"""Debian's Caddy in front of a gateway, by ``deploy/caddy/Caddyfile``: TLS, HTTP/2, streams."""

import asyncio
import os
import signal
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.deploy.tools import DEPLOY, run, tool
from tests.e2e.front import over_http2
from tests.e2e.gateway import Running, exchange, free_port, gateway
from tests.e2e.process import EVENT_STREAM
from tests.e2e.waiting import until
from tests.oracle.sse import Block, Reader

pytestmark = pytest.mark.deploy

CADDYFILE = DEPLOY / "caddy" / "Caddyfile"
HERE = """\
{
	debug
	admin off
	skip_install_trust
	auto_https disable_redirects
	http_port %d
"""
"""What the options of a machine that has other things to do begin with; it logs all that it can."""
PLANTED = {
    "x-api-key": "planted-key",
    "cookie": "a=planted-cookie",
    "referer": "https://example.org/?planted",
    "authorization": "Bearer planted",
}
TICKERS = "/v1/stream?channels=ticker:BTC_USDT"


@dataclass
class Site:
    """A market, a gateway that hears it, and Caddy in front."""

    url: str
    market: Running
    gateway: Running
    log: Path
    root: Path

    def client(self, address: str = "127.0.0.1") -> httpx.AsyncClient:
        """A client of HTTP/2 that trusts Caddy's own authority, and comes from an address."""
        return over_http2(self.url, self.root, address)


@asynccontextmanager
async def site(folder: Path, *, streams: int = 64) -> AsyncIterator[Site]:
    port, config, log = free_port(), folder / "Caddyfile", folder / "caddy.log"
    config.write_text(CADDYFILE.read_text().replace("{\n", HERE % free_port(), 1))
    root = folder / "caddy/pki/authorities/local/root.crt"
    async with (
        exchange(folder, rate=40) as market,
        gateway(market.url, folder, heartbeat=3600, max_streams_per_client=streams) as behind,
    ):
        places = {"SITE": f"localhost:{port}", "GATEWAYS": behind.url.removeprefix("http://")}
        places |= {"XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
        with log.open("wb") as output:
            caddy = await asyncio.create_subprocess_exec(
                *(tool("caddy"), "run", "--config", str(config), "--adapter", "caddyfile"),
                env=os.environ | places,
                stdout=output,
                stderr=output,
            )
        try:
            found = Site(f"https://localhost:{port}", market, behind, log, root)

            async def up() -> bool:
                assert caddy.returncode is None, log.read_text()
                if not root.exists():
                    return False
                try:
                    async with found.client() as client:
                        return (await client.get("/v1/ticker/BTC_USDT")).status_code == 200
                except (httpx.TransportError, ssl.SSLError):  # the file is not whole yet
                    return False

            await until(up, log.read_text)
            yield found
        finally:
            caddy.kill()  # it would wait for streams
            await caddy.wait()


async def events(answer: httpx.Response) -> AsyncIterator[Block]:
    reader = Reader()
    async for piece in answer.aiter_raw():
        reader.feed(piece)
        while reader.blocks:
            yield reader.blocks.pop(0)


def test_caddy_finds_nothing_wrong() -> None:
    assert "Valid configuration" in run(
        *("caddy", "validate", "--config", CADDYFILE, "--adapter", "caddyfile")
    )
    assert run("caddy", "fmt", CADDYFILE).rstrip() == CADDYFILE.read_text().rstrip()


async def test_events_come_at_once_and_a_stream_is_resumed(tmp_path: Path) -> None:
    async with site(tmp_path) as front, front.client() as client:
        # nothing more comes that could push out what is held back
        await front.market.post("/control/pause")
        async with client.stream("GET", TICKERS, headers={"accept-encoding": "gzip"}) as answer:
            assert answer.http_version == "HTTP/2"
            assert "content-encoding" not in answer.headers
            blocks = events(answer)
            assert (await anext(blocks)).json()["type"] == "status"
            assert (await anext(blocks)).json()["type"] == "snapshot"
            await front.market.post("/control/play")
            last = (await anext(blocks)).json()
            assert last["type"] == "update"
        headers = {"last-event-id": last["position"]}
        async with client.stream("GET", TICKERS, headers=headers) as answer:
            blocks = events(answer)
            assert (await anext(blocks)).json()["type"] == "status"
            after = (await anext(blocks)).json()
            assert (after["type"], after["previous"]) == ("update", last["position"])


async def test_a_client_is_who_it_is_and_not_who_it_says(tmp_path: Path) -> None:
    async with (
        site(tmp_path, streams=2) as front,
        front.client() as client,
        front.client("127.0.0.2") as another,
        AsyncExitStack() as streams,
    ):

        async def status(who: httpx.AsyncClient, claim: str) -> int:
            headers = {"x-forwarded-for": claim}
            opened = who.stream("GET", TICKERS, headers=headers)
            return (await streams.enter_async_context(opened)).status_code

        claims = [await status(client, f"203.0.113.{number}") for number in range(3)]
        assert claims == [200, 200, 429]
        assert await status(another, "127.0.0.1") == 200


async def test_answers_are_compressed_and_what_is_private_stays_so(tmp_path: Path) -> None:
    async with site(tmp_path) as front, front.client() as client:
        assert (await client.get("/v1/markets")).headers["content-encoding"] == "gzip"
        assert (await client.get("/metrics")).status_code == 404
        await client.get("/v1/status?ticket=planted-ticket", headers=PLANTED)
        await until(lambda: '"uri":"/v1/status?***"' in front.log.read_text(), front.log.read_text)
        assert "planted" not in front.log.read_text()


async def test_without_a_gateway_no_secret_is_logged_and_an_eventsource_is_told_to_come_back(
    tmp_path: Path,
) -> None:
    async with site(tmp_path) as front, front.client() as client:
        await front.gateway.end(signal.SIGKILL)
        headers = PLANTED | {"accept": EVENT_STREAM}
        async with asyncio.TaskGroup() as tasks:
            asked = client.get(f"{TICKERS}&ticket=planted", headers=headers)
            following = tasks.create_task(asked)
            problem = await client.get("/v1/status?ticket=planted", headers=PLANTED)
            stream = await following
        assert stream.status_code == 200
        assert stream.headers["content-type"] == "text/event-stream; charset=utf-8"
        (block,) = Reader().feed(stream.content)
        assert block.event == "gateway"
        assert block.json() == {"type": "bye", "reason": "overload", "retry": block.retry}
        assert block.retry in range(5000, 15000)

        assert problem.status_code == problem.json()["status"] == 503
        assert problem.headers["content-type"] == "application/problem+json"
        assert int(problem.headers["retry-after"]) > 0
        await until(
            lambda: front.log.read_text().count('"logger":"http.log.error') == 2,
            front.log.read_text,
        )
        assert "planted" not in front.log.read_text()
