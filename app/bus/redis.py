"""The broker between processes: a journal in a Redis stream, and pub/sub for speed.

What is written here is fenced by one script each (``scripts``); how it is heard is ``listener``'s.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import aclosing, asynccontextmanager

from app.bus import scripts
from app.bus.broker import Heard, Notice, Wish
from app.bus.journal import Journal
from app.bus.link import Link
from app.bus.listener import Listener
from app.bus.messages import Packed, dump_notice, place_of
from app.domain.channel import Channel
from app.domain.event import Entry, Envelope
from app.domain.position import START, Position
from app.errors import LeaseLost, Unreadable
from app.telemetry import Metrics

SAVE_LIMIT = 10.0
"""Seconds that a save may take: it can hold every state there is."""
OWN = 8
"""Entries appended here of which our own listener need not decode the bytes."""


class _NotKept(Exception):
    """The journal does not hold a piece of the chain."""


class RedisBroker:
    """A journal of the last ``keep`` events.

    ``linger``: seconds for which a process's wishes count after it told them; ``health_ttl``: the
    same for the leader's health.
    """

    def __init__(
        self, link: Link, keep: int, *, linger: float, health_ttl: float, metrics: Metrics
    ) -> None:
        self._link = link
        self._keep = keep
        self._linger = linger
        self._health_ttl = health_ttl
        self._metrics = metrics
        self._own: dict[Position, Entry] = {}

    async def append(self, entry: Entry) -> None:
        """Put an entry at the journal's end; it names the one before it, and is told to all."""
        self._remember(entry)
        at, fence = await self._link.run(
            scripts.APPEND,
            ("journal", "epoch", "events"),
            str(entry.position),
            str(entry.previous or ""),
            Packed.of(entry).dumps(),
            len(entry.envelopes),
            self._keep,
        )
        if at != str(entry.position).encode():
            known = f" and epoch {fence.decode()} has begun" if fence else ""
            raise LeaseLost(
                f"the journal ends at {at.decode() or None}, not at {entry.previous}{known}"
            )

    def _remember(self, entry: Entry) -> None:
        """Our own listener will hear these very bytes, and need not decode them."""
        self._own[entry.position] = entry
        if len(self._own) > OWN:
            del self._own[next(iter(self._own))]

    async def save(
        self, watermark: Position, changed: Iterable[Envelope], gone: Iterable[Channel]
    ) -> None:
        """Keep snapshots, if their leader still leads."""
        states = list(changed)
        at = await self._link.run(
            scripts.SAVE,
            ("journal", "epoch", "snapshots"),
            str(watermark),
            len(states),
            *(part for one in states for part in (str(one.channel), one.raw)),
            *map(str, gone),
            limit=SAVE_LIMIT,
        )
        if at is not None:
            raise LeaseLost(f"the journal ends at {at.decode() or None}, after {watermark}")

    async def history(self, after: Position, until: Position | None = None) -> list[Entry] | None:
        """The entries with events after a position, up to the one that holds ``until``."""
        try:
            return [packed.entry() async for packed in self._stretch(after, until)]
        except (_NotKept, Unreadable):
            return None

    async def events(
        self, after: Position, until: Position
    ) -> list[tuple[Position, Channel, bytes]] | None:
        """The same as ``history``, event by event and not decoded: for who only passes it on."""
        try:
            return [
                (*place_of(raw), raw)
                async for packed in self._stretch(after, until)
                for raw in packed.raws
            ]
        except (_NotKept, Unreadable):
            return None

    async def _stretch(self, after: Position, until: Position | None) -> AsyncIterator[Packed]:
        """A piece of the chain, all of it; raises _NotKept where the journal has it not."""
        head: Position | None = None
        async for packed in Journal(self._link).after(after):
            if until is not None and (head or after) >= until:
                break
            previous = packed.previous or START
            if head is None:
                begins = previous == after or any(place_of(raw)[0] == after for raw in packed.raws)
            else:
                begins = previous <= head
            if not begins:
                raise _NotKept
            head = packed.position
            yield packed
        if until is not None and (head or after) < until:
            raise _NotKept

    async def tell(self, notice: Notice) -> None:
        """Let every process know; raises LeaseLost for the health of a leader that is none."""
        if isinstance(notice, Wish):
            await self._link.run(
                scripts.TELL_WISH,
                ("wishes", "events"),
                notice.process,
                dump_notice(notice),
                _ms(self._linger),
            )
        elif not await self._link.run(
            scripts.TELL_HEALTH,
            ("journal", "epoch", "health", "events"),
            notice.epoch,
            dump_notice(notice),
            _ms(self._health_ttl),
        ):
            raise LeaseLost(f"an epoch after {notice.epoch} has begun")

    @asynccontextmanager
    async def listen(self) -> AsyncIterator[AsyncIterator[Heard]]:
        """Hear everything, from the snapshots on, whatever happens to Redis meanwhile."""
        listener = Listener(
            self._link,
            self._metrics,
            keep=self._keep,
            health_ttl=self._health_ttl,
            known=lambda position: self._own.pop(position, None),
        )
        async with asyncio.TaskGroup() as tasks:
            reading = tasks.create_task(listener.read(), name="broker-read")
            try:
                async with aclosing(listener.hear()) as heard:
                    yield heard
            finally:
                reading.cancel()


def _ms(seconds: float) -> int:
    return max(1, round(seconds * 1000))
