"""Requests that wait: their places, and what ends them early."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from starlette.types import Message, Receive, Scope, Send

from app.api.admission import Admission
from app.api.longpoll import LOOK
from app.logs import configure_logging
from tests.api.harness import Gateway, is_problem, price
from tests.api.test_rights import Scene
from tests.e2e.process import Stage, following, opened, soon, staged

TARGET = "/v1/lastprice/BTC_USDT?wait=60&after="


@pytest.fixture(name="gateway")
async def _gateway() -> Gateway:
    gateway = Gateway()
    gateway.admission = Admission(most=3, most_per_client=2)
    gateway.hear(price("BTC_USDT", "1"))
    return gateway


@pytest.mark.looptime
async def test_one_too_many_of_a_client_is_429_and_its_place_comes_back(
    gateway: Gateway, capsys: pytest.CaptureFixture[str], logging_as_before: None
) -> None:
    configure_logging("json")
    poll = partial(gateway.get, f"{TARGET}7-1")
    async with asyncio.TaskGroup() as tasks:
        waiting = [tasks.create_task(poll()) for _ in range(2)]
        await asyncio.sleep(1)
        refused = await poll()
        assert "2 streams and long polls" in is_problem(refused, 429, "too many streams")
        assert int(refused.headers["retry-after"]) > 0
        assert (await gateway.get(f"{TARGET}7-0")).status_code == 200, "what waits not has a place"
        assert (await gateway.get("/v1/stream?channels=lastprice:*")).status_code == 429
        told = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
        told = [line for line in told if line["event"] == "request refused"]
        assert [one["reason"] for one in told] == ["streams", "streams"]
        assert {(one["status"], one["client"]) for one in told} == {(429, "127.0.0.1")}
        gateway.hear(price("BTC_USDT", "2"))
    assert [task.result().json()["position"] for task in waiting] == ["7-2", "7-2"]
    gateway.admission.check("127.0.0.1")
    assert "sluice_long_polls_waiting 0.0" in (await gateway.get("/metrics")).text
    assert 'sluice_http_refused_total{reason="streams"} 2.0' in (await gateway.get("/metrics")).text
    assert (await gateway.get("/v1/lastprice/BTC_USDT?wait=5&after=7-2")).status_code == 304
    gateway.admission.check("127.0.0.1")


@pytest.mark.looptime
async def test_one_too_many_of_all_is_503(gateway: Gateway) -> None:
    for client in ("a", "b", "c"):
        gateway.admission.enter(client)
    refused = await gateway.get(f"{TARGET}7-1")
    is_problem(refused, 503, "too many streams")
    assert int(refused.headers["retry-after"]) > 0


@pytest.mark.looptime
async def test_it_ends_with_its_key(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    loop = asyncio.get_running_loop()
    target = "/v1/balances/BTC?wait=60&after=" + str(scene.gateway.hub.store.head)
    started = loop.time()
    loop.call_later(10, scene.revoke, "account")
    response = await scene.ask("account", target)
    is_problem(response, 401, "not allowed")
    assert loop.time() - started <= 10 + LOOK + 0.1
    scene.gateway.admission.check("127.0.0.1")


async def test_who_hangs_up_just_as_its_time_is_over_causes_no_error(gateway: Gateway) -> None:
    stack = gateway._stack

    async def hung_up() -> Message:
        return {"type": "http.disconnect"}

    async def hanging_up(scope: Scope, _receive: Receive, send: Send) -> None:
        await stack(scope, hung_up, send)

    gateway._stack = hanging_up
    # a wait that is over when it begins: that is seen before the client is listened to
    assert (await gateway.get("/v1/lastprice/BTC_USDT?after=7-1&wait=1e-99")).status_code == 304
    gateway.admission.check("127.0.0.1")


@asynccontextmanager
async def poll(stage: Stage, after: str) -> AsyncIterator[asyncio.StreamReader]:
    """A long poll on a socket of its own."""
    parts = urlsplit(stage.url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    writer.write(f"GET {TARGET}{after} HTTP/1.1\r\nhost: {parts.netloc}\r\n\r\n".encode())
    try:
        yield reader
    finally:
        writer.transport.abort()


async def test_polls_and_streams_share_their_places_and_who_hangs_up_leaves_one() -> None:
    async with staged(max_streams_per_client=3) as stage:
        position = await stage.priced("1.5")

        async def polls(number: int) -> bool:
            metrics = (await stage.http.get("/metrics")).text
            return f"sluice_long_polls_waiting {number}.0\n" in metrics

        async with AsyncExitStack() as held, stage.stream("lastprice:*") as stream:
            assert stream.status == 200
            for number in (1, 2):
                await held.enter_async_context(poll(stage, position))
                await soon(partial(polls, number), f"{number} wait")
            answer = await stage.http.get(TARGET + position)
            assert (answer.status_code, answer.json()["status"]) == (429, 429)
            async with opened(stage.url, following("lastprice:*"), accept="*/*") as refused:
                assert refused.status == 429
            await held.aclose()
            await soon(partial(polls, 0), "who has gone waits no more")
            async with poll(stage, position) as reader:
                await soon(partial(polls, 1))
                stage.price("2.5")
                assert b" 200 " in await reader.readline()
