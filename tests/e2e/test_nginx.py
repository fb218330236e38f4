"""nginx in front of the gateway, by ``deploy/nginx``: TLS, HTTP/2, streams that lose nothing."""

import os
import re
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.simulator import Options, Simulator
from tests.e2e.front import NGINX, Front, callers, configure, nginx, reached
from tests.e2e.gateway import free_port
from tests.e2e.process import (
    EVENT_STREAM,
    Command,
    Stage,
    following,
    on_exchange,
    product,
    soon,
)
from tests.oracle.sse import Block, Reader
from tests.redis.servers import server

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(NGINX is None, reason="no nginx here: apt-get install nginx-light"),
]

CHANNEL = "lastprice:BTC_USDT"
STREAM = following(CHANNEL)
DEBIANS = Path("/etc/nginx/nginx.conf")


@asynccontextmanager
async def behind(folder: Path, exchange: Simulator, **settings: Any) -> AsyncIterator[Command]:
    """A gateway that is up."""
    async with product(folder, "serve", environment=on_exchange(exchange.url, **settings)) as found:
        await found.up("/readyz")
        yield found


@asynccontextmanager
async def site(
    folder: Path, certificate: tuple[Path, Path], **settings: Any
) -> AsyncIterator[tuple[Front, Stage, Command]]:
    """A quiet exchange, a gateway with a price to tell, and nginx in front of it."""
    async with (
        Simulator(Options(port=0, rate=0, account=False)) as exchange,
        behind(folder, exchange, **settings) as gateway,
        nginx(folder, certificate, gateway.url) as front,
        httpx.AsyncClient(base_url=gateway.url, trust_env=False) as http,
    ):
        stage = Stage(exchange, gateway.url, http)
        await stage.priced("1")
        yield front, stage, gateway


async def blocks(answer: httpx.Response) -> AsyncIterator[Block]:
    parser = Reader()
    async for piece in answer.aiter_raw():
        for block in parser.feed(piece):
            yield block


def test_nginx_finds_nothing_wrong(tmp_path: Path, certificate: tuple[Path, Path]) -> None:
    configure(tmp_path, certificate, ["http://127.0.0.1:1", "http://127.0.0.1:2"])
    words = [str(NGINX), "-t", "-q", "-c", str(tmp_path / "nginx.conf")]
    told = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (told.returncode, told.stderr) == (0, "")


def tried(configuration: Path) -> str:
    """What nginx says to a configuration where a process has the usual 1024 descriptors."""
    words = f"ulimit -Sn 1024; exec {NGINX} -t -c {configuration}"
    told = subprocess.run(["sh", "-c", words], capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stderr
    return told.stderr


def test_there_are_descriptors_for_all_connections(
    tmp_path: Path, certificate: tuple[Path, Path]
) -> None:
    configure(tmp_path, certificate, ["http://127.0.0.1:1"])
    assert "worker_connections exceed" not in tried(tmp_path / "nginx.conf")


@pytest.mark.skipif(
    os.geteuid() != 0 or not DEBIANS.exists(), reason="not root, or no nginx of Debian's here"
)
def test_so_there_are_on_a_machine_set_up_by_the_guide(tmp_path: Path) -> None:
    guide = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()
    (words,) = re.findall(rf"^sed (?:(?!^sed ).)*? {DEBIANS}$", guide, re.MULTILINE | re.DOTALL)
    here = tmp_path / "nginx.conf"
    shutil.copy(DEBIANS, here)
    subprocess.run(["sh", "-euc", words.replace(str(DEBIANS), str(here))], check=True)
    tried(here)
    (descriptors, connections) = (
        int(re.findall(rf"^\s*{name} (\d+);$", here.read_text(), re.MULTILINE)[0])
        for name in ("worker_rlimit_nofile", "worker_connections")
    )
    assert descriptors > connections >= 10000


async def test_an_event_comes_at_once_and_a_stream_is_resumed(
    tmp_path: Path, certificate: tuple[Path, Path]
) -> None:
    # no heartbeat or further event pushes out what is held back
    async with (
        site(tmp_path, certificate, heartbeat=3600) as (front, stage, _),
        front.client() as client,
    ):
        headers = {"accept-encoding": "gzip", "accept": EVENT_STREAM}
        async with client.stream("GET", STREAM, headers=headers) as answer:
            assert answer.http_version == "HTTP/2"
            assert "content-encoding" not in answer.headers
            told = blocks(answer)
            assert (await anext(told)).json()["type"] == "status"
            assert (await anext(told)).json()["type"] == "snapshot"
            stage.price("2")
            last = (await anext(told)).json()
            assert (last["type"], last["data"]["price"]) == ("update", "2")
        await stage.priced("3")
        headers["last-event-id"] = last["position"]
        async with client.stream("GET", STREAM, headers=headers) as answer:
            told = blocks(answer)
            assert (await anext(told)).json()["type"] == "status"
            missed = (await anext(told)).json()
            assert (missed["type"], missed["previous"]) == ("update", last["position"])

        listed = await client.get("/v1/markets")
        assert listed.headers["content-encoding"] == "gzip"
        assert (await client.get("/metrics")).status_code == 404


async def test_a_client_is_who_it_is_and_not_who_it_says(
    tmp_path: Path, certificate: tuple[Path, Path]
) -> None:
    async with (
        site(tmp_path, certificate, max_streams_per_client=2) as (front, _, _),
        front.client() as client,
        front.client("127.0.0.2") as another,
        AsyncExitStack() as streams,
    ):

        async def status(who: httpx.AsyncClient, claim: str) -> int:
            claims = {"x-forwarded-for": claim, "forwarded": f"for={claim}", "x-real-ip": claim}
            opened = who.stream("GET", STREAM, headers=claims)
            return (await streams.enter_async_context(opened)).status_code

        statuses = [await status(client, f"203.0.113.{number}") for number in range(3)]
        assert statuses == [200, 200, 429]
        assert await status(another, "127.0.0.1") == 200


async def test_no_log_tells_a_ticket_and_an_eventsource_is_told_to_come_back(
    tmp_path: Path, certificate: tuple[Path, Path]
) -> None:
    async with site(tmp_path, certificate) as (front, _, gateway), front.client() as client:
        secret = f"{STREAM}&ticket=planted"
        headers = {"accept": EVENT_STREAM, "referer": "https://localhost/?planted"}
        answer = await client.get(secret, headers=headers)
        assert "expired" in answer.text
        await gateway.stop(signal.SIGKILL)

        away = await client.get(secret, headers=headers)
        assert (away.status_code, away.headers["content-type"]) == (
            200,
            "text/event-stream; charset=utf-8",
        )
        (block,) = Reader().feed(away.content)
        assert block.event == "gateway"
        assert block.json()["type"] == "bye"
        assert block.json()["reason"] == "overload"
        assert block.json()["retry"] == block.retry

        problem = await client.get("/v1/ticker/BTC_USDT?ticket=planted")
        assert problem.status_code == 503
        assert problem.headers["content-type"] == "application/problem+json"
        assert int(problem.headers["retry-after"]) > 0
        assert problem.json()["status"] == 503
        await soon(lambda: front.log.count('"path":"/v1/') == 3, front.log)
        assert "planted" not in front.log
        assert f'"request_id":"{answer.headers["x-request-id"]}"' in front.log


@pytest.mark.parametrize(
    ("clients", "streams"), [(4, 5), pytest.param(25, 40, marks=pytest.mark.deploy)]
)
async def test_who_follows_while_a_gateway_restarts_misses_nothing(
    tmp_path: Path, certificate: tuple[Path, Path], clients: int, streams: int
) -> None:
    """So many clients, each from an address of its own with so many streams on one connection."""
    port = free_port()
    async with (
        server(tmp_path) as redis,
        Simulator(Options(port=0, rate=0, account=False)) as exchange,
        behind(tmp_path, exchange, broker_url=redis.url) as leader,
        httpx.AsyncClient(base_url=leader.url, trust_env=False) as http,
        AsyncExitStack() as stack,
    ):
        stage = Stage(exchange, leader.url, http)
        environment = on_exchange(exchange.url, broker_url=redis.url)

        async def start() -> Command:
            opened = product(tmp_path, "serve", port=port, environment=environment)
            found = await stack.enter_async_context(opened)
            await found.up("/readyz?for=traffic")
            return found

        other = await start()
        front = await stack.enter_async_context(nginx(tmp_path, certificate, leader.url, other.url))
        await stage.priced("1")
        async with callers(front, CHANNEL, clients, streams) as readers:
            for price in range(10):
                stage.price(f"2.{price}1")
            await other.stop(signal.SIGKILL)
            for price in range(10):
                stage.price(f"3.{price}1")
            await start()
            await reached(readers, await stage.priced("4"))
            assert sum(one.opened for one in readers) > len(readers)
            for one in readers:
                # the mirror has checked that the chain never broke
                assert (one.mirror.gaps[CHANNEL], one.mirror.resets()) == (0, [])
                assert one.mirror.counts[f"update {CHANNEL}"] == 21
