from itertools import islice

from hypothesis import given
from hypothesis import strategies as st

from app.upstream.backoff import CEILING, Pace, backoff


@given(st.floats(0, 1, exclude_max=True))
def test_the_first_delay_is_below_a_second_and_all_are_jittered_to_the_ceiling(
    jitter: float,
) -> None:
    first, *later = islice(backoff(lambda: jitter), 8)
    assert 0 < first < 1
    for delay, most in zip(later, [2, 4, 8, 16, 30, 30, 30], strict=True):
        assert most / 2 <= delay <= most
    assert max(later) <= CEILING


def test_leave_is_given_in_a_burst_and_then_at_the_long_run_rate() -> None:
    pace = Pace(per_minute=10, burst=5)
    assert [pace.take(100.0) for _ in range(6)] == [0, 0, 0, 0, 0, 6]
    assert pace.take(106.0) == 0
    assert pace.take(106.0) == 6


@given(st.lists(st.floats(0, 30), max_size=100))
def test_never_more_than_the_burst_and_ten_a_minute(pauses: list[float]) -> None:
    pace, now, taken = Pace(per_minute=10, burst=5), 0.0, []
    for pause in pauses:
        now += pause
        if pace.take(now) == 0:
            taken.append(now)
    for start in taken:
        within = [moment for moment in taken if start <= moment <= start + 60]
        assert len(within) <= 15
