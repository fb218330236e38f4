"""What of the account waits for REST, and what is asked."""

from collections.abc import Iterable
from typing import Any

import pytest

from app.domain import ledger as room
from app.domain.channel import PRIVATE, Channel, Kind
from app.domain.event import Envelope, Event
from app.domain.health import Following
from app.domain.ledger import PAUSE, QUIET, SOON, TRIES, Ledger, Question
from app.domain.reconcile import Statement
from app.domain.sequencer import Sequencer
from app.domain.store import Store
from tests.given import balance, deal, order, price

ORDERS, BALANCES, DEALS = Kind.ORDER, Kind.BALANCE, Kind.DEAL
ALL = frozenset(PRIVATE)
NOW = 1000.0


class Leader:
    """A ledger with the sequencer behind it; the run is 1 unless said otherwise."""

    def __init__(self, store: Store | None = None, *, lost: bool = False) -> None:
        self.store = store or Store()
        self.sequencer = Sequencer(7, self.store)
        self.ledger = Ledger(self.store, lost=lost)
        self.runs = dict.fromkeys(PRIVATE, 1)

    def hear(self, *events: Event) -> list[Envelope]:
        return self.publish(self.ledger.sift(events))

    def publish(self, events: Iterable[Event]) -> list[Envelope]:
        entry = self.sequencer.sequence(events)
        return [] if entry is None else list(entry.envelopes)

    def due(self, now: float = NOW) -> Question | None:
        return self.ledger.due(self.runs, now)

    def ask(self, now: float = NOW) -> Question:
        question = self.due(now)
        assert question is not None
        self.ledger.begin(question, now)
        return question

    def answer(self, question: Question, now: float = NOW, **told: Any) -> list[Envelope]:
        said = Statement(began=now, read=now, kinds=question.kinds, **told)
        return self.publish(self.ledger.settle(question, said, self.runs))

    def settle(self, now: float = NOW, **told: Any) -> list[Envelope]:
        """REST is asked and answers at once."""
        return self.answer(self.ask(now), now, **told)

    def following(self, now: float = NOW) -> dict[Channel, Following]:
        live = Following(live=True, since=1.0, unbroken=2.0, broken=3.0)
        told = {Channel(kind, "*"): live for kind in PRIVATE}
        return self.ledger.following(told, self.runs, now)

    def live(self, kind: Kind, now: float = NOW) -> bool:
        return self.following(now)[Channel(kind, "*")].live


@pytest.fixture(name="leader")
def _leader() -> Leader:
    return Leader()


def names(envelopes: Iterable[Envelope]) -> list[str]:
    return [str(one.channel) for one in envelopes]


def active(id_: str, filled: str) -> dict[str, Any]:
    return {"id": id_, "symbol": "X_Y", "filledQuantity": filled, "createTs": 100}


def row(currency: str, available: str) -> dict[str, Any]:
    return {"currencyCode": currency, "available": available, "held": "0"}


class TestWaiting:
    def test_public_events_never_wait(self, leader: Leader) -> None:
        assert names(leader.hear(price("X_Y", "1"))) == ["lastprice:X_Y"]

    def test_private_events_wait_until_rest_was_read(self, leader: Leader) -> None:
        assert leader.hear(order("X_Y", "A"), deal("X_Y", "B")) == []
        assert names(leader.settle()) == ["order:X_Y", "deal:X_Y"]
        assert names(leader.hear(order("X_Y", "C"))) == ["order:X_Y"]

    def test_events_of_the_next_run_wait_for_the_next_reading(self, leader: Leader) -> None:
        leader.settle()
        assert leader.hear(deal("X_Y", "A", continuity=2)) == []
        assert leader.hear(deal("X_Y", "B", continuity=1)) != []
        leader.runs = dict.fromkeys(PRIVATE, 2)
        assert names(leader.settle()) == ["deal:X_Y"]

    def test_what_comes_of_a_run_that_began_during_the_reading_waits_on(
        self, leader: Leader
    ) -> None:
        question = leader.ask()
        leader.hear(deal("X_Y", "A"), deal("X_Y", "B", continuity=2))
        assert len(leader.answer(question)) == 1
        leader.runs = dict.fromkeys(PRIVATE, 2)
        assert leader.due() is not None

    def test_too_many_that_wait_are_dropped_and_rest_is_read_again(
        self, leader: Leader, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(room, "WAITING", 3)
        question = leader.ask()
        leader.hear(*(deal("X_Y", f"D{number}") for number in range(4)))
        assert leader.answer(question) == []
        leader.hear(deal("X_Y", "E"))
        assert [one.data["deals"][0]["transactionId"] for one in leader.settle()] == ["E"]


class TestAsking:
    def test_asks_for_what_is_confirmed_and_not_read(self, leader: Leader) -> None:
        leader.runs = {ORDERS: 1}
        assert leader.ask().kinds == {ORDERS}
        leader.settle()
        assert leader.due() is None
        leader.runs = dict.fromkeys(PRIVATE, 1)
        assert leader.ask().kinds == {BALANCES, DEALS}

    def test_asks_again_in_a_new_run(self, leader: Leader) -> None:
        leader.settle()
        leader.runs[ORDERS] = 5
        assert leader.ask().kinds == {ORDERS}

    def test_names_the_orders_that_are_open_and_where_the_history_may_stop(
        self, leader: Leader
    ) -> None:
        leader.settle()
        leader.hear(order("X_Y", "A"), order("X_Y", "B", "finished"), deal("X_Y", "D"))
        leader.runs = dict.fromkeys(PRIVATE, 2)
        assert leader.due() == Question(ALL, frozenset({"A"}), frozenset({"B"}))

    def test_reads_the_whole_history_for_a_kind_that_was_never_read(self, leader: Leader) -> None:
        leader.runs = {ORDERS: 1}
        leader.settle()
        leader.hear(order("X_Y", "B", "finished"))
        leader.runs = {ORDERS: 2, DEALS: 2}
        assert leader.ask().known == frozenset()

    def test_reads_the_whole_history_if_only_deals_were_missed(self, leader: Leader) -> None:
        leader.settle()
        leader.hear(order("X_Y", "B", "finished"), deal("X_Y", "D"))
        leader.runs[DEALS] = 2
        assert leader.ask().known == frozenset()

    def test_a_new_leader_goes_on_from_what_the_last_one_knew(self, leader: Leader) -> None:
        leader.settle()
        leader.hear(order("X_Y", "A", "finished"), deal("X_Y", "D"))
        assert Leader(leader.store).ask().known == {"A"}

    def test_a_reading_that_failed_is_due_again_and_unconfirms(self, leader: Leader) -> None:
        leader.settle()
        leader.runs[ORDERS] = 2
        leader.ledger.failed(leader.ask())
        assert not leader.live(ORDERS)
        assert leader.ask().kinds == {ORDERS}
        leader.settle()
        assert leader.live(ORDERS)
        assert leader.due() is None

    def test_after_a_loss_between_leaders_all_starts_anew_with_a_gap(self, leader: Leader) -> None:
        leader.settle()
        leader.hear(order("X_Y", "A"))
        after = Leader(leader.store, lost=True)
        (one,) = after.settle(active=(active("A", "0"),))
        assert one.gap
        after.runs = dict.fromkeys(PRIVATE, 2)
        assert after.settle(active=(active("A", "0"),)) == []


class TestBalances:
    def test_after_an_event_rest_is_asked_what_is_available_now(self, leader: Leader) -> None:
        leader.settle(NOW)
        assert leader.ledger.next_wake() is None
        leader.hear(balance("X", "1", "2", received=NOW + 60))
        assert leader.ledger.next_wake() == NOW + 60 + QUIET
        assert leader.due(NOW + 60) is None
        assert leader.ask(NOW + 60 + QUIET).kinds == {BALANCES}
        assert leader.ledger.next_wake() is None

    def test_not_more_often_than_now_and_then(self, leader: Leader) -> None:
        leader.settle(NOW)
        leader.hear(balance("X", "1", "2", received=NOW + 0.5))
        assert leader.due(NOW + PAUSE - 0.1) is None
        assert leader.due(NOW + PAUSE) is not None

    def test_a_chain_that_breaks_is_a_gap_and_everything_is_read_again(
        self, leader: Leader
    ) -> None:
        leader.settle(NOW, balances=(row("X", "1"),))
        assert leader.hear(balance("X", "1", "2"))[0].type == "update"
        assert leader.hear(balance("X", "2.000", "3"))[0].type == "update"
        (one,) = leader.hear(balance("X", "7", "8", received=NOW + 0.5))
        assert (one.type, one.gap, one.origin) == ("snapshot", True, None)
        assert one.data["info"]["newBalance"] == "8"
        assert one.data["available"] == "1"
        assert not any(leader.live(kind) for kind in PRIVATE)
        assert leader.due(NOW + SOON).kinds == ALL  # type: ignore[union-attr]  # it is due

    def test_a_broken_chain_is_mended_by_rest(self, leader: Leader) -> None:
        leader.settle(NOW)
        leader.hear(balance("X", "1", "2"), balance("X", "7", "8", received=NOW))
        (one,) = leader.settle(NOW + SOON, balances=(row("X", "8"),))
        assert (one.type, one.gap, one.origin) == ("snapshot", False, "reconcile")
        assert one.data == {
            "info": {"walletId": "w", "currencyCode": "X", "oldBalance": "7", "newBalance": "8"},
            "available": "8",
            "held": "0",
        }
        assert leader.live(BALANCES)

    def test_a_repeated_event_is_dropped(self, leader: Leader) -> None:
        leader.settle(NOW)
        leader.hear(balance("X", "1", "2"), balance("X", "2", "3"))
        assert leader.hear(balance("X", "1", "2"), balance("X", "2", "3")) == []
        assert leader.live(BALANCES)

    def test_a_first_break_without_any_state_tells_what_it_knows(self, leader: Leader) -> None:
        leader.settle(NOW)
        batch = balance("X", "1", "2"), balance("X", "7", "8")
        first, second = leader.hear(*batch)
        assert (first.type, second.gap) == ("snapshot", True)

    def test_what_waited_is_contained_in_what_rest_told_later(self, leader: Leader) -> None:
        leader.hear(balance("X", "1", "2"), balance("X", "2", "3"))
        (one,) = leader.settle(NOW, balances=(row("X", "3"),))
        assert (one.type, one.origin) == ("snapshot", "reconcile")
        assert one.data["info"]["newBalance"] == "3"
        assert leader.hear(balance("X", "3", "4"))[0].type == "update"

    def test_a_new_leader_knows_the_chain(self, leader: Leader) -> None:
        leader.settle(NOW)
        leader.hear(balance("X", "1", "2"))
        after = Leader(leader.store)
        after.settle(NOW)
        assert after.hear(balance("X", "7", "8"))[0].gap


class TestOwedDeals:
    """REST tells an order's deals only once it is finished."""

    def owing(self, leader: Leader) -> None:
        leader.settle(active=(active("A", "2"), active("B", "0")))

    def test_are_asked_for_when_the_order_is_finished(self, leader: Leader) -> None:
        self.owing(leader)
        leader.hear(order("X_Y", "B", "finished"))
        assert leader.due() is None
        leader.hear(order("X_Y", "A", "finished"))
        assert leader.due() == Question(orders=frozenset({"A"}))
        assert not leader.live(DEALS)
        deals = ({"transactionId": "D", "symbol": "X_Y", "committedAt": 1},)
        finished = ({"id": "A", "symbol": "X_Y", "finishTs": 100, "createTs": 100},)
        assert names(leader.settle(finished=finished, deals=deals)) == ["deal:X_Y"]
        assert leader.due() is None
        assert leader.live(DEALS)

    def test_are_looked_for_some_times_only(self, leader: Leader) -> None:
        self.owing(leader)
        leader.hear(order("X_Y", "A", "finished"))
        for number in range(TRIES):
            assert leader.ledger.unfound == []
            leader.settle(NOW + number * PAUSE)
            assert leader.due(NOW + number * PAUSE) is None
        assert leader.due(NOW + TRIES * PAUSE) is None
        assert leader.ledger.unfound == ["A"]

    def test_of_an_order_that_was_read_as_finished_are_not_owed(self, leader: Leader) -> None:
        self.owing(leader)
        leader.runs = dict.fromkeys(PRIVATE, 2)
        leader.settle()
        leader.hear(order("X_Y", "A", "finished", continuity=2))
        assert leader.due() is None


class TestFollowing:
    def test_a_kind_is_live_once_rest_was_read(self, leader: Leader) -> None:
        assert not leader.live(ORDERS, NOW)
        leader.settle()
        how = leader.following(NOW + 1)[Channel(ORDERS, "*")]
        assert how == Following(live=True, since=NOW + 1, unbroken=0.0, broken=3.0)
        assert leader.following(NOW + 9)[Channel(ORDERS, "*")] == how

    def test_is_not_live_in_a_run_that_was_not_read(self, leader: Leader) -> None:
        leader.settle()
        leader.following(NOW)
        leader.runs[ORDERS] = 2
        assert leader.following(NOW + 5)[Channel(ORDERS, "*")].since == NOW + 5
        del leader.runs[ORDERS]
        assert not leader.live(ORDERS)

    def test_speaks_of_whole_kinds_and_leaves_the_rest(self, leader: Leader) -> None:
        how = Following(live=True, since=1.0, unbroken=2.0, broken=3.0)
        told = {Channel.parse(name): how for name in ("order:*", "order:X_Y", "ticker:X_Y")}
        shown = leader.ledger.following(told, leader.runs, NOW)
        assert set(map(str, shown)) == {"order:*", "ticker:X_Y"}
        assert shown[Channel.parse("ticker:X_Y")] == how


class TestNothing:
    CHANNELS = tuple(map(Channel.parse, ("order:X_Y", "order:Z_Y", "deal:X_Y", "balance:X")))

    def told(self, leader: Leader) -> list[str]:
        return names(leader.publish(leader.ledger.nothing(self.CHANNELS, NOW)))

    def test_is_told_once_rest_was_read(self, leader: Leader) -> None:
        assert self.told(leader) == []
        leader.runs = {ORDERS: 1}
        leader.settle(active=(active("A", "0"),))
        assert self.told(leader) == ["order:Z_Y"]
        assert self.told(leader) == []

    def test_is_not_told_while_something_waits(self, leader: Leader) -> None:
        leader.settle()
        leader.hear(order("X_Y", "A", continuity=2))
        assert self.told(leader) == ["order:Z_Y", "deal:X_Y", "balance:X"]
