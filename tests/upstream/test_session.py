import json
import logging
import re
from itertools import count
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.channel import Channel, Kind, depth
from app.domain.event import Event
from app.errors import ConnectionLost, ProtocolViolation
from app.telemetry import Metrics
from app.upstream.session import FIRST_ID, Session, SessionOptions, State

TICKERS = Channel.parse("ticker:*")
BTC = Channel.parse("ticker:BTC_USDT")
PRICE = Channel.parse("lastprice:BTC_USDT")
BOOK = depth("BTC_USDT", 0)


class Talk:
    """A session and the exchange's side of it, written by hand."""

    def __init__(self, *, now: float = 0.0, **options: Any) -> None:
        self.metrics = Metrics()
        self.now = now
        self.pongs = self.acks = True
        self.pings: list[dict[str, Any]] = []
        self.asked: list[dict[str, Any]] = []
        self._unanswered: list[dict[str, Any]] = []
        self.session = Session(
            "upstream-1",
            now,
            options=SessionOptions(**options),
            metrics=self.metrics,
            runs=count(1),
        )

    def state(self) -> State:
        return self.session.state

    def fault(self) -> str | None:
        return None if self.session.fault is None else str(self.session.fault)

    def want(self, *channels: Channel) -> None:
        self.session.want(frozenset(channels), self.now)

    def live(self, *channels: Channel) -> None:
        """Want, and have that confirmed."""
        self.want(*channels)
        self.settle()

    def settle(self) -> list[tuple[str, list[str]]]:
        """Answer, as far as pongs and acks are on, all there is to answer: what was asked."""
        before = len(self.asked)
        while sent := [json.loads(frame) for frame in self.session.outgoing()]:
            for request in sent:
                if request["method"] == "ping":
                    self.pings.append(request)
                    if self.pongs:
                        self.hear({"id": request["id"], "method": "pong", "data": None})
                else:
                    self.asked.append(request)
                    self._unanswered.append(request)
            if self.acks:
                self.answer()
        return [(one["method"], one["params"]) for one in self.asked[before:]]

    def answer(self, *, accept: bool = True) -> None:
        unanswered, self._unanswered = self._unanswered, []
        for request in unanswered:
            data = {"status": "success"} if accept else None
            error = None if accept else {"message": "no", "code": 2}
            self.hear({"id": request["id"], "data": data, "error": error})

    def wait(self, seconds: float) -> list[tuple[str, list[str]]]:
        """Let time pass, waking the session whenever it wants to be woken: what was asked."""
        asked, end = self.settle(), self.now + seconds
        while (wake := self.session.next_wake()) is not None and wake <= end:
            self.now = max(self.now, wake)
            self.session.wake(self.now)
            asked += self.settle()
        self.now = end
        return asked

    def hear(self, message: dict[str, Any]) -> list[Event]:
        self.raw(json.dumps(message))
        return self.session.events()

    def raw(self, frame: str | bytes) -> None:
        self.session.receive(frame, self.now, 1000.0 + self.now)

    def price(self, text: str = "1", symbol: str = "BTC_USDT") -> list[Event]:
        data = {"symbol": symbol, "timestamp": 5, "price": text}
        return self.hear({"id": 0, "method": "lastprice_update", "data": data})

    def book(self, *, full: bool) -> list[Event]:
        data = {"symbol": "BTC_USDT", "timestamp": 5, "full_reload": full, "scale_index": 0}
        return self.hear({"id": 0, "method": "depth_update", "data": data})

    def violations(self, reason: str) -> float:
        value = self.metrics.registry.get_sample_value(
            "sluice_upstream_violations_total", {"reason": reason}
        )
        return value or 0.0


def test_a_session_starts_with_a_ping_and_lives_with_its_pong() -> None:
    talk = Talk()
    assert talk.state() is State.OPENING
    talk.settle()
    assert talk.pings == [{"id": FIRST_ID, "method": "ping", "params": []}]
    assert talk.state() is State.LIVE
    talk.session.state = State.LIVE
    assert talk.state() is State.LIVE


def test_an_acknowledgement_proves_life_too_and_may_echo_the_id_as_text() -> None:
    talk = Talk()
    talk.pongs = talk.acks = False
    talk.want(PRICE)
    talk.settle()
    talk.hear({"id": str(talk.asked[0]["id"]), "data": {"status": "success"}, "error": None})
    assert talk.state() is State.LIVE
    assert talk.session.confirmed(PRICE)


def test_every_kind_gets_one_subscribe_with_its_complete_set() -> None:
    talk = Talk()
    talk.want(PRICE, BTC, BOOK, depth("ETH_USDT", 1), Channel.parse("balance:*"))
    assert dict(talk.settle()) == {
        "lastprice_subscribe": ["BTC_USDT"],
        "ticker_subscribe": ["BTC_USDT"],
        "depth_subscribe": ["BTC_USDT:0", "ETH_USDT:1"],
        "balance_subscribe": ["all"],
    }
    assert [one["id"] for one in talk.asked] == list(range(FIRST_ID + 1, FIRST_ID + 5))


def test_an_event_carries_its_run_and_when_it_was_received() -> None:
    talk = Talk()
    talk.live(PRICE)
    talk.now = 2.5
    (event,) = talk.price("2683.80")
    assert event.channel == PRICE
    assert event.data["price"] == "2683.80"
    assert (event.time, event.received, event.full) == (5, 1002.5, False)
    assert event.continuity == talk.session.run(PRICE)


def test_an_event_that_nobody_wants_is_dropped() -> None:
    talk = Talk()
    talk.live(PRICE)
    assert talk.price(symbol="ETH_USDT") == []


def test_a_foreign_event_is_of_no_concern() -> None:
    talk = Talk()
    talk.live(PRICE)
    run = talk.session.run(PRICE)
    assert talk.hear({"id": 0, "method": "candles_update", "data": []}) == []
    assert talk.session.run(PRICE) == run


def test_a_reply_to_no_request_is_counted() -> None:
    talk = Talk()
    talk.hear({"id": 5, "data": None, "error": None})
    talk.hear({"id": None, "data": None, "error": {"message": "format", "code": 1}})
    assert talk.violations("reply to no request") == 2


def test_plain_events_do_not_change_the_revision() -> None:
    talk = Talk()
    talk.live(PRICE)
    before = talk.session.revision
    talk.price()
    assert talk.session.revision == before
    talk.want()
    assert talk.session.revision > before


# Keepalive


def test_pings_go_out_at_their_interval_with_new_ids() -> None:
    talk = Talk(ping_interval=20)
    talk.wait(65)
    assert [one["id"] for one in talk.pings] == [1000, 1001, 1002, 1003]


def test_a_peer_that_sends_events_but_no_pong_is_dead() -> None:
    talk = Talk(ping_interval=20, pong_timeout=10)
    talk.live(PRICE)
    talk.pongs = False
    talk.wait(29)
    talk.price()
    assert talk.fault() is None
    talk.wait(1)
    assert talk.state() is State.CLOSED
    assert isinstance(talk.session.fault, ConnectionLost)
    assert talk.fault() == "no pong"
    assert talk.session.next_wake() is None


def test_the_first_unanswered_ping_counts() -> None:
    talk = Talk(ping_interval=1, pong_timeout=10)
    talk.pongs = False
    talk.wait(10)
    assert talk.fault() == "no pong"


def test_a_closed_session_does_nothing_more() -> None:
    talk = Talk()
    talk.live(PRICE)
    talk.session.end(ConnectionLost("broken off"))
    talk.session.end(ConnectionLost("again"))
    assert talk.fault() == "broken off"
    assert talk.price() == []
    talk.session.wake(1000.0)
    talk.want(BTC)
    assert talk.settle() == []
    assert not talk.session.confirmed(PRICE)


def test_a_state_that_cannot_follow_is_a_bug() -> None:
    talk = Talk()
    with pytest.raises(RuntimeError, match="opening to mute"):
        talk.session.state = State.MUTE


# Acknowledgements


def test_a_subscribe_that_is_never_answered_falls_back_to_clearing() -> None:
    talk = Talk(ack_timeout=5)
    talk.acks = False
    talk.want(PRICE)
    talk.settle()
    assert talk.wait(5) == [("lastprice_unsubscribe", ["all"])]
    talk.wait(5)
    assert talk.fault() == "request not answered"


def test_a_rejected_subscribe_is_cleared_and_asked_for_again() -> None:
    talk = Talk()
    talk.live(PRICE)
    run = talk.session.run(PRICE)
    talk.acks = False
    talk.want(PRICE, Channel.parse("lastprice:ETH_USDT"))
    assert talk.wait(1) == [("lastprice_subscribe", ["BTC_USDT", "ETH_USDT"])]
    talk.answer(accept=False)
    assert not talk.session.confirmed(PRICE)
    talk.acks = True
    assert talk.settle() == [("lastprice_unsubscribe", ["all"])]
    assert talk.wait(1) == [("lastprice_subscribe", ["BTC_USDT", "ETH_USDT"])]
    assert talk.session.confirmed(PRICE)
    assert talk.session.run(PRICE) != run


def test_a_book_is_confirmed_with_its_full_reload() -> None:
    talk = Talk()
    talk.live(BOOK)
    assert talk.book(full=False) == []
    assert not talk.session.confirmed(BOOK)
    (event,) = talk.book(full=True)
    assert event.full
    assert talk.session.confirmed(BOOK)


def test_a_whole_kind_is_confirmed_with_its_newest_run() -> None:
    talk = Talk()
    orders = Channel(Kind.ORDER, "*")
    assert talk.session.whole(Kind.ORDER) is None
    talk.live(orders)
    first = talk.session.run(orders)
    assert talk.session.whole(Kind.ORDER) == first
    talk.session.lose(talk.now, Channel(Kind.ORDER, "BTC_USDT"))
    assert talk.session.run(orders) == first
    newest = talk.session.whole(Kind.ORDER)
    assert newest is not None
    assert newest > first
    assert talk.session.whole(Kind.DEAL) is None
    talk.session.end(ConnectionLost("cut"))
    assert talk.session.whole(Kind.ORDER) is None


def test_one_channel_confirms_no_whole_kind() -> None:
    talk = Talk()
    talk.live(Channel(Kind.DEAL, "BTC_USDT"))
    assert talk.session.whole(Kind.DEAL) is None


def test_a_book_is_resynced_by_a_subscribe_of_the_complete_set() -> None:
    talk = Talk()
    talk.live(BOOK, depth("ETH_USDT", 0))
    talk.book(full=True)
    run = talk.session.run(BOOK)
    talk.now = 2.0
    talk.session.lose(talk.now, BOOK)
    assert talk.settle() == [("depth_subscribe", ["BTC_USDT:0", "ETH_USDT:0"])]
    (event,) = talk.book(full=True)
    assert event.continuity != run


def test_runs_of_another_session_are_continued() -> None:
    old, new = Talk(), Talk()
    old.live(PRICE, TICKERS)
    old.session.lose(1.0, BTC)
    new.live(TICKERS, PRICE)
    breaks = new.session.breaks
    new.session.continue_runs(old.session)
    for channel in (PRICE, TICKERS, BTC):
        assert new.session.run(channel) == old.session.run(channel)
    new.session.adopt({PRICE: 99})
    assert new.session.run(PRICE) == 99
    assert new.session.breaks == breaks


# Unreadable frames


def test_an_unreadable_frame_breaks_every_run_and_reloads_books() -> None:
    talk = Talk()
    talk.live(PRICE, BOOK)
    talk.book(full=True)
    runs = talk.session.run(PRICE), talk.session.run(BOOK)
    talk.now = 5.0
    talk.raw(b"\xff{garbage")
    assert talk.violations("frame is not json") == 1
    assert talk.fault() is None
    assert talk.session.run(PRICE) != runs[0]
    assert talk.session.run(BOOK) != runs[1]
    assert talk.settle() == [("depth_subscribe", ["BTC_USDT:0"])]
    assert talk.session.confirmed(PRICE)
    assert talk.price()[0].continuity == talk.session.run(PRICE)


def test_too_much_garbage_in_a_short_while_closes_the_session() -> None:
    talk = Talk(garbage_limit=3, garbage_window=60)
    for _ in range(3):
        talk.raw("[")
        talk.wait(21)
    talk.raw("[")
    assert talk.fault() is None
    talk.raw("[")
    assert isinstance(talk.session.fault, ProtocolViolation)
    assert talk.fault() == "too many unreadable frames"


def test_a_bad_event_breaks_only_its_channel_and_never_closes() -> None:
    talk = Talk(garbage_limit=1)
    talk.live(TICKERS, PRICE)
    eth = Channel.parse("ticker:ETH_USDT")
    run, other = talk.session.run(BTC), talk.session.run(eth)
    for _ in range(50):
        data = {"symbol": "BTC_USDT", "timestamp": 1, "price": "NaN"}
        talk.hear({"id": 0, "method": "ticker_update", "data": data})
    assert talk.fault() is None
    assert talk.session.run(BTC) != run
    assert talk.session.run(eth) == other


def test_a_bad_event_of_no_channel_breaks_its_kind_and_counts_as_garbage() -> None:
    talk = Talk(garbage_limit=1)
    talk.live(TICKERS, PRICE)
    run, other = talk.session.run(BTC), talk.session.run(PRICE)
    talk.hear({"id": 0, "method": "ticker_update", "data": []})
    assert talk.session.run(BTC) != run
    assert talk.session.run(PRICE) == other
    talk.hear({"id": 0, "method": "ticker_update", "data": []})
    assert talk.fault() == "too many unreadable frames"


# Muteness


def test_a_mute_market_list_is_resubscribed_and_then_a_fault() -> None:
    talk = Talk(mute_after=60)
    talk.live(TICKERS, PRICE)
    run = talk.session.run(BTC)
    assert talk.wait(59) == []
    assert talk.session.confirmed(TICKERS)
    assert talk.wait(1) == [("lastprice_subscribe", ["BTC_USDT"]), ("ticker_subscribe", ["all"])]
    assert talk.state() is State.MUTE
    assert not talk.session.confirmed(TICKERS)
    assert talk.session.run(BTC) != run
    talk.wait(29)
    assert talk.state() is State.MUTE
    talk.wait(1)
    assert talk.fault() == "mute"


def test_the_first_event_ends_a_mute_spell() -> None:
    talk = Talk(mute_after=60)
    prices = Channel.parse("lastprice:*")
    talk.live(prices)
    talk.wait(60)
    assert talk.state() is State.MUTE
    talk.price()
    assert talk.state() is State.LIVE
    assert talk.session.confirmed(prices)


def test_the_watch_starts_with_the_acknowledgement() -> None:
    talk = Talk(mute_after=10, pong_timeout=1000)
    talk.live()
    talk.wait(100)
    talk.live(TICKERS)
    talk.wait(9)
    assert talk.state() is State.LIVE
    talk.wait(1)
    assert talk.state() is State.MUTE


def test_any_wanted_event_puts_muteness_off() -> None:
    talk = Talk(mute_after=10)
    talk.live(TICKERS, PRICE)
    for _ in range(5):
        talk.wait(9)
        talk.price()
    assert talk.state() is State.LIVE


@pytest.mark.parametrize("quiet", ["ticker:BTC_USDT", "depth:BTC_USDT:0", "order:*", "balance:*"])
def test_what_may_be_quiet_is_never_mute(quiet: str) -> None:
    talk = Talk(mute_after=1)
    talk.live(Channel.parse(quiet))
    talk.wait(200)
    assert talk.state() is State.LIVE


def test_a_short_mute_limit_still_leaves_a_second_before_the_fault() -> None:
    talk = Talk(mute_after=0.5)
    talk.live(TICKERS)
    talk.wait(1.4)
    assert talk.state() is State.MUTE
    talk.wait(0.2)
    assert talk.fault() == "mute"


# Whatever comes


def test_the_transcript_marks_directions(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    logging.getLogger("app.upstream.session").setLevel(logging.DEBUG)
    try:
        talk = Talk()
        talk.live(PRICE)
        talk.session.end(ConnectionLost("broken off"))
    finally:
        logging.getLogger("app.upstream.session").setLevel(logging.NOTSET)
    # printed where no test before has configured logging in this process, logged where one has
    written = capsys.readouterr().out + "".join(str(record.msg) for record in caplog.records)
    for mark, text in (
        (">", '{"id":1000'),
        ("<", ""),
        ("=", "opening to live"),
        ("!", "broken off"),
    ):
        assert re.search(rf"'?mark'?[=:] ?'?{mark}.*text'?[=:] ?'?{re.escape(text)}", written)


def test_a_channel_broken_without_its_wildcard_is_told() -> None:
    talk = Talk()
    talk.live(PRICE, TICKERS)
    assert talk.session.broken() == {}
    talk.session.lose(talk.now, BTC)
    assert talk.session.broken() == {BTC: talk.session.run(BTC)}
    assert talk.session.run(BTC) > talk.session.run(TICKERS)


@given(st.lists(st.text() | st.binary(), max_size=30))
def test_no_frame_makes_a_session_raise(frames: list[str | bytes]) -> None:
    talk = Talk(garbage_limit=20)
    talk.live(TICKERS, BOOK)
    for frame in frames:
        talk.raw(frame)
        talk.wait(0.5)
    assert talk.session.fault is None or isinstance(talk.session.fault, ProtocolViolation)


CHANNELS = [TICKERS, BTC, PRICE, BOOK, depth("ETH_USDT", 0), Channel.parse("lastprice:*")]
STEPS = st.one_of(
    st.tuples(st.just("want"), st.frozensets(st.sampled_from(CHANNELS))),
    st.tuples(st.just("ack"), st.booleans()),
    st.tuples(st.just("wait"), st.floats(0, 20)),
    st.tuples(st.just("lose"), st.none() | st.sampled_from(CHANNELS)),
    st.tuples(st.just("book"), st.booleans()),
    st.tuples(st.just("price"), st.sampled_from(["BTC_USDT", "ETH_USDT"])),
    st.tuples(st.just("raw"), st.sampled_from(["{", '{"id":0,"method":"depth_update"}'])),
)


def _step(talk: Talk, step: str, value: Any) -> None:
    match step:
        case "want":
            talk.want(*value)
        case "ack":
            talk.answer(accept=value)
        case "wait":
            talk.wait(value)
        case "lose":
            talk.session.lose(talk.now, value)
        case "book":
            talk.book(full=value)
        case "price":
            talk.price(symbol=value)
        case _:
            talk.raw(value)


@given(st.lists(STEPS, max_size=60))
def test_whatever_happens_requests_follow_the_rules(steps: list[tuple[str, Any]]) -> None:
    talk = Talk(garbage_limit=1000)
    talk.acks = False
    subscribed: dict[str, float] = {}
    seen = 0
    for step, value in steps:
        _step(talk, step, value)
        talk.settle()
        for request in talk.asked[seen:]:
            assert request["params"]
            if request["method"].endswith("_subscribe") and step != "wait":
                last = subscribed.get(request["method"], float("-inf"))
                assert talk.now - last >= 1.0
                subscribed[request["method"]] = talk.now
        seen = len(talk.asked)
    ids = [request["id"] for request in (*talk.asked, *talk.pings)]
    assert len(set(ids)) == len(ids)
    assert all(id_ >= FIRST_ID for id_ in ids)
