"""How long to wait before trying again, and how often a token may be asked for. Pure."""

from collections.abc import Callable, Iterator

CEILING = 30.0


def backoff(random: Callable[[], float]) -> Iterator[float]:
    """Delays in seconds: the first below one, then doubling to 30, each jittered down by half.

    ``random`` gives numbers in [0, 1). Start a new one only after a healthy while.
    """
    yield 0.1 + 0.8 * random()
    delay = 2.0
    while True:
        yield delay * (0.5 + 0.5 * random())
        delay = min(delay * 2, CEILING)


class Pace:
    """Leave for ``burst`` at once and ``per_minute`` in the long run."""

    def __init__(self, *, per_minute: float, burst: int) -> None:
        self._interval = 60.0 / per_minute
        self._tolerance = self._interval * (burst - 1)
        self._expected = float("-inf")

    def take(self, now: float) -> float:
        """Take leave and return 0, or return the seconds after which to ask again."""
        early = self._expected - self._tolerance - now
        if early > 0:
            return early
        self._expected = max(self._expected, now) + self._interval
        return 0.0
