"""A market's rolling day (the ticker's open, high, low, volumes), in ticks and lots. PURE."""

import random
from collections import deque
from dataclasses import dataclass

SPAN = 300  # seconds a bucket holds
BUCKETS = 288


@dataclass(slots=True)
class _Bucket:
    since: float
    open: int
    high: int
    low: int
    base: int = 0
    quote: int = 0


class Day:
    """The last 24 hours in five-minute buckets; the time before the start is made up."""

    def __init__(self, price: int, lots: int, now: float, seed: str) -> None:
        chance = random.Random(seed)
        walk = [price]
        for _ in range(BUCKETS):
            walk.append(max(1, round(walk[-1] * (1 + chance.gauss(0.0, 0.0012)))))
        self._buckets: deque[_Bucket] = deque(maxlen=BUCKETS)
        for index in range(BUCKETS, 0, -1):
            first, last = walk[index], walk[index - 1]
            base = max(1, round(lots * chance.lognormvariate(3.0, 0.5)))
            bucket = _Bucket(now - SPAN * index, first, max(first, last), min(first, last), base)
            bucket.quote = base * (first + last) // 2
            self._buckets.append(bucket)
        self._base = sum(bucket.base for bucket in self._buckets)
        self._quote = sum(bucket.quote for bucket in self._buckets)
        self.last = price

    def trade(self, price: int, size: int, now: float) -> None:
        self.roll(now)
        bucket = self._buckets[-1]
        bucket.high, bucket.low = max(bucket.high, price), min(bucket.low, price)
        bucket.base += size
        bucket.quote += price * size
        self._base += size
        self._quote += price * size
        self.last = price

    def roll(self, now: float) -> None:
        """Begin the buckets that are due; the oldest fall out."""
        while now >= self._buckets[-1].since + SPAN:
            since = self._buckets[-1].since + SPAN
            self._base -= self._buckets[0].base
            self._quote -= self._buckets[0].quote
            self._buckets.append(_Bucket(since, self.last, self.last, self.last))

    @property
    def open(self) -> int:
        return self._buckets[0].open

    @property
    def high(self) -> int:
        return max(bucket.high for bucket in self._buckets)

    @property
    def low(self) -> int:
        return min(bucket.low for bucket in self._buckets)

    @property
    def volumes(self) -> tuple[int, int]:
        """Base in lots, quote in ticks times lots."""
        return self._base, self._quote
