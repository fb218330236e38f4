"""What is true after some events."""

from app.simulator import wire
from app.simulator.truth import Truth, depth


def test_a_delta_sets_removes_and_keeps_the_last_text() -> None:
    truth = Truth()
    asks = [["101.50", "1"], ["101.6", "2"], ["99.9", "3"]]
    truth.apply(depth("BTC_USDT:0", 5, (asks, [["98", "1"]]), full=True))
    asks = [["101.5", "4"], ["101.60", "0.000"], ["77", "0"]]
    truth.apply(depth("BTC_USDT:0", 6, (asks, []), full=False))
    book = truth.books["BTC_USDT:0"]
    assert book.best_first() == ([["99.9", "3"], ["101.5", "4"]], [["98", "1"]])
    assert (book.timestamp, book.crossed) == (6, False)


def test_a_side_may_be_missing() -> None:
    truth = Truth()
    truth.apply(depth("BTC_USDT:0", 5, ([["2", "1"]], [["1", "1"]]), full=True))
    data = {"symbol": "BTC_USDT", "timestamp": 6, "full_reload": False, "scale_index": 0}
    truth.apply(wire.event("depth", data | {"bids": [["2", "9"]]}))
    assert truth.books["BTC_USDT:0"].crossed


def test_a_full_reload_replaces_and_can_be_had_back() -> None:
    truth = Truth()
    truth.apply(depth("BTC_USDT:0", 5, ([["3", "1"]], [["1", "1"]]), full=True))
    second = depth("BTC_USDT:0", 6, ([["4", "1"], ["5", "1"]], [["2", "1"], ["1", "1"]]), full=True)
    truth.apply(second)
    assert truth.reload("BTC_USDT:0") == second
    assert truth.reload("BTC_USDT:1") is None


def test_trades_are_kept_with_plain_digits() -> None:
    truth = Truth()
    row = b'{"price":2683,"quantity":9e-05,"timestamp":5,"direction":"sell"}'
    text = b'{"method":"trade_update","data":{"symbol":"X_Y","timestamp":5,"trades":[%s,%s]}}'
    truth.apply(wire.read_event(text % (row, row)))
    first, second = truth.trades["X_Y"]
    assert (first.price, first.quantity, first.direction) == ("2683", "0.00009", "sell")
    assert first.number != second.number
