"""What Redis keeps for those who were not listening: the journal, the snapshots, the last notices.

Reads only; every method raises BrokerUnavailable.
"""

from collections.abc import AsyncIterator, Callable
from dataclasses import replace

from app.bus.broker import Notice, Snapshots
from app.bus.link import Link
from app.bus.messages import Packed, load_envelope, load_health, load_wish
from app.domain.position import START, Position
from app.errors import Unreadable
from app.logs import logger

log = logger("journal")

FIRST_PAGE, LARGEST_PAGE = 8, 128
"""Entries read at once: few until it is known how many events they hold."""
EVENTS = 1024
"""Events that a page is to hold, about."""
WATERMARK = b"watermark"
"""The field of the snapshots that says how far they reach; every channel's name has a colon."""
LOAD_LIMIT = 10.0
"""Seconds that reading all snapshots may take."""


class Journal:
    """A reader's view of it."""

    def __init__(self, link: Link) -> None:
        self._link = link

    async def after(self, position: Position) -> AsyncIterator[Packed]:
        """The entries after a position, page by page; each page is as new as its reading."""
        size = FIRST_PAGE
        while True:
            page = await self._range(f"({position}", "+", size)
            for packed in page:
                yield packed
            if len(page) < size:
                return
            position = page[-1].position
            events = sum(len(packed.raws) for packed in page)
            size = max(1, min(EVENTS * size // max(events, 1), LARGEST_PAGE))

    async def floor(self) -> Position:
        """The position after which the journal holds everything."""
        first = await self._range("-", "+", 1)
        return first[0].previous or START if first else START

    async def end(self) -> Position:
        """The last position."""
        rows = await self._link.call("XREVRANGE", self._link.key("journal"), "+", "-", "COUNT", 1)
        return _packed(rows[0]).position if rows else START

    async def watermark(self) -> Position:
        """How far the snapshots reach."""
        text = await self._link.call("HGET", self._link.key("snapshots"), WATERMARK)
        return Position.parse((text or b"").decode("latin-1")) or START

    async def snapshots(self) -> Snapshots:
        """All snapshots and how far they reach, of one moment; raises Unreadable."""
        fields = await self._link.call("HGETALL", self._link.key("snapshots"), limit=LOAD_LIMIT)
        watermark = fields.pop(WATERMARK, b"")
        envelopes = tuple(map(load_envelope, fields.values()))
        return Snapshots(Position.parse(watermark.decode("latin-1")), envelopes)

    async def notices(self, health_ttl: float = 0.0) -> list[Notice]:
        """The leader's last health, told for ``health_ttl`` seconds, and the last wishes."""
        health = await self._link.call("GET", self._link.key("health"))
        left = await self._link.call("PTTL", self._link.key("health")) / 1000
        wishes = await self._link.call("HVALS", self._link.key("wishes"))
        found: list[Notice] = []
        loads: list[tuple[Callable[[bytes], Notice], bytes]] = []
        if health is not None:
            late = max(0.0, health_ttl - left)
            loads.append((lambda text: replace(load_health(text), late=late), health))
        loads += [(load_wish, row.partition(b" ")[2]) for row in wishes]
        for load, text in loads:
            try:
                found.append(load(text))
            except Unreadable as error:
                log.warning("notice not readable", reason=str(error))
        return found

    async def _range(self, start: str, stop: str, count: int) -> list[Packed]:
        key = self._link.key("journal")
        return list(map(_packed, await self._link.call("XRANGE", key, start, stop, "COUNT", count)))


def _packed(row: tuple[bytes, dict[bytes, bytes]]) -> Packed:
    """An entry; one that cannot be read follows nothing but itself, which makes a hole."""
    try:
        return Packed.loads(row[1].get(b"entry", b""))
    except Unreadable as error:
        position = Position.parse(row[0].decode("latin-1")) or START
        log.warning("entry not readable", position=str(position), reason=str(error))
        return Packed(position, position, ())
