"""The limit on requests, before every route."""

import pytest

from app.api.rate import Rate
from tests import given
from tests.api.harness import Gateway, is_problem

TICKER = "/v1/ticker/BTC_USDT"


@pytest.fixture(name="gateway")
async def _gateway() -> Gateway:
    gateway = Gateway(rate="3/minute")
    gateway.clock = 60_000_000.5
    gateway.hear(given.ticker("BTC_USDT", "1"))
    return gateway


async def test_one_too_many_is_429_and_says_when_to_come_again(gateway: Gateway) -> None:
    for left in (2, 1, 0):
        answer = await gateway.get(TICKER)
        assert answer.status_code == 200
        assert answer.headers["ratelimit-policy"] == '"default";q=3;w=60'
        assert answer.headers["ratelimit"] == f'"default";r={left};t=60'
    refused = await gateway.get(TICKER)
    is_problem(refused, 429, "too many requests")
    assert refused.headers["retry-after"] == "80"  # of three a third must be out of reach
    assert refused.headers["ratelimit"] == '"default";r=0;t=80'
    assert refused.headers["ratelimit-policy"] == '"default";q=3;w=60'
    gateway.clock += 80
    assert (await gateway.get(TICKER)).status_code == 200


async def test_it_counts_what_is_refused_otherwise_too_and_other_methods(gateway: Gateway) -> None:
    assert (await gateway.get("/v1/ticker/nope")).headers["ratelimit"] == '"default";r=2;t=60'
    assert (await gateway.get("/nothing")).headers["ratelimit"] == '"default";r=1;t=60'
    async with gateway.client() as client:
        assert (await client.post(TICKER)).status_code == 405
    assert (await gateway.get("/v1/status")).status_code == 429


async def test_probes_and_streams_are_not_counted(gateway: Gateway) -> None:
    for _ in range(5):
        for path in ("/livez", "/readyz", "/metrics"):
            answer = await gateway.get(path)
            assert answer.status_code != 429
            assert "ratelimit" not in answer.headers
    for _ in range(5):
        assert (await gateway.stream("/v1/stream?channels=ticker:BTC_USDT")).status_code == 200
    assert (await gateway.get(TICKER)).headers["ratelimit"].startswith('"default";r=2;')


async def test_refusals_are_counted_by_reason_and_as_requests(gateway: Gateway) -> None:
    for _ in range(5):
        await gateway.get(TICKER)
    told = (await gateway.get("/metrics")).text
    assert 'sluice_http_refused_total{reason="rate"} 2.0' in told
    assert 'sluice_http_requests_total{route="none",status="429"} 2.0' in told


async def test_a_target_that_was_asked_for_before_is_not_let_past(gateway: Gateway) -> None:
    """What is answered ahead of the routing is behind the limit all the same."""
    for status in (200, 200, 200, 429, 429):
        assert (await gateway.get(TICKER)).status_code == status


async def test_the_quota_in_the_policy_is_the_setting() -> None:
    answer = await Gateway(rate="250/second").get("/v1/markets")
    assert answer.headers["ratelimit-policy"] == '"default";q=250;w=1'
    assert Rate.parse("250/second") == Rate(250, 1)
