"""Clients that take nothing of what is written to them, however little that is.

One that takes a little all the time is slow, and stays: it is owed the current state.
"""

import asyncio
from collections.abc import Callable, Collection
from math import inf
from typing import Never

from app.hub.subscription import Subscription

STALL = 12.0
"""Seconds after which a client that takes nothing is aborted."""
LOOK = 1.0
"""Seconds between two looks at a client, beside what a round of all takes: it is aborted within
``STALL`` and twice both."""
TURN = 256
"""Clients looked at before others have their turn."""


class Stalls:
    """``abort`` is called for each of them, once."""

    def __init__(
        self, subscriptions: Collection[Subscription], abort: Callable[[Subscription], None]
    ) -> None:
        self._subscriptions = subscriptions
        self._abort = abort
        self._now = asyncio.get_running_loop().time

    async def run(self) -> Never:
        """Look until cancelled."""
        while True:
            await asyncio.sleep(LOOK)
            for number, subscription in enumerate(list(self._subscriptions), 1):
                if subscription in self._subscriptions:
                    self.look(subscription)
                if number % TURN == 0:
                    await asyncio.sleep(0)

    def look(self, subscription: Subscription) -> None:
        """See whether its client has taken anything since the last look that it had anything to.

        Where all was taken, and nothing written since, its connection need not be asked.
        """
        written = subscription.written
        if written == subscription.taken:
            return
        waiting = subscription.outlet.backlog()
        taken = written - waiting
        if not waiting:
            subscription.taken, subscription.took_at = taken, None
        elif taken > subscription.taken or subscription.took_at is None:
            subscription.taken, subscription.took_at = taken, self._now()
        elif self._now() - subscription.took_at >= STALL:
            subscription.took_at = inf  # once, whenever the connection goes
            self._abort(subscription)
