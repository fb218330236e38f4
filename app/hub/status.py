"""How the exchange is heard, as every client is told it."""

import time

from app.domain.health import Upstream
from app.hub import sse


class Status:
    """The upstream's status and since when it holds; ``version`` grows with every change."""

    def __init__(self) -> None:
        self.version = 0
        self.upstream: Upstream = "down"
        self.since = time.time()
        self.block = self.spelt()

    def change(self, upstream: Upstream, since: float) -> bool:
        """Take what is reported; False if it says nothing new."""
        if (self.upstream, self.since) == (upstream, since):
            return False
        self.version += 1
        self.upstream, self.since = upstream, since
        self.block = self.spelt()
        return True

    def spelt(self, *, retry: int | None = None) -> bytes:
        """The block that tells it; ``retry`` is the reconnection time in ms."""
        fields = {"type": "status", "upstream": self.upstream, "since": round(self.since, 3)}
        return sse.control(fields, retry=retry)
