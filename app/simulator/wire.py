"""The exchange's wire format (protocol 2, 3): requests read, answers and events written.

Rules: digits leave as they came, numbers are decimals; PURE.
"""

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import msgspec
from websockets.frames import Frame, Opcode

KINDS = ("lastprice", "depth", "ticker", "trade", "order", "balance", "deal")
PRIVATE = frozenset({"order", "balance", "deal"})

INVALID_FORMAT = 1
OTHER_ERROR = 2

_decode = msgspec.json.Decoder(float_hook=Decimal).decode
encode = msgspec.json.Encoder(decimal_format="number").encode


class NotJson(ValueError):
    """The client's text is no JSON at all: the connection ends (protocol 1)."""


class Malformed(ValueError):
    """JSON, but no request: answered with code 1 under `id`."""

    def __init__(self, message: str, request_id: int) -> None:
        super().__init__(message)
        self.id = request_id


@dataclass(frozen=True, slots=True)
class Request:
    id: int
    method: str
    params: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Event:
    """One update as the exchange sends it: `text` is what goes out, `data` what it says."""

    kind: str
    subject: str
    text: bytes
    data: dict[str, Any]

    @property
    def channel(self) -> str:
        return f"{self.kind}:{self.subject}"


def decode(text: bytes | str) -> Any:
    """JSON with decimals for its numbers. Raises `NotJson`."""
    try:
        return _decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise NotJson(f"invalid json: {error}") from error


def read_request(text: bytes) -> Request:
    """What the client asks (protocol 2.1). Raises `NotJson` or `Malformed`."""
    message = decode(text)
    if not isinstance(message, dict):
        raise Malformed("expected an object", 0)
    request_id, method, params = (message.get(name) for name in ("id", "method", "params"))
    if not isinstance(request_id, int) or isinstance(request_id, bool):
        raise Malformed("id must be an integer", 0)
    if not isinstance(method, str):
        raise Malformed("method must be a string", request_id)
    if not isinstance(params, list) or not all(isinstance(param, str) for param in params):
        raise Malformed("params must be an array of strings", request_id)
    return Request(request_id, method, tuple(params))


def pong(request: Request) -> bytes:
    return encode({"id": request.id, "method": "pong", "data": None, "error": None})


def ack(request: Request) -> bytes:
    """The answer to a subscribe or unsubscribe; `method` is missing where protocol 2.5 says so."""
    answer: dict[str, object] = {"id": request.id}
    if request.method.endswith("_subscribe") and request.method != "deal_subscribe":
        answer["method"] = request.method
    return encode(answer | {"data": {"status": "success"}, "error": None})


def failure(request_id: int, code: int, message: str) -> bytes:
    return encode({"id": request_id, "data": None, "error": {"message": message, "code": code}})


def event(kind: str, data: dict[str, Any], event_id: int | str = 0) -> Event:
    """An event made here; a number whose literal matters is a `msgspec.Raw`."""
    method = f"{kind}_update"
    text = encode({"id": event_id, "method": method, "data": data, "error": None})
    return Event(kind, subject_of(kind, data), text, data)


def read_event(text: bytes) -> Event:
    """An event from its text, kept as it is. Raises `ValueError` where it is none."""
    message = decode(text)
    method = message.get("method") if isinstance(message, dict) else None
    kind = method.removesuffix("_update") if isinstance(method, str) else ""
    if kind not in KINDS or not isinstance(message.get("data"), dict):
        raise ValueError(f"expected an update of a known kind, saw method {method!r}")
    return Event(kind, subject_of(kind, message["data"]), text, message["data"])


def subject_of(kind: str, data: dict[str, Any]) -> str:
    """What an event is about: a market, market:scale or a currency. Raises `ValueError`."""
    try:
        match kind:
            case "depth":
                return f"{data['symbol']}:{data['scale_index']}"
            case "balance":
                return str(data["info"]["currencyCode"])
            case "order" | "deal":
                return str(data["info"]["symbol"])
            case _:
                return str(data["symbol"])
    except (KeyError, TypeError) as error:
        raise ValueError(f"{kind} event without {error}") from error


def plain(number: Decimal | int | str) -> str:
    """Digits without an exponent."""
    return f"{Decimal(number):f}"


def number(value: Decimal) -> msgspec.Raw:
    """A JSON number as the exchange writes it: trailing zeros cut, small ones with an exponent."""
    digits = plain(value)
    if "." in digits:
        digits = digits.rstrip("0").rstrip(".")
    if value and abs(value) < Decimal("0.0001"):
        sign, figures, exponent = Decimal(digits).as_tuple()
        head, tail = str(figures[0]), "".join(map(str, figures[1:]))
        power = int(exponent) + len(figures) - 1
        mantissa = f"{head}.{tail}" if tail else head
        digits = f"{'-' if sign else ''}{mantissa}e{power:03d}"
    return msgspec.Raw(digits.encode())


def frame(text: bytes, *, binary: bool = False) -> bytes:
    """One unmasked WebSocket frame; nobody checks that `text` is text."""
    return Frame(Opcode.BINARY if binary else Opcode.TEXT, text).serialize(mask=False)
