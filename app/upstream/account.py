"""Reads the account over REST: what a question asks, page by page (protocol 4.3, 6.4).

Open orders are read before finished ones: what finishes in between is then in one of the two. Pages
overlap, as a list that changes under the reader would otherwise hide a row between two of them.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable

from app.domain.channel import Kind
from app.domain.event import Data
from app.domain.ledger import Question
from app.domain.reconcile import Statement
from app.errors import UpstreamUnavailable
from app.upstream import rows
from app.upstream.rest import Rest

LIMIT = 100
"""Rows of a page, the most that the exchange gives (protocol 4.3)."""

OVERLAP = 10
"""Rows that two pages share: so many may go from the list between the two."""

FARTHEST = 10_000
"""The largest offset that the exchange takes."""

STARTS = 3
"""How often a list that moves too fast is begun anew."""

GAP = 0.1
"""Seconds between two pages: nobody knows the exchange's limits (protocol 4.3)."""

Page = Callable[[int], Awaitable[list[Data]]]
"""The rows from an offset on, newest first."""


class Books:
    """The account as REST tells it."""

    def __init__(
        self, rest: Rest, *, gap: float = GAP, clock: Callable[[], float] = time.time
    ) -> None:
        self._rest = rest
        self._gap = gap
        self._clock = clock

    async def read(self, question: Question) -> Statement:
        """The answer to a question; raises UpstreamUnavailable."""
        began = self._clock()
        active: dict[str, Data] = {}
        history: dict[str, Data] = {}
        reached = True
        if question.kinds & {Kind.ORDER, Kind.DEAL}:
            active, _ = await self._all(lambda at: self._rest.orders(offset=at, limit=LIMIT))
            history, ended = await self._all(
                lambda at: self._rest.history(offset=at, limit=LIMIT),
                lambda page: not question.known.isdisjoint(page),
            )
            reached = not question.known.isdisjoint(history) if question.known else ended
        gone = set()
        for id_ in sorted(question.open - active.keys() - history.keys()):
            found = await self._find(id_, active, history)
            if not found:
                gone.add(id_)
        for id_ in sorted(question.orders - history.keys()):
            history |= _by_id(await self._rest.history(order_id=id_))
        balances: Iterable[Data] = ()
        if Kind.BALANCE in question.kinds:
            balances = map(rows.balance, await self._rest.balances())
        return Statement(
            began=began,
            kinds=question.kinds,
            active=tuple(map(rows.active_order, active.values())),
            finished=tuple(map(rows.finished_order, history.values())),
            deals=tuple(deal for row in history.values() for deal in rows.deals_of(row)),
            balances=tuple(balances),
            reached=reached,
            gone=frozenset(gone),
            read=self._clock(),
        )

    async def _find(self, id_: str, active: dict[str, Data], history: dict[str, Data]) -> bool:
        """Look for an order that is in neither list: it may have moved between the two."""
        for ask, known in ((self._rest.history, history), (self._rest.orders, active)):
            found = _by_id(await ask(order_id=id_))
            known |= found
            if found:
                return True
        return False

    async def _all(
        self, ask: Page, enough: Callable[[Iterable[str]], bool] = lambda _: False
    ) -> tuple[dict[str, Data], bool]:
        """All rows by id, or those up to a page that is ``enough``; whether the list has ended."""
        for _ in range(STARTS):
            found: dict[str, Data] = {}
            for offset in range(0, FARTHEST + 1, LIMIT - OVERLAP):
                if offset:
                    await asyncio.sleep(self._gap)
                page = _by_id(await ask(offset))
                if offset and page and found.keys().isdisjoint(page):
                    break  # more went than the overlap holds
                found |= page
                if len(page) < LIMIT:
                    return found, True
                if enough(page):
                    return found, False
            else:
                return found, False
        raise UpstreamUnavailable("a list changes faster than it can be read")


def _by_id(page: Iterable[Data]) -> dict[str, Data]:
    return {row["id"]: row for row in page}
