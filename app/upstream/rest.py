"""The exchange's REST hosts: socket tokens, lists, order books, the account (protocol 4).

Every answer has a time limit and a size limit; redirects are not followed. Neither the signature
nor a token is ever part of an error.
"""

import asyncio
import base64
import hashlib
import re
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import httpx

from app.domain.event import Data
from app.errors import ProtocolViolation, TokenRefused, UpstreamUnavailable
from app.upstream import wire

_TOKEN = re.compile(r"[\x21-\x7e]{1,512}")
_TOKEN_PATH = "/v2/user-api/exchange/account/web-socket/token"  # noqa: S105  a path, not a token
_ORDERS_PATH = "/v2/user-api/exchange/orders"
_HISTORY_PATH = "/v2/user-api/exchange/orders/history"
_BALANCE_PATH = "/v2/user-api/exchange/account/balance"


@dataclass(frozen=True, slots=True)
class Credentials:
    """The user API key of the exchange account (protocol 4.1)."""

    user_id: str = field(repr=False)
    api_key: str = field(repr=False)

    def sign(self, body: bytes = b"") -> str:
        """``hex(md5(base64(body) + key))``; for a GET a constant, as secret as the key."""
        text = base64.b64encode(body) + self.api_key.encode()
        return hashlib.md5(text, usedforsecurity=False).hexdigest()


@dataclass(frozen=True, slots=True)
class RestOptions:
    """The three hosts, without a trailing slash or path, and the limits of one answer."""

    api_url: str
    markets_url: str
    scales_url: str
    timeout: float = 10.0
    max_bytes: int = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class BookPage:
    """An order book as REST tells it: (price, quantity), best first as the exchange sorts it."""

    asks: list[tuple[str, str]]
    bids: list[tuple[str, str]]


class Rest:
    """The calls the gateway makes; without ``credentials`` only the public ones work."""

    def __init__(
        self, client: httpx.AsyncClient, options: RestOptions, credentials: Credentials | None
    ) -> None:
        self._client = client
        self._options = options
        self._credentials = credentials

    async def token(self) -> str:
        """A new one-use socket token; raises TokenRefused."""
        headers = self._signed()
        if headers is None:
            raise TokenRefused("no credentials: a socket token needs a user id and an api key")
        try:
            status, body = await self._get(self._options.api_url + _TOKEN_PATH, headers=headers)
            answer = wire.load(body) if status == httpx.codes.OK else None
        except UpstreamUnavailable as trouble:
            raise TokenRefused(f"token endpoint: {trouble}") from None
        except ProtocolViolation:
            raise TokenRefused("token endpoint answered something other than json") from None
        if status != httpx.codes.OK:
            raise TokenRefused(f"token endpoint answered with status {status}")
        token = _token(answer)
        if token is None:
            raise TokenRefused("token endpoint answered without a usable token")
        return token

    async def markets(self) -> list[Data]:
        """The market list as the exchange gives it; raises UpstreamUnavailable, if empty too."""
        url = f"{self._options.markets_url}/v1/exchange/market"
        rows = _rows(await self._json(url), "symbol")
        if not rows:
            raise UpstreamUnavailable("the list is empty")
        return rows

    async def scales(self, symbol: str) -> list[Data]:
        """The depth scales of a market; empty for one it does not know."""
        url = f"{self._options.scales_url}/api/v2/symbol-scales"
        return _rows(await self._json(url, params={"symbol": symbol}, absent=[]), "index")

    async def order_book(self, symbol: str, level: int) -> BookPage:
        """The order book of a market; raises UpstreamUnavailable."""
        path = f"/v1/exchange/market/order-book/{quote(symbol, safe='')}"
        page = await self._json(self._options.api_url + path, params={"level": str(level)})
        if type(page) is not dict:
            raise UpstreamUnavailable("order book answer is not an object")
        return BookPage(_side(page.get("asks")), _side(page.get("bids")))

    async def orders(
        self, *, offset: int = 0, limit: int = 100, order_id: str | None = None
    ) -> list[Data]:
        """Open orders of the account, newest first, or the one; raises UpstreamUnavailable."""
        return await self._private_rows(_ORDERS_PATH, "id", _page(offset, limit, order_id))

    async def history(
        self, *, offset: int = 0, limit: int = 100, order_id: str | None = None
    ) -> list[Data]:
        """Finished orders of the account, newest first, or the one; raises UpstreamUnavailable."""
        return await self._private_rows(_HISTORY_PATH, "id", _page(offset, limit, order_id))

    async def balances(self) -> list[Data]:
        """The balances of the account; raises UpstreamUnavailable."""
        return await self._private_rows(_BALANCE_PATH, "ticker", {})

    async def _private_rows(self, path: str, key: str, params: dict[str, str]) -> list[Data]:
        headers = self._signed()
        if headers is None:
            raise UpstreamUnavailable("no credentials: the account needs a user id and an api key")
        url = self._options.api_url + path
        return _rows(await self._json(url, params=params, headers=headers), key)

    def _signed(self) -> dict[str, str] | None:
        """The headers of a GET that is signed; None without credentials (protocol 4.1)."""
        if self._credentials is None:
            return None
        return {"userId": self._credentials.user_id, "sign": self._credentials.sign()}

    async def _json(
        self,
        url: str,
        *,
        params: dict[str, str] | None = None,
        headers: dict[str, str] | None = None,
        absent: Any = None,
    ) -> Any:
        """The payload under ``result`` or ``data``, whichever comes first (protocol 4.3).

        ``absent`` stands for an answer that says there is no such thing, if it is not None.
        """
        status, body = await self._get(url, params=params, headers=headers)
        if absent is not None and status in _NO_SUCH_THING:
            return absent
        if status != httpx.codes.OK:
            raise UpstreamUnavailable(f"status {status} instead of 200")
        try:
            answer = wire.load(body)
        except ProtocolViolation:
            raise UpstreamUnavailable("answer is not json") from None
        return _payload(answer)

    async def _get(
        self,
        url: str,
        *,
        params: dict[str, str] | None = None,
        headers: dict[str, str] | None = None,
    ) -> tuple[int, bytes]:
        try:
            async with (
                asyncio.timeout(self._options.timeout),
                self._client.stream(
                    "GET",
                    url,
                    params=params,
                    headers=headers,
                    follow_redirects=False,
                    timeout=None,  # the client's own, shorter one would win over ours
                ) as response,
            ):
                body = bytearray()
                async for chunk in response.aiter_bytes():
                    body += chunk
                    if len(body) > self._options.max_bytes:
                        raise UpstreamUnavailable("answer is too large")
                return response.status_code, bytes(body)
        except TimeoutError:
            raise UpstreamUnavailable(f"no answer within {self._options.timeout:g} s") from None
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as error:
            # without its cause: a request in a traceback carries the signature
            raise UpstreamUnavailable(f"host not reachable: {type(error).__name__}") from None


_NO_SUCH_THING = frozenset({400, 404, 422})


def _payload(answer: Any) -> Any:
    if type(answer) is dict:
        for wrapper in ("result", "data"):
            if answer.get(wrapper) is not None:
                return answer[wrapper]
    return answer


def _page(offset: int, limit: int, order_id: str | None) -> dict[str, str]:
    """The query of an order list; an order's id is its own page."""
    if order_id is not None:
        return {"order_id": order_id}
    return {"limit": str(limit), "offset": str(offset)}


def _token(answer: Any) -> str | None:
    """The token at the top level or in a wrapper (protocol 4.2), if it can stand in a URL."""
    if type(answer) is not dict:
        return None
    for holder in (answer, answer.get("result"), answer.get("data")):
        token = holder.get("token") if type(holder) is dict else None
        if type(token) is str and _TOKEN.fullmatch(token):
            return token
    return None


def _rows(payload: Any, key: str) -> list[Data]:
    if type(payload) is not list or not all(type(row) is dict and key in row for row in payload):
        raise UpstreamUnavailable(f"answer is not a list of objects with {key}")
    return payload


def _side(levels: Any) -> list[tuple[str, str]]:
    if type(levels) is not list:
        raise UpstreamUnavailable("order book side is not a list")
    try:
        return [(wire.amount(level["price"]), wire.amount(level["quantity"])) for level in levels]
    except (ProtocolViolation, KeyError, TypeError):
        raise UpstreamUnavailable("order book level is not a price and a quantity") from None
