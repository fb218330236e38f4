"""The exchange's REST answers (protocol 4), under the REST side's names and types. PURE."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from app.simulator import wire
from app.simulator.exchange import Exchange
from app.simulator.listing import ulid
from app.simulator.statements import Order, active_row, finished_row, fixed
from app.simulator.tokens import signed
from app.simulator.truth import Trade

MARKET = "/v1/exchange/market"
USER = "/v2/user-api/exchange"
TOKEN_PATH = f"{USER}/account/web-socket/token"
SCALES = "/api/v2/symbol-scales"
BROKEN = b'{"result":[{"id":"01HSB'  # cut off in the middle


@dataclass(frozen=True, slots=True)
class Asked:
    """One HTTP request; header names are lower case."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Answer:
    """`delay` in seconds before it goes out."""

    status: int
    body: bytes
    delay: float = 0.0


class Trouble(Exception):
    """Ends in an error answer."""

    def __init__(self, status: int, body: dict[str, Any]) -> None:
        super().__init__(status)
        self.answer = Answer(status, wire.encode(body))


def answer(exchange: Exchange, asked: Asked) -> Answer:
    """What the exchange says to a REST request."""
    try:
        if asked.path == TOKEN_PATH:
            return _token(exchange, asked)
        return _through_faults(exchange, asked)
    except Trouble as trouble:
        return trouble.answer


def _through_faults(exchange: Exchange, asked: Asked) -> Answer:
    switches = exchange.switches
    if switches.rest == "500":
        raise _failed()
    if switches.rest == "malformed":
        return Answer(200, BROKEN)
    body = wire.encode(_route(exchange, asked))
    return Answer(200, body, switches.rest_delay if switches.rest == "slow" else 0.0)


def _route(exchange: Exchange, asked: Asked) -> dict[str, Any]:
    path, _, tail = asked.path.rpartition("/")
    reader = _READERS.get(asked.path)
    if reader is None and path in (f"{MARKET}/order-book", f"{MARKET}/trades"):
        reader = _book if path.endswith("order-book") else _trades
    if reader is None:
        raise Trouble(404, {"state": 1, "message": "not found"})
    if asked.method != "GET":
        raise Trouble(405, {"state": 1, "message": "method not allowed"})
    return reader(exchange, asked, tail)


def _token(exchange: Exchange, asked: Asked) -> Answer:
    mode = exchange.switches.token
    if mode in ("401", "404"):
        raise Trouble(int(mode), {"state": 1, "message": "user not found"})
    if mode == "500":
        raise _failed()
    if mode == "malformed":
        return Answer(200, b'{"token": 17}')
    _authorise(exchange, asked)
    token: dict[str, Any] = {"token": exchange.token()}
    body = wire.encode({"result": token} if mode == "wrapped" else token)
    return Answer(200, body, exchange.switches.rest_delay if mode == "slow" else 0.0)


def _authorise(exchange: Exchange, asked: Asked) -> None:
    options = exchange.options
    if asked.headers.get("userid") != options.user_id:
        exchange.blame(None, "unknown user", asked.path)
        raise Trouble(404, {"state": 1, "message": "user not found"})
    if not signed(asked.headers.get("sign", ""), options.api_key):
        exchange.blame(None, "wrong sign", asked.path)
        raise Trouble(401, {"state": 1, "message": "sign is not valid"})


def _failed() -> Trouble:
    return Trouble(500, {"state": 1, "message": "server error"})


def _wrapped(exchange: Exchange, rows: Any, *, market: bool = False) -> dict[str, Any]:
    """`{"result"}` or `{"data"}`; the docs print a state beside the market calls' result."""
    if exchange.switches.wrapper == "data":
        return {"data": rows}
    return {"state": 0, "result": rows} if market else {"result": rows}


def _invalid(prop: str, value: object, message: str) -> Trouble:
    error = {"property": prop, "value": value, "message": message}
    return Trouble(422, {"code": 0, "message": "validation failed", "errors": [error]})


def _known(exchange: Exchange, symbol: str) -> str:
    if symbol not in exchange.listing.markets:
        raise Trouble(404, {"state": 1, "message": f"market {symbol[:100]!r} not found"})
    return symbol


def _full_markets(exchange: Exchange, _: Asked, __: str) -> dict[str, Any]:
    rows = [market.row(names=True) for market in exchange.listing.markets.values()]
    return _wrapped(exchange, rows)


def _user_markets(exchange: Exchange, _: Asked, __: str) -> dict[str, Any]:
    rows = [market.row(names=False) for market in exchange.listing.markets.values()]
    return _wrapped(exchange, rows)


def _scales(exchange: Exchange, asked: Asked, _: str) -> dict[str, Any]:
    symbol = _known(exchange, asked.query.get("symbol", ""))
    rows = exchange.listing.markets[symbol].scale_rows()
    return {"status": "success", "message": "success", "data": rows}


def _price(exchange: Exchange, asked: Asked, _: str) -> dict[str, Any]:
    symbol = asked.query.get("symbol", "")
    known = exchange.truth.lastprices.get(symbol)
    if symbol not in exchange.listing.markets or known is None:
        raise _invalid("symbol", symbol, "market not found")
    return {"price": known["price"]}


def _book(exchange: Exchange, asked: Asked, symbol: str) -> dict[str, Any]:
    level = _whole(asked.query, "level", 0, 0, 5)
    market = exchange.listing.markets[_known(exchange, symbol)]
    book = exchange.truth.books.get(f"{symbol}:{min(level, len(market.scales) - 1)}")
    asks, bids = book.best_first() if book else ([], [])
    rows: dict[str, Any] = {"timestamp": f"{exchange.now():.3f}"}
    for name, side in (("bids", bids), ("asks", asks)):
        rows[name] = [{"price": row[0], "quantity": row[1]} for row in side]
    return _wrapped(exchange, rows, market=True)


def _tickers(exchange: Exchange, _: Asked, __: str) -> dict[str, Any]:
    rows = [
        {
            "currency_pair": symbol,
            "last_price": ticker["price"],
            "base_volume": ticker["volume"],
            "quote_volume": ticker["quote_volume"],
        }
        for symbol, ticker in exchange.truth.tickers.items()
    ]
    return _wrapped(exchange, rows, market=True)


def _trades(exchange: Exchange, _: Asked, symbol: str) -> dict[str, Any]:
    kept = exchange.truth.trades.get(_known(exchange, symbol), ())
    newest = [_trade_row(trade) for trade in reversed(kept)]
    return _wrapped(exchange, newest, market=True)


def _trade_row(trade: Trade) -> dict[str, Any]:
    """The volume names are swapped, as on the exchange (protocol 4.4)."""
    money = Decimal(trade.price) * Decimal(trade.quantity)
    return {
        "trade_id": ulid(trade.timestamp * 1000, trade.number),
        "price": trade.price,
        "base_volume": wire.plain(money),
        "quote_volume": trade.quantity,
        "timestamp": trade.timestamp,
        "type": trade.direction,
    }


def _assets(exchange: Exchange, _: Asked, __: str) -> dict[str, Any]:
    rows = [
        {
            "currency_code": currency,
            "network_code": "tron" if currency in ("USDT", "TRX") else currency.lower(),
            "can_withdraw": True,
            "can_deposit": True,
            "min_withdraw": "0.00010000",
            "max_withdraw": "1000000.00000000",
            "min_deposit": "0.00010000",
            "max_deposit": None,
        }
        for currency in exchange.listing.currencies
    ]
    return {"state": 0, "result": rows}


def _balances(exchange: Exchange, asked: Asked, _: str) -> dict[str, Any]:
    _authorise(exchange, asked)
    ticker = asked.query.get("ticker")
    rows = [
        {"ticker": currency, "available": fixed(balance.available), "held": fixed(balance.held)}
        for currency, balance in exchange.account.balances.items()
        if ticker in (None, currency)
    ]
    return _wrapped(exchange, rows)


def _active(exchange: Exchange, asked: Asked, _: str) -> dict[str, Any]:
    _authorise(exchange, asked)
    chosen = _page(exchange.account.active.values(), asked.query)
    return _wrapped(exchange, [active_row(order) for order in chosen])


def _history(exchange: Exchange, asked: Asked, _: str) -> dict[str, Any]:
    _authorise(exchange, asked)
    chosen = _page(exchange.account.finished, asked.query)
    return _wrapped(exchange, [finished_row(order) for order in chosen])


def _page(orders: Any, query: Mapping[str, str]) -> list[Order]:
    """Newest first, filtered and cut as the query says (protocol 4.3)."""
    limit = _whole(query, "limit", 50, 1, 100)
    offset = _whole(query, "offset", 0, 0, 10_000)
    direction = query.get("direction")
    if direction not in (None, "buy", "sell"):
        raise _invalid("direction", direction, "direction must be buy or sell")
    filters = {"market": "symbol", "direction": "direction", "order_id": "id"}
    filters["client_order_id"] = "client_oid"
    wanted = {field: query[name] for name, field in filters.items() if name in query}
    chosen = [
        order
        for order in reversed(list(orders))
        if all(getattr(order, field) == value for field, value in wanted.items())
    ]
    return chosen[offset : offset + limit]


def _whole(query: Mapping[str, str], name: str, default: int, low: int, high: int) -> int:
    text = query.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and low <= int(text) <= high):
        raise _invalid(name, text, f"{name} must be between {low} and {high}")
    return int(text)


_Reader = Callable[[Exchange, Asked, str], dict[str, Any]]
_READERS: dict[str, _Reader] = {
    MARKET: _full_markets,
    f"{MARKET}/tickers": _tickers,
    f"{MARKET}/assets": _assets,
    f"{USER}/markets": _user_markets,
    f"{USER}/markets/price": _price,
    f"{USER}/orders": _active,
    f"{USER}/orders/history": _history,
    f"{USER}/account/balance": _balances,
    SCALES: _scales,
}
