"""The one-shot actions of the control side: break a connection, send rubbish, move an order.

Rules: an action that cannot be done changes nothing and says why. No waiting here.
"""

from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from typing import Any, Protocol

import msgspec

from app.simulator import wire
from app.simulator.account import Refused
from app.simulator.client import Client
from app.simulator.exchange import Exchange
from app.simulator.listing import Market
from app.simulator.statements import Order
from app.simulator.truth import depth

OVERSIZED = 17 * 1024 * 1024  # bytes of an oversized frame


class ActionError(ValueError):
    """No such action, or parameters it cannot use."""


class Source(Protocol):
    """Where events come from; it can be held and let go."""

    ended: bool

    @property
    def playing(self) -> bool: ...
    def play(self) -> None: ...
    def pause(self) -> None: ...


class Actions:
    def __init__(self, exchange: Exchange, source: Source) -> None:
        self._exchange = exchange
        self._source = source
        self._known: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
            "cut": self._cut,
            "close": self._close,
            "stall": self._stall,
            "garbage": self._garbage,
            "cross": self._cross,
            "early_delta": self._early_delta,
            "emit": self._emit,
            "order": self._order,
            "fund": self._fund,
            "new_market": self._new_market,
            "play": self._play,
            "pause": self._pause,
            "forget": self._forget,
        }

    def act(self, action: str, given: dict[str, Any]) -> dict[str, Any]:
        """Set off an action; what it did. Raises `ActionError`."""
        do = self._known.get(action)
        if do is None:
            raise ActionError(f"no action {action!r}, expected one of {', '.join(self._known)}")
        try:
            return do(given)
        except (Refused, KeyError, TypeError, ValueError, InvalidOperation) as error:
            raise ActionError(f"{action}: {error!r}") from error

    def _chosen(self, given: dict[str, Any]) -> list[Client]:
        """One connection if it is named, else all."""
        if "connection" not in given:
            return list(self._exchange.clients.values())
        return [self._exchange.clients[given["connection"]]]

    def _cut(self, given: dict[str, Any]) -> dict[str, Any]:
        chosen = self._chosen(given)
        for client in chosen:
            client.line.abort()
        return {"connections": len(chosen)}

    def _close(self, given: dict[str, Any]) -> dict[str, Any]:
        chosen = self._chosen(given)
        for client in chosen:
            client.line.close(given.get("code", 1001), given.get("reason", "going away"))
        return {"connections": len(chosen)}

    def _stall(self, given: dict[str, Any]) -> dict[str, Any]:
        chosen = self._chosen(given)
        for client in chosen:
            client.line.stall()
        return {"connections": len(chosen)}

    def _garbage(self, given: dict[str, Any]) -> dict[str, Any]:
        payload, binary = self._rubbish(given)
        chosen = self._chosen(given)
        for client in chosen:
            client.line.write(wire.frame(payload, binary=binary))
        return {"connections": len(chosen)}

    def _rubbish(self, given: dict[str, Any]) -> tuple[bytes, bool]:
        match given.get("kind", "json"):
            case "json":
                return b'{"id":0,"method":"ticker_upd', False
            case "text":
                return b"hello, this is not json", False
            case "utf8":
                return b'{"id":0,"method":"\xff\xfe"}', False
            case "oversized":
                return b'"' + b"x" * int(given.get("size", OVERSIZED)) + b'"', False
            case "binary":
                return b"\x00\x01\x02\x03", True
            case "array":
                return b"[1,2,3]", False
            case "event_bad_number":
                return self._doubtful(str(given.get("number", "NaN")), given.get("quoted")), False
            case other:
                raise ActionError(f"no kind of garbage {other!r}")

    def _doubtful(self, literal: str, quoted: object) -> bytes:
        """A last price that is no amount, as a number or as a string."""
        symbol = next(iter(self._exchange.listing.markets))
        price = wire.encode(literal) if quoted else literal.encode()
        data = {"symbol": symbol, "timestamp": int(self._exchange.now())}
        return wire.event("lastprice", data | {"price": msgspec.Raw(price)}).text

    def _cross(self, given: dict[str, Any]) -> dict[str, Any]:
        """A bid at the best ask, told to everyone and not true."""
        subject = given["book"]
        book = self._exchange.truth.books[subject]
        asks, _ = book.best_first()
        bid = [asks[0][0], "1"]
        self._exchange.tell(depth(subject, book.timestamp, ([], [bid]), full=False))
        return {"bid": bid}

    def _early_delta(self, given: dict[str, Any]) -> dict[str, Any]:
        self._exchange.early_deltas = int(given.get("times", 1))
        return {"times": self._exchange.early_deltas}

    def _emit(self, given: dict[str, Any]) -> dict[str, Any]:
        """Any text to all sockets as it is; an event may also be made true first."""
        text = given["text"].encode() if "text" in given else wire.encode(given["message"])
        if given.get("publish"):
            self._exchange.publish(wire.read_event(text))
        else:
            self._exchange.shout(wire.frame(text))
        return {"bytes": len(text)}

    def _order(self, given: dict[str, Any]) -> dict[str, Any]:
        """One step of an order's life: create, update (a fill), finish (the rest), cancel."""
        exchange, now = self._exchange, self._exchange.now()
        account, step = exchange.account, given["do"]
        if step == "create":
            order = self._new_order(given, now)
            price = order.price or _amount(given["filled_price"])
            events = account.place(order, at=price)
            if order.price is None:  # matches at once
                events += account.fill(order.id, order.quantity, price, role="taker", now=now)
        elif step in ("update", "finish", "cancel"):
            order = account.find(given["id"])
            if step == "cancel":
                events = account.cancel(order.id, now)
            else:
                quantity = _amount(given["quantity"]) if step == "update" else order.left
                price = _amount(given.get("price") or order.price)
                role = given.get("role", "maker")
                events = account.fill(order.id, quantity, price, role=role, now=now)
        else:
            raise ActionError(f"order does create, update, finish or cancel, not {step!r}")
        for event in events:
            exchange.publish(event)
        return {"id": order.id, "state": order.state}

    def _new_order(self, given: dict[str, Any], now: float) -> Order:
        symbol, market = given["symbol"], given.get("type", "limit") == "market"
        if symbol not in self._exchange.listing.markets:
            raise ActionError(f"no market {symbol!r}")
        return self._exchange.account.new_order(
            symbol,
            given["direction"],
            _amount(given["quantity"]),
            price=None if market else _amount(given["price"]),
            now=now,
            client_oid=given.get("client_oid"),
        )

    def _fund(self, given: dict[str, Any]) -> dict[str, Any]:
        """Set money on the account without telling anyone."""
        self._exchange.account.fund(
            given["currency"], _amount(given["amount"]), self._exchange.now()
        )
        return {}

    def _new_market(self, given: dict[str, Any]) -> dict[str, Any]:
        """List a market; with a price it has a last price and books of one level a side."""
        scales = tuple(str(scale) for scale in given.get("scales", ("0.01", "0.1")))
        market = Market(given["symbol"], scales)
        exchange, second = self._exchange, int(self._exchange.now())
        exchange.listing.add(market)
        if "price" in given:
            price = _amount(given["price"])
            data = {"symbol": market.symbol, "timestamp": second, "price": wire.plain(price)}
            exchange.publish(wire.event("lastprice", data))
            for index, scale in enumerate(scales):
                sides = ([[wire.plain(price + Decimal(scale)), "1"]], [[wire.plain(price), "1"]])
                exchange.publish(depth(f"{market.symbol}:{index}", second, sides, full=True))
        return {"markets": list(exchange.listing.markets)}

    def _play(self, _: dict[str, Any]) -> dict[str, Any]:
        self._source.play()
        return {"playing": True}

    def _pause(self, _: dict[str, Any]) -> dict[str, Any]:
        self._source.pause()
        return {"playing": False}

    def _forget(self, _: dict[str, Any]) -> dict[str, Any]:
        """Start counting violations and closed connections anew."""
        self._exchange.violations.clear()
        self._exchange.gone.clear()
        return {}


def _amount(value: object) -> Decimal:
    """An amount given as text or number. Raises `ValueError`."""
    amount = Decimal(str(value))
    if not amount.is_finite() or amount <= 0:
        raise ValueError(f"amount is {value!r}, expected a positive number")
    return amount
