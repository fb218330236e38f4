"""How many requests a client may make: a rate, and the counts of one process. Pure.

The last ``seconds`` are weighed as a whole window of fixed place and what still counts of the one
before it, taken for even (a sliding window counter). So a client gets no more than the quota in any
window of the clock, and not twice as much around the turn from one to the next unless all of it
came at the very end of the first.
"""

import math
import re
from typing import NamedTuple

UNITS = {"second": 1, "minute": 60, "hour": 3600}

_FORM = re.compile(r"([1-9][0-9]{0,8})/(second|minute|hour)")

SHARE = 20
"""The part of a quota that a process may give out before it tells the others: one in so many."""


class Rate(NamedTuple):
    """So many requests in so many seconds."""

    quota: int
    seconds: int

    @classmethod
    def parse(cls, text: str) -> "Rate":
        """Read ``100/second``; raises ValueError."""
        found = _FORM.fullmatch(text.strip())
        if found is None:
            units = ", ".join(UNITS)
            raise ValueError(f"expected a number, a slash and one of {units}, such as 100/second")
        return cls(int(found[1]), UNITS[found[2]])


class Told(NamedTuple):
    """What all processes together know of a client.

    ``at``: the time by their common clock, in seconds; ``so_far`` and ``before``: requests in the
    window of then and in the one before it.
    """

    at: float
    so_far: int
    before: int


class Taken(NamedTuple):
    """What became of one request.

    ``left``: how many more may be made before the window ends; negative if this one must not be.
    ``wait``: seconds until the window ends, or until one may be made again.
    """

    left: int
    wait: float

    @property
    def refused(self) -> bool:
        """Whether it was one too many."""
        return self.left < 0


class Counts:
    """The requests of each client that this process knows of; ``most`` clients in a window.

    Beyond those a client is let through uncounted: it has made no request in this window yet.
    """

    def __init__(self, rate: Rate, *, most: int = 100_000) -> None:
        self.rate = rate
        self.share = max(1, rate.quota // SHARE)
        self._most = most
        self._number = 0
        self._now: dict[str, int] = {}
        self._before: dict[str, int] = {}
        self._untold: dict[str, int] = {}

    def take(self, client: str, now: float) -> Taken:
        """One more request, by a clock that all processes share; a refused one does not count."""
        quota, seconds = self.rate
        passed = now / seconds - self._number
        if not 0 <= passed < 1:
            self._turn(now)
            passed = min(1.0, max(0.0, now / seconds - self._number))
        count = self._now.get(client, 0)
        before = self._before.get(client, 0)
        left = quota - count - 1
        if before:
            left -= math.ceil(before * (1 - passed))
        if left < 0:
            return Taken(-1, self._wait(count, before, passed))
        if count or len(self._now) < self._most:
            self._now[client] = count + 1
            self._untold[client] = self._untold.get(client, 0) + 1
        return Taken(left, (1 - passed) * seconds)

    def _wait(self, count: int, before: int, passed: float) -> float:
        """Seconds until one more would be let through."""
        quota, seconds = self.rate
        if count < quota:
            return (1 - (quota - 1 - count) / before - passed) * seconds
        return (1 - passed + 1 - (quota - 1) / count) * seconds

    def owes(self, client: str) -> bool:
        """Whether so much was given out that the others must hear of it before there is more."""
        return self.untold(client) >= self.share

    def untold(self, client: str) -> int:
        """Requests that the others have not heard of."""
        return self._untold.get(client, 0)

    def learn(self, client: str, told: Told, ours: int) -> None:
        """All processes' counts, with so many of ours that were untold among them."""
        self._turn(told.at)
        self._untold[client] = max(0, self.untold(client) - ours)
        number = int(told.at // self.rate.seconds)
        if number == self._number:
            self._now[client] = told.so_far + self.untold(client)
            self._before[client] = told.before
        else:  # it was told at the very end of the window before
            self._before[client] = max(self._before.get(client, 0), told.so_far)

    def _turn(self, now: float) -> None:
        """Begin another window if it is time; a clock that was set back far begins anew."""
        number = int(now // self.rate.seconds)
        if number > self._number or number < self._number - 1:
            self._before = self._now if number == self._number + 1 else {}
            self._now, self._untold = {}, {}
            self._number = number
