"""When what was published is written: at once, or together with what follows within a short tick.

Writing owes a rest as long as it took the processor, and 20 ms may be owed: a lone event, or a few
in a row, are written at once. Beyond that what is published is collected until so much is paid off,
20 ms at most, and goes out in one write for each client. So under pressure a write carries many
events for the price of one, and other work has its turn; a moment in which the processor was
somebody else's is no pressure, and delays no event but those it struck.
"""

import asyncio
import time
from collections.abc import Callable

from app.domain.event import Entry
from app.domain.position import START, Position
from app.hub.groups import Groups
from app.telemetry import Metrics

REST = 0.02
"""Seconds that may be owed, and the longest rest: what collecting adds at most to an age."""


class Collector:
    """Collects frames for the groups; ``on_written`` is called after each write.

    ``sent`` is the position up to which everything has been put before the groups' members.
    ``told`` may be set to who is told of a write: the positions that it lies between, frames times
    members, and the seconds it took. ``cpu`` gives what the thread has had of the processor.
    """

    told: Callable[[Position, Position, int, float], None] | None = None

    def __init__(
        self,
        groups: Groups,
        metrics: Metrics,
        *,
        on_written: Callable[[], None],
        cpu: Callable[[], float] = time.thread_time,
    ) -> None:
        self.sent = START
        self._groups = groups
        self._metrics = metrics
        self._on_written = on_written
        self._cpu = cpu
        self._loop = asyncio.get_running_loop()
        self._paid_off = 0.0
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
            rest = self._paid_off - REST - self._loop.time()
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
        began, cpu = self._loop.time(), self._cpu()
        delivered, size = self._groups.write(began)
        self._metrics.deliveries.inc(delivered)
        self._metrics.stream_bytes.inc(size)
        self._metrics.delivery_age.observe(time.time() - self._oldest)
        ended = self._loop.time()
        # twice: the time of writing pays nothing off
        paid_off = max(self._paid_off, began) + 2 * (self._cpu() - cpu)
        self._paid_off = min(paid_off, ended + 2 * REST)
        if self.told is not None:
            self.told(after, self.sent, delivered, ended - began)
        self._on_written()

    def start(self, head: Position) -> None:
        """Begin anew at ``head``: nothing before it is to be written any more."""
        self._head = self.sent = head
