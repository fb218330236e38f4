"""A process of a deployment, and a broker that fails when told."""

import asyncio
from collections.abc import Iterable

from app.bus.broker import Notice, Wish
from app.bus.memory import MemoryBroker
from app.domain.channel import Channel
from app.domain.event import Entry, Envelope
from app.domain.health import Health
from app.domain.position import Position
from app.domain.store import Store
from app.errors import BrokerUnavailable, LeaseLost
from app.feed import Replica
from app.hub.hub import Hub, HubOptions
from app.hub.wishes import Wishes
from app.telemetry import Metrics


def channels(*texts: str) -> frozenset[Channel]:
    return frozenset(map(Channel.parse, texts))


def replica(*pinned: str, process: str = "one", linger: float = 60.0) -> Replica:
    """What a process knows at its start."""
    store = Store()
    hub = Hub(store, HubOptions(), Metrics())
    return Replica(store, hub, Wishes(channels(*pinned), linger=linger, limit=100), process)


class FaultyBroker(MemoryBroker):
    """Notes all that it is asked to take; refuses or is away for as often as it is told."""

    def __init__(self) -> None:
        super().__init__(100_000)
        self.appended: list[Entry] = []
        self.told: list[Notice] = []
        self.times: list[float] = []
        self.away: dict[str, int] = {}
        self.refusing: dict[str, int] = {}
        self.deaf = False
        """Whether what it takes is not answered, as when the answer is lost."""

    def _fail(self, what: str) -> None:
        if self.refusing.get(what, 0) > 0:
            self.refusing[what] -= 1
            raise LeaseLost(f"told to refuse: {what}")
        if self.away.get(what, 0) > 0:
            self.away[what] -= 1
            raise BrokerUnavailable(f"told to be away: {what}")

    async def append(self, entry: Entry) -> None:
        self.appended.append(entry)
        if not self.deaf:
            self._fail("append")
        await super().append(entry)
        if self.deaf:
            self._fail("append")

    async def save(
        self, watermark: Position, changed: Iterable[Envelope], gone: Iterable[Channel]
    ) -> None:
        self._fail("save")
        await super().save(watermark, changed, gone)

    async def tell(self, notice: Notice) -> None:
        self._fail("wish" if isinstance(notice, Wish) else "health")
        self.told.append(notice)
        self.times.append(asyncio.get_running_loop().time())
        await super().tell(notice)

    @property
    def last(self) -> Position | None:
        return self._last

    @property
    def saved(self) -> frozenset[Channel]:
        """The channels with a snapshot."""
        return frozenset(self._snapshots)

    @property
    def healths(self) -> list[Health]:
        return [one for one in self.told if isinstance(one, Health)]

    def wishes(self, process: str) -> list[frozenset[Channel]]:
        """What a process has told."""
        return [
            one.channels for one in self.told if isinstance(one, Wish) and one.process == process
        ]
