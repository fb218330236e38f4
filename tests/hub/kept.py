"""A broker's journal as the hub sees it: asked for older entries, it answers when told."""

import asyncio

from app.domain.channel import Channel
from app.domain.event import Entry
from app.domain.position import Position
from app.errors import BrokerUnavailable
from app.hub.hub import Hub
from tests.given import entry, made
from tests.hub.place import BTC, ETH


class Kept:
    """The broker's journal: all entries there ever were, of which it has those from some on."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.first = 0
        self.questions: list[tuple[str, str]] = []
        self.open = asyncio.Event()
        self.away = False

    def answer(self, after: Position, until: Position) -> list[Entry] | None:
        """What ``Broker.history`` promises."""
        if self.away:
            raise BrokerUnavailable("away")
        rows = [one for one in self.entries[self.first :] if one.position > after]
        if not rows or rows[-1].position < until:
            return None
        if after not in (rows[0].previous, *(one.position for one in rows[0].envelopes)):
            return None
        return [one for one in rows if one.previous is None or one.previous < until]

    async def older(
        self, after: Position, until: Position
    ) -> list[tuple[Position, Channel, bytes]] | None:
        self.questions.append((str(after), str(until)))
        await self.open.wait()
        entries = self.answer(after, until)
        if entries is None:
            return None
        return [(one.position, one.channel, one.raw) for e in entries for one in e.envelopes]

    def add(self, *made_: Entry) -> list[Entry]:
        self.entries += made_
        return list(made_)


def entries(first: int, last: int, *, size: int = 1) -> list[Entry]:
    """Chained ``7-first`` to ``7-last``, on two channels by turns."""
    return [
        entry(
            f"7-{number - 1}",
            *(made(BTC if at_ % 2 else ETH, f"7-{at_}") for at_ in range(number, number + size)),
        )
        for number in range(first, last + 1, size)
    ]


def apply(hub: Hub, *told: Entry) -> None:
    for one in told:
        for envelope in one.envelopes:
            hub.store.apply(envelope)
        hub.publish(one)
