"""The broker inside one process: the same promises as Redis, without the network.

A listener is a cursor into the journal, so there is no queue to overflow: who falls behind the
journal's start is told the snapshots again. All but the newest entries are kept as their bytes
alone, a fraction of what the decoded objects take.
"""

import asyncio
from bisect import bisect_right
from collections import deque
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

from app.bus.broker import Heard, Notice, Snapshots
from app.bus.messages import Packed
from app.domain.channel import Channel
from app.domain.event import Entry, Envelope
from app.domain.health import Health
from app.domain.position import START, Position
from app.errors import LeaseLost

HOT = 256
"""Events at the journal's end that are kept as they are, for listeners about to hear them."""


class MemoryBroker:
    """A journal of the last ``keep`` events."""

    def __init__(self, keep: int) -> None:
        self._keep = keep
        self._hot: deque[Entry] = deque()
        self._cold: deque[Packed] = deque()
        self._hot_events = 0
        self._trimmed = 0
        self._events = 0
        self._floor: Position | None = None
        self._last: Position | None = None
        self._snapshots: dict[Channel, Envelope] = {}
        self._watermark: Position | None = None
        self._notices: dict[str, Notice] = {}
        self._listeners: set[_Listener] = set()

    async def append(self, entry: Entry) -> None:
        """Put an entry at the journal's end, and drop what exceeds the events to keep."""
        if entry.position == self._last:
            return
        if entry.previous != self._last:
            raise LeaseLost(f"the journal ends at {self._last}, not at {entry.previous}")
        self._hot.append(entry)
        self._last = entry.position
        self._events += len(entry.envelopes)
        self._hot_events += len(entry.envelopes)
        while len(self._hot) > 1 and self._hot_events > HOT:
            packed = Packed.of(self._hot.popleft())
            self._hot_events -= len(packed.raws)
            self._cold.append(packed)
        self._trim()
        self._wake()

    def _trim(self) -> None:
        while True:
            oldest = self._cold[0] if self._cold else Packed.of(self._hot[0])
            if self._events - len(oldest.raws) < self._keep:
                return
            if self._cold:
                self._cold.popleft()
            else:
                self._hot.popleft()
                self._hot_events -= len(oldest.raws)
            self._trimmed += 1
            self._events -= len(oldest.raws)
            self._floor = oldest.position

    async def save(
        self, watermark: Position, changed: Iterable[Envelope], gone: Iterable[Channel]
    ) -> None:
        """Keep snapshots, if their leader still leads."""
        if self._last is None or watermark.epoch < self._last.epoch:
            raise LeaseLost(f"the journal ends at {self._last}, after {watermark}")
        if watermark.sequence == 0:
            self._snapshots.clear()
        for one in changed:
            self._snapshots[one.channel] = one
        for channel in gone:
            self._snapshots.pop(channel, None)
        self._watermark = watermark
        self._wake()

    async def history(self, after: Position, until: Position | None = None) -> list[Entry] | None:
        """The entries with events after a position, up to the one with another."""
        if self._floor is not None and after < self._floor:
            return None
        cold = [one.entry() for one in self._cold if _within(one, after, until)]
        return cold + [one for one in self._hot if _within(one, after, until)]

    async def tell(self, notice: Notice) -> None:
        """Let every listener know."""
        sender = "" if isinstance(notice, Health) else notice.process
        self._notices[sender] = notice
        for listener in self._listeners:
            listener.notices[sender] = notice
        self._wake()

    @asynccontextmanager
    async def listen(self) -> AsyncIterator[AsyncIterator[Heard]]:
        """Hear everything, from the snapshots on."""
        listener = _Listener(dict(self._notices))
        self._listeners.add(listener)
        try:
            yield self._hear(listener)
        finally:
            self._listeners.discard(listener)

    def _wake(self) -> None:
        for listener in self._listeners:
            listener.woken.set()

    async def _hear(self, listener: "_Listener") -> AsyncIterator[Heard]:
        at = -1
        while True:
            listener.woken.clear()
            if at < self._trimmed and self._whole():
                at = self._trimmed + self._contained()
                yield Snapshots(self._watermark, tuple(self._snapshots.values()))
            while self._trimmed <= at < self._trimmed + len(self._cold) + len(self._hot):
                at += 1
                yield self._entry(at - 1 - self._trimmed)
            while at >= 0 and listener.notices:
                yield listener.notices.pop(next(iter(listener.notices)))
            await listener.woken.wait()

    def _whole(self) -> bool:
        """Whether snapshots and journal meet; if not, the next save makes them."""
        return self._floor is None or (
            self._watermark is not None and self._watermark >= self._floor
        )

    def _contained(self) -> int:
        """How many of the entries kept the snapshots contain already."""
        if self._watermark is None:
            return 0
        positions = [one.position for one in self._cold] + [one.position for one in self._hot]
        return bisect_right(positions, self._watermark)

    def _entry(self, number: int) -> Entry:
        if number < len(self._cold):
            return self._cold[number].entry()
        return self._hot[number - len(self._cold)]


def _within(entry: Entry | Packed, after: Position, until: Position | None) -> bool:
    return entry.position > after and (until is None or (entry.previous or START) < until)


class _Listener:
    """One reader's place: what it has yet to be told, and how it is woken."""

    def __init__(self, notices: dict[str, Notice]) -> None:
        self.notices = notices
        self.woken = asyncio.Event()
