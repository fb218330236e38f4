"""Reading the account over REST."""

from collections.abc import Callable
from typing import Any, cast

import pytest

from app.domain.channel import Kind
from app.domain.ledger import Question
from app.errors import UpstreamUnavailable
from app.upstream.account import FARTHEST, LIMIT, OVERLAP, Books
from app.upstream.rest import Rest

ORDERS = frozenset({Kind.ORDER})


def row(number: int) -> dict[str, Any]:
    return {
        "id": f"o{number:05}",
        "symbol": "BTC_USDT",
        "quantity": "1",
        "filledQuantity": "1",
        "createdAt": "2026-01-01 00:00:00",
        "finishedAt": "2026-01-01 00:00:01",
    }


class Lists:
    """The exchange's lists, newest first; ``then`` is called after each page that was read."""

    def __init__(self, active: int = 0, finished: int = 0) -> None:
        self.active = [row(number) for number in range(active, 0, -1)]
        self.finished = [row(90_000 - number) for number in range(finished)]
        self.asked: list[tuple[str, Any]] = []
        self.then: Callable[[], object] = lambda: None

    async def orders(self, **query: Any) -> list[dict[str, Any]]:
        return self._page("orders", self.active, query)

    async def history(self, **query: Any) -> list[dict[str, Any]]:
        return self._page("history", self.finished, query)

    async def balances(self) -> list[dict[str, Any]]:
        self.asked.append(("balances", None))
        return [{"ticker": "BTC", "available": "1", "held": "2"}]

    def _page(
        self, name: str, rows: list[dict[str, Any]], query: dict[str, Any]
    ) -> list[dict[str, Any]]:
        self.asked.append((name, query.get("order_id", query.get("offset"))))
        if "order_id" in query:
            return [one for one in rows if one["id"] == query["order_id"]]
        page = rows[query["offset"] : query["offset"] + query["limit"]]
        self.then()
        return page


def books(lists: Lists) -> Books:
    return Books(cast("Rest", lists), gap=0.0, clock=lambda: 5.0)


async def test_reads_all_pages_open_orders_first() -> None:
    lists = Lists(active=150, finished=250)
    told = await books(lists).read(Question(ORDERS))
    assert len(told.active) == 150
    assert len(told.finished) == 250
    assert told.reached
    assert lists.asked == [
        ("orders", 0),
        ("orders", LIMIT - OVERLAP),
        ("history", 0),
        ("history", LIMIT - OVERLAP),
        ("history", 2 * (LIMIT - OVERLAP)),
    ]


async def test_reads_the_history_back_to_what_is_known() -> None:
    lists = Lists(finished=1000)
    known = lists.finished[120]["id"]
    told = await books(lists).read(Question(ORDERS, known=frozenset({known})))
    assert told.reached
    assert 120 < len(told.finished) <= 200


async def test_says_if_the_history_does_not_reach_back() -> None:
    told = await books(Lists(finished=30)).read(Question(ORDERS, known=frozenset({"long gone"})))
    assert not told.reached


async def test_reads_no_farther_than_the_exchange_lets() -> None:
    lists = Lists(finished=FARTHEST + 500)
    told = await books(lists).read(Question(ORDERS))
    assert not told.reached
    assert max(at for _, at in lists.asked) <= FARTHEST


async def test_an_order_that_goes_while_it_reads_hides_no_other() -> None:
    lists = Lists(active=150)
    lists.then = lambda: lists.active[:] and lists.active.pop(3)
    told = await books(lists).read(Question(ORDERS))
    assert {one["id"] for one in lists.active} <= {one["id"] for one in told.active}


async def test_begins_anew_when_more_goes_than_two_pages_share() -> None:
    lists = Lists(active=300)
    cuts = iter([OVERLAP + 5])

    def shrink() -> None:
        del lists.active[: next(cuts, 0)]

    lists.then = shrink
    told = await books(lists).read(Question(ORDERS))
    assert {one["id"] for one in lists.active} <= {one["id"] for one in told.active}
    assert [at for name, at in lists.asked if name == "orders"].count(0) == 2


async def test_gives_up_on_a_list_that_never_holds_still() -> None:
    lists = Lists(active=3000)

    def shrink() -> None:
        del lists.active[: 2 * OVERLAP]

    lists.then = shrink
    with pytest.raises(UpstreamUnavailable, match="faster"):
        await books(lists).read(Question(ORDERS))


async def test_looks_for_open_orders_that_are_in_neither_list() -> None:
    lists = Lists(active=1, finished=300)
    late = lists.finished[250]["id"]
    stop = frozenset({lists.finished[0]["id"]})
    told = await books(lists).read(
        Question(ORDERS, open=frozenset({"o00001", late, "gone"}), known=stop)
    )
    assert late in {one["id"] for one in told.finished}
    assert told.gone == {"gone"}
    assert ("history", "o00001") not in lists.asked


async def test_an_open_order_that_hid_between_two_pages_is_found() -> None:
    lists = Lists()
    lists.then = lambda: lists.active.append(row(7)) if not lists.active else None
    told = await books(lists).read(Question(ORDERS, open=frozenset({"o00007"})))
    assert [one["id"] for one in told.active] == ["o00007"]
    assert not told.gone


async def test_reads_single_orders_for_their_deals() -> None:
    lists = Lists(finished=3)
    wanted = lists.finished[2]["id"]
    told = await books(lists).read(Question(orders=frozenset({wanted})))
    assert [one["id"] for one in told.finished] == [wanted]
    assert lists.asked == [("history", wanted)]


async def test_reads_balances_only_when_asked() -> None:
    lists = Lists()
    told = await books(lists).read(Question(frozenset({Kind.BALANCE})))
    assert told.balances == ({"currencyCode": "BTC", "available": "1", "held": "2"},)
    assert (told.began, told.read) == (5.0, 5.0)
    assert lists.asked == [("balances", None)]
