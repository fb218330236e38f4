"""The account's rows over REST, in the socket's names (protocol 4.4). Pure.

REST writes times as text without a zone, and one of the exchange's own samples is four hours off.
So an order's creation is taken from its id, a ULID, and every other time from how much later than
the creation it is said to be. Amounts keep their digits.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from app.domain.channel import Channel, Kind
from app.domain.event import Data
from app.errors import MalformedRequest, ProtocolViolation, UpstreamUnavailable
from app.upstream import wire

_ULID = re.compile(r"[0-7][0-9A-HJKMNP-TV-Z]{25}")
_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"

_ORDER_AMOUNTS = ("price", "quantity", "value", "filledQuantity", "filledValue")
_ORDER_NAMES = {"type": "orderType", "clientOrderId": "clientOid"}
_ORDER_TEXTS = ("direction", "type", "clientOrderId", "stopLossPrice", "state", "internalState")
_DEAL_AMOUNTS = ("filledPrice", "filledQuantity", "filledValue", "fee")


def ulid_time(id_: str) -> int | None:
    """The Unix seconds in a ULID (protocol 3.8); None for any other id."""
    if not _ULID.fullmatch(id_):
        return None
    milliseconds = 0
    for letter in id_[:10]:
        milliseconds = milliseconds * 32 + _ALPHABET.index(letter)
    return milliseconds // 1000


def active_order(row: Mapping[str, Any]) -> Data:
    """An open order as an ``info``; raises UpstreamUnavailable."""
    info = _order(row)
    for name in ("state", "internalState"):  # an open order has none on the socket
        info.pop(name, None)
    return info


def finished_order(row: Mapping[str, Any]) -> Data:
    """A finished order as an ``info``; raises UpstreamUnavailable."""
    info = _order(row)
    end = _Clock(row).read(row.get("finishedAt"))
    if end is not None:
        info["finishTs"] = end
    elif "state" not in info:
        raise UpstreamUnavailable("a finished order says nothing of its end")
    return info


def deals_of(row: Mapping[str, Any]) -> list[Data]:
    """The deals of a finished order, each as an ``info``; raises UpstreamUnavailable."""
    deal = row.get("deal")
    if deal is None:
        return []
    if not isinstance(deal, dict) or not isinstance(deal.get("transactions"), list):
        raise UpstreamUnavailable("a deal is not an object with transactions")
    clock = _Clock(row)
    return [_deal(row, deal, one, clock) for one in deal["transactions"]]


def balance(row: Mapping[str, Any]) -> Data:
    """A balance: ``currencyCode``, ``available``, ``held``; raises UpstreamUnavailable."""
    amounts = {name: _amount(row.get(name)) for name in ("available", "held")}
    return {"currencyCode": _subject(row, "ticker", Kind.BALANCE), **amounts}


def _order(row: Mapping[str, Any]) -> Data:
    info: Data = {"id": _text(row, "id"), "symbol": _subject(row, "symbol", Kind.ORDER)}
    for name in _ORDER_AMOUNTS:
        if name in row:
            info[name] = None if row[name] is None else _amount(row[name])
    for name in _ORDER_TEXTS:
        # it is not said which of the two an absent client's id is, but the socket writes null
        if row.get(name) is not None or (name in row and name == "clientOrderId"):
            info[_ORDER_NAMES.get(name, name)] = _flat(row[name])
    info["createTs"] = _Clock(row).created
    return info


def _deal(row: Mapping[str, Any], deal: Data, one: Any, clock: "_Clock") -> Data:
    if not isinstance(one, dict):
        raise UpstreamUnavailable("a transaction is not an object")
    info: Data = {"dealId": _text(deal, "id"), "symbol": _subject(row, "symbol", Kind.DEAL)}
    info["dealState"] = _flat(deal.get("state"))
    info["transactionId"] = _text(one, "id")
    info |= {name: _amount(one[name]) for name in _DEAL_AMOUNTS if one.get(name) is not None}
    info |= {name: _flat(one[name]) for name in ("feeCurrency", "tradeRole") if name in one}
    at = clock.read(one.get("committedAt"))
    info["committedAt"] = at if at is not None else ulid_time(info["transactionId"]) or 0
    return info


class _Clock:
    """Reads an order's times by how much later than its creation they are."""

    def __init__(self, row: Mapping[str, Any]) -> None:
        said, known = _seconds(row.get("createdAt")), ulid_time(_text(row, "id"))
        self.created = known if known is not None else said
        self._ahead = said - known if said is not None and known is not None else 0

    def read(self, text: Any) -> int | None:
        """Unix seconds; raises UpstreamUnavailable."""
        said = _seconds(text)
        return None if said is None else said - self._ahead


def _seconds(text: Any) -> int | None:
    """``YYYY-MM-DD HH:MM:SS`` as if it were UTC, in Unix seconds."""
    if text is None:
        return None
    try:
        return int(datetime.strptime(text, "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC).timestamp())
    except (TypeError, ValueError):
        raise UpstreamUnavailable("a time is not what the protocol says") from None


def _text(row: Mapping[str, Any], name: str) -> str:
    value = row.get(name)
    if not isinstance(value, str) or not value:
        raise UpstreamUnavailable(f"{name} is not text")
    return value


def _subject(row: Mapping[str, Any], name: str, kind: Kind) -> str:
    """What a channel is named by; as on the socket a wildcard is none."""
    text = _text(row, name)
    try:
        channel = Channel.parse(f"{kind}:{text}")
    except MalformedRequest:
        channel = Channel(kind, "*")
    if channel.wildcard:
        raise UpstreamUnavailable(f"{name} is not what a channel of kind {kind} is named by")
    return text


def _flat(value: Any) -> Any:
    """What is passed on as it is: anything but what nests."""
    if isinstance(value, dict | list):
        raise UpstreamUnavailable("a plain value nests")
    return value


def _amount(value: Any) -> str:
    try:
        return wire.amount(value)
    except ProtocolViolation:
        raise UpstreamUnavailable("an amount is not a decimal") from None
