"""Price first, then time; nothing appears and nothing is lost."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from app.simulator.matching import Fill, Matching, Side

ORDERS = st.lists(
    st.tuples(st.sampled_from(("buy", "sell")), st.integers(1, 20), st.integers(1, 9)), max_size=60
)


def test_the_better_price_and_the_older_order_go_first() -> None:
    book = Matching()
    _, late = book.limit("sell", 11, 5)
    _, first = book.limit("sell", 10, 5, "mine")
    _, second = book.limit("sell", 10, 5)
    assert first is not None
    assert second is not None
    assert late is not None
    fills = book.take("buy", 12)
    assert fills == [
        Fill(10, 5, "buy", first),
        Fill(10, 5, "buy", second),
        Fill(11, 2, "buy", late),
    ]
    assert fills[0].maker.owner == "mine"
    assert book.levels("sell") == {11: 3}


def test_a_limit_stops_at_its_price_and_rests() -> None:
    book = Matching()
    book.limit("buy", 10, 5)
    fills, resting = book.limit("sell", 10, 7)
    assert sum(fill.size for fill in fills) == 5
    assert resting is not None
    assert (book.best("sell"), book.best("buy")) == (10, None)
    assert book.take("buy", 1, 9) == []
    book.remove(resting)
    book.remove(resting)
    assert book.count("sell") == 0


@given(ORDERS)
def test_a_book_never_crosses_and_keeps_every_lot(orders: list[tuple[Side, int, int]]) -> None:
    book = Matching()
    placed = taken = 0
    for side, price, size in orders:
        fills, _ = book.limit(side, price, size)
        placed += size
        taken += 2 * sum(fill.size for fill in fills)
        bid, ask = book.best("buy"), book.best("sell")
        assert bid is None or ask is None or bid < ask
    rest = sum(book.levels("buy").values()) + sum(book.levels("sell").values())
    assert placed == taken + rest


@given(ORDERS, st.lists(st.integers(0, 9), min_size=60, max_size=60))
def test_a_level_is_what_rests_there(
    orders: list[tuple[Side, int, int]], removed: list[int]
) -> None:
    book = Matching()
    for (side, price, size), chosen in zip(orders, removed, strict=False):
        book.limit(side, price, size)
        for order in list(book.orders.values())[chosen : chosen + 1]:
            book.remove(order)
        rests: dict[Side, Counter[int]] = {"buy": Counter(), "sell": Counter()}
        for order in book.orders.values():
            rests[order.side][order.price] += order.size
        for each, expected in rests.items():
            assert book.levels(each) == expected
            assert book.count(each) == len(expected)
