"""Live subscriptions, by what they follow: members of a group share the same ready bytes."""

from collections.abc import Callable, Iterator

from app.domain.channel import Channel, Kind
from app.hub.subscription import Subscription


class Group:
    """Live subscriptions that follow the same channels, through outlets of one kind.

    ``follows`` is asked for every channel of a kind of which not all are followed.
    """

    __slots__ = ("bytes", "collected", "events", "follows", "framed", "members", "written")

    def __init__(
        self, now: float, *, framed: bool, follows: Callable[[Channel], bool] | None = None
    ) -> None:
        self.framed = framed
        self.follows = follows
        self.members: dict[Subscription, Callable[[bytes], None]] = {}
        self.collected: list[bytes] = []
        self.written = now
        self.events = self.bytes = 0

    def write(self, data: bytes, now: float) -> None:
        """Put the same ready bytes before every member; some may leave in the middle of it."""
        self.written = now
        self.bytes += len(data)
        for write in tuple(self.members.values()):
            write(data)


class Groups:
    """All groups, found by the set of channels and by each channel in it.

    What is published is collected by group, and written to each member in one piece.
    """

    def __init__(self) -> None:
        self._groups: dict[tuple[frozenset[Channel], bool], Group] = {}
        self._index: dict[Channel | Kind, dict[Group, None]] = {}
        self._due: list[Group] = []

    def __iter__(self) -> Iterator[Group]:
        return iter(tuple(self._groups.values()))

    @property
    def due(self) -> bool:
        """Whether something is collected that has not been written."""
        return bool(self._due)

    def following(self, channel: Channel) -> Iterator[Group]:
        """The groups that follow a channel, by itself or by a wildcard."""
        yield from self._index.get(channel, ())
        for group in self._index.get(channel.kind, ()):
            if group.follows is None or group.follows(channel):
                yield group

    def collect(self, channel: Channel, frame: bytes) -> None:
        """Keep a frame for every group that follows a channel."""
        ready = None
        for group in self.following(channel):
            if not group.collected:
                self._due.append(group)
            if not group.framed:
                group.collected.append(frame)
                continue
            ready = ready or chunk(frame)
            group.collected.append(ready)

    def write(self, now: float) -> tuple[int, int]:
        """Write what is collected, each member once; the frames and the bytes, times members."""
        due, self._due = self._due, []
        delivered = size = 0
        for group in due:
            frames, group.collected = group.collected, []
            delivered += len(frames) * len(group.members)
            group.events += len(frames)
            data = frames[0] if len(frames) == 1 else b"".join(frames)
            size += len(data) * len(group.members)
            group.write(data, now)
        return delivered, size

    def join(self, subscription: Subscription, now: float) -> None:
        """Put a subscription among those like it; nothing may be due."""
        key = subscription.channels, subscription.outlet.framed
        group = self._groups.get(key)
        if group is None:
            group = self._groups[key] = Group(
                now,
                framed=subscription.outlet.framed,
                follows=_judge(subscription.channels),
            )
            for one in _keys(subscription.channels):
                self._index.setdefault(one, {})[group] = None
        group.members[subscription] = subscription.outlet.write
        subscription.group = group
        subscription.events -= group.events
        subscription.bytes -= group.bytes

    def leave(self, subscription: Subscription) -> None:
        """Take a subscription out, and its group with the last member."""
        key = subscription.channels, subscription.outlet.framed
        group = self._groups[key]
        del group.members[subscription]
        subscription.group = None
        subscription.events += group.events
        subscription.bytes += group.bytes
        if not group.members:
            del self._groups[key]
            for one in _keys(subscription.channels):
                del self._index[one][group]
                if not self._index[one]:
                    del self._index[one]


def chunk(data: bytes) -> bytes:
    """HTTP/1.1 chunk framing (RFC 9112, 7.1)."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def _keys(channels: frozenset[Channel]) -> Iterator[Channel | Kind]:
    """What a group is found by: each event by one key only, so that nobody gets it twice."""
    kinds = {channel.kind for channel in channels if channel.open}
    yield from kinds
    yield from (channel for channel in channels if channel.kind not in kinds)


def _judge(channels: frozenset[Channel]) -> Callable[[Channel], bool] | None:
    """What tells which channels are followed; None if the index alone tells it."""
    if all(channel.wildcard or not channel.open for channel in channels):
        return None
    return lambda channel: any(one.covers(channel) for one in channels)
