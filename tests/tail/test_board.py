from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.book import OrderBook
from app.tail.board import FINISHED, TAPE, Board, Book, Unreadable, decode
from tests.tail.given import board, book, deal, made, order, price, row, trades


def test_a_price_keeps_its_text_and_knows_its_last_move() -> None:
    shown = board(price("10.50", "7-1"))
    steps = [("10.6", 1), ("10.600", 1), ("9", -1), ("9.0", -1), ("10", 1)]
    for number, (text, trend) in enumerate(steps, 2):
        envelope = price(text, f"7-{number}", previous=f"7-{number - 1}")
        assert shown.follows(envelope)
        assert shown.apply(envelope, 1000.0 + number)
        quote = shown.prices["BTC_USDT"]
        assert (quote.data["price"], quote.trend) == (text, trend)
    assert shown.prices["BTC_USDT"].moved == 1006.0


def test_what_is_not_above_what_is_held_changes_nothing() -> None:
    shown = board(price("1", "7-10"))
    assert not shown.apply(price("2", "7-10"), 1001.0)
    assert not shown.apply(price("2", "7-9", previous="7-8"), 1001.0)
    assert not shown.apply(price("2", "6-99"), 1001.0)
    assert shown.prices["BTC_USDT"].data["price"] == "1"


def test_an_update_follows_only_the_position_held() -> None:
    shown = board(price("1", "7-10"))
    assert shown.follows(price("2", "7-12", previous="7-10"))
    assert not shown.follows(price("2", "7-12", previous="7-11"))
    assert shown.follows(price("2", "8-1"))
    assert not Board().follows(price("2", "7-2", previous="7-1"))


def test_the_tape_is_newest_first_over_all_markets() -> None:
    shown = board(
        trades("BTC_USDT", "7-1", row("2", time=20), row("1", time=10)),
        trades("ETH_USDT", "7-2", row("9", time=15)),
        trades("BTC_USDT", "7-3", row("3", time=30), row("4", time=30), previous="7-1"),
    )
    assert [one["price"] for one in shown.trades] == ["4", "3", "2", "9", "1"]
    shown.apply(trades("BTC_USDT", "8-1", row("5", time=12)), 1000.0)
    assert [one["price"] for one in shown.trades] == ["9", "5"]


def test_the_tape_is_bounded() -> None:
    rows = [row(str(number)) for number in range(TAPE)]
    shown = board(trades("A_B", "7-1", *rows), trades("C_D", "7-2", *rows))
    assert len(shown.trades) == TAPE


LEVEL = st.tuples(
    st.sampled_from(["1", "1.0", "01.50", "1.5", "2", "2.00", "3.25"]),
    st.sampled_from(["0", "0.000", "1", "0.5", "2.50"]),
)
CHANGE = st.tuples(st.booleans(), st.lists(LEVEL, max_size=6), st.lists(LEVEL, max_size=6))


@given(st.lists(CHANGE, max_size=8))
def test_a_book_is_that_of_the_gateway(changes: list[tuple[bool, Any, Any]]) -> None:
    ours, theirs = Book(), OrderBook()
    for whole, asks, bids in changes:
        ours.apply({"asks": asks, "bids": bids}, whole=whole)
        change = theirs.reload if whole else theirs.update
        change([list(level) for level in asks], [list(level) for level in bids])
    for limit in (1, 99):
        assert [list(level) for level in ours.asks(limit)] == theirs.asks(limit)
        assert [list(level) for level in ours.bids(limit)] == theirs.bids(limit)
    assert (ours.spread is None) == (not theirs.asks() or not theirs.bids())


def test_the_spread_is_exact() -> None:
    shown = board(book("7-1", [("100.10", "1")], [("99.9", "1")])).books["BTC_USDT:0"]
    assert shown.spread == (Decimal("0.20"), Decimal("0.2"))
    shown.apply({"asks": [("0", "1")], "bids": [("0", "1")]}, whole=True)
    assert shown.spread == (Decimal(0), Decimal(0))


def test_orders_are_kept_by_id_and_replaced_by_market() -> None:
    done = order("b", finishTs=950)
    shown = board(
        made("order:BTC_USDT", "7-1", {"symbol": "BTC_USDT", "orders": [order("c"), done]}),
        made("order:ETH_USDT", "7-2", {"orders": [order("e", market="ETH_USDT")]}),
        made("order:BTC_USDT", "7-3", {"type": "created", "info": order("d")}, previous="7-1"),
    )
    assert list(shown.orders) == ["b", "c", "e", "d"]
    shown.apply(made("order:BTC_USDT", "8-1", {"orders": []}), 1000.0)
    assert list(shown.orders) == ["e"]


def test_finished_orders_are_bounded_and_open_ones_are_not_dropped() -> None:
    count = FINISHED + 5
    many = [order(f"f{number}", finishTs=950) for number in range(count)]
    still = [order(f"o{number}") for number in range(count)]
    shown = board(made("order:BTC_USDT", "7-1", {"orders": [*many, *still]}))
    assert sum(key.startswith("f") for key in shown.orders) == FINISHED
    assert sum(key.startswith("o") for key in shown.orders) == count
    assert "f0" in shown.orders  # the newest


def test_balances_deals_and_tickers() -> None:
    ticker = {"symbol": "BTC_USDT", "price": "1", "price_change": "-0.1"}
    shown = board(
        made("balance:USDT", "7-1", {"info": {"newBalance": "5.0"}}),
        made("balance:USDT", "7-2", {"info": {"newBalance": "4.5"}}, previous="7-1"),
        made("deal:BTC_USDT", "7-3", {"deals": [deal("b", time=20), deal("a", time=10)]}),
        made("deal:BTC_USDT", "7-4", {"info": deal("c", time=30)}, previous="7-3"),
        made("ticker:BTC_USDT", "7-5", ticker),
    )
    assert (shown.balances["USDT"].data["info"]["newBalance"], shown.balances["USDT"].trend) == (
        "4.5",
        -1,
    )
    assert [one["transactionId"] for one in shown.deals] == ["c", "b", "a"]
    assert shown.tickers["BTC_USDT"].data == ticker


def test_a_balance_keeps_what_rest_said_until_a_snapshot() -> None:
    told = {"info": {"currencyCode": "USDT"}, "available": "5", "held": "1"}
    change = {"info": {"newBalance": "4"}}
    shown = board(
        made("balance:USDT", "7-1", told),
        made("balance:USDT", "7-2", change, previous="7-1"),
        made("balance:BTC", "7-3", {"info": {"currencyCode": "BTC"}}),
    )
    assert shown.balances["USDT"].data == {**change, "available": "5", "held": "1"}
    assert shown.balances["USDT"].trend == -1
    shown.apply(made("balance:USDT", "7-4", change), 1000.0)
    assert shown.balances["USDT"].data == change


@pytest.mark.parametrize(
    ("channel", "position", "data"),
    [
        ("lastprice:A_B", "7-1", {}),
        ("lastprice:A_B", "7-1", {"price": "abc"}),
        ("trade:A_B", "7-1", {"trades": 5}),
        ("depth:A_B:0", "7-1", {"asks": [["1"]]}),
        ("depth:A_B:0", "7-1", {"asks": [[None, None]]}),
        ("order:A_B", "7-1", {"orders": [[]]}),
        ("candles:A_B", "7-1", {}),
    ],
)
def test_data_that_is_not_of_the_contract_is_unreadable(
    channel: str, position: str, data: dict[str, Any]
) -> None:
    with pytest.raises(Unreadable, match=f"{channel} at {position}"):
        Board().apply(made(channel, position, data), 1000.0)


def test_a_malformed_position_is_unreadable() -> None:
    shown = board(price("1", "7-1"))
    with pytest.raises(Unreadable, match="at nonsense"):
        shown.apply(price("1", "nonsense"), 1000.0)


def test_envelopes_are_read_from_json() -> None:
    text = (
        '{"channel":"ticker:A_B","type":"update","position":"7-2","previous":"7-1","time":null,'
        '"received":1.5,"data":{"price":"1.50"},"gap":true,"new":1}'
    )
    read = decode(text)
    assert (read.channel, read.data, read.gap, read.time) == (
        "ticker:A_B",
        {"price": "1.50"},
        True,
        None,
    )
    for other in ("", "[]", '{"channel":1}', text.replace("update", "other")):
        with pytest.raises(Unreadable, match="no envelope"):
            decode(other)
