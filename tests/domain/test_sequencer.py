"""Numbering, and where the contract wants an update, a snapshot, a gap or nothing."""

import json
from typing import Any

import msgspec
import pytest

from app.domain.channel import Channel
from app.domain.event import Entry, Event
from app.domain.sequencer import Sequencer
from app.domain.store import LAST, Store
from tests.given import at, balance, book, deal, made, order, price, row, ticker, trades

BOOK = Channel.parse("depth:X_Y:0")
TRADE = Channel.parse("trade:X_Y")
PRICE = Channel.parse("lastprice:X_Y")


@pytest.fixture(name="store")
def _store() -> Store:
    return Store()


@pytest.fixture(name="sequencer")
def _sequencer(store: Store) -> Sequencer:
    return Sequencer(7, store)


def told(entry: Entry | None) -> list[dict[str, Any]]:
    """What clients would read of an entry."""
    assert entry is not None
    return [json.loads(one.raw) for one in entry.envelopes]


def one(sequencer: Sequencer, event: Event) -> dict[str, Any]:
    """What clients would read of one event."""
    (envelope,) = told(sequencer.sequence([event]))
    return envelope


def nothing(sequencer: Sequencer, event: Event) -> None:
    assert sequencer.sequence([event]) is None


class TestEntries:
    def test_a_leader_opens_its_epoch_with_an_entry_without_events(self) -> None:
        sequencer = Sequencer(7, Store(), previous=at("5-99"))
        assert Entry(at("5-99"), at("7-0"), ()) == sequencer.open()

    def test_the_very_first_leader_follows_nothing(self, sequencer: Sequencer) -> None:
        assert Entry(None, at("7-0"), ()) == sequencer.open()

    def test_an_entry_follows_the_one_before_and_stands_at_its_last_event(
        self, sequencer: Sequencer
    ) -> None:
        sequencer.open()
        first = sequencer.sequence([price("X_Y", "1"), price("A_B", "1"), price("X_Y", "2")])
        second = sequencer.sequence([price("X_Y", "3")])
        assert first is not None
        assert second is not None
        assert (at("7-0"), at("7-3")) == (first.previous, first.position)
        assert (at("7-3"), at("7-4")) == (second.previous, second.position)
        assert [str(made.position) for made in first.envelopes] == ["7-1", "7-2", "7-3"]

    def test_nothing_to_publish_makes_no_entry_and_uses_no_number(
        self, sequencer: Sequencer
    ) -> None:
        sequencer.open()
        assert sequencer.sequence([]) is None
        nothing(sequencer, book("X_Y", [("2", "1")], full=False))
        assert at("7-0") == sequencer.head
        assert one(sequencer, price("X_Y", "1"))["position"] == "7-1"
        assert at("7-1") == sequencer.head


class TestLost:
    """Something that the last leader published may be known to clients, but to no leader."""

    def test_the_first_event_of_a_channel_that_nobody_told_of_is_a_gap(self, store: Store) -> None:
        sequencer = Sequencer(7, store, lost=True)
        first = one(sequencer, price("X_Y", "1"))
        assert (first["type"], first["gap"]) == ("snapshot", True)
        assert "gap" not in one(sequencer, price("X_Y", "2", time=101))
        assert one(sequencer, book("X_Y", [("2", "1")], full=True))["gap"] is True


class TestLatest:
    @pytest.mark.parametrize("make", [price, ticker])
    def test_the_first_is_a_plain_snapshot_then_updates_name_the_one_before(
        self, sequencer: Sequencer, make: Any
    ) -> None:
        first = one(sequencer, make("X_Y", "1"))
        one(sequencer, price("A_B", "1"))
        second = one(sequencer, make("X_Y", "2", time=101))
        assert (first["type"], first["previous"]) == ("snapshot", None)
        assert "gap" not in first
        assert (
            second["type"], second["previous"], second["position"],
        ) == ("update", "7-1", "7-3")  # fmt: skip
        assert "gap" not in second
        assert second["data"] == make("X_Y", "2", time=101).data

    def test_time_and_received_are_the_event_s(self, sequencer: Sequencer) -> None:
        envelope = one(sequencer, price("X_Y", "1", time=1750952911, received=1750952911.4826))
        assert (envelope["time"], envelope["received"]) == (1750952911, 1750952911.483)

    def test_after_a_break_comes_a_snapshot_with_a_gap_and_a_new_chain(
        self, sequencer: Sequencer
    ) -> None:
        one(sequencer, price("X_Y", "1"))
        broken = one(sequencer, price("X_Y", "2", continuity=2))
        assert (broken["type"], broken["previous"], broken["gap"]) == ("snapshot", None, True)
        after = one(sequencer, price("X_Y", "3", continuity=2))
        assert (after["type"], after["previous"]) == ("update", "7-2")

    def test_a_replay_of_something_older_after_a_break_says_nothing_new(
        self, sequencer: Sequencer
    ) -> None:
        one(sequencer, price("X_Y", "1", time=100))
        nothing(sequencer, price("X_Y", "0", time=99, continuity=2))
        assert one(sequencer, price("X_Y", "2", time=100, continuity=2))["gap"]

    def test_an_event_without_a_time_after_a_break_is_a_snapshot(
        self, sequencer: Sequencer
    ) -> None:
        one(sequencer, price("X_Y", "1", time=None))
        assert one(sequencer, price("X_Y", "2", time=None, continuity=2))["gap"]

    def test_a_time_far_in_the_future_makes_nothing_after_it_a_replay(
        self, sequencer: Sequencer
    ) -> None:
        """A time stamp in milliseconds, say: it must not silence the channel for ever."""
        one(sequencer, price("X_Y", "1", time=100_000))
        assert one(sequencer, price("X_Y", "2", time=101, continuity=2))["gap"]


class TestTrades:
    def test_the_first_is_a_snapshot_newest_first(self, sequencer: Sequencer) -> None:
        envelope = one(sequencer, trades("X_Y", [row("1"), row("2")]))
        assert envelope["type"] == "snapshot"
        assert envelope["data"] == {"symbol": "X_Y", "trades": [row("2"), row("1")]}

    def test_updates_keep_the_exchange_s_object_and_order(self, sequencer: Sequencer) -> None:
        one(sequencer, trades("X_Y", [row("1")]))
        event = trades("X_Y", [row("2"), row("3")])
        envelope = one(sequencer, event)
        assert ("update", event.data) == (envelope["type"], envelope["data"])

    def test_identical_trades_in_an_unbroken_run_all_count(self, sequencer: Sequencer) -> None:
        one(sequencer, trades("X_Y", [row("1"), row("1")]))
        assert one(sequencer, trades("X_Y", [row("1")]))["type"] == "update"
        state = sequencer.state(TRADE)
        assert state is not None
        assert [row("1")] * 3 == state.reducer.data()["trades"]

    def test_after_a_break_what_was_known_stands_behind_what_is_new(
        self, sequencer: Sequencer
    ) -> None:
        one(sequencer, trades("X_Y", [row("1", time=100), row("2", time=101)]))
        replayed = [row("1", time=100), row("2", time=101), row("3", time=101), row("4", time=102)]
        envelope = one(sequencer, trades("X_Y", replayed, continuity=2))
        assert envelope["gap"]
        assert [trade["price"] for trade in envelope["data"]["trades"]] == ["4", "3", "2", "1"]

    def test_a_mere_replay_after_a_break_says_nothing_new(self, sequencer: Sequencer) -> None:
        rows = [row("1", time=100), row("2", time=101)]
        one(sequencer, trades("X_Y", rows))
        nothing(sequencer, trades("X_Y", rows, continuity=2))
        assert one(sequencer, trades("X_Y", [row("3", time=102)], continuity=2))["gap"]

    def test_a_replay_is_one_though_the_newest_held_is_not_the_latest(
        self, sequencer: Sequencer
    ) -> None:
        rows = [row("1", time=100), row("2", time=102), row("3", time=101)]
        one(sequencer, trades("X_Y", rows))
        nothing(sequencer, trades("X_Y", rows, continuity=2))

    def test_a_trade_from_far_in_the_future_makes_nothing_after_it_a_replay(
        self, sequencer: Sequencer
    ) -> None:
        one(sequencer, trades("X_Y", [row("1", time=99), row("2", time=100_000)]))
        envelope = one(sequencer, trades("X_Y", [row("3", time=101)], continuity=2))
        assert [trade["price"] for trade in envelope["data"]["trades"]] == ["3", "2", "1"]

    def test_a_snapshot_holds_a_hundred(self, sequencer: Sequencer) -> None:
        rows = [row(str(number)) for number in range(LAST + 50)]
        envelope = one(sequencer, trades("X_Y", rows))
        assert rows[:-101:-1] == envelope["data"]["trades"]

    def test_an_event_without_trades_starts_nothing(self, sequencer: Sequencer) -> None:
        nothing(sequencer, trades("X_Y", []))


class TestBooks:
    def test_nothing_is_published_before_the_first_full_reload(self, sequencer: Sequencer) -> None:
        nothing(sequencer, book("X_Y", [("2", "1")], full=False))
        assert sequencer.state(BOOK) is None

    def test_a_full_reload_is_a_snapshot_best_first_without_a_gap(
        self, sequencer: Sequencer
    ) -> None:
        first = one(sequencer, book("X_Y", [("10", "1"), ("9", "1")], [("1", "1")], full=True))
        again = one(sequencer, book("X_Y", [("9", "1")], [("2", "1"), ("10", "0")], full=True))
        assert (
            first["type"], first["previous"], first["data"]["asks"],
        ) == ("snapshot", None, [["9", "1"], ["10", "1"]])  # fmt: skip
        assert (again["type"], again["previous"]) == ("snapshot", None)
        assert "gap" not in first | again
        assert again["data"] == {
            "symbol": "X_Y", "scale_index": 0, "timestamp": 100,
            "asks": [["9", "1"]], "bids": [["2", "1"]],
        }  # fmt: skip

    def test_a_delta_is_an_update_as_the_exchange_sent_it(self, sequencer: Sequencer) -> None:
        one(sequencer, book("X_Y", [("9", "1")], [("1", "1")], full=True))
        event = book("X_Y", [("9", "0"), ("8", "1"), ("77", "0")], None, full=False)
        envelope = one(sequencer, event)
        assert ("update", "7-1", event.data) == (
            envelope["type"], envelope["previous"], envelope["data"],
        )  # fmt: skip
        state = sequencer.state(BOOK)
        assert state is not None
        assert state.snapshot().data["asks"] == [["8", "1"]]
        assert state.snapshot().data["bids"] == [["1", "1"]]

    def test_books_of_two_scales_are_two_channels(self, sequencer: Sequencer) -> None:
        one(sequencer, book("X_Y", [("9", "1")], full=True))
        nothing(sequencer, book("X_Y", [("8", "1")], full=False, scale=1))

    def test_after_a_break_nothing_is_published_until_a_full_reload_with_a_gap(
        self, sequencer: Sequencer
    ) -> None:
        one(sequencer, book("X_Y", [("9", "1")], full=True))
        nothing(sequencer, book("X_Y", [("8", "1")], full=False, continuity=2))
        reload = one(sequencer, book("X_Y", [("7", "1")], full=True, continuity=2))
        assert (reload["type"], reload["gap"]) == ("snapshot", True)
        assert one(sequencer, book("X_Y", [("6", "1")], full=False, continuity=2))

    @pytest.mark.parametrize("bid", ["9", "9.0", "10"])
    def test_a_crossing_delta_is_withheld_and_so_is_all_until_a_full_reload(
        self, sequencer: Sequencer, bid: str
    ) -> None:
        one(sequencer, book("X_Y", [("9", "1")], [("1", "1")], full=True))
        nothing(sequencer, book("X_Y", None, [(bid, "1")], full=False))
        assert sequencer.take_crossed() == [BOOK]
        assert sequencer.take_crossed() == []
        assert sequencer.state(BOOK) is None
        nothing(sequencer, book("X_Y", [("9", "0")], None, full=False))
        reload = one(sequencer, book("X_Y", [("9", "1")], [("1", "1")], full=True))
        assert (reload["type"], reload["gap"], reload["position"]) == ("snapshot", True, "7-2")

    def test_a_crossed_reload_is_withheld(self, sequencer: Sequencer) -> None:
        one(sequencer, book("X_Y", [("9", "1")], [("1", "1")], full=True))
        nothing(sequencer, book("X_Y", [("9", "1")], [("9", "1")], full=True))
        assert sequencer.take_crossed() == [BOOK]
        nothing(sequencer, book("X_Y", [("8", "1")], None, full=False))

    def test_a_crossed_very_first_reload_is_no_gap_later(self, sequencer: Sequencer) -> None:
        """A channel's very first event is a plain snapshot."""
        nothing(sequencer, book("X_Y", [("9", "1")], [("9", "1")], full=True))
        assert "gap" not in one(sequencer, book("X_Y", [("9", "1")], [("1", "1")], full=True))

    def test_a_delta_to_a_book_that_is_gone_from_the_store_is_withheld(
        self, sequencer: Sequencer, store: Store
    ) -> None:
        one(sequencer, book("X_Y", [("9", "1")], full=True))
        store.forget(BOOK)
        nothing(sequencer, book("X_Y", [("8", "1")], full=False))


class TestForgetting:
    def test_a_refollowed_channel_begins_with_a_gap(self, sequencer: Sequencer) -> None:
        one(sequencer, price("X_Y", "1"))
        sequencer.forget(PRICE)
        assert sequencer.state(PRICE) is None
        assert one(sequencer, price("X_Y", "2"))["gap"]

    def test_forgotten_trades_are_not_told_again(self, sequencer: Sequencer) -> None:
        one(sequencer, trades("X_Y", [row("1", time=100)]))
        sequencer.forget(TRADE)
        envelope = one(sequencer, trades("X_Y", [row("0", time=99)], continuity=2))
        assert [row("0", time=99)] == envelope["data"]["trades"]

    def test_what_was_never_known_can_be_forgotten(self, sequencer: Sequencer) -> None:
        sequencer.forget(PRICE)
        assert "gap" not in one(sequencer, price("X_Y", "1"))


class TestTakeover:
    @pytest.fixture(name="sequencer")
    def _sequencer(self, store: Store) -> Sequencer:
        store.apply(made("lastprice:X_Y", "6-5", price("X_Y", "1").data))
        store.apply(made("trade:X_Y", "6-6", {"symbol": "X_Y", "trades": [row("1")]}))
        data = {"symbol": "X_Y", "scale_index": 0, "timestamp": 9, "asks": [["9", "1"]], "bids": []}
        store.apply(made("depth:X_Y:0", "6-7", data))
        return Sequencer(7, store, previous=at("6-7"))

    @pytest.mark.parametrize(
        "event",
        [price("X_Y", "2"), trades("X_Y", [row("2")]), book("X_Y", [("8", "1")], full=True)],
    )
    def test_every_known_channel_begins_with_a_gap(
        self, sequencer: Sequencer, event: Event
    ) -> None:
        envelope = one(sequencer, event)
        assert (
            envelope["type"], envelope["previous"], envelope["gap"],
        ) == ("snapshot", None, True)  # fmt: skip

    def test_a_channel_nobody_knew_begins_without_one(self, sequencer: Sequencer) -> None:
        assert "gap" not in one(sequencer, price("A_B", "1"))

    def test_a_delta_to_a_book_of_the_former_leader_is_withheld(self, sequencer: Sequencer) -> None:
        nothing(sequencer, book("X_Y", [("8", "1")], full=False))

    def test_the_state_of_a_channel_is_the_leader_s_own_only(self, sequencer: Sequencer) -> None:
        assert sequencer.state(PRICE) is None
        one(sequencer, price("X_Y", "2"))
        assert sequencer.state(PRICE) is not None


class TestAccount:
    def test_the_first_fact_makes_a_snapshot_and_the_next_an_update(
        self, sequencer: Sequencer
    ) -> None:
        first = one(sequencer, order("X_Y", "A"))
        assert (first["type"], first["previous"]) == ("snapshot", None)
        assert [info["id"] for info in first["data"]["orders"]] == ["A"]
        assert "gap" not in first
        then = one(sequencer, order("X_Y", "A", "updated", filled="1", time=101))
        assert (then["type"], then["previous"]) == ("update", first["position"])
        assert then["data"]["type"] == "updated"

    def test_another_run_is_no_gap_as_rest_was_read_between(self, sequencer: Sequencer) -> None:
        one(sequencer, deal("X_Y", "A"))
        then = one(sequencer, deal("X_Y", "B", continuity=2))
        assert then["type"] == "update"
        assert "gap" not in then

    def test_what_is_no_news_is_not_told(self, sequencer: Sequencer) -> None:
        one(sequencer, order("X_Y", "A", "finished"))
        one(sequencer, deal("X_Y", "D"))
        assert sequencer.sequence([order("X_Y", "A", "updated"), deal("X_Y", "D")]) is None

    def test_a_balance_is_told_whenever_it_is_said(self, sequencer: Sequencer) -> None:
        one(sequencer, balance("X", "1", "2"))
        assert one(sequencer, balance("X", "1", "2"))["type"] == "update"

    def test_what_rest_told_was_judged_before(self, sequencer: Sequencer) -> None:
        one(sequencer, order("X_Y", "A"))
        again = msgspec.structs.replace(order("X_Y", "A"), origin="reconcile")
        then = one(sequencer, again)
        assert (then["type"], then["origin"]) == ("update", "reconcile")

    def test_a_whole_state_is_a_snapshot(self, sequencer: Sequencer) -> None:
        one(sequencer, deal("X_Y", "A"))
        whole = msgspec.structs.replace(
            deal("X_Y", "B"), data={"symbol": "X_Y", "deals": []}, full=True, gap=True
        )
        then = one(sequencer, whole)
        assert (then["type"], then["previous"], then["gap"]) == ("snapshot", None, True)
        assert then["data"] == {"symbol": "X_Y", "deals": []}

    def test_a_channel_that_was_dropped_starts_anew_with_a_gap(self, sequencer: Sequencer) -> None:
        one(sequencer, deal("X_Y", "A"))
        sequencer.forget(Channel.parse("deal:X_Y"))
        assert one(sequencer, deal("X_Y", "B"))["gap"] is True

    def test_after_a_loss_every_channel_starts_with_a_gap(self, store: Store) -> None:
        sequencer = Sequencer(7, store, lost=True)
        assert one(sequencer, deal("X_Y", "A"))["gap"] is True
        assert "gap" not in one(sequencer, deal("X_Y", "B"))
