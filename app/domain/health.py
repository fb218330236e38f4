"""What the leader says of the upstream: its connections, what it follows, and how live that is.

Published on every change and each second; no position, no journal. Replicas derive ``stale``,
the streams' ``status`` and readiness from it, so all processes tell the same.
"""

from dataclasses import dataclass, field
from typing import Literal

from app.domain.channel import Channel

Upstream = Literal["live", "degraded", "down"]


@dataclass(frozen=True, slots=True)
class Following:
    """How confirmed one followed channel (or wildcard) is. Times are Unix seconds.

    ``live``: subscribed, acknowledged, pongs come, not resynchronising, connection not mute.
    ``since``: when it last became live or stopped being so.
    ``unbroken``: events received from then on are an unbroken run.
    ``broken``: when the run before that ended, or when it was first asked for.
    """

    live: bool
    since: float
    unbroken: float
    broken: float


@dataclass(frozen=True, slots=True)
class ConnectionHealth:
    """One upstream socket, as ``/v1/status`` shows it."""

    name: str
    state: str
    since: float
    following: int
    reconnects: int


@dataclass(frozen=True, slots=True)
class Health:
    """The report of the process ``leader``, made at ``at`` (Unix seconds).

    ``late``: seconds ago that it was told, where it was not heard at once.
    """

    epoch: int
    at: float
    upstream: Upstream
    since: float
    connections: tuple[ConnectionHealth, ...] = ()
    following: dict[Channel, Following] = field(default_factory=dict)
    audits: dict[Channel, float] = field(default_factory=dict)
    leader: str = ""
    late: float = field(default=0.0, compare=False)

    def following_of(self, channel: Channel) -> Following | None:
        """How the upstream follows ``channel``, by itself or under its wildcard."""
        return self.following.get(channel) or self.following.get(channel.everything)

    def stale(self, channel: Channel, received: float | None, now: float, after: float) -> bool:
        """Whether ``channel``, last heard at ``received``, is unconfirmed for ``after`` seconds."""
        following = self.following_of(channel)
        if following is None:
            return True
        if not following.live and now - following.since >= after:
            return True
        heard = received is None or received >= round(following.unbroken, 3)  # both in whole ms
        return not heard and now - following.broken >= after
