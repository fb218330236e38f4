"""REST answers, as any HTTP client sees them."""

from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import httpx
import pytest

from app.simulator import Options, Simulator
from app.simulator.rest import TOKEN_PATH
from app.simulator.wire import read_event
from tests.simulator.talk import SIGNED

MARKET = "/v1/exchange/market"
USER = "/v2/user-api/exchange"
TRADE = (
    b'{"id":0,"method":"trade_update","data":{"symbol":"BTC_USDT","timestamp":1750953177,"trades":['
    b'{"price":100.5,"quantity":9e-05,"timestamp":1750953177,"direction":"buy"},'
    b'{"price":101,"quantity":2,"timestamp":1750953178,"direction":"sell"}]},"error":null}'
)


@pytest.fixture(name="simulator")
async def _simulator() -> AsyncIterator[Simulator]:
    async with Simulator(Options(port=0, rate=0)) as simulator:
        yield simulator


@pytest.fixture(name="http")
async def _http(simulator: Simulator) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=simulator.url, headers=SIGNED) as http:
        yield http


async def get(http: httpx.AsyncClient, path: str, **query: Any) -> Any:
    answer = await http.get(path, params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_market_lists(http: httpx.AsyncClient) -> None:
    full, user = await get(http, MARKET), await get(http, f"{USER}/markets")
    assert [row["symbol"] for row in full["result"]][:2] == ["BTC_USDT", "ETH_USDT"]
    assert set(full["result"][0]) - set(user["result"][0]) == {
        "baseCurrencyFullName",
        "quoteCurrencyFullName",
    }
    assert all(isinstance(value, str) for value in full["result"][0].values())


async def test_scales(http: httpx.AsyncClient) -> None:
    answer = await get(http, "/api/v2/symbol-scales", symbol="BTC_USDT")
    assert answer == {
        "status": "success",
        "message": "success",
        "data": [
            {"scale": "0.01", "index": 0},
            {"scale": "0.1", "index": 1},
            {"scale": "1", "index": 2},
        ],
    }


async def test_an_order_book_is_of_objects(http: httpx.AsyncClient, simulator: Simulator) -> None:
    book = (await get(http, f"{MARKET}/order-book/BTC_USDT", level=1))["result"]
    asks, bids = simulator.exchange.truth.books["BTC_USDT:1"].best_first()
    assert isinstance(book["timestamp"], str)
    for name, side in (("asks", asks), ("bids", bids)):
        assert book[name] == [{"price": price, "quantity": size} for price, size in side]


async def test_tickers_have_their_own_names(http: httpx.AsyncClient) -> None:
    rows = (await get(http, f"{MARKET}/tickers"))["result"]
    assert list(rows[0]) == ["currency_pair", "last_price", "base_volume", "quote_volume"]


async def test_trades_swap_the_volume_names(http: httpx.AsyncClient, simulator: Simulator) -> None:
    simulator.exchange.publish(read_event(TRADE))
    newest, oldest = (await get(http, f"{MARKET}/trades/BTC_USDT"))["result"]
    assert (newest["type"], newest["timestamp"]) == ("sell", 1750953178)
    assert oldest | {"trade_id": ""} == {
        "trade_id": "",
        "price": "100.5",
        "base_volume": "0.009045",
        "quote_volume": "0.00009",
        "timestamp": 1750953177,
        "type": "buy",
    }
    assert len(oldest["trade_id"]) == 26


async def test_assets_and_price(http: httpx.AsyncClient, simulator: Simulator) -> None:
    rows = (await get(http, f"{MARKET}/assets"))["result"]
    assert {"currency_code", "network_code", "can_withdraw", "max_deposit"} < set(rows[0])
    await http.post("/control/new_market", json={"symbol": "NEW_USDT", "price": "1.25"})
    assert await get(http, f"{USER}/markets/price", symbol="NEW_USDT") == {"price": "1.25"}
    assert "NEW_USDT:1" in simulator.exchange.truth.books


@pytest.mark.parametrize(
    ("path", "query", "status"),
    [
        (f"{USER}/markets/price", {"symbol": "NO_SUCH"}, 422),
        (f"{MARKET}/order-book/BTC_USDT", {"level": "6"}, 422),
        (f"{USER}/orders", {"limit": "101"}, 422),
        (f"{USER}/orders", {"offset": "-1"}, 422),
        (f"{USER}/orders", {"direction": "up"}, 422),
        (f"{MARKET}/order-book/NO_SUCH", {}, 404),
        ("/api/v2/symbol-scales", {"symbol": "NO_SUCH"}, 404),
        ("/no/such/path", {}, 404),
    ],
)
async def test_errors(
    http: httpx.AsyncClient, path: str, query: dict[str, str], status: int
) -> None:
    answer = await http.get(path, params=query)
    assert answer.status_code == status
    body = answer.json()
    if status == 422:
        assert (body["code"], list(body["errors"][0])) == (0, ["property", "value", "message"])
    else:
        assert body["state"] == 1


async def test_only_get_is_known(http: httpx.AsyncClient) -> None:
    assert (await http.post(MARKET)).status_code == 405


async def test_the_wrapper_can_be_data(http: httpx.AsyncClient, simulator: Simulator) -> None:
    assert list(await get(http, f"{MARKET}/tickers")) == ["state", "result"]
    simulator.control.set(wrapper="data")
    for path in (MARKET, f"{MARKET}/tickers", f"{USER}/account/balance"):
        assert list(await get(http, path)) == ["data"]


@pytest.mark.parametrize("path", ["/orders", "/orders/history", "/account/balance"])
async def test_private_paths_want_a_signature(
    http: httpx.AsyncClient, simulator: Simulator, path: str
) -> None:
    assert (await http.get(USER + path, headers={"sign": "0"})).status_code == 401
    assert (await http.get(USER + path, headers={"userId": "nobody"})).status_code == 404
    assert [v["what"] for v in simulator.exchange.violations] == ["wrong sign", "unknown user"]


async def test_balances_and_orders_agree(http: httpx.AsyncClient, simulator: Simulator) -> None:
    act = simulator.control.act
    order = {"do": "create", "symbol": "TRX_USDT", "direction": "sell", "quantity": "50"}
    made = [act("order", **order, price=f"0.2{n}", client_oid=f"c{n}")["id"] for n in range(3)]
    [trx] = (await get(http, f"{USER}/account/balance", ticker="TRX"))["result"]
    assert Decimal(trx["held"]) == 150
    rows = (await get(http, f"{USER}/orders", limit=2, offset=1))["result"]
    assert [row["id"] for row in rows] == [made[1], made[0]]
    [row] = (await get(http, f"{USER}/orders", client_order_id="c2"))["result"]
    assert row["id"] == made[2]
    act("order", do="finish", id=made[0])
    act("order", do="cancel", id=made[1])
    history = (await get(http, f"{USER}/orders/history", market="TRX_USDT"))["result"]
    assert [(r["id"], r["state"]) for r in history] == [
        (made[1], "cancelled"),
        (made[0], "completed"),
    ]
    [active] = (await get(http, f"{USER}/orders", direction="sell"))["result"]
    assert active["id"] == made[2]
    assert (await get(http, f"{USER}/orders", order_id="01NO"))["result"] == []


@pytest.mark.parametrize(("mode", "status"), [("401", 401), ("404", 404), ("500", 500)])
async def test_tokens_may_be_refused(
    http: httpx.AsyncClient, simulator: Simulator, mode: str, status: int
) -> None:
    simulator.control.set(token=mode)
    assert (await http.get(TOKEN_PATH)).status_code == status


async def test_tokens_may_be_odd(http: httpx.AsyncClient, simulator: Simulator) -> None:
    simulator.control.set(token="malformed")
    assert (await get(http, TOKEN_PATH))["token"] == 17
    simulator.control.set(token="wrapped")
    assert len((await get(http, TOKEN_PATH))["result"]["token"]) == 64
    simulator.control.set(token="slow", rest_delay=0.01)
    assert len((await get(http, TOKEN_PATH))["token"]) == 64


async def test_rest_may_fail(http: httpx.AsyncClient, simulator: Simulator) -> None:
    simulator.control.set(rest="500")
    assert (await http.get(MARKET)).status_code == 500
    simulator.control.set(rest="malformed")
    with pytest.raises(ValueError, match="Unterminated"):
        (await http.get(MARKET)).json()
    simulator.control.set(rest="slow", rest_delay=30)
    with pytest.raises(httpx.ReadTimeout):
        await http.get(MARKET, timeout=0.05)
