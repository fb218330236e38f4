"""The reducers of the private channels, and what is news to them."""

from typing import Any

import pytest

from app.domain.account import LAST, Balance, Deals, Orders, empty
from app.domain.channel import Channel

Json = dict[str, Any]


def order(id_: str, *, filled: str = "0", created: int = 100, **more: Any) -> Json:
    return {
        "id": id_,
        "symbol": "BTC_USDT",
        "price": "10",
        "quantity": "5",
        "filledQuantity": filled,
        "createTs": created,
        **more,
    }


def over(id_: str, *, at: int = 200, **more: Any) -> Json:
    return order(id_, filled="5", finishTs=at, state="completed", **more)


def change(info: Json, type_: str = "updated") -> Json:
    return {"type": type_, "info": info}


def orders(*infos: Json) -> Orders:
    made = Orders()
    made.replace({"symbol": "BTC_USDT", "orders": list(infos)})
    return made


def deal(id_: str, *, at: int = 100) -> Json:
    return {"transactionId": id_, "symbol": "BTC_USDT", "committedAt": at}


def deals(*infos: Json) -> Deals:
    made = Deals()
    made.replace({"symbol": "BTC_USDT", "deals": list(infos)})
    return made


def ids(reducer: Orders) -> list[str]:
    return [info["id"] for info in reducer.data()["orders"]]


class TestOrders:
    def test_are_newest_first_however_they_came(self) -> None:
        held = orders(order("B", created=100), order("C", created=99))
        held.update(change(order("A", created=100), "created"))
        assert ids(held) == ["B", "A", "C"]

    def test_an_event_replaces_the_order_whether_or_not_it_was_known(self) -> None:
        held = Orders()
        held.update(change(order("A", filled="1")))
        held.update(change(order("A", filled="2")))
        assert held.data() == {"symbol": "BTC_USDT", "orders": [order("A", filled="2")]}

    def test_all_open_ones_and_the_last_hundred_finished_ones_are_remembered(self) -> None:
        still = [order(f"O{number:03}", created=1) for number in range(150)]
        done = [over(f"F{number:03}", at=200 + number) for number in range(LAST)]
        held = orders(*still, *done)
        held.update(change(over("G", at=1000), "finished"))
        assert len(held.open()) == 150
        assert sorted(info["id"] for info in held.finished()) == [
            *(f"F{number:03}" for number in range(1, LAST)),
            "G",
        ]

    def test_what_finished_last_is_remembered_not_what_was_created_last(self) -> None:
        held = orders(*(over(f"F{number:03}", at=200) for number in range(LAST)))
        held.update(change(over("A", at=201, created=1), "finished"))
        assert held.get("A") is not None
        assert held.get("F000") is None

    def test_an_end_without_a_time_is_one(self) -> None:
        held = orders(order("A", state="cancelled"), {"id": "B", "symbol": "X", "state": "gone"})
        assert held.open() == []
        held.update(change(over("C", at=1), "finished"))
        assert len(held.finished()) == 3

    def test_a_part_is_the_newest(self) -> None:
        held = orders(order("A"), order("B"))
        assert held.data(1)["orders"] == [order("B")]

    @pytest.mark.parametrize(
        ("held", "new", "news"),
        [
            (None, order("A"), True),
            (order("A"), over("A"), True),
            (over("A"), order("A", filled="3", updateTs=300), False),
            (over("A"), over("A", at=300), False),
            (order("A", filled="1"), order("A", filled="1.000"), False),
            (order("A", filled="1"), order("A", filled="2"), True),
            (order("A", filled="2"), order("A", filled="1", updateTs=300), False),
            (order("A"), order("A", price="11"), True),
            (order("A", price=None), order("A", price="11"), True),
            (order("A", price=None), order("A", price=None), False),
            (order("A", updateTs=5), order("A", updateTs=6), True),
            (order("A", updateTs=5), order("A"), False),
            (order("A"), order("A", updateTs=5), False),  # told by REST before
            (order("A"), order("A", orderType="limit"), False),
        ],
    )
    def test_news_says_more_than_is_known(self, held: Json | None, new: Json, news: bool) -> None:
        known = orders() if held is None else orders(held)
        assert known.news(change(new)) is news

    def test_an_order_forgotten_long_ago_is_no_news(self) -> None:
        held = orders(*(over(f"F{number:03}", at=200 + number) for number in range(LAST)))
        assert not held.news(change(over("A", at=199), "finished"))
        assert not held.news(change(order("A", created=100, updateTs=199)))
        assert not held.news(change({"id": "A", "symbol": "BTC_USDT"}))
        assert held.news(change(order("A", created=100, updateTs=200)))
        assert held.news(change(over("A", at=201), "finished"))


class TestDeals:
    def test_are_newest_first(self) -> None:
        held = deals(deal("A", at=5))
        held.update({"info": deal("C", at=4)})
        held.update({"info": deal("B", at=5)})
        assert [one["transactionId"] for one in held.data()["deals"]] == ["B", "A", "C"]
        assert held.data(1)["deals"] == [deal("B", at=5)]

    def test_a_hundred_are_remembered(self) -> None:
        held = deals(*(deal(f"D{number:03}", at=100 + number) for number in range(LAST)))
        held.update({"info": deal("E", at=500)})
        assert len(held.data()["deals"]) == LAST
        assert held.get("D000") is None
        assert held.get("E") is not None

    def test_news_is_a_transaction_that_is_not_known(self) -> None:
        held = deals(deal("A"))
        assert not held.news({"info": deal("A")})
        assert held.news({"info": deal("B", at=1)})

    def test_what_is_older_than_all_that_is_remembered_is_no_news(self) -> None:
        held = deals(*(deal(f"D{number:03}") for number in range(LAST)))
        assert not held.news({"info": deal("E", at=99)})
        assert held.news({"info": deal("E", at=100)})


def test_a_balance_keeps_what_rest_said_beside_what_the_socket_says() -> None:
    held = Balance()
    held.replace({"info": {"newBalance": "1"}, "available": "1", "held": "0"})
    held.update({"info": {"newBalance": "2"}})
    assert held.data() == {"info": {"newBalance": "2"}, "available": "1", "held": "0"}


@pytest.mark.parametrize(
    ("channel", "data"),
    [
        ("order:BTC_USDT", {"symbol": "BTC_USDT", "orders": []}),
        ("deal:BTC_USDT", {"symbol": "BTC_USDT", "deals": []}),
        ("balance:BTC", {"info": {"currencyCode": "BTC"}}),
    ],
)
def test_nothing_has_a_shape_too(channel: str, data: Json) -> None:
    assert empty(Channel.parse(channel)) == data
