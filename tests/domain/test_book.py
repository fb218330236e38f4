from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.book import Level, OrderBook
from tests.oracle.client import NaiveBook

NUMBERS = st.builds(
    lambda whole, zeros, fraction, tail: "0" * zeros + whole + f".{fraction}{tail}",
    st.sampled_from(["0", "5", "9", "10", "99", "100"]),
    st.integers(0, 2),
    st.sampled_from(["0", "05", "5", "45", "00000001"]),
    st.sampled_from(["", "0", "000"]),
) | st.sampled_from(["0", "1", "10", "100", "0100", "99"])
VALUES = st.sampled_from(["0", "0.0", "0.000", "00", "1", "2.50", "0.00000001", "9007199254740993"])
LEVELS = st.lists(st.builds(lambda price, value: [price, value], NUMBERS, VALUES), max_size=5)
STEPS = st.lists(st.tuples(st.booleans(), LEVELS, LEVELS), max_size=6)


def book(asks: list[Level] | None = None, bids: list[Level] | None = None) -> OrderBook:
    made = OrderBook()
    made.reload(asks or [], bids or [])
    return made


def shown(made: OrderBook | NaiveBook) -> tuple[list[Level], list[Level]]:
    return made.asks(), made.bids()


@settings(max_examples=40)
@given(STEPS)
def test_agrees_with_a_dict_of_decimals_after_any_steps(
    steps: list[tuple[bool, list[Level], list[Level]]],
) -> None:
    real, naive = OrderBook(), NaiveBook()
    for full, asks, bids in steps:
        data = {"asks": asks, "bids": bids}
        real.reload(asks, bids) if full else real.update(asks, bids)
        naive.reload(data) if full else naive.change(data)
        assert shown(naive) == shown(real)
        assert naive.crossed == real.crossed


@settings(max_examples=40)
@given(STEPS, LEVELS, LEVELS)
def test_a_reload_after_anything_equals_the_reload_alone(
    steps: list[tuple[bool, list[Level], list[Level]]], asks: list[Level], bids: list[Level]
) -> None:
    old = OrderBook()
    for full, *sides in steps:
        old.reload(*sides) if full else old.update(*sides)
    old.reload(asks, bids)
    assert shown(book(asks, bids)) == shown(old)


@settings(max_examples=40)
@given(STEPS)
def test_is_shown_best_first_by_number(
    steps: list[tuple[bool, list[Level], list[Level]]],
) -> None:
    made = OrderBook()
    for full, *sides in steps:
        made.reload(*sides) if full else made.update(*sides)
    asks = [Decimal(price) for price, _ in made.asks()]
    bids = [Decimal(price) for price, _ in made.bids()]
    assert sorted(set(asks)) == asks
    assert sorted(set(bids), reverse=True) == bids


@settings(max_examples=40)
@given(LEVELS, LEVELS, st.lists(NUMBERS, max_size=5))
def test_removing_a_level_nobody_holds_changes_nothing(
    asks: list[Level], bids: list[Level], prices: list[str]
) -> None:
    made = book(asks, bids)
    held = {Decimal(price) for price, _ in made.asks() + made.bids()}
    unknown = [[price, "0"] for price in prices if Decimal(price) not in held]
    before = shown(made)
    made.update(unknown, unknown)
    assert before == shown(made)


@pytest.mark.parametrize(
    ("first", "again"),
    [("27123.45", "27123.450"), ("0.05", "00.05"), ("0.5", "0.50"), ("100", "100.00"),
     ("100", "0100"), ("0.00003530", "0.0000353"), ("10", "10.0")],
)  # fmt: skip
def test_a_level_is_known_by_its_number_and_shown_with_its_last_text(
    first: str, again: str
) -> None:
    made = book([[first, "1"]], [])
    made.update([[again, "2.0"]], [])
    assert [[again, "2.0"]] == made.asks()
    made.update([[first, "0.000"]], [])
    assert made.asks() == []


@pytest.mark.parametrize(("low", "high"), [("10", "100"), ("99.9", "100"), ("0.05", "0.5")])
def test_numbers_that_look_alike_are_different_levels(low: str, high: str) -> None:
    made = book([[high, "1"], [low, "1"]], [[low, "1"], [high, "1"]])
    assert [[low, "1"], [high, "1"]] == made.asks()
    assert [[high, "1"], [low, "1"]] == made.bids()


@given(st.lists(st.decimals(0, 10**40, places=30).map(lambda price: format(price, "f"))))
def test_prices_of_any_size_are_in_the_order_of_numbers(prices: list[str]) -> None:
    made = book([[price, "1"] for price in prices])
    assert sorted(set(map(Decimal, prices))) == [Decimal(price) for price, _ in made.asks()]


def test_digits_beyond_a_float_are_kept_apart() -> None:
    one, other = "0.1234567890123456789", "0.1234567890123456788"
    made = book([[one, "1"], [other, "2"]])
    assert [[other, "2"], [one, "1"]] == made.asks()


@pytest.mark.parametrize("zero", ["0", "0.0", "0.000", "00", "0.000000"])
def test_zero_as_a_number_removes(zero: str) -> None:
    made = book([["1", "1"]], [["0.5", "1"]])
    made.update([["1", zero]], [["0.5", zero]])
    assert shown(made) == ([], [])


@pytest.mark.parametrize("value", ["0.00000001", "10", "100", "0.10"])
def test_a_value_with_zeros_in_it_is_not_zero(value: str) -> None:
    assert [["1", value]] == book([["1", value]]).asks()


def test_a_zero_in_a_reload_is_no_level_and_the_last_of_equal_prices_counts() -> None:
    made = book([["1", "0"], ["2", "1"], ["2.0", "3"], ["3", "1"], ["3", "0"]])
    assert made.asks() == [["2.0", "3"]]


@pytest.mark.parametrize("limit", [0, 1, 2, 3, 4, 100])
def test_a_limit_cuts_each_side_at_its_worse_end(limit: int) -> None:
    made = book([["5", "1"], ["4", "1"], ["6", "1"]], [["3", "1"], ["1", "1"], ["2", "1"]])
    assert [["4", "1"], ["5", "1"], ["6", "1"]][:limit] == made.asks(limit)
    assert [["3", "1"], ["2", "1"], ["1", "1"]][:limit] == made.bids(limit)


@pytest.mark.parametrize(
    ("bid", "ask", "crossed"),
    [("99.9", "100", False), ("100", "99.9", True), ("100", "100.0", True), ("9", "10", False)],
)
def test_is_crossed_when_the_best_bid_is_not_below_the_best_ask(
    bid: str, ask: str, *, crossed: bool
) -> None:
    made = book([[ask, "1"], ["1000", "1"]], [[bid, "1"], ["1", "1"]])
    assert crossed == made.crossed


def test_a_book_with_an_empty_side_is_not_crossed() -> None:
    assert not book([], [["1", "1"]]).crossed
    assert not book([["1", "1"]], []).crossed
    assert not book().crossed
