import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest

from app.errors import TokenRefused, UpstreamUnavailable
from app.upstream.rest import BookPage, Credentials, Rest, RestOptions

KEY = "fixture-api-key"
WHO = Credentials("user-1", KEY)
Handler = Callable[[httpx.Request], httpx.Response]


def rest(handler: Handler, credentials: Credentials | None = WHO, **options: Any) -> Rest:
    client = httpx.AsyncClient(transport=httpx.MockTransport(handler))
    hosts = RestOptions("https://api", "https://markets", "https://scales", **options)
    return Rest(client, hosts, credentials)


def answering(body: Any, status: int = 200) -> Rest:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return rest(lambda _request: httpx.Response(status, content=content))


def test_the_signature_is_the_exchanges() -> None:
    body = b'{"market":"TRX_USDT","quantity":"20"}'
    assert Credentials("u", KEY).sign(body) == "7a25ed96c474b99df63c8caad23459bc"
    assert Credentials("u", KEY).sign() == "7192c86862fa543f3d1e1f0c10d0d494"


def test_credentials_do_not_show() -> None:
    assert KEY not in repr(WHO)
    assert "user-1" not in repr(WHO)


async def test_a_token_is_asked_for_with_the_signature_of_nothing() -> None:
    seen: list[httpx.Request] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, json={"token": "ab" * 32})

    assert await rest(handler).token() == "ab" * 32
    (request,) = seen
    assert str(request.url) == "https://api/v2/user-api/exchange/account/web-socket/token"
    assert request.method == "GET"
    assert request.headers["userId"] == "user-1"
    assert request.headers["sign"] == hashlib.md5(KEY.encode()).hexdigest()  # noqa: S324  protocol


@pytest.mark.parametrize("wrapper", ["result", "data"])
async def test_a_wrapped_token_is_found(wrapper: str) -> None:
    assert await answering({"state": 0, wrapper: {"token": "abc"}}).token() == "abc"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"token": "abc"}, 401),
        ({"message": "not found"}, 404),
        (b"oops", 500),
        ({"token": "abc"}, 302),
        (b"<html>", 200),
        ([], 200),
        ({"token": None}, 200),
        ({"token": 5}, 200),
        ({"token": ""}, 200),
        ({"token": "a\nb"}, 200),
        ({"token": "ab c"}, 200),
        ({"data": []}, 200),
    ],
)
async def test_anything_else_is_a_refusal_that_quotes_nothing(body: Any, status: int) -> None:
    with pytest.raises(TokenRefused) as caught:
        await answering(body, status).token()
    assert "abc" not in str(caught.value)
    assert caught.value.__cause__ is None


async def test_without_credentials_there_is_no_token() -> None:
    with pytest.raises(TokenRefused, match="user id"):
        await rest(lambda _request: httpx.Response(200), None).token()


async def test_a_redirect_is_not_followed() -> None:
    asked: list[str] = []

    def handler(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.host)
        return httpx.Response(307, headers={"location": "https://elsewhere/"})

    with pytest.raises(TokenRefused):
        await rest(handler).token()
    assert asked == ["api"]


async def test_a_host_that_is_away_is_told_without_the_request() -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError(f"cannot reach {request.headers}", request=request)

    for call in (rest(handler).markets(), rest(handler).order_book("A_B", 0)):
        with pytest.raises(UpstreamUnavailable, match="ConnectError") as caught:
            await call
        assert caught.value.__suppress_context__
    with pytest.raises(TokenRefused) as refused:
        await rest(handler).token()
    assert WHO.sign() not in str(refused.value)


class Endless(httpx.AsyncByteStream):
    async def __aiter__(self) -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 1000


async def test_an_answer_has_a_size_limit() -> None:
    endless = rest(lambda _request: httpx.Response(200, stream=Endless()), max_bytes=5000)
    with pytest.raises(UpstreamUnavailable, match="too large"):
        await endless.markets()


async def test_an_answer_has_a_time_limit() -> None:
    async def handler(_request: httpx.Request) -> httpx.Response:
        await asyncio.Event().wait()
        raise AssertionError("never")

    client = httpx.AsyncClient(transport=httpx.MockTransport(handler))
    slow = Rest(client, RestOptions("https://a", "https://b", "https://c", timeout=0.01), WHO)
    with pytest.raises(UpstreamUnavailable, match="no answer within"):
        await slow.markets()


@pytest.mark.parametrize("wrapper", ["result", "data"])
async def test_markets_come_as_the_exchange_gives_them(wrapper: str) -> None:
    rows = [{"id": "1", "symbol": "BTC_USDT", "basePrec": "8"}]
    assert await answering({wrapper: rows}).markets() == rows
    assert await answering(rows).markets() == rows


@pytest.mark.parametrize("body", [b"x", {"result": None}, {"result": {}}, [], [1], [{"id": 1}], 5])
async def test_an_unusable_list_is_unavailable(body: Any) -> None:
    with pytest.raises(UpstreamUnavailable):
        await answering(body).markets()


async def test_scales_are_asked_for_by_symbol() -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        assert str(request.url) == "https://scales/api/v2/symbol-scales?symbol=A_B"
        return httpx.Response(200, json={"status": "success", "data": [{"scale": "1", "index": 0}]})

    assert await rest(handler).scales("A_B") == [{"scale": "1", "index": 0}]


async def test_a_market_that_the_scales_host_does_not_know_has_none() -> None:
    assert await answering({"message": "no"}, 404).scales("X_Y") == []
    with pytest.raises(UpstreamUnavailable, match="status 500"):
        await answering({}, 500).scales("X_Y")


@pytest.mark.parametrize("wrapper", ["result", "data"])
async def test_an_order_book_keeps_its_digits(wrapper: str) -> None:
    page = {
        "timestamp": "1.5",
        "asks": [{"price": "2.10", "quantity": 3e-05}],
        "bids": [{"price": "2.00", "quantity": "1"}],
    }
    book = await answering({wrapper: page}).order_book("A_B", 2)
    assert book == BookPage([("2.10", "0.00003")], [("2.00", "1")])


@pytest.mark.parametrize(
    "page",
    [
        *([], {"asks": []}, {"asks": [], "bids": [["1", "2"]]}),
        *({"asks": [{"price": p}], "bids": []} for p in "1x"),
        {"asks": [{"price": "x", "quantity": "1"}], "bids": []},
    ],
)
async def test_an_unusable_order_book_is_unavailable(page: Any) -> None:
    with pytest.raises(UpstreamUnavailable):
        await answering({"result": page}).order_book("A_B", 0)


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("orders", "/v2/user-api/exchange/orders"),
        ("history", "/v2/user-api/exchange/orders/history"),
    ],
)
async def test_orders_are_asked_for_page_by_page_and_signed(name: str, path: str) -> None:
    seen: list[httpx.Request] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, json={"result": [{"id": "a", "price": "1.50"}]})

    ask = getattr(rest(handler), name)
    assert await ask(offset=90, limit=100) == [{"id": "a", "price": "1.50"}]
    assert await ask(order_id="a") == [{"id": "a", "price": "1.50"}]
    assert [str(request.url) for request in seen] == [
        f"https://api{path}?limit=100&offset=90",
        f"https://api{path}?order_id=a",
    ]
    for request in seen:
        assert request.method == "GET"
        assert request.headers["userId"] == "user-1"
        assert request.headers["sign"] == hashlib.md5(KEY.encode()).hexdigest()  # noqa: S324  protocol


async def test_balances_are_signed() -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        assert str(request.url) == "https://api/v2/user-api/exchange/account/balance"
        assert request.headers["userId"] == "user-1"
        return httpx.Response(200, json={"data": [{"ticker": "BTC", "available": 1.5}]})

    assert await rest(handler).balances() == [{"ticker": "BTC", "available": "1.5"}]


@pytest.mark.parametrize("body", [{"result": {}}, {"result": [17]}, {"result": [{}]}, b"{", {}])
async def test_an_unusable_account_is_unavailable(body: Any) -> None:
    with pytest.raises(UpstreamUnavailable):
        await answering(body).orders()
    with pytest.raises(UpstreamUnavailable):
        await answering(body).balances()


async def test_the_account_wants_credentials() -> None:
    with pytest.raises(UpstreamUnavailable, match="credentials"):
        await rest(lambda _request: httpx.Response(200), None).orders()


async def test_no_trouble_with_the_account_tells_the_signature() -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError(f"to {request.headers}")

    with pytest.raises(UpstreamUnavailable) as caught:
        await rest(handler).balances()
    assert WHO.sign() not in repr(caught.value)
    assert caught.value.__cause__ is None
