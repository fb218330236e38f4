"""The counts of one process."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.api.rate import SHARE, Counts, Rate, Told

START = 1_000_000.0
ONE = "192.0.2.1"
TWO = "192.0.2.2"


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("100/second", Rate(100, 1)),
        (" 6000/minute ", Rate(6000, 60)),
        ("1/hour", Rate(1, 3600)),
    ],
)
def test_rates_that_can_be_read(text: str, rate: Rate) -> None:
    assert Rate.parse(text) == rate


@pytest.mark.parametrize(
    "text", ["", "100", "0/second", "-1/second", "1.5/second", "100/day", "1e3/second", "/second"]
)
def test_others_cannot(text: str) -> None:
    with pytest.raises(ValueError, match="100/second"):
        Rate.parse(text)


def let_through(counts: Counts, client: str, now: float, most: int = 1000) -> int:
    for count in range(most):
        if counts.take(client, now).refused:
            return count
    return most


def test_a_quota_in_one_window_and_each_client_has_its_own() -> None:
    counts = Counts(Rate(5, 1))
    assert [counts.take(ONE, START).left for _ in range(7)] == [4, 3, 2, 1, 0, -1, -1]
    assert counts.take(TWO, START).left == 4


def test_the_window_before_counts_by_what_of_it_is_within_reach() -> None:
    counts = Counts(Rate(100, 10))
    assert let_through(counts, ONE, START + 9) == 100
    assert let_through(counts, ONE, START + 10) == 0
    assert let_through(counts, ONE, START + 15) == 50
    assert let_through(counts, ONE, START + 15) == 0
    assert let_through(counts, ONE, START + 30) == 100


def test_a_refusal_says_when_to_come_again() -> None:
    counts = Counts(Rate(10, 10))
    assert let_through(counts, ONE, START + 4) == 10
    for later in (4.0, 7.0, 10.0):
        refused = counts.take(ONE, START + later)
        assert refused.refused
        assert refused.wait == pytest.approx(11.0 - later)
    assert not counts.take(ONE, START + 11.0).refused


@given(
    quota=st.integers(1, 30),
    steps=st.lists(st.floats(0, 3, allow_subnormal=False), max_size=60),
)
def test_whoever_waits_as_told_is_let_through_and_no_window_holds_more_than_the_quota(
    quota: int, steps: list[float]
) -> None:
    counts, now, windows = Counts(Rate(quota, 1)), START, dict[int, int]()
    for step in steps:
        now += step
        taken = counts.take(ONE, now)
        if taken.refused:
            assert 0 < taken.wait <= 2
            now += taken.wait + 1e-6
            assert not counts.take(ONE, now).refused
        windows[int(now)] = windows.get(int(now), 0) + 1
    assert all(count <= quota for count in windows.values())


def test_who_used_up_a_part_must_tell_the_others() -> None:
    counts = Counts(Rate(100, 1))
    share = 100 // SHARE
    for _ in range(share):
        assert not counts.owes(ONE)
        counts.take(ONE, START)
    assert counts.owes(ONE)
    assert not counts.owes(TWO)
    assert counts.untold(ONE) == share
    counts.take(ONE, START)  # while they are told
    counts.learn(ONE, Told(START, 97, 0), share)
    assert not counts.owes(ONE)
    assert counts.untold(ONE) == 1
    assert counts.take(ONE, START).left == 1  # 97, one since it was told, this one
    assert let_through(counts, ONE, START) == 1


def test_what_others_counted_before_counts_too() -> None:
    counts = Counts(Rate(100, 10))
    counts.learn(ONE, Told(START + 15, 0, 100), 0)
    assert let_through(counts, ONE, START + 15) == 50


def test_a_word_that_comes_late_is_of_the_window_before() -> None:
    counts = Counts(Rate(100, 10))
    counts.take(ONE, START + 10)
    counts.learn(ONE, Told(START + 9.9, 80, 0), 0)
    assert let_through(counts, ONE, START + 15) == 100 - 1 - 40
    counts.learn(ONE, Told(START - 100, 100, 0), 0)
    assert let_through(counts, ONE, START + 30) == 100


def test_a_word_of_the_next_window_opens_it() -> None:
    counts = Counts(Rate(100, 10))
    assert let_through(counts, ONE, START + 9) == 100
    counts.learn(ONE, Told(START + 10.1, 3, 0), 0)
    assert let_through(counts, ONE, START + 19.999) == 97


def test_a_small_step_back_of_the_clock_opens_no_window_and_a_great_one_begins_anew() -> None:
    counts = Counts(Rate(5, 10))
    assert let_through(counts, ONE, START) == 5
    assert let_through(counts, ONE, START - 0.5) == 0
    assert let_through(counts, ONE, START) == 0
    assert let_through(counts, ONE, START - 1000) == 5


def test_so_many_clients_are_counted_and_no_more() -> None:
    counts = Counts(Rate(1, 1), most=2)
    for client in ("a", "b"):
        assert not counts.take(client, START).refused
        assert counts.take(client, START).refused
    assert let_through(counts, "c", START, most=50) == 50
    assert counts.take("a", START).refused
    assert not counts.owes("c")
