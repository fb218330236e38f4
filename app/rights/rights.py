"""What a caller may read: scopes, and patterns of channels. Pure.

A pattern is ``kind:subject``, in which ``*`` stands for any run of characters (``order:BTC_*``,
``*:BTC_USDT``), or ``*`` alone.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from app.domain.channel import Channel, Kind, like

SCOPES = frozenset({"market", "account", "metrics", "admin"})

MOST_PATTERNS = 100

_PATTERN = re.compile(r"([a-z]+|\*):([A-Z0-9_:*]{1,64})")


@dataclass(frozen=True, slots=True)
class Rights:
    """What one caller may do.

    ``patterns``: channels it may see, None for all that the scopes allow. ``ends``: Unix seconds
    after which it may do nothing. ``holder`` names the credentials without telling them, so that
    they can be counted and looked up again; "" has none.
    """

    scopes: frozenset[str]
    patterns: tuple[str, ...] | None = None
    ends: float | None = None
    holder: str = ""

    @property
    def anonymous(self) -> bool:
        """Whether the caller came without credentials."""
        return not self.holder

    def sees(self, channel: Channel) -> bool:
        """Whether the caller may read all of a channel."""
        if ("account" if channel.private else "market") not in self.scopes:
            return False
        if self.patterns is None:
            return True
        kind, subject = channel
        return any(
            of in {"*", kind} and like(subjects, subject)
            for of, subjects in map(_halves, self.patterns)
        )

    def narrowed(self, channels: Iterable[Channel]) -> Iterator[Channel]:
        """What may be read of ``channels``: a wildcard falls apart by the patterns."""
        for channel in channels:
            if self.sees(channel):
                yield channel
            elif channel.wildcard and self.sees_some(channel):
                yield from sorted(self._within(channel.kind))

    def sees_some(self, channel: Channel) -> bool:
        """Whether the caller may read something of a channel, of a wildcard perhaps not all."""
        if not channel.wildcard or self.patterns is None:
            return self.sees(channel)
        if ("account" if channel.private else "market") not in self.scopes:
            return False
        return bool(self._within(channel.kind))

    def _within(self, kind: Kind) -> set[Channel]:
        return {
            Channel(kind, subjects)
            for of, subjects in map(_halves, self.patterns or ())
            if of in {"*", kind}
        }


def readable(patterns: Iterable[str]) -> tuple[str, ...]:
    """Patterns as they are kept; raises ValueError for one that is malformed, or too many."""
    found = tuple(dict.fromkeys(patterns))
    if len(found) > MOST_PATTERNS:
        raise ValueError(f"expected at most {MOST_PATTERNS} channel patterns, got {len(found)}")
    for pattern in found:
        halves = _PATTERN.fullmatch(pattern)
        known = pattern == "*" or (
            halves and (halves[1] == "*" or halves[1] in Kind._value2member_map_)
        )
        if not known:
            raise ValueError(
                f"channel pattern {pattern[:80]!r} is malformed: expected one such as order:BTC_*"
            )
    return found


def _halves(pattern: str) -> tuple[str, str]:
    of, colon, subjects = pattern.partition(":")
    return (of, subjects) if colon else ("*", "*")
