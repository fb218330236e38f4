"""What a soak makes of its samples."""

import math
import random

import pytest

from bench.drift import HOUR, drift, quantile


def test_a_line_is_found_in_noise() -> None:
    chance = random.Random(2)
    samples = [(float(at), 100 + 10 * at / HOUR + chance.gauss(0, 1)) for at in range(0, 3600, 5)]
    found = drift(samples)
    assert found is not None
    assert found.slope == pytest.approx(10, abs=found.spread)
    assert found.spread < 1
    assert found.first == pytest.approx(100, abs=1)
    assert found.last == pytest.approx(110, abs=1)
    assert not found.stands


def test_noise_alone_is_no_drift() -> None:
    chance = random.Random(2)
    found = drift([(float(at), 100 + chance.gauss(0, 5)) for at in range(0, 3600, 5)])
    assert found is not None
    assert found.stands


def test_what_never_moves_stands() -> None:
    found = drift([(float(at), 12.0) for at in range(10)])
    assert found is not None
    assert (found.slope, found.spread, found.stands) == (0, 0, True)


def test_two_samples_tell_nothing() -> None:
    assert drift([(0, 1), (1, 2)]) is None


def test_a_quantile_is_a_value() -> None:
    values = [float(one) for one in range(100, 0, -1)]
    assert (quantile(values, 0.5), quantile(values, 0.99), quantile(values, 1)) == (51, 100, 100)
    assert math.isinf(quantile([], 0.5))
