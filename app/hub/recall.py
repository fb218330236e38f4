"""Streams that resume from before this process's history: the broker is asked, once for all.

What it gives becomes part of the history, so a thousand clients that come over from another process
at once cost one question.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Never

from app.domain.channel import Channel
from app.domain.position import Position
from app.errors import BrokerUnavailable
from app.hub import sse
from app.hub.history import History
from app.hub.subscription import Subscription

Older = Callable[[Position, Position], Awaitable[list[tuple[Position, Channel, bytes]] | None]]
"""At least the events after a position up to another, encoded; None if they are not all kept."""

LIMIT = 10.0
"""Seconds that the broker may take, or be away."""
AGAIN = 0.5
"""Seconds after which a broker that was just away is asked again."""
TURN = 2048
"""Events put into frames before others have their turn."""


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
                asked = set(self._waiting)
                oldest = min(self._waiting.values())
                away = not await self._extend(oldest)
                for subscription, position in list(self._waiting.items()):
                    answered = subscription in asked and (away or position == oldest)
                    if answered or position >= self._history.floor:
                        del self._waiting[subscription]
                        self._resume(subscription, position)

    async def _extend(self, after: Position) -> bool:
        """Have the history begin after a position if the broker has it all; False: it is away."""
        try:
            async with asyncio.timeout(LIMIT):
                while True:
                    try:
                        await self._ask(after)
                    except BrokerUnavailable:
                        await asyncio.sleep(AGAIN)
                    else:
                        return True
        except TimeoutError:
            return False

    async def _ask(self, after: Position) -> None:
        floor = self._history.floor
        if self._older is None or after >= floor:
            return
        found = await self._older(after, floor)
        if found is None:
            return
        frames = []
        for number, (position, channel, raw) in enumerate(found):
            frames.append((position, channel, sse.block(channel, position, raw)))
            if number % TURN == TURN - 1:
                await asyncio.sleep(0)
        if floor == self._history.floor:
            self._history.prepend(after, frames)
