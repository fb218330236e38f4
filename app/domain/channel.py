"""What one can follow. The only room that knows a channel's text."""

import re
from enum import StrEnum
from functools import lru_cache
from typing import NamedTuple

from app.errors import MalformedRequest

_CODE = re.compile(r"[A-Z0-9]{1,20}")
_MARKET = re.compile(r"[A-Z0-9]{1,20}_[A-Z0-9]{1,20}")
_SCALE = re.compile(r"0|[1-9][0-9]?")


class Kind(StrEnum):
    """The seven channel kinds of the exchange (protocol 3); also the SSE event names."""

    LASTPRICE = "lastprice"
    TICKER = "ticker"
    TRADE = "trade"
    DEPTH = "depth"
    ORDER = "order"
    BALANCE = "balance"
    DEAL = "deal"


PRIVATE = frozenset({Kind.ORDER, Kind.BALANCE, Kind.DEAL})


class Channel(NamedTuple):
    """A kind with its subject.

    The subject is a market, ``market:scale`` for depth, a currency for balance, or ``*`` for all. A
    narrowed wildcard, which no text is read as, has a pattern with ``*`` in it.
    """

    kind: Kind
    subject: str

    @staticmethod
    def parse(text: str) -> "Channel":
        """Read ``kind:subject``; raises MalformedRequest (400) and names what is wrong."""
        return _parse(text)

    def __str__(self) -> str:
        return f"{self.kind}:{self.subject}"

    @property
    def private(self) -> bool:
        return self.kind in PRIVATE

    @property
    def wildcard(self) -> bool:
        return self.subject == "*"

    @property
    def open(self) -> bool:
        """Whether it stands for many channels: a wildcard, or what is left of a narrowed one."""
        return "*" in self.subject

    @property
    def everything(self) -> "Channel":
        """The wildcard of this kind."""
        return _EVERYTHING[self.kind]

    @property
    def market(self) -> str | None:
        """The market it is about; None for a wildcard and for balances."""
        if self.open or self.kind is Kind.BALANCE:
            return None
        return self.subject.partition(":")[0]

    @property
    def scale(self) -> int | None:
        """The scale index of an order book, None for everything else."""
        if self.open or self.kind is not Kind.DEPTH:
            return None
        return int(self.subject.partition(":")[2])

    def covers(self, other: "Channel") -> bool:
        """Whether following this one brings ``other`` too."""
        return self == other or (
            self.kind is other.kind and self.open and like(self.subject, other.subject)
        )


def like(pattern: str, text: str) -> bool:
    """Whether a text is like a pattern, in which only ``*`` is special: any run of characters."""
    return pattern == "*" or _expression(pattern).fullmatch(text) is not None


@lru_cache(maxsize=4096)
def _expression(pattern: str) -> re.Pattern[str]:
    # without the atomic groups a pattern of many stars would take exponential time
    first, *rest = map(re.escape, re.split(r"\*+", pattern))
    if not rest:
        return re.compile(first)
    *middle, last = rest
    return re.compile(first + "".join(f"(?>.*?{part})" for part in middle) + ".*" + last, re.DOTALL)


_EVERYTHING = {kind: Channel(kind, "*") for kind in Kind}


def depth(market: str, scale: int) -> Channel:
    """The order book channel of a market at a scale index."""
    return Channel(Kind.DEPTH, f"{market}:{scale}")


@lru_cache(maxsize=8192)
def _parse(text: str) -> Channel:
    name, colon, subject = text.partition(":")
    if not colon or name not in Kind.__members__.values():
        raise MalformedRequest(
            f"channel {text[:80]!r} is malformed: expected kind:subject with kind one of "
            + ", ".join(Kind)
        )
    kind = Kind(name)
    if not _well_formed(kind, subject):
        raise MalformedRequest(f"channel {text[:80]!r} is malformed: expected {_expected(kind)}")
    return Channel(kind, subject)


def _well_formed(kind: Kind, subject: str) -> bool:
    if kind is Kind.DEPTH:
        market, colon, scale = subject.partition(":")
        return bool(colon and _MARKET.fullmatch(market) and _SCALE.fullmatch(scale))
    if subject == "*":
        return True
    pattern = _CODE if kind is Kind.BALANCE else _MARKET
    return pattern.fullmatch(subject) is not None


def _expected(kind: Kind) -> str:
    if kind is Kind.DEPTH:
        return "depth:BASE_QUOTE:SCALE_INDEX, without a wildcard"
    return (
        f"{kind}:{'CURRENCY' if kind is Kind.BALANCE else 'BASE_QUOTE'} in upper case, or {kind}:*"
    )
