"""When what was published is written: at once, or together with what follows within a short tick.

A lone event is written at once. Writing is followed by a rest as long as it took, 20 ms at most;
what is published meanwhile is collected and goes out at its end, one write for each client. So
under pressure a write carries many events for the price of one, and other work has its turn.
"""

import asyncio
import time
from collections.abc import Callable

from app.domain.event import Entry
from app.domain.position import START, Position
from app.hub.groups import Groups
from app.telemetry import Metrics

REST = 0.02
"""The longest rest, in seconds: what collecting adds to an event's age at most."""


class Collector:
    """Collects frames for the groups; ``on_written`` is called after each write.

    ``sent`` is the position up to which everything has been put before the groups' members.
    ``told`` may be set to who is told of a write: the positions that it lies between, frames times
    members, and the seconds it took.
    """

    told: Callable[[Position, Position, int, float], None] | None = None

    def __init__(self, groups: Groups, metrics: Metrics, *, on_written: Callable[[], None]) -> None:
        self.sent = START
        self._groups = groups
        self._metrics = metrics
        self._on_written = on_written
        self._loop = asyncio.get_running_loop()
        self._rested = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._head = START
        self._oldest = 0.0

    def publish(self, entry: Entry) -> None:
        """The groups have collected an entry: write it, now or soon."""
        self._head = entry.position
        if entry.envelopes:
            self._metrics.journal_delay.observe(time.time() - entry.envelopes[0].received)
        if not self._groups.due:
            self.sent = self._head
        elif self._timer is None:
            self._oldest = entry.envelopes[0].received
            rest = self._rested - self._loop.time()
            if rest > 0:
                self._timer = self._loop.call_later(rest, self.write)
            else:
                self.write()

    def write(self) -> None:
        """Write what is collected."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        after, self.sent = self.sent, self._head
        if not self._groups.due:
            return
        began = self._loop.time()
        delivered, size = self._groups.write(began)
        self._metrics.deliveries.inc(delivered)
        self._metrics.stream_bytes.inc(size)
        self._metrics.delivery_age.observe(time.time() - self._oldest)
        ended = self._loop.time()
        self._rested = ended + min(ended - began, REST)
        if self.told is not None:
            self.told(after, self.sent, delivered, ended - began)
        self._on_written()

    def start(self, head: Position) -> None:
        """Begin anew at ``head``: nothing before it is to be written any more."""
        self._head = self.sent = head
