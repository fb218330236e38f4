"""The account on the simulated exchange: whatever goes wrong, its state is the exchange's truth.

``ACCOUNT_STORMS=200 pytest tests/feed/test_account.py -k storm`` tries two hundred random lives.
"""

import asyncio
import os
from typing import Any

import pytest

from app.domain.channel import Channel
from app.domain.event import Envelope
from app.domain.health import Following
from tests.e2e.waiting import until
from tests.feed.leading import candidate, lease_on
from tests.feed.place import FaultyBroker, replica
from tests.feed.storm import ACCOUNT, Storm, equals_the_truth, live, storm

TOGETHER = 5
STORMS = int(os.environ.get("ACCOUNT_STORMS", str(TOGETHER)))

ORDER = {"do": "create", "symbol": "BTC_USDT", "direction": "buy", "quantity": "2", "price": "100"}


@pytest.mark.parametrize("first", range(0, STORMS, TOGETHER))
async def test_after_any_storm_the_state_is_the_truth(first: int) -> None:
    """Several lives at a time, as most of each is waiting."""
    async with asyncio.TaskGroup() as tasks:
        for seed in range(first, first + TOGETHER):
            tasks.create_task(_life(seed), name=f"seed {seed}")


async def _life(seed: int) -> None:
    async with storm(seed) as it:
        await live(it, turns=25)
        assert it.client.held, f"seed {seed} told nothing"


def told(it: Storm, channel: str) -> list[Envelope]:
    """All that was published on a channel."""
    return [
        one
        for entry in it.broker.appended
        for one in entry.envelopes
        if str(one.channel) == channel
    ]


def changes(envelopes: list[Envelope]) -> list[tuple[str, bool, str | None]]:
    return [(one.type, one.gap, one.origin) for one in envelopes]


def place(it: Storm, **more: Any) -> str:
    """A new order's id."""
    return str(it.control.act("order", **ORDER, **more)["id"])


def following(it: Storm, channel: str) -> Following:
    health = it.process.replica.hub.health
    assert health is not None
    return health.following[Channel.parse(channel)]


async def test_what_was_there_before_is_told_as_learnt_over_rest() -> None:
    async with storm() as it:
        it.control.act("cut")
        place(it)
        await equals_the_truth(it)
        assert changes(told(it, "order:BTC_USDT")) == [("snapshot", False, "reconcile")]
        (balance, *_) = told(it, "balance:USDT")
        assert (balance.type, balance.origin) == ("snapshot", "reconcile")
        assert {"info", "available", "held"} == set(balance.data)


async def test_what_is_missed_is_told_as_chained_updates() -> None:
    async with storm() as it:
        first, second = place(it), place(it)
        await equals_the_truth(it)
        it.control.act("cut")
        it.order(do="update", id=first, quantity="1")
        it.order(do="finish", id=first)
        it.order(do="cancel", id=second)
        await equals_the_truth(it)
        missed = told(it, "order:BTC_USDT")[-2:]
        assert changes(missed) == [("update", False, "reconcile")] * 2
        assert {one.data["info"]["id"] for one in missed} == {first, second}
        assert {one.data["type"] for one in missed} == {"finished"}
        assert len(told(it, "deal:BTC_USDT")[0].data["deals"]) == 2


async def test_deals_of_an_order_that_is_still_open_come_when_it_ends() -> None:
    async with storm() as it:
        ended, still = place(it), place(it)
        it.order(do="finish", id=ended)
        await equals_the_truth(it)
        it.control.act("cut")
        it.order(do="update", id=still, quantity="1")
        await it.process.settled()
        await until(lambda: len(told(it, "deal:BTC_USDT")) == 2)
        assert changes(told(it, "deal:BTC_USDT")[1:]) == [("snapshot", True, "reconcile")]
        it.order(do="cancel", id=still)
        await equals_the_truth(it)
        assert changes(told(it, "deal:BTC_USDT")[2:]) == [("update", False, "reconcile")]


async def test_a_history_that_does_not_reach_back_is_a_gap() -> None:
    async with storm() as it:
        it.order(do="finish", id=place(it))
        await equals_the_truth(it)
        it.control.act("cut")
        it.account.finished.clear()
        it.order(do="finish", id=place(it))
        await until(lambda: len(told(it, "order:BTC_USDT")) == 3)
        assert changes(told(it, "order:BTC_USDT")[2:]) == [("snapshot", True, "reconcile")]


async def test_while_rest_fails_the_account_is_not_confirmed() -> None:
    async with storm() as it:
        it.control.set(rest="500")
        it.control.act("cut")
        place(it)
        await until(lambda: not following(it, "order:*").live)
        await it.process.status("degraded")
        assert told(it, "order:BTC_USDT") == []
        it.control.set(rest="ok")
        await it.process.settled()
        await equals_the_truth(it)


async def test_a_balance_that_skips_a_change_has_rest_read_again() -> None:
    async with storm() as it:
        place(it)
        await equals_the_truth(it)
        it.control.set(balance_gap=True)
        place(it)
        await until(lambda: any(one.gap for one in told(it, "balance:USDT")))
        await equals_the_truth(it)


async def test_one_client_makes_the_whole_kind_followed_for_good() -> None:
    async with storm(0, "lastprice:*") as it:
        wishes = it.process.replica.wishes
        wanted = [Channel.parse("deal:ETH_USDT")]
        wishes.hold(wanted)

        def subscribed() -> bool:
            asked = [one["subscriptions"] for one in it.control.report()["connections"]]
            return {"deal", "order"} <= {
                kind for one in asked for kind, subjects in one.items() if subjects == ["all"]
            }

        await until(subscribed)
        await until(lambda: told(it, "deal:ETH_USDT"))
        assert told(it, "deal:ETH_USDT")[0].data == {"symbol": "ETH_USDT", "deals": []}
        wishes.linger = 0.0
        wishes.release(wanted, asyncio.get_running_loop().time())
        it.order(do="finish", id=place(it))
        await until(lambda: told(it, "deal:BTC_USDT"))


async def test_the_next_leader_goes_on_where_the_last_one_was() -> None:
    broker, here = FaultyBroker(), replica(*ACCOUNT)
    lease = lease_on(broker)
    async with candidate(lease, broker, here, rate=0.0) as process:
        it = Storm(process, broker, 0)
        await process.settled()
        first = place(it)
        it.order(do="finish", id=place(it))
        await equals_the_truth(it)
        lease.lost.set()
        it.order(do="finish", id=first)
        await until(lambda: len(lease.terms) == 2)
        await process.settled()
        await equals_the_truth(it)
        last = told(it, "order:BTC_USDT")[-1]
        assert (last.type, last.gap) == ("update", False)
        assert last.data["info"]["id"] == first
        assert not any(one.gap for one in told(it, "deal:BTC_USDT"))
