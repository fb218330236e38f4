"""Live subscriptions, by what they follow: members of a group share the same ready bytes."""

from collections.abc import Iterator

from app.domain.channel import Channel, Kind
from app.hub.subscription import Subscription


class Group:
    """Live subscriptions that follow the same channels."""

    __slots__ = ("framed", "plain", "written")

    def __init__(self, now: float) -> None:
        self.framed: dict[Subscription, None] = {}
        self.plain: dict[Subscription, None] = {}
        self.written = now

    def __len__(self) -> int:
        return len(self.framed) + len(self.plain)

    def members(self, subscription: Subscription) -> dict[Subscription, None]:
        """Those whose outlets take bytes as this one's does."""
        return self.framed if subscription.outlet.framed else self.plain

    def write(self, data: bytes, now: float) -> None:
        """Put the same bytes before every member; some may leave in the middle of it."""
        self.written = now
        if self.framed:
            framed = chunk(data)
            for subscription in tuple(self.framed):
                subscription.outlet.write(framed)
        for subscription in tuple(self.plain):
            subscription.outlet.write(data)


class Groups:
    """All groups, found by the set of channels and by each channel in it."""

    def __init__(self) -> None:
        self._groups: dict[frozenset[Channel], Group] = {}
        self._index: dict[Channel | Kind, dict[Group, None]] = {}

    def __iter__(self) -> Iterator[Group]:
        return iter(tuple(self._groups.values()))

    def following(self, channel: Channel) -> Iterator[Group]:
        """The groups that follow a channel, by itself or by a wildcard."""
        yield from self._index.get(channel, ())
        yield from self._index.get(channel.kind, ())

    def join(self, subscription: Subscription, now: float) -> None:
        """Put a subscription among those with the same channels."""
        group = self._groups.get(subscription.channels)
        if group is None:
            group = self._groups[subscription.channels] = Group(now)
            for key in _keys(subscription.channels):
                self._index.setdefault(key, {})[group] = None
        group.members(subscription)[subscription] = None

    def leave(self, subscription: Subscription) -> None:
        """Take a subscription out, and its group with the last member."""
        group = self._groups[subscription.channels]
        del group.members(subscription)[subscription]
        if not group:
            del self._groups[subscription.channels]
            for key in _keys(subscription.channels):
                del self._index[key][group]
                if not self._index[key]:
                    del self._index[key]


def chunk(data: bytes) -> bytes:
    """HTTP/1.1 chunk framing (RFC 9112, 7.1)."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def _keys(channels: frozenset[Channel]) -> Iterator[Channel | Kind]:
    """What a group is found by: each event by one key only, so that nobody gets it twice."""
    kinds = {channel.kind for channel in channels if channel.wildcard}
    yield from kinds
    yield from (channel for channel in channels if channel.kind not in kinds)
