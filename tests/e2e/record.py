"""Clients that keep all they ever heard, and go from one process to another."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from tests.e2e.clients import Follower
from tests.e2e.reconstruct import Block, Json, Mirror, place


@dataclass
class Record(Mirror):
    """A mirror that keeps every envelope of its streams, as text and read."""

    blocks: list[Block] = field(default_factory=list)
    heard: list[Json] = field(default_factory=list)

    def take(self, block: Block) -> None:
        if block.event != "gateway":
            self.blocks.append(block)
        super().take(block)

    def learn(self, envelope: Json) -> None:
        self.heard.append(envelope)
        super().learn(envelope)

    def forget(self) -> None:
        """Count what is kept from here on; the last status stays."""
        self.blocks.clear()
        self.heard.clear()
        self.gaps.clear()
        del self.controls[:-1]

    def texts(self) -> list[str]:
        """The envelopes as they were written."""
        return [block.data for block in self.blocks]

    def epochs(self) -> list[int]:
        """The epochs of the envelopes, in the order of their coming."""
        return list(dict.fromkeys(place(one["position"])[0] for one in self.heard))


@dataclass
class Client(Follower):
    """Follows one process; ``choose`` says which one each time that it connects.

    A ``patient`` one comes back when a ``bye`` says, and not at once.
    """

    mirror: Record = field(default_factory=Record)
    choose: Callable[[], str] | None = None
    patient: bool = False

    def move(self, url: str) -> None:
        """Be cut off, and come back there."""
        self.url = url
        self.cut()

    def is_told(self, *upstream: str) -> bool:
        """Whether the last status on its streams is one of these."""
        return bool(set(self.mirror.statuses()[-1:]) & set(upstream))

    def pause(self) -> float:
        last = self.mirror.controls[-1] if self.mirror.controls else {}
        if self.patient and last.get("type") == "bye":
            return int(last["retry"]) / 1000
        return super().pause()

    async def _once(self) -> None:
        if self.choose is not None:
            self.url = self.choose()
        await super()._once()


def covered(channel: str, names: Iterable[str]) -> bool:
    """Whether it is one of some names, or under a wildcard among them."""
    return any(name in {channel, f"{channel.partition(':')[0]}:*"} for name in names)
