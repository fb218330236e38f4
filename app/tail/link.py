"""How the stream itself fares: the gateway's word on its upstream, cuts, resets, gaps, the rate.

Pure: takes ``now`` in Unix seconds.
"""

from collections import deque
from typing import Any

import msgspec

from app.tail.events import Cut, Message, Opened

WINDOW = 5
"""Seconds over which the rate is averaged."""

NOTICES = 3
"""How many of the last notices are remembered."""


class Rate:
    """Events a second, over the last whole seconds."""

    def __init__(self) -> None:
        self._counts: deque[tuple[int, int]] = deque(maxlen=WINDOW + 1)

    def count(self, now: float) -> None:
        second = int(now)
        if self._counts and self._counts[-1][0] == second:
            second, before = self._counts.pop()
            self._counts.append((second, before + 1))
        else:
            self._counts.append((second, 1))

    def at(self, now: float) -> float:
        """The average over the last WINDOW whole seconds, the running one left out."""
        end = int(now)
        return sum(count for second, count in self._counts if end - WINDOW <= second < end) / WINDOW


class Link:
    """The state of one followed stream."""

    def __init__(self) -> None:
        self.open = False
        self.upstream = "unknown"
        self.since: float | None = None
        self.position = ""
        self.events = 0
        self.gaps = 0
        self.cuts = 0
        self.again_at: float | None = None
        self.rate = Rate()
        self.notices: deque[tuple[float, str]] = deque(maxlen=NOTICES)

    def opened(self, item: Opened, now: float) -> None:
        self.open, self.again_at = True, None
        if self.cuts:
            self.note(f"resumed after {item.after}" if item.after else "started anew", now)

    def cut(self, item: Cut, now: float) -> None:
        self.open, self.again_at = False, now + item.delay
        self.cuts += 1
        self.note(say(item), now)

    def control(self, message: Message, now: float) -> None:
        """A ``gateway`` event: remembered, and noted unless it only repeats what is known."""
        fields = read_control(message)
        if fields.get("type") == "status":
            before, self.upstream = self.upstream, str(fields.get("upstream"))
            since = fields.get("since")
            self.since = float(since) if isinstance(since, (int, float)) else None
            if before in {"unknown", self.upstream}:
                return
        self.note(say(message), now)

    def heard(self, position: str, now: float) -> None:
        """An event of a channel came."""
        self.events += 1
        self.position = position
        self.rate.count(now)

    def gap(self, channel: str, now: float) -> None:
        """Something on ``channel`` may have been missed."""
        self.gaps += 1
        self.note(f"gap on {channel}", now)

    def note(self, text: str, now: float) -> None:
        self.notices.append((now, text))


def say(item: Opened | Cut | Message) -> str:
    """One line for a person about a cut, an opening or a ``gateway`` event."""
    if isinstance(item, Opened):
        return f"connected, resuming after {item.after}" if item.after else "connected"
    if isinstance(item, Cut):
        return f"{item.reason}; trying again in {item.delay:.1f} s"
    fields = read_control(item)
    match fields.get("type"):
        case "status":
            text = f"upstream is {fields.get('upstream')}"
        case "reset":
            text = f"reset: {fields.get('reason')}; starting anew from snapshots"
        case "bye":
            text = f"bye: {fields.get('reason')}"
        case _:
            text = f"gateway says {item.data}"
    return text


def read_control(message: Message) -> dict[str, Any]:
    """The fields of a ``gateway`` event; empty if it is not readable."""
    try:
        fields = msgspec.json.decode(message.data)
    except msgspec.DecodeError:
        return {}
    return fields if isinstance(fields, dict) else {}
