"""Compares followed order books with the exchange's REST books, one at a time, and has bad ones
reloaded: depth carries no sequence numbers, so nothing else finds a lost delta (protocol 6.3).

It is not known whether REST's ``level`` is the scale index (protocol 4.4): the audit of a book
counts only once some level has matched it well, and then goes by that level.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Protocol

from app.domain.channel import Channel, Kind
from app.errors import UpstreamUnavailable
from app.logs import logger
from app.telemetry import Metrics
from app.upstream.rest import Rest

_log = logger(__name__)

Sides = tuple[Sequence[Sequence[str]], Sequence[Sequence[str]]]
"""Asks and bids, best first, as (price, value)."""

TOP = 20
"""Levels compared on each side."""

LEVELS = 6
"""REST's levels are 0 to 5 (protocol 4.3)."""

GOOD = 0.8
"""A share that two books do not reach by chance: so the level is the right one."""

BAD = 0.5
"""Below it a book counts as bad: of a lively book some top levels move between the two reads, but
most of forty stay, while a wrong book shares next to none of its best levels for long."""

BAD_IN_A_ROW = 3
RESYNC_PAUSE = 600.0


def matching_share(ours: Sides, theirs: Sides) -> float:
    """The share, 0 to 1, of the top levels that are the same number for number."""
    same = total = 0
    for our_side, their_side in zip(ours, theirs, strict=True):
        our_levels, their_levels = _numbers(our_side), _numbers(their_side)
        same += len(our_levels & their_levels)
        total += max(len(our_levels), len(their_levels))
    return same / total if total else 1.0


def _numbers(side: Sequence[Sequence[str]]) -> set[tuple[Decimal, Decimal]]:
    return {(Decimal(level[0]), Decimal(level[1])) for level in side[:TOP]}


@dataclass(slots=True)
class Record:
    """What the audits of one book have shown so far."""

    level: int
    trusted: bool = False
    bad: int = 0
    resynced: float = float("-inf")

    def judge(self, share: float, now: float) -> str:
        """Note an audit: ``match``, ``mismatch``, ``untrusted``, or ``resync`` if it is time."""
        if share >= GOOD:
            self.trusted = True
        if not self.trusted:
            self.level = (self.level + 1) % LEVELS
            return "untrusted"
        if share >= BAD:
            self.bad = 0
            return "match"
        self.bad += 1
        if self.bad < BAD_IN_A_ROW or now - self.resynced < RESYNC_PAUSE:
            return "mismatch"
        self.bad, self.resynced = 0, now
        return "resync"


class Pool(Protocol):
    """What an audit needs of the pool."""

    def following(self) -> Iterable[Channel]: ...

    def resync(self, channel: Channel, reason: str) -> None: ...


Top = Callable[[Channel, int], Sides | None]
"""The best levels, so many a side, of a book as we publish it; None if it is not known."""


class Audit:
    """The auditor: one book each ``interval`` seconds (at least one)."""

    def __init__(self, rest: Rest, metrics: Metrics, *, interval: float = 5.0) -> None:
        self._rest = rest
        self._metrics = metrics
        self._interval = max(1.0, interval)
        self._records: dict[Channel, Record] = {}
        self._shares: dict[Channel, float] = {}

    def shares(self) -> dict[Channel, float]:
        """The matching share that each book showed when last audited."""
        return dict(self._shares)

    async def run(self, pool: Pool, top: Top) -> None:
        """Audit one followed book after the other until cancelled."""
        turn = 0
        while True:
            await asyncio.sleep(self._interval)
            books = sorted((one for one in pool.following() if one.kind is Kind.DEPTH), key=str)
            self._forget(self._shares.keys() - set(books))
            if books:
                turn += 1
                await self.audit(books[turn % len(books)], pool, top)

    async def audit(self, channel: Channel, pool: Pool, top: Top) -> None:
        """Compare one book, as it stood before and after asking: the better one counts."""
        before, market, scale = top(channel, TOP), channel.market, channel.scale
        if before is None or market is None or scale is None:
            return
        record = self._records.setdefault(channel, Record(min(scale, LEVELS - 1)))
        try:
            page = await self._rest.order_book(market, record.level)
        except UpstreamUnavailable:
            self._metrics.audits.labels("unavailable").inc()
            return
        theirs = (page.asks, page.bids)
        both = (before, top(channel, TOP))
        share = max(matching_share(ours, theirs) for ours in both if ours is not None)
        outcome = record.judge(share, asyncio.get_running_loop().time())
        self._metrics.audits.labels(outcome).inc()
        if outcome != "untrusted":
            self._shares[channel] = share
            self._tell_lowest()
        if outcome == "resync":
            _log.warning("book differs from rest", channel=str(channel), share=round(share, 2))
            pool.resync(channel, "audit")

    def _forget(self, gone: Iterable[Channel]) -> None:
        for channel in list(gone):
            del self._shares[channel]
            self._tell_lowest()

    def _tell_lowest(self) -> None:
        self._metrics.audit_match.set(min(self._shares.values(), default=1.0))
