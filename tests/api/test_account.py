"""The account over REST, for a caller who may read it."""

import json
import time
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from app.api import shapes
from app.domain.channel import Channel
from app.domain.event import Event
from app.rights.rights import Rights
from tests import given
from tests.api.harness import Gateway, is_problem, live, lost

ANSWERS = {model.__name__: model for model in shapes.ANSWERS}


OWNER = Rights(frozenset({"market", "account"}), holder="token:owner")


def everything() -> Gateway:
    """A gateway whose callers may read everything."""
    return Gateway(anonymous=OWNER)


def order(market: str, id_: str, change: str = "created", *, time: int = 100) -> Event:
    """An order as the exchange tells it."""
    more: dict[str, Any] = {
        "orderType": "limit",
        "direction": "buy",
        "value": "50",
        "filledValue": "0",
        "clientOid": None,
    }
    if change == "finished":
        more |= {"state": "completed", "internalState": "filled"}
    return given.order(market, id_, change, time=time, **more)


@pytest.fixture(name="gateway")
async def _gateway() -> Gateway:
    gateway = everything()
    hear(gateway)
    return gateway


def hear(gateway: Gateway) -> None:
    """The account of these tests."""
    gateway.hear(
        order("BTC_USDT", "01A"),
        order("BTC_USDT", "01C", "finished"),
        order("ETH_USDT", "01B"),
        given.deal("BTC_USDT", "01D", time=100),
        given.deal("ETH_USDT", "01E", time=101),
        given.balance("USDT", "1", "2.50"),
        given.balance("BTC", "3", "4"),
    )
    gateway.report(order=live(), balance=live(), deal=live())


def ids(response: Any) -> list[str]:
    assert response.status_code == 200, response.text
    return [one.get("id", one.get("transactionId")) for one in response.json()["data"]]


class TestOrders:
    async def test_are_listed_over_all_markets_newest_first(self, gateway: Gateway) -> None:
        assert ids(await gateway.get("/v1/orders")) == ["01C", "01B", "01A"]

    @pytest.mark.parametrize(
        ("query", "found"),
        [
            ("symbol=BTC_USDT", ["01C", "01A"]),
            ("state=open", ["01B", "01A"]),
            ("state=finished", ["01C"]),
            ("symbol=ETH_USDT&state=finished", []),
        ],
    )
    async def test_are_chosen(self, gateway: Gateway, query: str, found: list[str]) -> None:
        assert ids(await gateway.get(f"/v1/orders?{query}")) == found

    async def test_say_how_old_and_stale_they_are_and_where(self, gateway: Gateway) -> None:
        response = await gateway.get("/v1/orders")
        body = response.json()
        assert set(body) == {"data", "position", "age", "stale"}
        assert body["position"] == "7-3"
        assert body["stale"] is False
        assert time.time() - 105 < body["age"] + 0.1
        assert response.headers["etag"] == '"7-3"'
        assert response.headers["cache-control"] == "private, no-store"
        assert response.headers["sluice-stale"] == "false"

    async def test_are_not_sent_again(self, gateway: Gateway) -> None:
        response = await gateway.get("/v1/orders", if_none_match='W/"7-3"')
        assert (response.status_code, response.content) == (304, b"")
        assert response.headers["cache-control"] == "private, no-store"

    async def test_that_are_too_old_are_refused(self, gateway: Gateway) -> None:
        response = await gateway.get("/v1/orders?max_age=5", if_none_match='"7-3"')
        is_problem(response, 503, "not ready")
        assert "no-store" in response.headers["cache-control"]

    async def test_that_rest_could_not_confirm_are_stale(self, gateway: Gateway) -> None:
        gateway.report(order=lost(60))
        assert (await gateway.get("/v1/orders")).json()["stale"] is True

    async def test_of_an_account_that_has_none_are_none(self) -> None:
        gateway = everything()
        gateway.report(order=live())
        response = await gateway.get("/v1/orders")
        assert response.json() == {"data": [], "position": "0-0", "age": 0, "stale": False}
        assert response.headers["cache-control"] == "private, no-store"

    @pytest.mark.looptime
    async def test_that_nobody_has_read_yet_are_waited_for(self) -> None:
        detail = is_problem(await everything().get("/v1/orders"), 503, "not ready")
        assert "order:*" in detail

    async def test_follow_the_account(self, gateway: Gateway) -> None:
        await gateway.get("/v1/orders?symbol=BTC_USDT")
        assert Channel.parse("order:BTC_USDT") in gateway.wishes.wanted(0.0)

    @pytest.mark.parametrize(
        ("path", "status"),
        [("symbol=btc_usdt", 404), ("symbol=NOPE_USDT", 404), ("state=gone", 422)],
    )
    async def test_that_cannot_be_are_refused(
        self, gateway: Gateway, path: str, status: int
    ) -> None:
        assert (await gateway.get(f"/v1/orders?{path}")).status_code == status


class TestOneOrder:
    async def test_is_found_by_its_id(self, gateway: Gateway) -> None:
        response = await gateway.get("/v1/orders/01C")
        assert set(response.json()) == {"data"}
        assert response.json()["data"]["id"] == "01C"
        assert response.headers["etag"] == '"7-2"'
        assert response.headers["cache-control"] == "private, no-store"

    async def test_is_404_if_it_is_not_known(self, gateway: Gateway) -> None:
        is_problem(await gateway.get("/v1/orders/01X"), 404, "unknown channel")

    async def test_of_a_market_that_one_may_not_see_is_as_unknown_as_any(self) -> None:
        gateway = Gateway(anonymous=replace(OWNER, patterns=("order:BTC_*",)))
        hear(gateway)
        assert (await gateway.get("/v1/orders/01C")).status_code == 200
        is_problem(await gateway.get("/v1/orders/01B"), 404, "unknown channel")


class TestBalances:
    async def test_are_envelopes(self, gateway: Gateway) -> None:
        response = await gateway.get("/v1/balances")
        found = response.json()["data"]
        assert [one["channel"] for one in found] == ["balance:BTC", "balance:USDT"]
        assert all({"age", "stale", "position"} <= one.keys() for one in found)
        assert response.headers["cache-control"] == "private, no-store"

    async def test_of_an_account_that_has_none_are_none(self) -> None:
        gateway = everything()
        gateway.report(balance=live())
        assert (await gateway.get("/v1/balances")).json() == {"data": []}

    async def test_one_is_an_envelope(self, gateway: Gateway) -> None:
        body = (await gateway.get("/v1/balances/USDT")).json()
        assert (body["channel"], body["type"]) == ("balance:USDT", "snapshot")
        assert body["data"]["info"]["newBalance"] == "2.50"

    @pytest.mark.looptime
    async def test_one_can_be_waited_for(self, gateway: Gateway) -> None:
        response = await gateway.get("/v1/balances/USDT?after=7-6&wait=1")
        assert response.status_code == 304

    @pytest.mark.parametrize("currency", ["usdt", "*", "%20"])
    async def test_of_no_currency_is_404(self, gateway: Gateway, currency: str) -> None:
        response = await gateway.get(f"/v1/balances/{currency}")
        is_problem(response, 404, "unknown channel")

    async def test_are_told_with_what_rest_said(self, gateway: Gateway) -> None:
        data = {"info": {"currencyCode": "USDT"}, "available": "1", "held": "2"}
        told = given.balance("USDT", "1", "2")
        gateway.hear(msgspec.structs.replace(told, data=data, full=True, origin="reconcile"))
        body = json.loads((await gateway.get("/v1/balances/USDT")).content)
        assert body["data"] == data
        assert body["origin"] == "reconcile"


class TestDeals:
    async def test_are_listed_over_all_markets_newest_first(self, gateway: Gateway) -> None:
        response = await gateway.get("/v1/deals")
        assert ids(response) == ["01E", "01D"]
        assert response.json()["position"] == "7-5"
        assert response.headers["etag"] == '"7-5"'

    async def test_are_chosen(self, gateway: Gateway) -> None:
        assert ids(await gateway.get("/v1/deals?symbol=BTC_USDT")) == ["01D"]


async def test_several_kinds_are_told_at_once_and_to_nobody_else(gateway: Gateway) -> None:
    response = await gateway.get("/v1/state?channels=order:*,balance:USDT")
    assert [one["channel"] for one in response.json()["data"]] == [
        "order:BTC_USDT",
        "order:ETH_USDT",
        "balance:USDT",
    ]
    assert response.headers["cache-control"] == "private, no-store"


async def test_a_stream_tells_it_in_the_same_envelopes(gateway: Gateway) -> None:
    response = await gateway.stream("/v1/stream?channels=order:BTC_USDT,balance:*,deal:ETH_USDT")
    kinds = [line for line in response.text.splitlines() if line.startswith("event: ")]
    assert kinds[1:-1] == [
        "event: order",
        "event: deal",
        "event: balance",
        "event: balance",
    ]
    assert '"channel":"order:BTC_USDT","type":"snapshot"' in response.text
    assert "ETH_USDT" not in response.text.split("event: deal")[0]
