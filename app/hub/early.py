"""Streams that name a position this process has not heard of yet: it may be a little behind."""

import asyncio
from collections.abc import Callable

from app.domain.position import Position
from app.hub.subscription import Subscription

PATIENCE = 1.0
"""Seconds after which a position counts as unknown."""


class Early:
    """The subscriptions that wait; ``resume`` is called when the head has come, or too late."""

    def __init__(self, resume: Callable[[Subscription, Position], None]) -> None:
        self._resume = resume
        self._waiting: dict[Subscription, Position] = {}

    def __contains__(self, subscription: Subscription) -> bool:
        return subscription in self._waiting

    def hold(self, subscription: Subscription, position: Position) -> None:
        """Wait until everything up to a position is heard."""
        self._waiting[subscription] = position
        asyncio.get_running_loop().call_later(PATIENCE, self._give_up, subscription)

    def admit(self, head: Position) -> None:
        """Everything up to ``head`` is heard."""
        for subscription, position in list(self._waiting.items()):
            if position <= head:
                del self._waiting[subscription]
                self._resume(subscription, position)

    def forget(self, subscription: Subscription) -> None:
        """It has gone."""
        self._waiting.pop(subscription, None)

    def _give_up(self, subscription: Subscription) -> None:
        position = self._waiting.pop(subscription, None)
        if position is not None:
            self._resume(subscription, position)
