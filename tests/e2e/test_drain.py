"""SIGTERM, on real processes: what ends first, what is still answered, and how long it may take."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.server import GRACE
from app.simulator import Options, Simulator
from tests.e2e.process import Command, Stream, following, on_exchange, opened, product, soon
from tests.redis.servers import Server, server

pytestmark = pytest.mark.e2e

LEASE = "{sluice}:lease"
STREAMS = 20
BOUND = 5.0
"""Seconds that an end may take beside drain and grace: for an answer that Redis does not give."""


@dataclass
class Site:
    """A gateway, perhaps of several workers, on a real Redis and a simulated exchange."""

    exchange: Simulator
    redis: Server
    gateway: Command

    @property
    def workers(self) -> list[int]:
        """The processes that serve."""
        pid = self.gateway.process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return [int(child) for child in children] or [pid]

    async def leads(self) -> bytes | None:
        """Whose the lease is."""
        found: bytes | None = await self.redis.ask("GET", LEASE)
        return None if found == b"free" else found

    def tell(self, number: signal.Signals) -> None:
        self.gateway.process.send_signal(number)


@asynccontextmanager
async def site(folder: Path, *, workers: int = 1, **settings: object) -> AsyncIterator[Site]:
    """It follows everything, and knows every ticker."""
    async with (
        Simulator(Options(port=0, rate=60, account=False)) as exchange,
        server(folder) as redis,
    ):
        environment = on_exchange(exchange.url, broker_url=redis.url, **settings)
        start = ("serve", "--workers", str(workers))
        async with product(folder, *start, environment=environment) as gateway:
            await soon(lambda: gateway.output.count('"serving"') == workers, "all serve")
            await gateway.up("/readyz")
            found = Site(exchange, redis, gateway)
            await soon(found.leads, "somebody leads")
            yield found


@asynccontextmanager
async def streams(gateway: Command, count: int = STREAMS) -> AsyncIterator[list[Stream]]:
    async with AsyncExitStack() as stack:
        target = following("ticker:*", "trade:*")
        found = [await stack.enter_async_context(opened(gateway.url, target)) for _ in range(count)]
        for stream in found:
            await stream.gateway("status")
        yield found


def farewell(stream: Stream) -> dict[str, Any]:
    """The last block of a stream that was ended in order."""
    assert stream.ended, "cut off"
    last: dict[str, Any] = stream.events.blocks[-1].json()
    return last


@pytest.mark.parametrize("workers", [1, 2])
async def test_it_is_unready_and_leads_no_more_while_its_streams_still_end(
    tmp_path: Path, workers: int
) -> None:
    async with (
        site(tmp_path, workers=workers, drain=3, lease_ttl=20) as one,
        httpx.AsyncClient(base_url=one.gateway.url, trust_env=False, timeout=10) as kept,
        streams(one.gateway) as open_streams,
        asyncio.TaskGroup() as tasks,
    ):
        await one.gateway.up("/v1/ticker/BTC_USDT")
        await kept.get("/v1/ticker/BTC_USDT")  # its connection stays
        ends = [tasks.create_task(stream.rest()) for stream in open_streams]
        one.tell(signal.SIGTERM)
        await soon(lambda: one.gateway.output.count('"stopping"') == workers, "all stop")
        await soon(lambda: any(end.done() for end in ends), "the first stream has ended")

        answer = await kept.get("/v1/ticker/BTC_USDT")
        assert (answer.status_code, answer.headers["connection"]) == (200, "close")
        for path in ("/readyz", "/readyz?for=traffic"):
            answer = await kept.get(path)
            assert (answer.status_code, answer.headers["connection"]) == (503, "close")
            assert "shutting down" in answer.json()["detail"]
        assert (await kept.get("/livez")).status_code == 200
        await soon(lambda: _free(one), "the lease is free")
        assert not all(end.done() for end in ends), "streams still end"

        assert await one.gateway.ended() == 0
        await asyncio.wait(ends)
        goodbyes = [farewell(stream) for stream in open_streams]
        assert {goodbye["reason"] for goodbye in goodbyes} == {"drain"}
        assert len({goodbye["retry"] for goodbye in goodbyes}) > STREAMS / 2, "they are spread"
        assert "Traceback" not in one.gateway.output


async def test_it_serves_for_all_of_the_drain_though_nobody_streams(tmp_path: Path) -> None:
    async with (
        site(tmp_path, drain=2) as one,
        httpx.AsyncClient(base_url=one.gateway.url, trust_env=False, timeout=10) as new,
    ):
        await one.gateway.up("/v1/ticker/BTC_USDT")
        one.tell(signal.SIGTERM)
        await soon(lambda: '"stopping"' in one.gateway.output, "it stops")
        assert (await new.get("/readyz?for=traffic")).status_code == 503
        assert (await new.get("/v1/ticker/BTC_USDT")).status_code == 200
        assert await one.gateway.ended() == 0


async def _free(one: Site) -> bool:
    return await one.leads() is None


async def test_a_request_in_flight_is_answered_after_the_streams_have_ended(
    tmp_path: Path,
) -> None:
    """It waits for the first state of a channel, which comes while the process ends."""
    async with Simulator(Options(port=0, rate=0, account=False)) as exchange:
        environment = on_exchange(exchange.url, drain=0)
        async with product(tmp_path, "serve", environment=environment) as gateway:
            await gateway.up("/readyz?for=traffic")
            await soon(lambda: exchange.control.report()["open"] == 2, "both connections")
            async with (
                streams(gateway) as open_streams,
                opened(gateway.url, "/livez") as kept,
                asyncio.TaskGroup() as tasks,
            ):
                await kept.rest()
                waiting = tasks.create_task(_ask(gateway, "/v1/lastprice"))
                ends = [tasks.create_task(stream.rest()) for stream in open_streams]
                await soon(lambda: _in_flight(gateway), "the request has come")
                gateway.process.send_signal(signal.SIGTERM)
                await asyncio.wait(ends)
                price = {"symbol": "BTC_USDT", "timestamp": int(time.time()), "price": "1"}
                message = {"id": 0, "method": "lastprice_update", "data": price, "error": None}
                exchange.control.act("emit", message=message, publish=True)
                status, fields, body = await waiting
                assert (status, fields["connection"]) == (200, "close")
                assert b'"price":"1"' in body
                assert await gateway.ended() == 0
                assert "exceeded" not in gateway.output


async def _ask(gateway: Command, path: str) -> tuple[int, dict[str, str], bytes]:
    async with opened(gateway.url, path, accept="*/*") as answer:
        await answer.rest()
        return answer.status, answer.headers, answer.text


def _in_flight(gateway: Command) -> bool:
    """Whether a connection beside the streams and the kept one has been taken."""
    port = int(gateway.url.rsplit(":", 1)[1])
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    ours = [row for row in rows if row[1].endswith(f":{port:04X}") and row[3] == "01"]
    return len(ours) >= STREAMS + 2 and all(row[4].endswith(":00000000") for row in ours)


async def test_it_ends_in_bounded_time_though_neither_redis_nor_the_exchange_answers(
    tmp_path: Path,
) -> None:
    async with site(tmp_path, workers=2, drain=0) as one:
        one.exchange.control.set(stall=True)
        one.redis.pause()
        took = await one.gateway.stop()
        one.redis.resume()
        print(f"two workers ended after {took:.1f} s")  # noqa: T201 - a figure to look at
        assert took < GRACE + BOUND
        assert one.gateway.process.returncode == 0


@pytest.mark.parametrize(("second", "workers"), [(signal.SIGTERM, 1), (signal.SIGINT, 2)])
async def test_a_second_signal_ends_it_at_once(
    tmp_path: Path, second: signal.Signals, workers: int
) -> None:
    async with (
        site(tmp_path, workers=workers, drain=60) as one,
        streams(one.gateway) as open_streams,
        asyncio.TaskGroup() as tasks,
    ):
        pids = one.workers
        ends = [tasks.create_task(stream.rest()) for stream in open_streams]
        one.tell(signal.SIGTERM)
        await soon(lambda: any(end.done() for end in ends), "the first stream has ended")
        assert await one.gateway.stop(second) < BOUND
        await asyncio.wait(ends)
        assert not any(map(runs, pids))
        assert "Traceback" not in one.gateway.output, one.gateway.output


def runs(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


async def test_workers_that_are_told_beside_their_supervisor_still_end_in_order(
    tmp_path: Path,
) -> None:
    """As a service manager does that signals every process of a service."""
    async with (
        site(tmp_path, workers=2, drain=0.5) as one,
        streams(one.gateway) as open_streams,
        asyncio.TaskGroup() as tasks,
    ):
        ends = [tasks.create_task(stream.rest()) for stream in open_streams]
        for pid in one.workers:
            os.kill(pid, signal.SIGTERM)
        one.tell(signal.SIGTERM)
        assert await one.gateway.ended() == 0
        await asyncio.wait(ends)
        assert {farewell(stream)["reason"] for stream in open_streams} == {"drain"}
