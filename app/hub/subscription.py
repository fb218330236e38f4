"""One client's place in the hub: what it follows and how far it has got.

A subscription is live (it has everything up to the head) or catching up. Starting, resuming, being
reset and lagging are one mechanism: ``at`` is the position up to which it has everything on its
channels, and a slice brings it on, either event by event out of the history, or by the snapshots
of the channels whose state is above ``at``, ascending. An event on a channel that is owed a
snapshot only keeps it owed, so nothing grows while a client is slow.
"""

from collections.abc import Callable
from math import inf
from typing import TYPE_CHECKING, Literal, Protocol

from app.domain.channel import Channel, Kind
from app.domain.position import START
from app.domain.store import State, Store
from app.hub import sse
from app.hub.history import History

if TYPE_CHECKING:
    from app.hub.groups import Group

EACH_COUNTS = frozenset({Kind.TRADE, Kind.ORDER, Kind.DEAL})
"""Kinds of which a client must miss no event: lagging on them ends the stream."""

SLICE = 32 * 1024
STEPS = 4096

End = Literal["drain", "lifetime", "slow", "expired", "overload", "limit"]


class Owner(Protocol):
    """Whom an outlet tells how it is."""

    def full(self) -> None:
        """The outlet is full: called once, before it takes any more."""

    def drained(self) -> None:
        """The outlet was full and has drained."""

    def gone(self) -> None:
        """The connection is lost: nothing may be written from here on."""


class Outlet(Protocol):
    """Where one client's bytes go. It never waits, and tells its owner how it is."""

    framed: bool
    """Whether bytes must carry HTTP/1.1 chunk framing already."""
    owner: Owner
    """Set by the hub."""

    def write(self, data: bytes) -> None:
        """Take bytes; those beyond its bound too, but it tells that it is full then."""

    def backlog(self) -> int:
        """Bytes that the client has not taken yet, as far as is known."""

    def close(self) -> None:
        """End the response politely, after what was written."""

    def abort(self) -> None:
        """Drop the connection and everything that waits in it."""


class Keeper(Protocol):
    """What a subscription needs of the hub."""

    def pause(self, subscription: "Subscription") -> None:
        """Its outlet is full."""

    def resume(self, subscription: "Subscription") -> None:
        """Its outlet has drained."""

    def leave(self, subscription: "Subscription") -> None:
        """Its client is gone."""


class Subscription:
    """Its channels, its place, and what the hub needs to know of its outlet.

    It is live while it is in a ``group``. ``ended`` says why, and is empty before. ``events`` and
    ``bytes`` are what was written to it, once it is in none: what a group writes is counted once,
    for all of its members. ``taken``
    are the bytes that its client was last seen to have taken, at monotonic ``took_at`` if more
    waited then.
    """

    __slots__ = (
        "_keeper",
        "_kinds",
        "_narrowed",
        "at",
        "by_history",
        "bytes",
        "channels",
        "each_counts",
        "ended",
        "ends_at",
        "events",
        "group",
        "lagging",
        "on_left",
        "outlet",
        "paused",
        "permitted",
        "taken",
        "told",
        "took_at",
    )

    def __init__(
        self,
        channels: frozenset[Channel],
        outlet: Outlet,
        keeper: Keeper,
        *,
        ends_at: float,
        on_left: Callable[["Subscription"], None] = lambda _: None,
        permitted: Callable[[], bool] | None = None,
    ) -> None:
        self.channels = channels
        self.outlet = outlet
        self.ends_at = ends_at
        self.on_left = on_left
        self.permitted = permitted
        self._keeper = keeper
        self.at = START
        self.by_history = False
        self.group: Group | None = None
        self.ended = ""
        self.lagging = False
        self.paused = False
        self.taken: float = -inf
        self.took_at: float | None = None
        self.events = self.bytes = 0
        self.told = -1
        self.each_counts = any(channel.kind in EACH_COUNTS for channel in channels)
        self._kinds = frozenset(channel.kind for channel in channels if channel.wildcard)
        self._narrowed = tuple(
            channel for channel in channels if channel.open and not channel.wildcard
        )

    def full(self) -> None:
        """Its outlet is full."""
        self._keeper.pause(self)

    def drained(self) -> None:
        """Its outlet has drained."""
        self._keeper.resume(self)

    def gone(self) -> None:
        """Its client is gone."""
        self._keeper.leave(self)

    @property
    def live(self) -> bool:
        """Whether it has everything up to the head, and gets what its group gets."""
        return self.group is not None

    @property
    def written(self) -> int:
        """Bytes written to it, in a group or not."""
        return self.bytes if self.group is None else self.bytes + self.group.bytes

    def follows(self, channel: Channel) -> bool:
        """Whether the client asked for this channel, by itself or by a wildcard."""
        return (
            channel.kind in self._kinds
            or channel in self.channels
            or any(one.covers(channel) for one in self._narrowed)
        )

    def takes_more(self) -> bool:
        """Whether its outlet may be written to now: not ended, not full."""
        return not self.ended and not self.paused

    def over(self, now: float) -> End | None:
        """Why it must end at monotonic ``now``; None while it may go on."""
        if self.ended:
            return None
        if now >= self.ends_at:
            return "lifetime"
        return None if self.permitted is None or self.permitted() else "expired"

    def owed(self, store: Store) -> list[State]:
        """The states the client does not hold yet, in the order of their positions."""
        behind = [state for state in store.matching(self.channels) if state.position > self.at]
        return sorted(behind, key=lambda state: state.position)

    def slice(self, store: Store, history: History) -> bytes | None:
        """The next piece of what the client is behind with; None once it has everything."""
        if not self.by_history:
            return self._snapshots(store)
        if self.at == history.head:
            return None
        frames, self.at = history.after(self.at, self.follows, size=SLICE, steps=STEPS)
        self.events += len(frames)
        return b"".join(frames)

    def _snapshots(self, store: Store) -> bytes | None:
        """Only the last of a run carries its id: an id never covers what was not sent yet."""
        owed = self.owed(store)
        frames: list[bytes] = []
        size = 0
        for number, state in enumerate(owed, 1):
            frames.append(sse.frame(state.snapshot(), identified=number == len(owed)))
            self.at = state.position
            size += len(frames[-1])
            if size >= SLICE:
                break
        self.events += len(frames)
        return b"".join(frames) or None
