"""The exchange's frames: requests as text, frames read and checked. Pure.

Whatever comes in, ``read`` gives a value or raises ProtocolViolation. Amounts become decimal text
with the exchange's own digits; no float ever touches them.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from typing import Any, Literal, NamedTuple

import msgspec

from app.domain.channel import Channel, Kind, depth
from app.domain.event import Data
from app.errors import MalformedRequest, ProtocolViolation

Verb = Literal["subscribe", "unsubscribe"]

_MAX_DIGITS = 64
_MAX_TIME = 2**53
_UNSIGNED = re.compile(r"[0-9]+(?:\.[0-9]+)?")
_SIGNED = re.compile(r"-?[0-9]+(?:\.[0-9]+)?")
_PLAIN = r"[0-9]{1,31}+(?:\.[0-9]{1,31}+)?"
_PLAIN_LEVELS = re.compile(rf"(?:{_PLAIN},{_PLAIN};)*+")
_EXPONENT = re.compile(r"-?[0-9]+(?:\.[0-9]+)?[eE][+-]?(?:[0-9]|[0-2][0-9]|30)")
_ID = re.compile(r"[0-9]{1,15}")


class Update(NamedTuple):
    """An event of one channel, not yet put into a run."""

    channel: Channel
    data: Data
    time: int | None
    full: bool


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer to a request; ``error`` is its code and message, None on success."""

    id: int | None
    error: tuple[int | None, str] | None


@dataclass(frozen=True, slots=True)
class Pong:
    """The answer to a ping; any of them proves life."""


@dataclass(frozen=True, slots=True)
class Foreign:
    """An event of a kind that the gateway does not know: of no concern."""


class BadEvent(ProtocolViolation):
    """An event that cannot be used; ``scope`` is the channel, or the whole kind, it was lost on."""

    def __init__(self, reason: str, scope: Channel) -> None:
        super().__init__(reason)
        self.scope = scope


class _Unusable(Exception):
    """A value is not what the protocol says; never leaves this room."""


class _Unfollowable(Exception):
    """A market whose name no channel can have: nobody waits for its events."""


def request(id_: int, method: str, params: Iterable[str] = ()) -> str:
    """A request frame (protocol 2.1)."""
    body = {"id": id_, "method": method, "params": list(params)}
    return msgspec.json.encode(body).decode()


def ping(id_: int) -> str:
    """The request that keeps the socket alive (protocol 2.3)."""
    return request(id_, "ping")


def method(kind: Kind, verb: Verb) -> str:
    """The name of a request of ``kind``."""
    return f"{kind}_{verb}"


def params(channels: Iterable[Channel]) -> list[str]:
    """Channels of one kind as request parameters: ``["all"]`` for a wildcard (protocol 3)."""
    subjects = sorted(channel.subject for channel in channels)
    return ["all"] if "*" in subjects else subjects


def plain(number: str) -> str:
    """``number`` without an exponent (``3.547e-05`` → ``0.00003547``); other text as it is."""
    if len(number) <= _MAX_DIGITS and _EXPONENT.fullmatch(number):
        return format(Decimal(number), "f")
    return number


_decode = msgspec.json.Decoder(float_hook=plain).decode


def load(text: str | bytes) -> Any:
    """JSON with every fractional number as its text; raises ProtocolViolation."""
    try:
        return _decode(text)
    except (ValueError, RecursionError):
        raise ProtocolViolation("frame is not json") from None


def read(frame: str | bytes) -> Update | Reply | Pong | Foreign:
    """Tell what a frame is, events first (protocol 2.6), and check it.

    Raises BadEvent where one channel's event is unusable, else ProtocolViolation. The texts of
    both are from a closed set and never quote the frame.
    """
    message = load(frame)
    if type(message) is not dict:
        raise ProtocolViolation("frame is not an object")
    name = message.get("method")
    if type(name) is str:
        if name.endswith("_update"):
            return _event(name, message.get("data"))
        if name == "pong":
            return Pong()
    return _reply(message)


def _reply(message: dict[str, Any]) -> Reply:
    if "id" not in message:
        raise ProtocolViolation("reply has no id")
    id_ = message["id"]
    if type(id_) is str and _ID.fullmatch(id_):
        id_ = int(id_)
    if id_ is not None and type(id_) is not int:
        raise ProtocolViolation("reply id is not a number")
    return Reply(id_, _failure(message))


def _failure(message: dict[str, Any]) -> tuple[int | None, str] | None:
    error = message.get("error")
    if error is None:
        data = message.get("data")
        status = data.get("status", "success") if type(data) is dict else "success"
        return None if status == "success" else (None, "status is not success")
    if type(error) is not dict:
        return None, "unspecified"
    code, text = error.get("code"), error.get("message")
    return code if type(code) is int else None, text if type(text) is str else "unspecified"


def _event(name: str, data: Any) -> Update | Foreign:
    entry = _READERS.get(name)
    if entry is None:
        return Foreign()
    kind, reader = entry
    if type(data) is not dict:
        raise BadEvent("event data is not an object", Channel(kind, "*"))
    info = data.get("info") if kind in _WITH_INFO else data
    if type(info) is not dict:
        raise BadEvent("event info is not an object", Channel(kind, "*"))
    try:
        channel = _channel(kind, info)
    except _Unfollowable:
        return Foreign()
    except _Unusable as unusable:
        raise BadEvent(str(unusable), Channel(kind, "*")) from None
    try:
        _shallow(info, _CONTAINERS)
        return reader(channel, data, info)
    except _Unusable as unusable:
        raise BadEvent(str(unusable), channel) from None


_DEEPEST = 8
_NESTS = frozenset({dict, list})
_CONTAINERS = frozenset({"asks", "bids", "trades"})
_WITH_INFO = frozenset({Kind.ORDER, Kind.BALANCE, Kind.DEAL})


def _channel(kind: Kind, info: Data) -> Channel:
    subject = info.get("currencyCode" if kind is Kind.BALANCE else "symbol")
    scale = info.get("scale_index") if kind is Kind.DEPTH else None
    if type(subject) is not str:
        raise _Unusable("subject is not text")
    if kind is Kind.DEPTH and type(scale) is not int:
        raise _Unusable("scale_index is not an integer")
    return _named(kind, subject, scale)


@lru_cache(maxsize=65536)
def _named(kind: Kind, subject: str, scale: int | None) -> Channel:
    channel = Channel(kind, subject) if scale is None else depth(subject, scale)
    try:
        if subject != "*":
            return Channel.parse(str(channel))
    except MalformedRequest:
        pass  # told below
    raise _Unfollowable


def amount(value: Any) -> str:
    """A decimal number, text or JSON, as plain decimal text; raises ProtocolViolation."""
    try:
        return _amount(value, _SIGNED)
    except _Unusable as unusable:
        raise ProtocolViolation(str(unusable)) from None


def _amount(value: Any, shape: re.Pattern[str]) -> str:
    if type(value) is int:
        value = str(value)
    elif type(value) is not str:
        raise _Unusable("amount is not a number")
    if len(value) <= _MAX_DIGITS and shape.fullmatch(value):
        return str(value)
    value = plain(value)
    if len(value) <= _MAX_DIGITS and shape.fullmatch(value):
        return str(value)
    raise _Unusable("amount is not a decimal")


def _amounts(fields: Data, names: Iterable[str], shape: re.Pattern[str] = _UNSIGNED) -> None:
    for name in names:
        if name not in fields:
            raise _Unusable("amount is missing")
        fields[name] = _amount(fields[name], shape)


def _optional_amounts(fields: Data, names: Iterable[str], shape: re.Pattern[str]) -> None:
    for name in names:
        if fields.get(name) is not None:
            fields[name] = _amount(fields[name], shape)


def _time(fields: Data, name: str) -> int:
    value = fields.get(name)
    if type(value) is not int or not 0 <= value < _MAX_TIME:
        raise _Unusable("time is not in unix seconds")
    return value


def _shallow(fields: Data, known: frozenset[str] = frozenset()) -> None:
    """Refuse fields nobody knows that nest deeper than what encodes them again may bear."""
    for name, value in fields.items():
        if type(value) in _NESTS and name not in known:
            _measure(value, _DEEPEST)


def _measure(value: Any, left: int) -> None:
    if left == 0:
        raise _Unusable("too deeply nested")
    for inner in value.values() if type(value) is dict else value:
        if type(inner) in _NESTS:
            _measure(inner, left - 1)


def _text(fields: Data, name: str, allowed: frozenset[str] | None = None) -> None:
    value = fields.get(name)
    if type(value) is not str or (allowed is not None and value not in allowed):
        raise _Unusable(f"{name} is not what the protocol allows")


def _lastprice(channel: Channel, data: Data, _info: Data) -> Update:
    _amounts(data, ("price",))
    return Update(channel, data, _time(data, "timestamp"), full=False)


def _ticker(channel: Channel, data: Data, _info: Data) -> Update:
    _amounts(data, ("price",))
    _optional_amounts(data, ("open", "high", "low", "volume", "quote_volume"), _UNSIGNED)
    _optional_amounts(data, ("price_change",), _SIGNED)
    return Update(channel, data, _time(data, "timestamp"), full=False)


_DIRECTIONS = frozenset({"buy", "sell"})


def _trade(channel: Channel, data: Data, _info: Data) -> Update:
    trades = data.get("trades")
    if type(trades) is not list:
        raise _Unusable("trades is not an array")
    for row in trades:
        if type(row) is not dict:
            raise _Unusable("trade is not an object")
        _shallow(row)
        _amounts(row, ("price", "quantity"))
        _time(row, "timestamp")
        _text(row, "direction", _DIRECTIONS)
    return Update(channel, data, _time(data, "timestamp"), full=False)


def _depth(channel: Channel, data: Data, _info: Data) -> Update:
    full = data.get("full_reload")
    if type(full) is not bool:
        raise _Unusable("full_reload is not a boolean")
    for side in ("asks", "bids"):
        levels = data.get(side)
        if levels is not None:
            _levels(levels)
        else:
            data.pop(side, None)
    return Update(channel, data, _time(data, "timestamp"), full)


def _levels(levels: Any) -> None:
    if type(levels) is not list:
        raise _Unusable("side is not an array")
    for level in levels:
        if type(level) is not list or len(level) != 2:
            raise _Unusable("level is not a pair")
    if not _plain_levels(levels):
        for level in levels:
            level[0] = _amount(level[0], _UNSIGNED)
            level[1] = _amount(level[1], _UNSIGNED)


def _plain_levels(levels: list[list[Any]]) -> bool:
    """Whether all amounts are decimal text already: one look at all is a third of one at each.

    As many semicolons as levels: none was in an amount.
    """
    try:
        text = ";".join([*map(",".join, levels), ""])
    except TypeError:
        return False
    return text.count(";") == len(levels) and _PLAIN_LEVELS.fullmatch(text) is not None


_ORDER_TYPES = frozenset({"created", "updated", "finished"})
_ORDER_AMOUNTS = ("price", "quantity", "value", "filledQuantity", "filledValue")
_ORDER_TIMES = ("createTs", "updateTs", "finishTs")


def _order(channel: Channel, data: Data, info: Data) -> Update:
    _text(data, "type", _ORDER_TYPES)
    _text(info, "id")
    _optional_amounts(info, _ORDER_AMOUNTS, _UNSIGNED)
    if data["type"] == "finished" and info.get("finishTs") is info.get("state") is None:
        raise _Unusable("finished order says nothing of its end")
    times = [_time(info, name) for name in _ORDER_TIMES if info.get(name) is not None]
    return Update(channel, data, max(times, default=None), full=False)


def _balance(channel: Channel, data: Data, info: Data) -> Update:
    _amounts(info, ("newBalance",), _SIGNED)
    _optional_amounts(info, ("amount", "oldBalance"), _SIGNED)
    return Update(channel, data, None, full=False)


def _deal(channel: Channel, data: Data, info: Data) -> Update:
    _text(info, "transactionId")
    _optional_amounts(info, ("filledPrice", "filledQuantity", "filledValue", "fee"), _SIGNED)
    return Update(channel, data, _time(info, "committedAt"), full=False)


_Reader = Callable[[Channel, Data, Data], Update]

_READERS: dict[str, tuple[Kind, _Reader]] = {
    f"{kind}_update": (kind, reader)
    for kind, reader in {
        Kind.LASTPRICE: _lastprice,
        Kind.TICKER: _ticker,
        Kind.TRADE: _trade,
        Kind.DEPTH: _depth,
        Kind.ORDER: _order,
        Kind.BALANCE: _balance,
        Kind.DEAL: _deal,
    }.items()
}
