"""The same question again: answered as the first time, without the routing."""

import json
from collections.abc import Callable

import httpx
import pytest
from starlette.types import Receive, Scope, Send

from app.api.callers import NOBODY
from app.api.fastpath import LONGEST
from app.api.state import Reader
from app.domain.channel import Channel
from app.main import create_app
from app.settings import Settings
from tests import given
from tests.api.harness import Gateway, is_problem, live, lost, price
from tests.oracle.sse import read

PRICE = "/v1/lastprice/BTC_USDT"
STREAM = "/v1/stream?channels=lastprice:BTC_USDT"


class Routed(Gateway):
    """A gateway that tells which requests were routed."""

    def __init__(self, *, most: int = 100) -> None:
        super().__init__(most=most)
        self.routed: list[str] = []
        routing = self.app.router.middleware_stack

        async def told(scope: Scope, receive: Receive, send: Send) -> None:
            self.routed.append(scope["path"])
            await routing(scope, receive, send)

        self.app.router.middleware_stack = told

    async def again(self, path: str, **headers: str) -> httpx.Response:
        """The answer to a path that was asked for before; only the latter is routed."""
        await self.get(path)
        self.routed.clear()
        return await self.get(path, **headers)


def known() -> Routed:
    gateway = Routed()
    gateway.hear(
        price("BTC_USDT", "1", age=7),
        given.ticker("BTC_USDT", "1"),
        given.trades("BTC_USDT", [given.row(str(number)) for number in range(80)]),
        given.book("BTC_USDT", asks=[("3", "1"), ("2", "1")], bids=[("1", "5")], full=True),
    )
    gateway.report(lastprice=live(), ticker=live(), trade=live(), depth_BTC_USDT=lost(40))
    return gateway


def timeless(response: httpx.Response) -> tuple[int, object, object]:
    """An answer without its age."""
    body = {**json.loads(response.content), "age": None}
    return response.status_code, lasting(response), body


def lasting(response: httpx.Response) -> list[tuple[bytes, bytes]]:
    """The header fields that two answers share."""
    passing = {b"age", b"content-length", b"ratelimit", b"x-request-id"}
    return [pair for pair in response.headers.raw if pair[0] not in passing]


@pytest.mark.parametrize(
    "path",
    [
        PRICE,
        "/v1/ticker/BTC_USDT",
        "/v1/lastprice/BTC%5FUSDT?max_age=60",
        "/v1/trades/BTC_USDT",
        "/v1/trades/BTC_USDT?limit=2&limit=3",
        "/v1/trades/BTC_USDT?unheard=of",
        "/v1/depth/BTC_USDT",
        "/v1/depth/BTC_USDT?scale=0&limit=1",
    ],
)
async def test_is_answered_as_before(path: str) -> None:
    gateway = known()
    first = await gateway.get(path)
    again = await gateway.again(path)
    assert timeless(again) == timeless(first)
    assert again.status_code == 200
    assert gateway.routed == []


async def test_tells_what_holds_now() -> None:
    gateway = known()
    await gateway.get(PRICE)
    gateway.hear(price("BTC_USDT", "2"))
    gateway.report(lastprice=lost(40))
    response = await gateway.again(PRICE)
    assert gateway.routed == []
    assert response.json()["data"]["price"] == "2"
    assert response.json()["stale"] is True
    assert response.headers["etag"] == '"7-5"'


async def test_is_304_where_the_position_is_named() -> None:
    gateway = known()
    response = await gateway.again(PRICE, if_none_match='"7-1"')
    assert gateway.routed == []
    assert (response.status_code, response.content) == (304, b"")
    assert response.headers["age"] == "7"
    assert response.headers["sluice-stale"] == "false"


def counted(gateway: Gateway, route: str) -> float | None:
    labels = {"route": route, "status": "200"}
    return gateway.metrics.registry.get_sample_value("sluice_http_requests_total", labels)


async def test_is_counted_by_its_route() -> None:
    gateway = known()
    await gateway.again(PRICE)
    assert counted(gateway, "/v1/lastprice/{symbol}") == 2


async def test_keeps_the_channel_followed() -> None:
    gateway = Routed()
    gateway.hear(given.book("BTC_USDT", asks=[("3", "1")], full=True))
    await gateway.get("/v1/depth/BTC_USDT")
    gateway.wishes._until.clear()
    await gateway.again("/v1/depth/BTC_USDT")
    assert gateway.routed == []
    assert gateway.wishes.own(0) == {Channel.parse("depth:BTC_USDT:0")}


def forget(gateway: Gateway) -> None:
    gateway.forget("lastprice:BTC_USDT")
    gateway.markets.rows.clear()


def refuse(gateway: Gateway) -> None:
    gateway.callers.anonymous = NOBODY


def age(gateway: Gateway) -> None:
    gateway.hear(price("BTC_USDT", "1", age=90))


@pytest.mark.parametrize(
    ("change", "status", "title"),
    [(forget, 404, "unknown channel"), (refuse, 401, "not allowed"), (age, 503, "not ready")],
)
async def test_a_refusal_is_the_routes(
    change: Callable[[Gateway], None], status: int, title: str
) -> None:
    gateway = known()
    path = f"{PRICE}?max_age=60"
    assert (await gateway.get(path)).status_code == 200
    change(gateway)
    is_problem(await gateway.again(path), status, title)
    assert gateway.routed == [PRICE]


async def test_a_bug_in_it_is_told_like_any_other(monkeypatch: pytest.MonkeyPatch) -> None:
    gateway = known()
    await gateway.get(PRICE)

    def broken(*_: object) -> None:
        raise ValueError("a secret detail")

    monkeypatch.setattr(Reader, "at_once", broken)
    async with gateway.client(raising=False) as client:
        response = await client.get(PRICE)
    assert "secret" not in is_problem(response, 500, "internal server error")
    assert response.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("method", ["HEAD", "POST", "OPTIONS"])
async def test_other_methods_are_refused_as_before(method: str) -> None:
    gateway = known()
    await gateway.get(PRICE)
    async with gateway.client() as client:
        assert (await client.request(method, PRICE)).status_code == 405


@pytest.mark.parametrize(
    "path",
    [
        "/v1/ticker",
        "/v1/state?channels=ticker:BTC_USDT",
        f"{PRICE}?after=6-1",
        f"{PRICE}?after=7-1",
        f"{PRICE}?x={'x' * LONGEST}",
        f"{PRICE}?max_age=1",
        "/v1/lastprice/ETH_USDT?max_age=soon",
        "/v1/markets/BTC_USDT",
    ],
)
async def test_everything_else_is_routed(path: str) -> None:
    gateway = known()
    await gateway.again(path)
    assert len(gateway.routed) == 1


async def test_a_stream_is_opened_as_before() -> None:
    gateway = known()
    first = await gateway.stream(STREAM)
    gateway.routed.clear()
    again = await gateway.stream(STREAM)
    assert gateway.routed == []
    assert lasting(again) == lasting(first)
    assert read([again.content])[:-1] == read([first.content])[:-1]
    assert counted(gateway, "/v1/stream") == 2


async def test_a_stream_goes_on_from_its_own_position() -> None:
    gateway = known()
    seen = gateway.hear(price("BTC_USDT", "2"), price("BTC_USDT", "3")).envelopes[0].position
    await gateway.stream(STREAM)
    gateway.routed.clear()
    again = await gateway.stream(STREAM, last_event_id=str(seen))
    assert gateway.routed == []
    _, missed, _ = read([again.content])
    assert missed.json()["type"] == "update"
    assert missed.json()["previous"] == str(seen)


async def test_one_more_stream_than_allowed_is_told_to_come_back() -> None:
    gateway = known()
    await gateway.stream(STREAM)
    for _ in range(10):
        gateway.admission.enter("127.0.0.1")
    gateway.routed.clear()
    is_problem(await gateway.stream(STREAM), 503, "too many streams")
    told = await gateway.stream(STREAM, accept="text/event-stream")
    [farewell] = read([told.content])
    assert farewell.json()["reason"] == "overload"
    assert len(gateway.routed) == 2


async def test_a_stream_of_what_is_not_heard_is_judged_anew() -> None:
    gateway = known()
    await gateway.stream(STREAM)
    forget(gateway)
    is_problem(await gateway.stream(STREAM), 404, "unknown channel")


async def test_a_stream_of_what_one_may_not_read_any_more_is_refused() -> None:
    gateway = known()
    await gateway.stream(STREAM)
    refuse(gateway)
    is_problem(await gateway.stream(STREAM), 401, "not allowed")


async def test_a_stream_whose_target_names_a_position_is_routed() -> None:
    gateway = known()
    target = f"{STREAM}&after=7-1"
    await gateway.stream(target)
    gateway.routed.clear()
    await gateway.stream(target)
    assert len(gateway.routed) == 1


async def test_what_is_remembered_is_bounded() -> None:
    gateway = Routed(most=2)
    gateway.hear(price("BTC_USDT", "1"))
    queries = ("", "?max_age=50", "?max_age=60")
    for query in queries:
        await gateway.get(PRICE + query)
    gateway.routed.clear()
    for query in queries[::-1]:
        await gateway.get(PRICE + query)
    assert 1 <= len(gateway.routed) < 3


async def test_other_origins_are_told_as_before() -> None:
    origin = "https://a.example"
    settings = Settings.model_construct(allowed_hosts=("*",), cors_origins=(origin,))
    gateway = known()
    gateway._stack = create_app(settings)
    for _ in range(2):
        response = await gateway.get(PRICE, origin=origin)
        assert response.headers["access-control-allow-origin"] == origin


async def test_a_foreign_host_is_refused_as_before() -> None:
    gateway = known()
    gateway._stack = create_app(Settings.model_construct(allowed_hosts=("gateway",)))
    assert (await gateway.get(PRICE)).status_code == 200
    assert (await gateway.get(PRICE, host="evil.example")).status_code == 421
