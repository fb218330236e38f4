"""Streams as everyday clients read them: httpx, the standard library, curl."""

import asyncio
import http.client
import json
import shutil
from collections.abc import Iterator

import httpx
import pytest

from tests.e2e.process import EVENT_STREAM, Stage, following, soon, staged

pytestmark = pytest.mark.e2e

CURL = shutil.which("curl")
PRICE = "lastprice:BTC_USDT"


def simple(lines: Iterator[str]) -> Iterator[tuple[str, str, str]]:
    """What a careful twenty-line client makes of a stream: event, id, data."""
    fields: dict[str, str] = {}
    for line in lines:
        if not line:
            yield fields.get("event", ""), fields.get("id", ""), fields["data"]
            fields = {}
        elif not line.startswith(":"):
            name, _, value = line.partition(": ")
            fields[name] = value


async def _prices(stage: Stage, first: int, last: int) -> None:
    for number in range(first, last + 1):
        await stage.priced(str(number))


async def test_httpx_streams_and_resumes() -> None:
    async with staged(heartbeat=0.2) as stage:
        await _prices(stage, 1, 2)
        got: list[dict[str, object]] = []
        last = ""
        headers = {"accept": EVENT_STREAM}
        async with stage.http.stream("GET", following(PRICE), headers=headers) as response:
            assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
            async for line in response.aiter_lines():
                if line.startswith("id: "):
                    last = line[4:]
                elif line.startswith("data: "):
                    got.append(json.loads(line[6:]))
                if len(got) == 2:
                    break
        assert got[0]["type"] == "status"
        assert got[1]["position"] == last
        await _prices(stage, 3, 5)
        got.clear()
        headers["last-event-id"] = last
        async with stage.http.stream("GET", following(PRICE), headers=headers) as response:
            async for line in response.aiter_lines():
                if line.startswith("data: "):
                    got.append(json.loads(line[6:]))
                if len(got) == 4:
                    break
        assert [one["type"] for one in got] == ["status", "update", "update", "update"]


def _by_the_standard_library(url: str, count: int) -> list[tuple[str, str, str]]:
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=20)
    try:
        connection.request("GET", following(PRICE), headers={"Accept": EVENT_STREAM})
        response = connection.getresponse()
        assert response.status == 200
        lines = (line.decode().rstrip("\n") for line in iter(response.readline, b""))
        events = simple(lines)
        return [next(events) for _ in range(count)]
    finally:
        connection.close()


async def test_the_standard_library_reads_line_by_line() -> None:
    async with staged(heartbeat=0.1) as stage, asyncio.TaskGroup() as tasks:
        reading = tasks.create_task(asyncio.to_thread(_by_the_standard_library, stage.url, 5))

        async def emit() -> bool:
            await stage.priced("7")
            await asyncio.sleep(0.3)  # heartbeats in between
            return reading.done()

        await soon(emit, "five events were read")
        events = reading.result()
        assert [event for event, _, _ in events] == ["gateway"] + ["lastprice"] * 4
        for _, identity, data in events[1:]:
            assert json.loads(data)["position"] == identity


@pytest.mark.skipif(CURL is None, reason="no curl on this machine")
async def test_curl_shows_events_as_they_come() -> None:
    assert CURL is not None
    async with staged() as stage:
        process = await asyncio.create_subprocess_exec(
            CURL,
            "-sN",
            "--noproxy",
            "*",
            stage.url + following(PRICE),
            stdout=asyncio.subprocess.PIPE,
        )
        try:
            assert process.stdout is not None
            async with asyncio.timeout(20):
                assert (await process.stdout.readline()) == b"retry: 2000\n"
                assert (await process.stdout.readline()) == b"event: gateway\n"
                stage.price("12.50")
                while b'"12.50"' not in await process.stdout.readline():
                    pass
        finally:
            process.kill()
            await process.wait()


@pytest.mark.skipif(CURL is None, reason="no curl on this machine")
async def test_curl_sees_a_refusal_as_a_status() -> None:
    assert CURL is not None
    async with staged(max_streams=1) as stage, stage.stream(PRICE) as held:
        await held.gateway("status")
        process = await asyncio.create_subprocess_exec(
            *(CURL, "-s", "--noproxy", "*", "-w", "%{http_code}", stage.url + following(PRICE)),
            stdout=asyncio.subprocess.PIPE,
        )
        said, _ = await process.communicate()
        assert said.endswith(b"503")


async def test_a_client_without_the_accept_header_gets_the_stream() -> None:
    async with (
        staged() as stage,
        httpx.AsyncClient(base_url=stage.url, trust_env=False) as http,
        http.stream("GET", following(PRICE), headers={"accept": ""}) as response,
    ):
        assert response.status_code == 200
        async for line in response.aiter_lines():
            assert line == "retry: 2000"
            break
