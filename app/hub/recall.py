"""Streams that resume from before this process's history: the broker is asked, once for all.

What it gives becomes part of the history, so a thousand clients that come over from another process
at once cost one question.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Never

from app.domain.event import Entry
from app.domain.position import Position
from app.errors import BrokerUnavailable
from app.hub import sse
from app.hub.history import History
from app.hub.subscription import Subscription

Older = Callable[[Position, Position], Awaitable[list[Entry] | None]]
"""The entries with events after a position up to another; None if they are not all kept."""

LIMIT = 5.0
"""Seconds that the broker may take."""


class Recall:
    """The subscriptions that wait for older events; ``resume`` is called when there are any."""

    def __init__(
        self,
        history: History,
        older: Older | None,
        resume: Callable[[Subscription, Position], None],
    ) -> None:
        self._history = history
        self._older = older
        self._resume = resume
        self._waiting: dict[Subscription, Position] = {}
        self._bell = asyncio.Event()

    def __contains__(self, subscription: Subscription) -> bool:
        return subscription in self._waiting

    def ask(self, subscription: Subscription, position: Position) -> bool:
        """Have what came after a position fetched; False if there is nobody to ask."""
        if self._older is None:
            return False
        self._waiting[subscription] = position
        self._bell.set()
        return True

    def forget(self, subscription: Subscription) -> None:
        """It has gone."""
        self._waiting.pop(subscription, None)

    async def run(self) -> Never:
        """Ask for the oldest position first, as that often answers all the others."""
        while True:
            await self._bell.wait()
            self._bell.clear()
            while self._waiting:
                oldest = min(self._waiting.values())
                try:
                    await self._extend(oldest)
                except (BrokerUnavailable, TimeoutError):
                    oldest = max(self._waiting.values(), default=oldest)  # ask for none of them
                for subscription, position in list(self._waiting.items()):
                    if position <= oldest or position >= self._history.floor:
                        del self._waiting[subscription]
                        self._resume(subscription, position)

    async def _extend(self, after: Position) -> None:
        """Have the history begin after a position, if the broker still has it all."""
        floor = self._history.floor
        if self._older is None or after >= floor:
            return
        async with asyncio.timeout(LIMIT):
            entries = await self._older(after, floor)
        if entries is not None and floor == self._history.floor:
            self._history.prepend(
                after,
                (
                    (one.position, one.channel, sse.frame(one))
                    for entry in entries
                    for one in entry.envelopes
                ),
            )
