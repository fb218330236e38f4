import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.position import Position, next_epoch

NUMBERS = st.integers(min_value=0, max_value=10**16 - 1)


@given(NUMBERS, NUMBERS)
def test_is_read_as_it_was_written(epoch: int, sequence: int) -> None:
    position = Position(epoch, sequence)
    assert position == Position.parse(str(position))


@given(NUMBERS, NUMBERS, NUMBERS, NUMBERS)
def test_compares_by_number_epoch_first(a: int, b: int, c: int, d: int) -> None:
    assert ((a, b) < (c, d)) == (Position(a, b) < Position(c, d))


def test_is_written_as_the_contract_shows() -> None:
    assert str(Position(7, 48213)) == "7-48213"


@pytest.mark.parametrize(
    "text",
    ["", "7", "-", "7-", "-7", "7-48213 ", "7-48213\n", " 7-1", "07-1", "7-01", "+7-1", "7--1",
     "7-1-1", "7_0-1", "٣-1", "7-1.0", "x-y", "7-1e3", "1" * 17 + "-1", "1-" + "1" * 17,
     "0x7-1", "7\u20101", "7-1,8-1", "*", "$"],
)  # fmt: skip
def test_has_only_one_spelling(text: str) -> None:
    assert Position.parse(text) is None


@given(st.text(max_size=40))
def test_reads_nothing_but_its_own_spelling(text: str) -> None:
    position = Position.parse(text)
    assert position is None or str(position) == text


def test_a_new_epoch_is_the_clock_in_milliseconds() -> None:
    assert next_epoch(0, 1795335123.456) == 1795335123456


@pytest.mark.parametrize("highest", [1795335123456, 1795335123999, 2795335123456])
def test_a_new_epoch_is_above_every_known_one_even_if_the_clock_went_back(highest: int) -> None:
    assert highest + 1 == next_epoch(highest, 1795335123.456)
