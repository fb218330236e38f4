"""What a benchmark makes of its figures."""

from bench.trials import Goal, Spread, Trial, ratio, values


def trials(*figures: float) -> list[Trial]:
    return [
        Trial("fanout", "a case", "a server", number, 0.0, {"cpu_us": figure})
        for number, figure in enumerate(figures)
    ]


def test_a_spread_is_the_median_with_the_least_and_the_most() -> None:
    assert values(trials(3, 1, 8), "cpu_us") == Spread(3, 1, 8)


def test_a_ratio_is_taken_within_its_round() -> None:
    """A slow minute of the machine falls on both alike."""
    assert ratio(trials(2, 20, 4), trials(1, 10, 4), "cpu_us") == Spread(2, 1, 2)


def test_a_goal_is_reached_on_its_side_of_the_limit() -> None:
    assert Goal("cpu_us", 1.1).reached(1.1)
    assert not Goal("cpu_us", 1.1).reached(1.11)
    assert Goal("cpu_us", 1.1, at_least=True).reached(1.1)
    assert not Goal("cpu_us", 1.1, at_least=True).reached(1.09)
