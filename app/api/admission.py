"""How many streams and long polls may be open: in the process, and for one client."""

from collections import Counter

from app.errors import TooManyStreams
from app.logs import logger
from app.telemetry import Metrics

log = logger("admission")


class Admission:
    """Counts against two limits what holds a connection."""

    def __init__(self, *, most: int, most_per_client: int) -> None:
        self._most = most
        self._most_per_client = most_per_client
        self._open: Counter[str] = Counter()
        self._all = 0

    def check(self, client: str) -> None:
        """Raise TooManyStreams if one more would be too many: 503 for all, 429 for this client."""
        if self._all >= self._most:
            raise TooManyStreams(
                f"this process serves {self._most} streams and long polls already",
                status=503,
                retry_after=30,
            )
        if self._open[client] >= self._most_per_client:
            raise TooManyStreams(
                f"{self._most_per_client} streams and long polls are open from here already",
                status=429,
                retry_after=30,
            )

    def enter(self, client: str) -> None:
        """One more is open; raises TooManyStreams as ``check`` does."""
        self.check(client)
        self._all += 1
        self._open[client] += 1

    def leave(self, client: str) -> None:
        """One that has entered is gone."""
        self._all -= 1
        self._open[client] -= 1
        if not self._open[client]:
            del self._open[client]


def refused(error: TooManyStreams, client: str, metrics: Metrics) -> None:
    """Count what was turned away, and tell who it was."""
    metrics.refused.labels("streams").inc()
    log.info("request refused", reason="streams", status=error.status, client=client)
