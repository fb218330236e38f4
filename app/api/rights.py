"""Who may read what: the one place that asks for credentials."""

from collections.abc import Iterable

from app.api.deps import Limits, LimitsDep
from app.domain.channel import Channel
from app.errors import NotAllowed


def authorise(channels: Iterable[Channel], limits: Limits) -> None:
    """Raise NotAllowed (401) unless the caller may read all of ``channels``.

    No channels means the paths that are about none: markets and status.
    """
    if not limits.anonymous:
        raise NotAllowed("everything under /v1 needs credentials here")
    for channel in channels:
        if channel.private:
            raise NotAllowed(f"{channel} is private and needs credentials")


async def signed_in(limits: LimitsDep) -> None:
    """As a route's dependency it refuses before the route's own parameters are judged."""
    authorise((), limits)
