"""What every broker promises: one journal, appended by one leader, heard by every process.

The journal is a chain: each entry names the one before it, and an append that does not follow the
journal's last entry is refused. A listener hears every entry in order, once, without holes; where
the journal no longer reaches back far enough it is told everything anew by ``Snapshots``.
Notices (health, wishes) are the latest word, not a chain: only the last of each sender counts.
"""

import random
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from app.domain.channel import Channel
from app.domain.event import Entry, Envelope
from app.domain.health import Health
from app.domain.position import Position


@dataclass(frozen=True, slots=True)
class Snapshots:
    """The whole state up to ``watermark``: replaces everything a listener knew."""

    watermark: Position | None
    envelopes: tuple[Envelope, ...]


@dataclass(frozen=True, slots=True)
class Wish:
    """The channels that the clients of one process want; each replaces the one before it."""

    process: str
    channels: frozenset[Channel]


Notice = Health | Wish
Heard = Snapshots | Entry | Notice


def delays() -> Iterator[float]:
    """Seconds between attempts to reach a broker: soon at first, each second in the end."""
    delay = 0.05
    while True:
        yield delay * random.uniform(0.5, 1.0)  # noqa: S311 -- jitter
        delay = min(delay * 2, 1.0)


class Broker(Protocol):
    """One journal and its listeners. Every method may raise BrokerUnavailable."""

    async def append(self, entry: Entry) -> None:
        """Put an entry at the journal's end.

        Raises LeaseLost unless ``entry.previous`` is the journal's last position. Appending the
        journal's last entry again is a retry and succeeds. The opening of an epoch may also follow
        more than the journal holds: what a broker has lost stays lost, and its leader knows more.
        """

    async def save(
        self, watermark: Position, changed: Iterable[Envelope], gone: Iterable[Channel]
    ) -> None:
        """Keep snapshots: all state up to ``watermark`` is in them. Fenced like an append.

        At the opening of an epoch they replace all that were kept.
        """

    async def history(self, after: Position, until: Position | None = None) -> list[Entry] | None:
        """The entries with events after a position, up to the one that holds ``until``.

        None if the journal does not reach back that far without a hole.
        """

    async def tell(self, notice: Notice) -> None:
        """Let every process know; not kept beyond the next notice of the same sender."""

    def listen(self) -> AbstractAsyncContextManager[AsyncIterator[Heard]]:
        """Hear ``Snapshots`` first, then every entry after them, and notices in between."""
