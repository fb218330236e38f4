"""What the clients want followed: this process's, counted, and what other processes report.

A channel is wanted while a stream holds it, and for ``linger`` seconds after the last stream went
or the last request asked for it. A process that is no longer heard takes its wishes with it after
the same time. Pure: takes ``now`` in monotonic seconds.
"""

from collections import Counter
from collections.abc import Callable, Iterable

from app.domain.channel import Channel
from app.errors import NotReady


class Wishes:
    """Bounded by ``limit`` channels on demand; those under ``pinned`` are followed always."""

    def __init__(self, pinned: Iterable[Channel], *, linger: float, limit: int) -> None:
        self.pinned = frozenset(pinned)
        self.linger = linger
        self._limit = limit
        self._held: Counter[Channel] = Counter()
        self._until: dict[Channel, float] = {}
        self._others: dict[str, tuple[frozenset[Channel], float]] = {}
        self.on_more: Callable[[], None] = lambda: None
        """Called when something is wanted that was not before."""

    def admit(self, channels: Iterable[Channel], now: float) -> None:
        """Raise NotReady (503) if following these too would go over the limit."""
        wanted = self.wanted(now)
        more = set(self._unpinned(channels)) - wanted
        if more and len(wanted) - len(self.pinned) + len(more) > self._limit:
            raise NotReady(
                f"{self._limit} channels are followed on demand already, "
                f"{len(more)} more were asked for",
                retry_after=max(1, round(self.linger)),
            )

    def hold(self, channels: Iterable[Channel]) -> None:
        """A stream follows these from now on."""
        for channel in self._unpinned(channels):
            self._held[channel] += 1
            if self._held[channel] == 1:
                self.on_more()

    def release(self, channels: Iterable[Channel], now: float) -> None:
        """A stream that held these has ended."""
        for channel in self._unpinned(channels):
            self._held[channel] -= 1
            if self._held[channel] <= 0:
                del self._held[channel]
                self._until[channel] = now + self.linger

    def touch(self, channels: Iterable[Channel], now: float) -> None:
        """A request asked for these."""
        for channel in self._unpinned(channels):
            more = self._until.get(channel, now) <= now
            self._until[channel] = now + self.linger
            if more:
                self.on_more()

    def heard(self, process: str, channels: frozenset[Channel], now: float) -> None:
        """Another process says what its clients want."""
        before = self._others.get(process, (frozenset(), 0.0))[0]
        self._others[process] = (channels, now + self.linger)
        if channels - before:
            self.on_more()

    def own(self, now: float) -> frozenset[Channel]:
        """What this process's clients want beyond the pinned."""
        self._until = {channel: end for channel, end in self._until.items() if end > now}
        return frozenset(self._held) | frozenset(self._until)

    def wanted(self, now: float) -> frozenset[Channel]:
        """What all clients of all processes want, the pinned channels included."""
        self._others = {process: wish for process, wish in self._others.items() if wish[1] > now}
        return self.pinned.union(self.own(now), *(wish[0] for wish in self._others.values()))

    def _unpinned(self, channels: Iterable[Channel]) -> Iterable[Channel]:
        """Those to be told.

        Of the account also what a pinned wildcard brings: where there is nothing, the leader says
        so for each channel that is asked for.
        """
        return (
            channel
            for channel in channels
            if channel not in self.pinned
            and (channel.private or channel.everything not in self.pinned)
        )
