"""How the exchange is heard, as every client is told it."""

import time

from app.domain.health import Upstream
from app.hub import sse

RETRY = 2000
"""The reconnection time that a stream begins with, in ms."""


class Status:
    """The upstream's status and since when it holds; ``version`` grows with every change.

    ``block`` tells a change, ``opening`` stands at the beginning of a stream.
    """

    def __init__(self) -> None:
        self.version = 0
        self.upstream: Upstream = "down"
        self.since = time.time()
        self._spell()

    def change(self, upstream: Upstream, since: float) -> bool:
        """Take what is reported; False if it says nothing new."""
        if (self.upstream, self.since) == (upstream, since):
            return False
        self.version += 1
        self.upstream, self.since = upstream, since
        self._spell()
        return True

    def _spell(self) -> None:
        fields = {"type": "status", "upstream": self.upstream, "since": round(self.since, 3)}
        self.block = sse.control(fields)
        self.opening = sse.control(fields, retry=RETRY)
