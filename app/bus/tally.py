"""The requests of all processes' clients, counted together in Redis."""

from app.bus.link import Link
from app.bus.scripts import TALLY

LIMIT = 0.25
"""Seconds for an answer: a request waits for it."""


class Tally:
    """Counts by windows of so many seconds of Redis's clock."""

    def __init__(self, link: Link, seconds: int) -> None:
        self._link = link
        self._seconds = seconds
        self._keys = tuple(f"requests:{seconds}:{parity}" for parity in ("even", "odd"))

    async def add(self, client: str, requests: int) -> tuple[float, int, int]:
        """Count more requests: Redis's time, and the client's in its window and the one before.

        Raises BrokerUnavailable.
        """
        limit = min(LIMIT, self._link.limit)
        answer = await self._link.run(
            TALLY, self._keys, self._seconds, client, requests, limit=limit
        )
        seconds, micros, count, before = map(int, answer)
        return seconds + micros / 1e6, count, before
