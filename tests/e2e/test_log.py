"""What a running gateway logs of requests and streams, as its operator reads it."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.simulator import Options, Simulator
from tests.e2e.process import Command, following, on_exchange, opened, product, soon

pytestmark = pytest.mark.e2e

NAMED = {"x-request-id": "abc-1"}


@pytest.fixture(name="gateway")
async def _gateway(tmp_path: Path) -> AsyncIterator[Command]:
    async with Simulator(Options(port=0, rate=40, account=False)) as exchange:
        environment = on_exchange(exchange.url, log_level="debug")
        async with product(tmp_path, "serve", environment=environment) as running:
            await running.up("/readyz")
            yield running


def told(gateway: Command, event: str, **fields: object) -> list[dict[str, Any]]:
    """The lines of an event that have such fields."""
    found = [json.loads(line) for line in gateway.output.splitlines() if line.startswith("{")]
    return [line for line in found if line["event"] == event and fields.items() <= line.items()]


async def test_a_stream_is_told_with_what_its_client_was_sent(gateway: Command) -> None:
    async with opened(gateway.url, following("ticker:*", "trade:*"), headers=NAMED) as stream:
        assert stream.headers["x-request-id"] == "abc-1"
        for _ in range(100):
            await stream.data()
        await gateway.stop()
        blocks = await stream.rest()
    assert blocks[-1].json()["reason"] == "drain"
    (line,) = told(gateway, "stream ended", request_id="abc-1")
    assert line["reason"] == "drain"
    assert line["channels"] == 2
    assert line["events"] == sum(one.event != "gateway" for one in stream.events.blocks)
    assert len(stream.text) < line["bytes"] < len(stream.text) * 1.2, "and the chunks' framing"
    assert told(gateway, "stream opened", request_id="abc-1")


async def test_a_client_that_goes_is_told_too(gateway: Command) -> None:
    async with opened(gateway.url, following("ticker:*"), headers=NAMED) as stream:
        await stream.data()
    await soon(lambda: told(gateway, "stream ended", request_id="abc-1", reason="gone"))


async def test_a_request_is_told_with_its_id_on_both_roads(gateway: Command) -> None:
    async with httpx.AsyncClient(base_url=gateway.url, trust_env=False) as http:
        for name in ("routed", "fast"):
            answer = await http.get("/v1/ticker/BTC_USDT?a=b", headers={"x-request-id": name})
            assert answer.headers["x-request-id"] == name
        given = (await http.get("/nothing")).headers["x-request-id"]
    for name, route, status in (
        ("routed", "/v1/ticker/{symbol}", 200),
        ("fast", "/v1/ticker/{symbol}", 200),
        (given, "none", 404),
    ):
        await soon(lambda: told(gateway, "request", request_id=name))  # noqa: B023 -- awaited here
        (line,) = told(gateway, "request", request_id=name)
        assert (line["route"], line["status"], line["method"]) == (route, status, "GET")


async def test_what_is_no_request_is_told_under_the_id_of_its_refusal(gateway: Command) -> None:
    async with opened(gateway.url, "/" + "a" * 20_000) as refused:
        assert refused.status == 414
    name = refused.headers["x-request-id"]
    await soon(lambda: told(gateway, "request refused", request_id=name, reason="line"))
