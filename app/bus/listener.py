"""One listener to the broker in Redis: hears everything in order, whatever happens to Redis.

A task reads what is published into an inbox with a bound; what does not fit, or was missed while
the connection was lost, is read from the journal instead. So the inbox is for speed alone.
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator

from app.bus.broker import Heard, Notice, Snapshots, Wish, delays
from app.bus.journal import Journal
from app.bus.link import Link, Subscribed
from app.bus.messages import Packed, load_health, load_wish
from app.bus.scripts import RAISE
from app.domain.event import Entry
from app.domain.position import START, Position
from app.errors import BrokerUnavailable, Unreadable
from app.logs import logger
from app.telemetry import Metrics

log = logger("listener")

INBOX = 16_384
"""Events that may wait in the inbox; more are dropped, all of them, and read from the journal."""
QUIET = 1.0
"""Seconds of silence after which the connection is tried and the journal looked at."""
GATHER = 0.005
"""Seconds for which notices are gathered: of each sender only the last counts."""
OVERDUE = 0.25
"""Seconds after which notices are given though entries wait: a busy process must not think that
nobody leads."""
LOOK = 0.05
"""Seconds between looks for snapshots that meet the journal: the leader saves each second."""


class Inbox:
    """What was published and not yet taken."""

    def __init__(self, most: int) -> None:
        self.woken = asyncio.Event()
        self.behind = True
        self.notices: dict[str, tuple[Notice, Position | None]] = {}
        self.entries: deque[Packed] = deque()
        self._noticed = 0.0
        self._most = most
        self._events = 0

    def put(self, message: bytes) -> None:
        """Take a published message, as ``scripts`` makes them; raises Unreadable."""
        self.woken.set()
        kind, text = message[:1], message[1:]
        if kind == b"E":
            self._put_entry(Packed.loads(text))
        elif kind == b"W":
            self.keep(load_wish(text))
        else:
            end, _, health = text.partition(b"\n")
            self.keep(load_health(health), Position.parse(end.decode("latin-1")))

    def keep(self, notice: Notice, end: Position | None = None, *, newest: bool = True) -> None:
        """A notice, told when the journal ended at ``end``; only its sender's newest is kept."""
        sender = notice.process if isinstance(notice, Wish) else ""
        if not self.notices:
            self._noticed = time.monotonic()
        if newest or sender not in self.notices:
            self.notices[sender] = (notice, end)

    def overdue(self) -> bool:
        """Whether notices have waited for long enough that entries may wait for once."""
        return bool(self.notices) and time.monotonic() - self._noticed > OVERDUE

    def take_notices(self) -> Iterator[tuple[Notice, Position | None]]:
        """The notices, while there are any."""
        while self.notices:
            yield self.notices.pop(next(iter(self.notices)))

    def take(self) -> Packed:
        """The oldest entry."""
        packed = self.entries.popleft()
        self._events -= len(packed.raws)
        return packed

    def lose(self) -> None:
        """Something was missed, or is about to be: the journal has to tell."""
        self.entries.clear()
        self._events = 0
        self.behind = True
        self.woken.set()

    def _put_entry(self, packed: Packed) -> None:
        self.entries.append(packed)
        self._events += len(packed.raws)
        if self._events > self._most:
            self.lose()


class Listener:
    """Follows the chain of entries; ``known`` gives entries that this process itself appended."""

    def __init__(
        self,
        link: Link,
        metrics: Metrics,
        *,
        keep: int,
        health_ttl: float,
        known: Callable[[Position], Entry | None],
    ) -> None:
        self._link = link
        self._journal = Journal(link)
        self._metrics = metrics
        self._known = known
        self._health_ttl = health_ttl
        self._inbox = Inbox(min(keep, INBOX))
        self._head = START
        self._loaded = False
        self._needed = START
        self._renewed = True

    # The inbox is filled

    async def read(self) -> None:
        """Fill the inbox until cancelled."""
        pauses, lost = delays(), False
        while True:
            try:
                async with self._link.subscribed() as messages:
                    if lost:
                        log.info("broker back")
                    lost, self._renewed = False, True
                    self._inbox.lose()
                    async for message in self._messages(messages):
                        pauses = delays()
                        self._put(message)
            except BrokerUnavailable as error:
                if not lost:
                    self._metrics.broker_losses.inc()
                    log.warning("broker lost", reason=str(error))
                lost = True
            await asyncio.sleep(next(pauses))

    def _put(self, message: bytes) -> None:
        try:
            self._inbox.put(message)
        except Unreadable as error:
            log.warning("message not readable", reason=str(error))
            self._inbox.lose()

    async def _messages(self, messages: Subscribed) -> AsyncIterator[bytes]:
        """What comes, while signs of life do."""
        silent = False
        while True:
            message = await messages.message(max(QUIET, self._link.limit) if silent else QUIET)
            if message:
                yield message
            elif message is None:
                if silent:
                    raise BrokerUnavailable("the subscription gives no sign of life")
                self._inbox.lose()
                await messages.ping()
            silent = message is None

    # The inbox is emptied

    async def hear(self) -> AsyncGenerator[Heard]:
        """Snapshots, then every entry that follows, and notices when no entry waits."""
        pauses, behind = delays(), False
        while True:
            try:
                async for one in self._due():
                    pauses, behind = delays(), False
                    yield one
            except (BrokerUnavailable, Unreadable) as error:
                if not behind:
                    log.warning("not up to date", reason=str(error))
                behind = True
                self._inbox.lose()
                await asyncio.sleep(next(pauses))
            else:
                self._inbox.woken.clear()
                await self._inbox.woken.wait()

    async def _due(self) -> AsyncIterator[Heard]:
        """All that there is to hear now."""
        inbox = self._inbox
        while inbox.behind or inbox.entries or inbox.notices:
            if inbox.behind:
                inbox.behind = False
                async for one in self._replay():
                    yield one
                await self._meet()
            elif inbox.entries and not inbox.overdue():
                packed = inbox.take()
                if (packed.previous or START) > self._head:
                    self._metrics.broker_holes.inc()
                    inbox.lose()
                elif packed.position > self._head:
                    yield await self._advance(packed)
            else:
                await asyncio.sleep(GATHER)
                for notice, end in inbox.take_notices():
                    if end is not None and not inbox.entries:
                        await self._compare(end)
                    yield notice

    async def _replay(self) -> AsyncIterator[Heard]:
        """What the journal holds after the head, or else the snapshots and what it holds then."""
        while True:
            if not self._loaded:
                yield await self._load()
            async for packed in self._journal.after(self._head):
                if (packed.previous or START) > self._head:
                    self._loaded, self._needed = False, packed.previous or START
                    break
                yield await self._advance(packed)
                if self._inbox.behind:
                    return  # the rest of this page may be gone from the journal by now
            else:
                return

    async def _load(self) -> Snapshots:
        """Snapshots that meet the journal, once there are any."""
        while True:
            floor = max(self._needed, await self._journal.floor())
            if await self._journal.watermark() >= floor:
                snapshots = await self._journal.snapshots()
                was, self._head = self._head, snapshots.watermark or START
                if was > START:
                    log.warning("state taken up anew", head=str(was), watermark=str(self._head))
                self._loaded = True
                return snapshots
            await asyncio.sleep(LOOK)

    async def _advance(self, packed: Packed) -> Entry:
        """Take an entry that follows; raises Unreadable, and wants snapshots from beyond it."""
        try:
            entry = self._known(packed.position) or packed.entry()
        except Unreadable:
            self._loaded, self._needed = False, packed.position
            raise
        if packed.position.sequence == 0 and (packed.previous or START) < self._head:
            await self._object(packed.position)
        self._head = packed.position
        return entry

    async def _meet(self) -> None:
        """After a subscription began: what was told before it, and whether something was lost."""
        if self._renewed:
            for notice in await self._journal.notices(self._health_ttl):
                self._inbox.keep(notice, newest=False)
            await self._compare(await self._journal.end())
            self._renewed = False

    async def _compare(self, end: Position) -> None:
        """Set our head against the end of the journal that a notice names."""
        if end > self._head:
            self._inbox.lose()
        elif end < self._head and await self._journal.end() < self._head:
            await self._object(self._head)

    async def _object(self, position: Position) -> None:
        """Redis has lost what we know: no epoch up to that of ``position`` may be led any more.

        Nobody would follow one below our head, and a leader that knew less than we would begin a
        channel without saying that there is a gap. The next one learns it from the fence.
        """
        log.warning("the journal has lost something", head=str(self._head))
        await self._link.run(RAISE, ("epoch",), position.epoch + 1)
