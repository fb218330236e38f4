"""What is wanted from the exchange, which connection brings it, and how unbroken it is. Pure.

A channel is shared out to one connection and stays there while that lives. Times are Unix seconds.
"""

from collections.abc import Iterable
from dataclasses import replace

from app.domain.channel import Channel
from app.domain.health import Following

_WILDCARD_WEIGHT = 100
"""How many single channels a wildcard weighs when connections are balanced."""


class Interest:
    """The complete wanted set, shared out over the connections called ``names``.

    All of them count as up until they are said to be down, so that the first sharing is balanced.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._load = dict.fromkeys(names, 0)
        self._carrier: dict[Channel, str | None] = {}
        self._following: dict[Channel, Following] = {}
        self._run: dict[Channel, int | None] = {}

    def want(self, channels: frozenset[Channel], now: float) -> None:
        """Replace the wanted set; what a wanted wildcard covers is not followed twice."""
        wanted = {
            channel
            for channel in channels
            if channel.wildcard or channel.everything not in channels
        }
        for channel in self._carrier.keys() - wanted:
            self._unload(channel)
            del self._carrier[channel], self._following[channel], self._run[channel]
        for channel in sorted(wanted - self._carrier.keys(), key=_heaviest_first):
            self._load_on_lightest(channel)
            self._following[channel] = Following(live=False, since=now, unbroken=now, broken=now)
            self._run[channel] = None

    def down(self, name: str) -> None:
        """A connection is lost: others take what it carried; with no other left, nobody does."""
        self._load.pop(name, None)
        self._rehouse(name)

    def up(self, name: str) -> None:
        """A connection is there: it takes what nobody carries."""
        self._load.setdefault(name, 0)
        self._rehouse(None)

    def share(self, name: str | None) -> frozenset[Channel]:
        """What a connection is to bring; for None, what nobody can bring now."""
        return frozenset(channel for channel, carrier in self._carrier.items() if carrier == name)

    def observe(self, channel: Channel, run: int | None, *, live: bool, now: float) -> bool:
        """Note how a channel stands at its carrier; tells whether that is news.

        ``run`` is its run number there, the Unix microseconds at which the run began; None while
        nobody carries it.
        """
        was = is_ = self._following[channel]
        known = self._run[channel]
        if run != known:
            self._run[channel] = run
            begun = now if run is None else run // 1000 / 1000
            ended = begun if was.live else was.since
            is_ = replace(is_, unbroken=begun, broken=was.broken if known is None else ended)
        if live != was.live:
            is_ = replace(is_, live=live, since=now)
        self._following[channel] = is_
        return is_ != was

    @property
    def following(self) -> dict[Channel, Following]:
        """How confirmed each followed channel is."""
        return dict(self._following)

    def _rehouse(self, homeless: str | None) -> None:
        moved = [channel for channel, carrier in self._carrier.items() if carrier == homeless]
        for channel in sorted(moved, key=_heaviest_first):
            self._load_on_lightest(channel)

    def _load_on_lightest(self, channel: Channel) -> None:
        carrier = min(self._load, key=self._load.__getitem__, default=None)
        self._carrier[channel] = carrier
        if carrier is not None:
            self._load[carrier] += _weight(channel)

    def _unload(self, channel: Channel) -> None:
        carrier = self._carrier[channel]
        if carrier is not None:
            self._load[carrier] -= _weight(channel)


def _weight(channel: Channel) -> int:
    return _WILDCARD_WEIGHT if channel.wildcard else 1


def _heaviest_first(channel: Channel) -> tuple[int, str]:
    return -_weight(channel), str(channel)
