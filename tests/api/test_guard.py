"""What stands before every route."""

import pytest
from starlette.types import Message, Receive, Scope, Send

from app.api.guard import Guard
from tests import given
from tests.api.harness import Gateway, is_problem

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
