"""The planned switch from an old socket to a new one that brings the same channels. Pure.

Both are heard for a while. A channel is joined where the new socket's rows are found as one run in
the old one's, so that nothing is lost and nothing comes twice; a book, where the new one reloads
it. Right as long as neither socket is more than ``SKEW`` behind the other.
"""

from collections import deque
from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass, field

import msgspec
from msgspec.structs import replace

from app.domain.channel import Channel, Kind
from app.domain.event import Event
from app.upstream.session import Session

SKEW = 2.0
"""Seconds by which one socket may be behind the other."""

_LATEST = frozenset({Kind.LASTPRICE, Kind.TICKER})
"""Kinds whose last event is all that counts: nothing is missing if either socket was heard."""

_encode = msgspec.json.Encoder(order="deterministic").encode


@dataclass(slots=True)
class _Splice:
    """One channel, while both sockets bring it.

    ``told`` are the rows that the old socket has published; ``held`` are the new one's events,
    until they are matched; ``expected`` are rows told already, which the new one still owes.
    """

    run: int | None = None
    told: list[Hashable] = field(default_factory=list)
    told_at: float = float("-inf")
    held: list[Event] = field(default_factory=list)
    held_since: float = float("-inf")
    joined: bool = False
    lost: bool = False
    expected: deque[Hashable] = field(default_factory=deque)


class Handover:
    """The overlap of two sockets' sessions; ``now`` is monotonic seconds."""

    def __init__(self, old: Session, new: Session) -> None:
        self._old = old
        self._new = new
        self._splices: dict[Channel, _Splice] = {}
        self._confirmed: float | None = None
        self._breaks: int | None = None

    def confirm(self, now: float) -> None:
        """All that the new socket is to bring has been confirmed."""
        if self._confirmed is None:
            self._confirmed = now
            self._breaks = self._new.breaks

    @property
    def confirmed(self) -> bool:
        """Whether the new socket can carry on alone."""
        return self._confirmed is not None

    @property
    def joined(self) -> list[Channel]:
        """The channels that only the new socket has told of lately."""
        return [channel for channel, splice in self._splices.items() if splice.joined]

    def done(self, now: float) -> bool:
        """Whether nothing is left to wait for."""
        return self._overlapped(now) and all(
            splice.lost or (splice.joined and not splice.expected)
            for splice in self._splices.values()
        )

    def _overlapped(self, now: float) -> bool:
        """Whether the old socket has told all that the new one was too late to listen to."""
        return self._confirmed is not None and now - self._confirmed >= SKEW

    def old(self, events: Iterable[Event], now: float) -> list[Event]:
        """What of the old socket's events is to be published."""
        published = []
        for event in events:
            splice = self._splices.setdefault(event.channel, _Splice())
            if splice.joined:
                continue
            if splice.run != event.continuity:
                splice.run = event.continuity
                splice.told.clear()
            if event.channel.kind is not Kind.DEPTH:
                splice.told.extend(_rows(event))
            splice.told_at = now
            published.append(event)
        return published

    def new(self, events: Iterable[Event], now: float) -> list[Event]:
        """What of the new socket's events is to be published."""
        published: list[Event] = []
        for event in events:
            splice = self._splices.setdefault(event.channel, _Splice())
            if splice.joined and not splice.lost:
                published.extend(self._passed(splice, event))
            elif event.channel.kind is Kind.DEPTH:  # a session begins a book with its reload
                published.append(replace(event, continuity=self._join(event.channel, splice)))
            else:
                self._hold(splice, event, now)
        return published

    def settle(self, now: float) -> list[Event]:
        """Join what can be joined by now: what is to be published of it."""
        published: list[Event] = []
        self._forget()
        if self._confirmed is None:
            return published
        for channel, splice in self._splices.items():
            if splice.joined or channel.kind is Kind.DEPTH:
                continue
            if splice.held:
                if now - splice.held_since >= SKEW:
                    published.extend(self._match(channel, splice))
            elif self._overlapped(now) and self._was_early(splice, now):
                self._join(channel, splice)
        return published

    def finish(self, now: float) -> list[Event]:
        """End the overlap: what is still to be published. What was not joined has a gap."""
        self._forget()
        whole = self._overlapped(now) and self._breaks == self._new.breaks
        if whole and self._old.fault is None:  # else the old one may have been deaf before
            self._continue_quiet()
        published: list[Event] = []
        for channel, splice in self._splices.items():
            if splice.joined and not splice.lost and not splice.expected:
                continue
            held = splice.held
            if channel.kind in _LATEST:
                told = set(splice.told)
                held = [event for event in held if told.isdisjoint(_rows(event))]
            else:
                self._new.lose(now, channel)
            run = self._new.run(channel)
            published.extend(replace(event, continuity=run) for event in held)
        return published

    def _forget(self) -> None:
        """Leave out what is no longer wanted."""
        for channel in [one for one in self._splices if not self._new.hears(one)]:
            del self._splices[channel]

    def _continue_quiet(self) -> None:
        """What neither socket spoke of goes on as it was; what was joined is joined already."""
        kept = {channel: self._new.run(channel) for channel in self.joined}
        self._new.continue_runs(self._old)
        self._new.adopt(kept)

    def _was_early(self, splice: _Splice, now: float) -> bool:
        """Whether what was told is too old for the new socket to bring it, ever."""
        since = self._confirmed or 0.0
        return splice.told_at <= since + SKEW and now - splice.told_at >= SKEW

    def _hold(self, splice: _Splice, event: Event, now: float) -> None:
        if splice.held and splice.held[-1].continuity != event.continuity:
            splice.held.clear()  # something is missing in it: match what comes from here on
        if not splice.held:
            splice.held_since = now
        splice.held.append(event)

    def _join(self, channel: Channel, splice: _Splice) -> int:
        splice.joined = True
        if not self._old.hears(channel):  # it ended before this was wanted
            return self._new.run(channel)
        run = self._old.run(channel)
        self._new.adopt({channel: run})
        return run

    def _match(self, channel: Channel, splice: _Splice) -> list[Event]:
        """Find the new rows in the old ones; only the one place where they fit is trusted."""
        told, coming = splice.told, [row for event in splice.held for row in _rows(event)]
        places = [at for at in range(len(told)) if _fits(told, at, coming)]
        if len(places) != 1:
            return []
        at = places[0]
        splice.expected.extend(told[at + len(coming) :])
        run = self._join(channel, splice)
        held, splice.held = splice.held, []
        return [replace(event, continuity=run) for event in _without(held, len(told) - at)]

    def _passed(self, splice: _Splice, event: Event) -> list[Event]:
        """An event of a joined channel, without the rows that the old socket told already."""
        if not splice.expected:
            return [event]
        rows = _rows(event)
        common = min(len(rows), len(splice.expected))
        if rows[:common] == [splice.expected.popleft() for _ in range(common)]:
            return list(_without([event], common))
        splice.expected.clear()
        if event.channel.kind in _LATEST:
            return [event]
        splice.lost = True
        splice.held = [event]
        return []


def _rows(event: Event) -> list[Hashable]:
    """What both sockets tell alike, however they batch it."""
    if event.channel.kind is not Kind.TRADE:
        return [_encode(event.data)]
    return [
        (row["price"], row["quantity"], row["timestamp"], row["direction"])
        for row in event.data["trades"]
    ]


def _fits(told: list[Hashable], at: int, coming: list[Hashable]) -> bool:
    if not coming or told[at] != coming[0]:
        return False
    length = min(len(told) - at, len(coming))
    return told[at : at + length] == coming[:length]


def _without(events: list[Event], rows: int) -> Iterator[Event]:
    """The events without their first ``rows`` rows."""
    for event in events:
        size = len(_rows(event))
        if rows == 0:
            yield event
        elif rows >= size:
            rows -= size
        else:
            data = {**event.data, "trades": event.data["trades"][rows:]}
            rows = 0
            yield replace(event, data=data)
