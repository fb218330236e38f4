"""What the exchange answers and whom it tells, without a port."""

import json
from typing import Any

import pytest

from app.simulator import wire
from app.simulator.truth import depth
from app.simulator.wire import Event
from tests.simulator.talk import Desk

BOOK = ([["101.5", "1"], ["101.6", "2"]], [["101.4", "3"]])


def ticker(symbol: str = "BTC_USDT", price: str = "1") -> Event:
    return wire.event("ticker", {"symbol": symbol, "timestamp": 5, "price": price})


def lastprice(price: str) -> Event:
    return wire.event("lastprice", {"symbol": "BTC_USDT", "timestamp": 5, "price": price})


def code(answers: list[Any]) -> Any:
    assert [answer["data"] for answer in answers] == [None]
    return answers[0]["error"]["code"]


@pytest.fixture
def desk() -> Desk:
    return Desk()


def test_a_ping_is_answered_with_a_pong(desk: Desk) -> None:
    answer = {"id": 1001, "method": "pong", "data": None, "error": None}
    assert desk.ask("ping") == [answer]


def test_a_ping_may_go_unanswered() -> None:
    assert Desk(pong=False).ask("ping") == []


@pytest.mark.parametrize("method", ["candles_subscribe", "candles_request", "depth_request", "x"])
def test_unknown_methods_get_code_2(desk: Desk, method: str) -> None:
    assert code(desk.ask(method)) == 2
    assert desk.violations == ["unknown method"]


@pytest.mark.parametrize(
    ("method", "name"), [("ticker", "NO_SUCH"), ("depth", "BTC_USDT:7"), ("balance", "BTC_USDT")]
)
def test_unknown_subjects_get_code_2(desk: Desk, method: str, name: str) -> None:
    assert code(desk.ask(f"{method}_subscribe", name)) == 2
    assert desk.violations == ["unknown subject"]


def test_a_malformed_request_gets_code_1(desk: Desk) -> None:
    answers = desk.say('{"id":5,"method":"ping"}')
    assert (code(answers), answers[0]["id"]) == (1, 5)
    assert desk.violations == ["malformed request"]


def test_invalid_json_ends_the_connection(desk: Desk) -> None:
    assert desk.say("{oops") == []
    assert desk.line.ended == "1007 invalid json"


def test_ids_are_noted(desk: Desk) -> None:
    for request_id in (0, 7, 7):
        desk.say(json.dumps({"id": request_id, "method": "ping", "params": []}))
    assert desk.violations == ["reserved id", "duplicate id"]


def test_only_followers_are_told(desk: Desk) -> None:
    desk.ask("ticker_subscribe", "BTC_USDT", "BTC_USDT")
    desk.line.heard.clear()
    other, _ = desk.enter()
    event = ticker()
    for each in (event, ticker("TRX_USDT"), lastprice("1")):
        desk.exchange.publish(each)
    assert desk.line.heard == [json.loads(event.text)]
    assert other.heard == []


def test_all_covers_every_market_until_taken_back(desk: Desk) -> None:
    desk.ask("ticker_subscribe", "all")
    desk.ask("ticker_unsubscribe", "TRX_USDT")
    desk.line.heard.clear()
    desk.exchange.publish(ticker("TRX_USDT"))
    desk.exchange.publish(ticker("BTC_USDT"))
    assert [event["data"]["symbol"] for event in desk.line.heard] == ["BTC_USDT"]
    desk.ask("ticker_unsubscribe", "all")
    assert not desk.client.wanted["ticker"]


@pytest.mark.parametrize("kind", ["order", "balance", "deal"])
def test_an_empty_unsubscribe_takes_back_all_of_a_private_kind(desk: Desk, kind: str) -> None:
    desk.ask(f"{kind}_subscribe", "all")
    [answer] = desk.ask(f"{kind}_unsubscribe")
    assert answer["data"] == {"status": "success"}
    assert not desk.client.wanted[kind]
    assert desk.violations == []


def test_an_empty_unsubscribe_of_a_public_kind_is_noted(desk: Desk) -> None:
    assert code(desk.ask("ticker_unsubscribe")) == 2
    assert desk.violations == ["empty public unsubscribe"]


def test_an_empty_subscribe_drops_everything_and_is_noted(desk: Desk) -> None:
    desk.ask("ticker_subscribe", "all")
    desk.ask("ticker_subscribe")
    assert not desk.client.wanted["ticker"]
    assert desk.violations == ["empty subscribe"]


def test_a_subscribe_replaces() -> None:
    desk = Desk()
    desk.ask("ticker_subscribe", "BTC_USDT")
    desk.ask("ticker_subscribe", "TRX_USDT")
    assert desk.client.wanted["ticker"].listed() == ["TRX_USDT"]


def test_a_subscribe_may_merge() -> None:
    desk = Desk(subscribe="merge")
    desk.ask("ticker_subscribe", "BTC_USDT")
    desk.ask("ticker_subscribe", "TRX_USDT")
    assert desk.client.wanted["ticker"].listed() == ["BTC_USDT", "TRX_USDT"]


def test_a_repeated_subscribe_may_be_rejected_and_leaves_nothing() -> None:
    desk = Desk(subscribe="reject")
    desk.ask("ticker_subscribe", "BTC_USDT")
    assert code(desk.ask("ticker_subscribe", "BTC_USDT", "TRX_USDT")) == 2
    assert not desk.client.wanted["ticker"]
    [answer] = desk.ask("ticker_subscribe", "BTC_USDT", "TRX_USDT")
    assert answer["error"] is None


def test_a_failed_subscribe_leaves_a_half_made_one(desk: Desk) -> None:
    desk.ask("ticker_subscribe", "BTC_USDT")
    desk.ask("ticker_subscribe", "TRX_USDT", "NO_SUCH", "BTC_USDT")
    assert desk.client.wanted["ticker"].listed() == ["TRX_USDT"]


def test_depth_begins_with_the_whole_book_behind_the_ack(desk: Desk) -> None:
    full = depth("BTC_USDT:0", 5, BOOK, full=True)
    desk.exchange.publish(full)
    ack, first = desk.ask("depth_subscribe", "BTC_USDT:0", "BTC_USDT:1")
    assert ack["method"] == "depth_subscribe"
    assert first == json.loads(full.text)


def test_depth_all_begins_with_every_book(desk: Desk) -> None:
    for subject in ("BTC_USDT:0", "BTC_USDT:1", "TRX_USDT:0"):
        desk.exchange.publish(depth(subject, 5, BOOK, full=True))
    books = [event["data"] for event in desk.ask("depth_subscribe", "all")[1:]]
    keys = [(book["symbol"], book["scale_index"]) for book in books]
    assert keys == [("BTC_USDT", 0), ("BTC_USDT", 1), ("TRX_USDT", 0)]


def test_depth_may_begin_partially() -> None:
    desk = Desk(first_depth="partial")
    desk.exchange.publish(depth("BTC_USDT:0", 5, BOOK, full=True))
    _, first = desk.ask("depth_subscribe", "BTC_USDT:0")
    assert first["data"]["full_reload"] is False


def test_a_delta_may_come_before_the_reload(desk: Desk) -> None:
    desk.exchange.publish(depth("BTC_USDT:0", 5, BOOK, full=True))
    desk.exchange.early_deltas = 1
    reloads = [e["data"]["full_reload"] for e in desk.ask("depth_subscribe", "BTC_USDT:0")[1:]]
    assert reloads == [False, True]
    assert len(desk.ask("depth_subscribe", "BTC_USDT:0")) == 2


def test_the_ack_may_come_last() -> None:
    desk = Desk(late_ack=True)
    desk.exchange.publish(depth("BTC_USDT:0", 5, BOOK, full=True))
    first, ack = desk.ask("depth_subscribe", "BTC_USDT:0")
    assert (first["method"], ack["method"]) == ("depth_update", "depth_subscribe")


def test_a_subscribe_may_go_unanswered_and_still_count() -> None:
    desk = Desk(ack=False)
    assert desk.ask("ticker_subscribe", "BTC_USDT") == []
    desk.exchange.publish(ticker())
    assert len(desk.line.heard) == 1


def test_nothing_is_pushed_at_first_unless_asked_for(desk: Desk) -> None:
    desk.exchange.publish(ticker())
    assert len(desk.ask("ticker_subscribe", "all")) == 1


def test_what_is_known_may_be_pushed_at_first() -> None:
    desk = Desk(initial=True)
    desk.exchange.publish(lastprice("1"))
    desk.exchange.publish(lastprice("2"))
    _, first = desk.ask("lastprice_subscribe", "all")
    assert first["data"]["price"] == "2"


def test_the_last_events_may_be_repeated_after_a_subscribe() -> None:
    desk = Desk(duplicate_after_reconnect=True)
    for price in ("1", "2"):
        desk.exchange.publish(lastprice(price))
    prices = [e["data"]["price"] for e in desk.ask("lastprice_subscribe", "BTC_USDT")[1:]]
    assert prices == ["1", "2"]


def test_mute_tells_nothing_and_answers(desk: Desk) -> None:
    desk.exchange.switches = desk.exchange.switches.changed({"mute": True})
    assert len(desk.ask("ticker_subscribe", "all")) == 1
    desk.exchange.publish(ticker())
    assert len(desk.line.heard) == 1
    assert "BTC_USDT" in desk.exchange.truth.tickers


def test_every_nth_event_may_be_lost() -> None:
    desk = Desk(drop_every=3)
    desk.ask("ticker_subscribe", "all")
    desk.line.heard.clear()
    for number in range(7):
        desk.exchange.publish(ticker(price=str(number)))
    assert [event["data"]["price"] for event in desk.line.heard] == ["0", "1", "3", "4", "6"]
    assert desk.exchange.events_lost == 2


def test_one_channel_may_be_lost() -> None:
    desk = Desk(drop_channel="ticker:BTC_USDT")
    desk.ask("ticker_subscribe", "all")
    desk.exchange.publish(ticker())
    desk.exchange.publish(ticker("TRX_USDT"))
    assert desk.line.heard[-1]["data"]["symbol"] == "TRX_USDT"
    assert len(desk.line.heard) == 2


def test_an_unchanged_side_may_be_left_out() -> None:
    desk = Desk(omit_unchanged_side=True)
    desk.ask("depth_subscribe", "BTC_USDT:0")
    desk.exchange.publish(depth("BTC_USDT:0", 5, ([["2", "1"]], []), full=False))
    desk.exchange.publish(depth("BTC_USDT:0", 5, ([["2", "1"]], []), full=True))
    delta, full = (event["data"] for event in desk.line.heard[1:])
    assert ("bids" in delta, full["bids"]) == (False, [])


def test_who_does_not_ask_is_closed(desk: Desk) -> None:
    desk.clock.now += 59
    desk.exchange.sweep()
    assert desk.violations == []
    desk.ask("ping")
    desk.clock.now += 59
    desk.exchange.publish(ticker())
    desk.exchange.sweep()
    assert desk.violations == []
    desk.clock.now += 2
    desk.exchange.sweep()
    assert desk.line.ended == "1000 idle"
    assert desk.violations == ["idle"]


def test_tokens_admit_once(desk: Desk) -> None:
    token = desk.exchange.token()
    assert [desk.exchange.admit(token), desk.exchange.admit(token)] == [None, "http401"]
    assert desk.violations == ["token reused"]


def test_good_tokens_may_be_refused() -> None:
    desk = Desk(accept="close")
    assert desk.exchange.admit(desk.exchange.token()) == "close"
    assert desk.violations == []


def test_more_than_ten_tokens_a_minute_are_counted(desk: Desk) -> None:
    for _ in range(11):
        desk.exchange.token()
    desk.clock.now += 61
    desk.exchange.token()
    assert desk.exchange.token_bursts == 1
