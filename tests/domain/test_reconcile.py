"""What REST told, joined with what is held."""

from collections.abc import Iterable
from typing import Any

import pytest

from app.domain.account import LAST
from app.domain.channel import PRIVATE, Channel, Kind
from app.domain.event import Event
from app.domain.reconcile import Held, Statement, merge
from app.domain.sequencer import Sequencer
from app.domain.store import Store
from tests.given import balance, deal, order, price

Json = dict[str, Any]
RUNS = dict.fromkeys(PRIVATE, 1)


def active(id_: str, *, filled: str = "0", market: str = "X_Y", **more: Any) -> Json:
    """An open order as REST tells it."""
    return {
        "id": id_,
        "symbol": market,
        "price": "10",
        "quantity": "5.0",
        "filledQuantity": filled,
        "createTs": 100,
        **more,
    }


def over(id_: str, *, at: int = 200, market: str = "X_Y") -> Json:
    return {
        "id": id_,
        "symbol": market,
        "filledQuantity": "5",
        "createTs": 100,
        "finishTs": at,
        "state": "completed",
    }


def row(id_: str, *, at: int = 200) -> Json:
    return {"transactionId": id_, "symbol": "X_Y", "committedAt": at}


def told(
    *events: Event,
    waiting: Iterable[Event] = (),
    kinds: Iterable[Kind] = PRIVATE,
    touched: dict[str, float] | None = None,
    runs: dict[Kind, int] = RUNS,
    **statement: Any,
) -> list[Event]:
    """What is to be published of a statement, after these events."""
    store = Store()
    Sequencer(7, store).sequence(events)
    said = Statement(began=300.0, read=301.0, kinds=frozenset(kinds), **statement)
    return merge(said, Held(store, runs, list(waiting), touched or {}))


class TestOrders:
    def test_a_first_reading_is_a_plain_snapshot(self) -> None:
        (one,) = told(active=(active("A"),), finished=(over("B"),))
        assert (one.channel, one.full, one.gap, one.origin) == (
            Channel(Kind.ORDER, "X_Y"),
            True,
            False,
            "reconcile",
        )
        assert one.data == {"symbol": "X_Y", "orders": [over("B"), active("A")]}
        assert (one.time, one.received) == (200, 301.0)

    def test_what_is_known_is_not_told(self) -> None:
        events = order("X_Y", "A"), order("X_Y", "B", "finished")
        assert told(*events, active=(active("A"),), finished=(over("B"),)) == []

    def test_what_was_missed_is_told_in_its_order(self) -> None:
        one, two, three = told(
            order("X_Y", "A"),
            active=(active("A", filled="1"), active("C", createTs=250)),
            finished=(over("B", at=150),),
        )
        assert [event.data["type"] for event in (one, two, three)] == [
            "updated",
            "finished",
            "created",
        ]
        assert [event.data["info"]["id"] for event in (one, two, three)] == ["A", "B", "C"]
        assert [event.time for event in (one, two, three)] == [100, 150, 250]
        assert not any(event.full or event.gap for event in (one, two, three))

    def test_fields_that_rest_does_not_tell_are_kept(self) -> None:
        (one,) = told(
            order("X_Y", "A", "updated", filled="1", clientOid="mine"), finished=(over("A"),)
        )
        info = one.data["info"]
        assert (info["clientOid"], info["price"], info["filledQuantity"]) == ("mine", "10", "5")
        assert info["finishTs"] == 200
        assert "updateTs" not in info

    @pytest.mark.parametrize(
        ("held", "said"),
        [
            (order("X_Y", "A", "updated", filled="3"), active("A", filled="2")),
            (order("X_Y", "A", "finished"), active("A", filled="2")),
        ],
    )
    def test_rest_does_not_set_an_order_back(self, held: Event, said: Json) -> None:
        assert told(held, active=(said,), kinds={Kind.ORDER}) == []

    def test_an_order_that_was_changed_is_told(self) -> None:
        (one,) = told(order("X_Y", "A"), active=(active("A", price="11"),))
        assert (one.data["type"], one.data["info"]["price"]) == ("updated", "11")

    def test_finished_orders_forgotten_before_are_not_told(self) -> None:
        events = [order("X_Y", f"F{one:03}", "finished", time=200 + one) for one in range(LAST)]
        (one,) = told(*events, finished=(over("A", at=150), over("B", at=900)))
        assert one.data["info"]["id"] == "B"

    def test_what_a_waiting_event_says_is_left_to_it(self) -> None:
        waiting = [
            order("X_Y", "A", "updated", filled="2"),
            order("X_Y", "B", "finished"),
            order("X_Y", "C", "updated", filled="1"),
            order("X_Y", "D", "updated", filled="1"),
        ]
        made = told(
            order("X_Y", "A"),
            waiting=waiting,
            active=(active("A", filled="2"), active("C", filled="2")),
            finished=(over("B"), over("D")),
            kinds={Kind.ORDER},
        )
        assert [event.data["info"]["id"] for event in made] == ["C", "D"]

    def test_if_rest_does_not_reach_back_all_start_anew_with_a_gap(self) -> None:
        made = told(
            order("X_Y", "A"), order("Z_Y", "B"), active=(active("A", filled="1"),), reached=False,
            kinds={Kind.ORDER},
        )  # fmt: skip
        assert [(str(one.channel), one.full, one.gap) for one in made] == [
            ("order:X_Y", True, True),
            ("order:Z_Y", True, True),
        ]
        assert made[0].data["orders"][0]["filledQuantity"] == "1"

    def test_an_open_order_that_nobody_knows_of_is_dropped_with_a_gap(self) -> None:
        (one,) = told(
            order("X_Y", "A"), order("X_Y", "B"), active=(active("B"),), gone=frozenset({"A"})
        )
        assert one.gap
        assert [info["id"] for info in one.data["orders"]] == ["B"]

    def test_orders_that_nobody_follows_are_not_told(self) -> None:
        assert told(active=(active("A"),), kinds=(), runs={Kind.BALANCE: 1}) == []

    def test_an_order_without_times_can_be_told(self) -> None:
        bare = {"id": "A", "symbol": "X_Y"}
        (one,) = told(active=(bare,))
        assert one.time is None

    def test_other_channels_are_of_no_concern(self) -> None:
        assert told(price("X_Y", "1")) == []


class TestDeals:
    def test_a_first_reading_is_a_plain_snapshot(self) -> None:
        (one,) = told(deals=(row("A", at=1), row("B", at=2)))
        assert (str(one.channel), one.full, one.gap, one.time) == ("deal:X_Y", True, False, 2)
        assert one.data == {"symbol": "X_Y", "deals": [row("B", at=2), row("A", at=1)]}

    def test_what_was_missed_is_told_in_its_order(self) -> None:
        made = told(
            deal("X_Y", "A"),
            waiting=[deal("X_Y", "D")],
            deals=(row("A"), row("C", at=202), row("B", at=201), row("D", at=203)),
        )
        assert [(one.data["info"]["transactionId"], one.time) for one in made] == [
            ("B", 201),
            ("C", 202),
        ]
        assert not any(one.full for one in made)

    def test_deals_forgotten_before_are_not_told(self) -> None:
        events = [deal("X_Y", f"D{one:03}", time=200 + one) for one in range(LAST)]
        assert told(*events, deals=(row("A", at=199),)) == []

    @pytest.mark.parametrize(
        ("events", "gap"),
        [
            ([], True),  # nobody knows how much of it was heard
            ([order("X_Y", "O")], True),
            ([order("X_Y", "O", "updated", filled="2")], False),
        ],
    )
    def test_a_fill_that_was_not_heard_is_a_gap_until_its_order_ends(
        self, events: list[Event], gap: bool
    ) -> None:
        made = told(deal("X_Y", "A"), *events, active=(active("O", filled="2"),))
        found = [one for one in made if one.channel.kind is Kind.DEAL]
        assert [one.gap for one in found] == [True] * gap

    def test_if_rest_does_not_reach_back_all_start_anew_with_a_gap(self) -> None:
        (one,) = told(deal("X_Y", "A"), deals=(row("B"),), reached=False)
        assert one.gap
        assert [info["transactionId"] for info in one.data["deals"]] == ["B", "A"]

    def test_single_orders_tell_no_gap(self) -> None:
        (one,) = told(deal("X_Y", "A"), deals=(row("B"),), kinds=(), reached=False)
        assert not one.full


class TestBalances:
    USDT: Json = {"currencyCode": "USDT", "available": "5.00", "held": "1"}  # noqa: RUF012 -- read only

    def said(self, *events: Event, **more: Any) -> list[Event]:
        return told(*events, balances=(self.USDT,), **more)

    def test_what_rest_tells_is_a_snapshot(self) -> None:
        (one,) = self.said()
        assert (str(one.channel), one.full, one.gap) == ("balance:USDT", True, False)
        assert one.data == {"info": {"currencyCode": "USDT"}, "available": "5.00", "held": "1"}
        assert one.time is None

    @pytest.mark.parametrize("new", ["5.0000", "6"])
    def test_what_the_socket_said_stands_while_rest_agrees(self, new: str) -> None:
        """It is not known whether it is the available or the total amount."""
        (one,) = self.said(balance("USDT", "9", new))
        assert one.data["info"]["newBalance"] == new

    def test_what_has_passed_is_not_told_any_more(self) -> None:
        (one,) = self.said(balance("USDT", "9", "8"))
        assert one.data["info"] == {"walletId": "w", "currencyCode": "USDT"}

    def test_what_is_known_is_not_told(self) -> None:
        (one,) = self.said(balance("USDT", "9", "5"))
        amounts = {"currencyCode": "USDT", "available": "5", "held": "1.0"}
        assert told(balance("USDT", "9", "5"), one, balances=(amounts,)) == []

    def test_waiting_events_are_contained_and_tell_the_most(self) -> None:
        waiting = [balance("USDT", "9", "7"), balance("USDT", "7", "5")]
        (one,) = self.said(waiting=waiting, touched={"USDT": 299.9})
        assert one.data["info"]["oldBalance"] == "7"
        assert one.data["available"] == "5.00"

    def test_what_came_since_rest_was_asked_may_be_newer(self) -> None:
        assert self.said(touched={"USDT": 300.0}) == []
