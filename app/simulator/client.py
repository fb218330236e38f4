"""One connected client as the exchange sees it: what it wants, asked and was sent. PURE."""

from collections import deque
from dataclasses import dataclass, field
from typing import Protocol

from app.simulator import wire

ALL = "all"
RESERVED_IDS = frozenset({0, 1, 3, 4})  # events carry these (protocol 2.4)
IDS_REMEMBERED = 10_000


class Line(Protocol):
    """The socket behind a client. None of these waits."""

    def write(self, data: bytes) -> None: ...
    def close(self, code: int, reason: str) -> None: ...
    def abort(self) -> None: ...
    def stall(self) -> None: ...
    def release(self) -> None: ...


@dataclass(slots=True)
class Wanted:
    """One kind's subscription: names, or all but the names taken back."""

    everything: bool = False
    names: set[str] = field(default_factory=set)
    but: set[str] = field(default_factory=set)

    def __bool__(self) -> bool:
        return self.everything or bool(self.names)

    def __contains__(self, subject: str) -> bool:
        return subject in self.names or (self.everything and subject not in self.but)

    def add(self, name: str) -> None:
        if name == ALL:
            self.everything, self.but = True, set()
        else:
            self.names.add(name)
            self.but.discard(name)

    def remove(self, name: str) -> None:
        if name == ALL:
            self.clear()
        else:
            self.names.discard(name)
            if self.everything:
                self.but.add(name)

    def clear(self) -> None:
        self.everything, self.names, self.but = False, set(), set()

    def listed(self) -> list[str]:
        return ([ALL] if self.everything else []) + sorted(self.names)


class Client:
    """The state of one connection; `heard` is when its last request came."""

    def __init__(self, number: int, line: Line, now: float) -> None:
        self.number = number
        self.line = line
        self.opened = self.heard = now
        self.state = "open"
        self.closed: str | None = None
        self.wanted = {kind: Wanted() for kind in wire.KINDS}
        self.requests = 0
        self.events = 0
        self._ids: deque[int] = deque(maxlen=IDS_REMEMBERED)
        self._seen: set[int] = set()

    def fault_of_id(self, request_id: int) -> str | None:
        """What is wrong with a request's id, and remember it."""
        if request_id in RESERVED_IDS:
            return "reserved id"
        if request_id in self._seen:
            return "duplicate id"
        if len(self._ids) == IDS_REMEMBERED:
            self._seen.discard(self._ids[0])
        self._ids.append(request_id)
        self._seen.add(request_id)
        return None

    def follows(self, kind: str, subject: str) -> bool:
        return subject in self.wanted[kind]

    def report(self) -> dict[str, object]:
        wanted = {kind: wanted.listed() for kind, wanted in self.wanted.items() if wanted}
        return {
            "number": self.number,
            "state": self.state,
            "opened": self.opened,
            "closed": self.closed,
            "subscriptions": wanted,
            "requests": self.requests,
            "events": self.events,
        }
