"""What requests may say, read: channels, symbols, positions, validators.

Malformed parameters are 422. A well-placed name that the exchange cannot have (a market in lower
case, say) is 404 like any other unknown one.
"""

import re
from collections.abc import Iterable
from typing import Annotated

from fastapi import Path, Query
from pydantic import WithJsonSchema

from app.domain.channel import Channel, Kind
from app.domain.position import Position
from app.errors import MalformedRequest, TooManyChannels, UnknownChannel

MOST = 200
"""Channels or symbols that one request may name."""

LONGEST_WAIT = 60

_MARKET = "[A-Z0-9]{1,20}_[A-Z0-9]{1,20}"
_CHANNEL = (
    rf"((lastprice|ticker|trade|order|deal):({_MARKET}|\*)"
    rf"|balance:([A-Z0-9]{{1,20}}|\*)|depth:{_MARKET}:(0|[1-9][0-9]?))"
)
_NUMBER = "(0|[1-9][0-9]{0,15})"


def _text(pattern: str) -> WithJsonSchema:
    """For the document alone: what does not match is refused below, and named."""
    return WithJsonSchema({"type": "string", "pattern": f"^{pattern}$"})


ChannelsText = Annotated[str, _text(f"{_CHANNEL}(,{_CHANNEL})*")]
"""One of the values of ``channels=``."""
Symbol = Annotated[str, Path(description="A market such as `BTC_USDT`, in upper case")]
Symbols = Annotated[
    list[Annotated[str, _text("[^,]+(,[^,]+)*")]] | None,
    Query(description=f"At most {MOST} markets, comma separated, or the parameter repeated"),
]
MaxAge = Annotated[
    float | None,
    Query(ge=0, allow_inf_nan=False, description="Seconds; 503 for an answer older than this"),
]
After = Annotated[
    Annotated[str, _text(f"{_NUMBER}-{_NUMBER}")] | None,
    Query(description="A position; 304 unless the state is newer"),
]
Wait = Annotated[
    float,
    Query(
        ge=0,
        le=LONGEST_WAIT,
        allow_inf_nan=False,
        description="Seconds to wait for a state newer than `after`",
    ),
]

_TAG = re.compile(rb'"[^"]*"')


def channel_of(kind: Kind, market: str, scale: int | None = None) -> Channel:
    """The channel of a market's path; raises UnknownChannel (404) for what is no market's name."""
    try:
        channel = Channel.parse(f"{kind}:{market}" if scale is None else f"{kind}:{market}:{scale}")
    except MalformedRequest:
        channel = None
    if channel is None or channel.wildcard or channel.market != market:
        what = f"market {market[:40]!r}" + ("" if scale is None else f" at scale {str(scale)[:20]}")
        raise UnknownChannel(f"{what} is unknown: expected BASE_QUOTE in upper case")
    return channel


def channels_of(kind: Kind, symbols: Iterable[str]) -> list[Channel]:
    """The channels of ``symbols=``, each once, in their order."""
    return [channel_of(kind, symbol) for symbol in _pieces(symbols, "symbols")]


def channels_in(texts: Iterable[str]) -> list[Channel]:
    """The channels of ``channels=``, each once, in their order."""
    return [_channel(text) for text in _pieces(texts, "channels")]


def position_in(text: str | None) -> Position | None:
    """The position of ``after=``; None where it was not given."""
    if text is None:
        return None
    position = Position.parse(text)
    if position is None:
        raise MalformedRequest(
            f"after: {text[:40]!r} is no position: expected <epoch>-<sequence>", status=422
        )
    return position


def unchanged(validators: Iterable[bytes], position: Position) -> bool:
    """Whether ``If-None-Match`` (RFC 9110, 13.1.2) names the position or any (``*``)."""
    tag = b'"%d-%d"' % position
    for line in validators:
        if line == tag or line.strip() == b"*" or tag in _TAG.findall(line):
            return True
    return False


def _channel(text: str) -> Channel:
    try:
        return Channel.parse(text)
    except MalformedRequest as error:
        kind, colon, subject = text.partition(":")
        try:
            known_if_upper = Channel.parse(f"{kind}{colon}{subject.upper()}")
        except MalformedRequest:
            raise MalformedRequest(error.detail, status=422) from None
        raise UnknownChannel(
            f"{text[:80]!r} is unknown: names are upper case, as in {known_if_upper}"
        ) from None


def _pieces(texts: Iterable[str], name: str) -> list[str]:
    pieces = list(dict.fromkeys(piece for text in texts for piece in text.split(",")))
    if not all(pieces):
        raise MalformedRequest(f"{name}: a name is empty", status=422)
    if len(pieces) > MOST:
        raise TooManyChannels(f"{name}: {len(pieces)} names given, at most {MOST} are served")
    return pieces
