"""One process's part in the limit on requests: its counts, and its words with the others.

A request is judged by what this process knows. Only who has used up a part of its quota here waits
for a word with the other processes: once for each part.
"""

import asyncio
import time
from collections.abc import Callable

from app.api.rate import Counts, Rate, Taken, Told
from app.bus.tally import Tally
from app.errors import BrokerUnavailable
from app.logs import logger

log = logger("quota")

AT_ONCE = 8
"""Words with Redis at a time: as many connections it may take."""
AWAY = 1.0
"""Seconds for which a process counts alone before it tries Redis again."""


class Quotas:
    """One process's part in the limit; without a ``tally`` it is all of it."""

    def __init__(
        self, rate: Rate, tally: Tally | None = None, *, clock: Callable[[], float] = time.time
    ) -> None:
        self.policy = b'"default";q=%d;w=%d' % rate
        self._rate = rate
        self._counts = Counts(rate)
        self._tally = tally
        self._clock = clock
        self._ahead = 0.0
        self._alone_until = 0.0
        self._alone = False
        self._telling: dict[str, asyncio.Event] = {}
        self._places = asyncio.Semaphore(AT_ONCE)

    def take(self, client: str) -> Taken:
        """One more request of a client, by what is known here."""
        return self._counts.take(client, self._clock() + self._ahead)

    def owes(self, client: str) -> bool:
        """Whether ``settle`` must come before ``take``."""
        return (
            self._tally is not None
            and self._counts.owes(client)
            and self._clock() >= self._alone_until
        )

    async def settle(self, client: str) -> None:
        """Have a word with the other processes; without Redis this one goes on by itself."""
        while self.owes(client):
            others = self._telling.get(client)
            if others is not None:
                await others.wait()
                continue
            told = self._telling[client] = asyncio.Event()
            try:
                await self._tell(client)
            finally:
                del self._telling[client]
                told.set()

    async def _tell(self, client: str) -> None:
        assert self._tally is not None, "who is alone owes nothing"  # noqa: S101 -- for the type
        async with self._places:
            if not self.owes(client):  # Redis was found away meanwhile
                return
            ours = self._counts.untold(client)
            try:
                at, count, before = await self._tally.add(client, ours)
            except BrokerUnavailable as error:
                self._alone_until = self._clock() + AWAY
                if not self._alone:
                    log.warning("counting requests alone", reason=str(error))
                self._alone = True
                return
        if self._alone:
            log.info("counting requests together again")
        self._alone = False
        self._ahead = at - self._clock()
        self._counts.learn(client, Told(at, count, before), ours)
