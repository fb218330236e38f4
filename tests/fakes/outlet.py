"""A client's end of a stream: a socket with a small buffer, read when told."""

from collections.abc import Callable
from typing import Any

from app.hub.subscription import Owner, Subscription
from tests.oracle.sse import Block, Dechunker, Reader


class Told:
    """An owner that keeps what it is told."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def full(self) -> None:
        self.heard.append("full")

    def drained(self) -> None:
        self.heard.append("drained")

    def gone(self) -> None:
        self.heard.append("gone")


class Kept:
    """Stands for the hub where a subscription is tested without one."""

    def __init__(self) -> None:
        self.on_pause: Callable[[Subscription], None] = lambda _subscription: None

    def pause(self, subscription: Subscription) -> None:
        self.on_pause(subscription)

    def resume(self, subscription: Subscription) -> None:
        """Nothing is caught up here."""

    leave = resume


class FakeOutlet:
    """Full above ``high`` bytes, drained at ``low``; nothing may be written after the end."""

    def __init__(self, *, framed: bool = False, high: int = 64 * 1024, low: int = 0) -> None:
        self.framed = framed
        self.owner: Owner = Told()
        self.closed = False
        self.aborts = 0
        self.most = 0
        self.writes: list[bytes] = []
        self.reader = Reader()
        self.body = b""
        self._dechunker = Dechunker()
        self._high = high
        self._low = low
        self._full = False
        self._waiting = b""

    def write(self, data: bytes) -> None:
        assert data, "an empty write would end a chunked body"
        assert not self.closed, f"written after the end: {data[:80]!r}"
        if self.aborts:
            return
        self.writes.append(data)
        self._waiting += data
        self.most = max(self.most, len(self._waiting))
        if len(self._waiting) > self._high and not self._full:
            self._full = True
            self.owner.full()

    def backlog(self) -> int:
        return len(self._waiting)

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.aborts += 1
        self._waiting = b""

    # What the client does

    @property
    def gone(self) -> bool:
        return self.closed or bool(self.aborts)

    @property
    def full(self) -> bool:
        return self._full

    def take(self, size: int | None = None) -> list[Block]:
        """Read up to ``size`` bytes; gives the events they complete."""
        taken = self._waiting[:size]
        self._waiting = self._waiting[len(taken) :]
        body = self._dechunker.feed(taken) if self.framed else taken
        assert not self._dechunker.ended, "a chunk of length zero in the middle of a body"
        self.body += body
        blocks = self.reader.feed(body)
        if self._full and len(self._waiting) <= self._low and not self.aborts:
            self._full = False
            self.owner.drained()
        return blocks

    def events(self) -> list[Any]:
        """The envelopes that come with everything that waits; control events left out."""
        return [block.json() for block in self.take() if block.event != "gateway"]

    def controls(self) -> list[Any]:
        """The control events that come with everything that waits."""
        return [block.json() for block in self.take() if block.event == "gateway"]
