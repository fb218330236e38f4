"""The exchange's lists, as it gives them."""

import pytest

from app.api.callers import NOBODY
from tests.api.harness import SCALES, Gateway, is_problem, market_row


async def test_markets_are_as_the_exchange_gives_them() -> None:
    gateway = Gateway()
    response = await gateway.get("/v1/markets")
    assert response.json() == {"data": list(gateway.markets.rows.values())}
    assert response.headers["content-type"] == "application/json"
    assert response.headers["cache-control"] == "no-cache"


async def test_one_market() -> None:
    response = await Gateway().get("/v1/markets/ETH_USDT")
    assert response.json() == {"data": market_row("ETH_USDT")}


async def test_scales_of_a_market() -> None:
    response = await Gateway().get("/v1/markets/BTC_USDT/scales")
    assert response.json() == {"data": SCALES}


@pytest.mark.parametrize("name", ["NOPE_USDT", "btc_usdt", "BTCUSDT", "*", "%00", "BTC_USDT:0"])
@pytest.mark.parametrize("path", ["/v1/markets/{}", "/v1/markets/{}/scales"])
async def test_an_unknown_market_is_404(path: str, name: str) -> None:
    is_problem(await Gateway().get(path.format(name)), 404, "unknown channel")


@pytest.mark.parametrize("path", ["", "/BTC_USDT", "/BTC_USDT/scales"])
async def test_an_exchange_that_is_away_with_nothing_cached_is_503(path: str) -> None:
    gateway = Gateway()
    gateway.markets.away = True
    response = await gateway.get(f"/v1/markets{path}")
    assert "secret" not in is_problem(response, 503, "not ready")
    assert response.headers["retry-after"] == "2"


@pytest.mark.parametrize("path", ["", "/BTC_USDT", "/nope", "/BTC_USDT/scales"])
async def test_anonymous_none_is_401(path: str) -> None:
    gateway = Gateway(anonymous=NOBODY)
    is_problem(await gateway.get(f"/v1/markets{path}"), 401, "not allowed")
    assert gateway.markets.asked == 0
