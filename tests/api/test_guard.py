"""What stands before every route."""

import asyncio
import json
from typing import Any

import httpx
import pytest
from starlette.types import Message, Receive, Scope, Send

from app.api.guard import Guard
from app.logs import LogLevel, configure_logging
from tests import given
from tests.api.harness import Gateway, is_problem
from tests.e2e.process import staged
from tests.e2e.waiting import LIMIT

HOSTS = ("10.0.0.5", "localhost", "127.0.0.1", "::1", "Gate.Example")


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LOCALHOST:8000",
        "127.0.0.1:8000",
        "10.0.0.5",
        "gate.example:443",
        "[::1]",
        "[::1]:8000",
        "localhost:",
    ],
)
async def test_accepted_hosts_with_and_without_a_port(host: str) -> None:
    response = await Gateway(hosts=HOSTS).get("/v1/markets", host=host)
    assert response.status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "localhost.evil.example",
        "localhost:8000.evil.example",
        "evil-localhost",
        "127.0.0.1:x",
        "10.0.0.50",
        "",
        "::1",
        "*",
    ],
)
async def test_any_other_host_is_421(host: str) -> None:
    response = await Gateway(hosts=HOSTS).get("/v1/markets", host=host)
    assert "evil" not in is_problem(response, 421, "malformed request")
    assert response.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/metrics"])
async def test_probes_come_by_address(path: str) -> None:
    response = await Gateway(hosts=HOSTS).get(path, host="10.1.2.3:8000")
    assert response.status_code != 421


async def test_a_star_switches_the_check_off() -> None:
    response = await Gateway(hosts=("localhost", "*")).get("/v1/markets", host="any.example")
    assert response.status_code == 200


@pytest.mark.parametrize("path", ["/v1/ticker/BTC_USDT", "/livez", "/nothing", "/v1/orders"])
async def test_every_answer_has_the_security_headers(path: str) -> None:
    gateway = Gateway()
    gateway.hear(given.ticker("BTC_USDT", "1"))
    headers = (await gateway.get(path)).headers
    assert headers.get_list("x-content-type-options") == ["nosniff"]
    assert headers.get_list("referrer-policy") == ["no-referrer"]


async def test_a_page_runs_no_script_but_its_own_and_stands_in_no_frame() -> None:
    headers = (await Gateway().get("/docs")).headers
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "http" not in policy
    assert "content-security-policy" not in (await Gateway().get("/livez")).headers


async def counted(gateway: Gateway) -> dict[tuple[str, str], float]:
    [family] = [one for one in gateway.metrics.registry.collect() if "http_requests" in one.name]
    return {
        (sample.labels["route"], sample.labels["status"]): sample.value
        for sample in family.samples
        if sample.name.endswith("_total")
    }


async def test_requests_are_counted_by_route_template() -> None:
    gateway = Gateway(hosts=HOSTS)
    gateway.hear(given.ticker("BTC_USDT", "1"), given.ticker("ETH_USDT", "1"))
    for path in ("/v1/ticker/BTC_USDT", "/v1/ticker/ETH_USDT", "/v1/ticker/nope", "/a", "/b"):
        await gateway.get(path, host="localhost")
    await gateway.get("/v1/ticker", host="evil.example")
    async with gateway.client() as client:
        await client.post("/livez")
    assert await counted(gateway) == {
        ("/v1/ticker/{symbol}", "200"): 2,
        ("/v1/ticker/{symbol}", "404"): 1,
        ("none", "404"): 2,
        ("none", "421"): 1,
        ("/livez", "405"): 1,
    }


async def test_a_bug_is_counted_as_500() -> None:
    gateway = Gateway()

    @gateway.app.get("/bug")
    async def bug() -> None:
        raise RuntimeError

    async with gateway.client(raising=False) as client:
        response = await client.get("/bug")
    assert response.headers.get_list("x-content-type-options") == ["nosniff"]
    assert response.headers.get_list("referrer-policy") == ["no-referrer"]
    assert await counted(gateway) == {("/bug", "500"): 1}


async def test_other_protocols_pass() -> None:
    seen: list[Scope] = []

    async def app(scope: Scope, _receive: Receive, _send: Send) -> None:
        seen.append(scope)

    async def receive() -> Message:
        return {"type": "lifespan.startup"}

    async def send(_message: Message) -> None:
        raise AssertionError

    scope = {"type": "lifespan"}
    await Guard(app, allowed_hosts=())(scope, receive, send)
    assert seen == [scope]


# The request's id, and its line in the log


@pytest.mark.parametrize("path", ["/v1/ticker/BTC_USDT", "/livez", "/nothing", "/v1/orders"])
async def test_every_answer_has_the_id_of_its_request(path: str) -> None:
    gateway = Gateway()
    gateway.hear(given.ticker("BTC_USDT", "1"))
    for _ in range(2):  # the second time by the fast path
        assert (await gateway.get(path, x_request_id="abc-1")).headers["x-request-id"] == "abc-1"
    one = (await gateway.get(path, x_request_id="a b")).headers.get_list("x-request-id")
    other = (await gateway.get(path)).headers.get_list("x-request-id")
    assert len(one) == len(other) == 1
    assert one != other
    assert " " not in one[0]


async def test_a_refused_host_and_a_bug_have_an_id_too() -> None:
    gateway = Gateway(hosts=("localhost",))

    @gateway.app.get("/bug")
    async def bug() -> None:
        raise RuntimeError

    async with gateway.client(raising=False) as client:
        for host, status in (("evil.example", 421), ("localhost", 500)):
            response = await client.get("/bug", headers={"host": host, "x-request-id": "abc"})
            assert (response.status_code, response.headers["x-request-id"]) == (status, "abc")


async def test_a_stream_has_an_id() -> None:
    response = await Gateway().stream("/v1/stream?channels=ticker:*", x_request_id="abc-1")
    assert response.headers["x-request-id"] == "abc-1"


class Told:
    """What is logged, by its event."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def at(self, level: LogLevel) -> None:
        configure_logging("json", level)

    def rest(self) -> list[str]:
        return self._capsys.readouterr().err.splitlines()

    def lines(self, event: str = "request") -> list[dict[str, Any]]:
        found = [json.loads(line) for line in self.rest()]
        return [line for line in found if line["event"] == event]


@pytest.fixture(name="told")
def _told(capsys: pytest.CaptureFixture[str], logging_as_before: None) -> Told:
    return Told(capsys)


async def test_a_request_that_went_well_is_told_at_the_lowest_level_alone(told: Told) -> None:
    told.at("info")
    gateway = Gateway()
    gateway.hear(given.ticker("BTC_USDT", "1"))
    await gateway.get("/v1/ticker/BTC_USDT")
    assert told.lines() == []
    told.at("debug")
    for _ in range(2):
        await gateway.get("/v1/ticker/BTC_USDT?max_age=99999999999", x_request_id="abc-1")
    one, other = told.lines()
    assert one["route"] == other["route"] == "/v1/ticker/{symbol}"
    assert one["level"] == "debug"
    assert (one["method"], one["status"], one["request_id"]) == ("GET", 200, "abc-1")
    assert 0 < one["duration"] < 60
    assert one["client"] == "127.0.0.1"
    assert "max_age" not in json.dumps(one)


async def test_what_was_refused_or_failed_is_told_always(told: Told) -> None:
    told.at("info")
    gateway = Gateway(limit=0)
    await gateway.get("/v1/ticker/nope?ticket=abc")
    await gateway.get("/abc/abc?ticket=abc")
    await gateway.get("/v1/depth/BTC_USDT")
    lines = told.lines()
    assert [(one["level"], one["route"], one["status"]) for one in lines] == [
        ("info", "/v1/ticker/{symbol}", 404),
        ("info", "none", 404),
        ("warning", "/v1/depth/{symbol}", 503),
    ]
    assert "abc" not in json.dumps(lines)


async def test_a_client_that_went_before_its_answer_is_told_as_it_is_counted(told: Told) -> None:
    told.at("info")

    async def notices(_scope: Scope, _receive: Receive, _send: Send) -> None:
        """It needs not answer any more."""

    async def receive() -> Message:
        raise AssertionError

    async def send(_message: Message) -> None:
        raise AssertionError

    scope = {"type": "http", "path": "/", "method": "GET", "headers": []}
    await Guard(notices, allowed_hosts=("*",))(scope, receive, send)
    (line,) = told.lines()
    assert (line["level"], line["status"]) == ("warning", 500)


async def test_a_stream_is_told_at_its_end(told: Told) -> None:
    told.at("debug")
    gateway = Gateway()
    gateway.hear(given.ticker("BTC_USDT", "1"))
    response = await gateway.stream("/v1/stream?channels=ticker:*", x_request_id="abc-1")
    found = {line["event"]: line for line in map(json.loads, told.rest())}
    assert found["stream opened"]["request_id"] == found["stream ended"]["request_id"] == "abc-1"
    ended = found["stream ended"]
    assert (ended["level"], ended["reason"], ended["channels"]) == ("info", "lifetime", 1)
    assert ended["events"] == 1
    assert ended["bytes"] == len(response.content)


async def test_a_request_that_a_shutdown_does_not_wait_for_is_503() -> None:
    """uvicorn would answer it in plain text, and with 500."""
    asking = asyncio.Event()

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asking.set()
        await reader.read()
        writer.close()

    silent = await asyncio.start_server(take, "127.0.0.1", 0)
    scales = f"http://127.0.0.1:{silent.sockets[0].getsockname()[1]}"
    async with silent, httpx.AsyncClient(trust_env=False, timeout=15) as http:
        async with asyncio.TaskGroup() as tasks, staged(upstream_scales_url=scales) as stage:
            asked = tasks.create_task(http.get(f"{stage.url}/v1/markets/BTC_USDT/scales"))
            async with asyncio.timeout(LIMIT):
                await asking.wait()
        is_problem(asked.result(), 503, "not ready")
        assert asked.result().headers["retry-after"]
        assert asked.result().headers["x-content-type-options"] == "nosniff"
