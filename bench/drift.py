"""How a figure moves over hours: a straight line through its samples. Pure."""

from dataclasses import dataclass
from math import inf, sqrt
from statistics import fmean

HOUR = 3600.0


@dataclass(frozen=True)
class Drift:
    """Both ends of the line, and its slope an hour with twice its error."""

    first: float
    last: float
    slope: float
    spread: float

    @property
    def stands(self) -> bool:
        """Whether the samples do not tell it from none."""
        return abs(self.slope) <= self.spread


def drift(samples: list[tuple[float, float]]) -> Drift | None:
    """The line of least squares through (seconds, value); None through fewer than three.

    The spread is two standard errors of the slope; samples that follow each other closely are
    alike, so it is taken from fewer of them: means of at most sixty pieces of the time.
    """
    pieces = _means(samples)
    if len(pieces) < 3:
        return None
    middle, level = fmean(at for at, _ in pieces), fmean(value for _, value in pieces)
    wide = sum((at - middle) ** 2 for at, _ in pieces)
    slope = sum((at - middle) * (value - level) for at, value in pieces) / wide
    left = sum((value - level - slope * (at - middle)) ** 2 for at, value in pieces)
    error = sqrt(left / (len(pieces) - 2) / wide)
    first, last = (level + slope * (at - middle) for at in (pieces[0][0], pieces[-1][0]))
    return Drift(first, last, slope * HOUR, 2 * error * HOUR)


def _means(samples: list[tuple[float, float]], most: int = 60) -> list[tuple[float, float]]:
    size = max(1, len(samples) // most)
    parts = [samples[start : start + size] for start in range(0, len(samples), size)]
    return [(fmean(at for at, _ in part), fmean(value for _, value in part)) for part in parts]


def quantile(values: list[float], share: float) -> float:
    """The value below which that share lies; inf of none."""
    ordered = sorted(values)
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)] if ordered else inf
