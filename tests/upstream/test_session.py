import json
import logging
from itertools import count
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.channel import Channel, depth
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

    def __init__(self, *, now: float = 0.0, metrics: Metrics | None = None, **options: Any) -> None:
        self.metrics = metrics or Metrics()
        self.now = now
        self.session = Session(
            "upstream-1",
            now,
            options=SessionOptions(**options),
            metrics=self.metrics,
            runs=count(1),
        )

    def want(self, *channels: Channel) -> None:
        self.session.want(frozenset(channels), self.now)

    def sent(self) -> list[tuple[str, list[str]]]:
        """Requests since the last call, without pings."""
        return [
            (one["method"], one["params"]) for one in self.requests() if one["method"] != "ping"
        ]

    def requests(self) -> list[dict[str, Any]]:
        return [json.loads(frame) for frame in self.session.outgoing()]

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

    def ack(self, *, error: dict[str, Any] | None = None) -> list[tuple[str, list[str]]]:
        """Answer all that was sent since the last call."""
        sent = []
        for request in self.requests():
            if request["method"] == "ping":
                self.pong(request["id"])
                continue
            sent.append((request["method"], request["params"]))
            data = {"status": "success"} if error is None else None
            self.hear({"id": request["id"], "data": data, "error": error})
        return sent

    def pong(self, id_: int = 0) -> None:
        self.hear({"id": id_, "method": "pong", "data": None, "error": None})

    def wait(self, seconds: float, *, pong: bool = True) -> None:
        """Let time pass, waking the session when it asks for it and answering its pings."""
        end = self.now + seconds
        while (wake := self.session.next_wake()) is not None and wake <= end:
            self.now = wake
            self.session.wake(self.now)
            if pong:
                self.pong()
        self.now = end

    def live(self, *channels: Channel) -> None:
        self.want(*channels)
        self.ack()

    def violations(self, reason: str) -> float:
        value = self.metrics.registry.get_sample_value(
            "sluice_upstream_violations_total", {"reason": reason}
        )
        return value or 0.0

    def fault(self) -> str:
        return str(self.session.fault)


def test_a_session_starts_with_a_ping_and_lives_with_its_pong() -> None:
    talk = Talk()
    assert talk.requests() == [{"id": FIRST_ID, "method": "ping", "params": []}]
    assert talk.session.state is State.OPENING
    talk.pong(FIRST_ID)
    assert talk.session.state is State.LIVE


def test_an_acknowledgement_proves_life_too() -> None:
    talk = Talk()
    talk.want(PRICE)
    for request in talk.requests():
        if request["method"] != "ping":
            talk.hear({"id": str(request["id"]), "data": {"status": "success"}, "error": None})
    assert talk.session.state is State.LIVE
    assert talk.session.confirmed(PRICE)


def test_every_kind_gets_one_subscribe_with_its_complete_set_and_ids_never_repeat() -> None:
    talk = Talk()
    talk.want(PRICE, BTC, BOOK, depth("ETH_USDT", 1), Channel.parse("balance:*"))
    requests = talk.requests()
    assert {one["method"]: one["params"] for one in requests[1:]} == {
        "lastprice_subscribe": ["BTC_USDT"],
        "ticker_subscribe": ["BTC_USDT"],
        "depth_subscribe": ["BTC_USDT:0", "ETH_USDT:1"],
        "balance_subscribe": ["all"],
    }
    assert [one["id"] for one in requests] == list(range(FIRST_ID, FIRST_ID + 5))


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
    assert [one["id"] for one in talk.requests()] == [1000, 1001, 1002, 1003]


def test_a_peer_that_sends_events_but_no_pong_is_dead() -> None:
    talk = Talk(ping_interval=20, pong_timeout=10)
    talk.live(PRICE)
    talk.wait(29, pong=False)
    talk.price()
    assert talk.session.fault is None
    talk.wait(1, pong=False)
    assert talk.session.state is State.CLOSED
    assert isinstance(talk.session.fault, ConnectionLost)
    assert talk.fault() == "no pong"
    assert talk.session.next_wake() is None


def test_the_first_unanswered_ping_counts() -> None:
    talk = Talk(ping_interval=1, pong_timeout=10)
    talk.wait(10, pong=False)
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
    assert talk.sent() == []
    assert not talk.session.confirmed(PRICE)


def test_a_state_that_cannot_follow_is_a_bug() -> None:
    talk = Talk()
    with pytest.raises(RuntimeError, match="opening to mute"):
        talk.session.state = State.MUTE


# Acknowledgements


def test_a_subscribe_that_is_never_answered_falls_back_to_clearing() -> None:
    talk = Talk(ack_timeout=5)
    talk.want(PRICE)
    talk.sent()
    talk.wait(5)
    assert talk.sent() == [("lastprice_unsubscribe", ["all"])]
    talk.wait(5)
    assert talk.fault() == "request not answered"


def test_a_rejected_subscribe_is_cleared_and_asked_for_again() -> None:
    talk = Talk()
    talk.live(PRICE)
    run = talk.session.run(PRICE)
    talk.want(PRICE, Channel.parse("lastprice:ETH_USDT"))
    talk.wait(1)
    assert talk.ack(error={"code": 2, "message": "already subscribed"}) == [
        ("lastprice_subscribe", ["BTC_USDT", "ETH_USDT"])
    ]
    assert not talk.session.confirmed(PRICE)
    assert talk.ack() == [("lastprice_unsubscribe", ["all"])]
    talk.wait(1)
    assert talk.ack() == [("lastprice_subscribe", ["BTC_USDT", "ETH_USDT"])]
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


def test_a_book_is_resynced_by_a_subscribe_of_the_complete_set() -> None:
    talk = Talk()
    talk.live(BOOK, depth("ETH_USDT", 0))
    talk.book(full=True)
    run = talk.session.run(BOOK)
    talk.now = 5.0
    talk.session.lose(talk.now, BOOK)
    assert talk.ack() == [("depth_subscribe", ["BTC_USDT:0", "ETH_USDT:0"])]
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
    assert talk.session.fault is None
    assert talk.session.run(PRICE) != runs[0]
    assert talk.session.run(BOOK) != runs[1]
    assert talk.ack() == [("depth_subscribe", ["BTC_USDT:0"])]
    assert talk.session.confirmed(PRICE)
    assert talk.price()[0].continuity == talk.session.run(PRICE)


def test_too_much_garbage_in_a_short_while_closes_the_session() -> None:
    talk = Talk(garbage_limit=3, garbage_window=60)
    for _ in range(3):
        talk.raw("[")
        talk.wait(21)
    talk.raw("[")
    talk.raw("[")
    assert talk.session.fault is None
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
    assert talk.session.fault is None
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
    talk.live(TICKERS, BOOK)
    talk.book(full=True)
    run = talk.session.run(BTC)
    talk.wait(59)
    assert talk.session.confirmed(TICKERS)
    talk.ack()
    talk.wait(1)
    assert talk.session.state is State.MUTE
    assert not talk.session.confirmed(TICKERS)
    assert talk.session.run(BTC) != run
    assert talk.ack() == [("ticker_subscribe", ["all"]), ("depth_subscribe", ["BTC_USDT:0"])]
    assert not talk.session.confirmed(TICKERS)
    talk.wait(20)
    talk.ack()
    talk.wait(10)
    assert talk.fault() == "mute"


def test_the_first_event_ends_a_mute_spell() -> None:
    talk = Talk(mute_after=60)
    talk.live(Channel.parse("lastprice:*"))
    talk.wait(60)
    talk.ack()
    assert talk.session.state is State.MUTE
    talk.price()
    assert talk.session.state is State.LIVE
    assert talk.session.confirmed(Channel.parse("lastprice:*"))


def test_the_watch_starts_with_the_acknowledgement() -> None:
    talk = Talk(mute_after=10, pong_timeout=1000)
    talk.live()
    talk.wait(100)
    talk.live(TICKERS)
    talk.wait(9)
    assert talk.session.state is State.LIVE
    talk.wait(1)
    assert talk.session.state is State.MUTE


def test_any_wanted_event_puts_muteness_off() -> None:
    talk = Talk(mute_after=10)
    talk.live(TICKERS, PRICE)
    for _ in range(5):
        talk.wait(9)
        talk.price()
    assert talk.session.state is State.LIVE


@pytest.mark.parametrize("quiet", ["ticker:BTC_USDT", "depth:BTC_USDT:0", "order:*", "balance:*"])
def test_what_may_be_quiet_is_never_mute(quiet: str) -> None:
    talk = Talk(mute_after=1)
    talk.live(Channel.parse(quiet))
    for _ in range(20):
        talk.wait(10)
        talk.ack()
    assert talk.session.state is State.LIVE


def test_a_short_mute_limit_still_leaves_a_second_before_the_fault() -> None:
    talk = Talk(mute_after=0.5)
    talk.live(TICKERS)
    talk.wait(1.4)
    assert talk.session.state is State.MUTE
    talk.wait(0.2)
    assert talk.fault() == "mute"


# Whatever comes


def test_the_transcript_marks_directions(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, logger="app.upstream.session"):
        talk = Talk()
        talk.live(PRICE)
        talk.session.end(ConnectionLost("broken off"))
    assert talk.session.fault is not None


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


@given(st.lists(STEPS, max_size=60))
def test_whatever_happens_requests_follow_the_rules(steps: list[tuple[str, Any]]) -> None:
    talk = Talk(garbage_limit=1000)
    ids: set[int] = set()
    subscribed: dict[str, float] = {}
    waiting: list[dict[str, Any]] = []
    for step, value in steps:
        match step:
            case "want":
                talk.want(*value)
            case "ack":
                for request in waiting:
                    data = {"status": "success"} if value else {"status": "failed"}
                    talk.hear({"id": request["id"], "data": data, "error": None})
                waiting.clear()
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
        sent = talk.requests()
        if talk.session.fault is not None:
            return
        for request in sent:
            assert request["id"] not in ids
            ids.add(request["id"])
            method, params = request["method"], request["params"]
            assert bool(params) == (method != "ping")
            if method.endswith("_subscribe"):
                subscribed[method] = talk.now
                kinds = [one["method"].split("_")[0] for one in waiting]
                assert method.split("_")[0] not in kinds[:0]
        waiting += [one for one in sent if one["method"] != "ping"]
