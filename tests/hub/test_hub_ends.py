"""Slow clients, and how streams end (contract, Streams); the clock is virtual."""

import asyncio
from collections.abc import Callable
from itertools import pairwise
from typing import Any, get_args

import pytest

from app.domain.channel import Channel
from app.hub.hub import FLUSH, bye
from app.hub.subscription import End, Subscription
from tests.fakes.outlet import FakeOutlet
from tests.given import entry, made, row
from tests.hub.place import BTC, ETH, Place, looking, positions, settle
from tests.oracle.sse import read

pytestmark = pytest.mark.looptime


class TestSlowClients:
    async def test_what_it_could_not_take_is_dropped_and_it_gets_the_state_instead(
        self, place: Place
    ) -> None:
        outlet = place.join("ticker:*", high=200)
        outlet.take()
        await settle()
        for number in range(1, 500):
            place.publish(made(BTC if number % 2 else ETH, f"7-{number}"))
        assert outlet.most < 1000
        first = positions(outlet)
        await settle()
        assert positions(outlet) == ["7-498", "7-499"]
        assert first[-1] == f"7-{len(first)}"
        place.tick(BTC, 500)
        assert positions(outlet) == ["7-500"]

    async def test_it_is_sent_only_what_it_missed_something_on(self, place: Place) -> None:
        place.tick(BTC, 1)
        place.tick(ETH, 2)
        outlet = place.join("ticker:*", high=300)
        outlet.take()
        await settle()
        outlet.take()
        place.publish(made(BTC, "7-3", {"text": "x" * 400}))
        place.tick(BTC, 4)
        assert positions(outlet) == ["7-3"]
        await settle()
        assert positions(outlet) == ["7-4"]

    async def test_others_are_not_slowed(self, place: Place) -> None:
        slow, quick = place.join(BTC, high=10), place.join(BTC)
        await settle()
        quick.take()
        place.tick(BTC, 1, 50)
        assert len(quick.events()) == 50
        assert slow.most < 500

    async def test_one_that_missed_nothing_goes_on_as_if_nothing_had_been(
        self, place: Place
    ) -> None:
        outlet = place.join("trade:X_Y", high=200)
        outlet.take()
        await settle()
        place.publish(made("trade:X_Y", "7-1", {"symbol": "X_Y", "trades": [row("1")] * 9}))
        assert outlet.full
        assert positions(outlet) == ["7-1"]
        await settle()
        update = {"symbol": "X_Y", "timestamp": 1, "trades": [row("2")]}
        place.publish(made("trade:X_Y", "7-2", update, type_="update", previous="7-1"))
        assert positions(outlet) == ["7-2"]
        assert not outlet.gone

    async def test_one_that_must_not_miss_an_event_and_did_is_ended_as_slow(
        self, place: Place
    ) -> None:
        outlet = place.join("trade:X_Y", BTC, high=200)
        outlet.take()
        await settle()
        for number in range(1, 4):
            rows = {"symbol": "X_Y", "trades": [row(str(number))] * 9}
            place.publish(made("trade:X_Y", f"7-{number}", rows))
        assert positions(outlet) == ["7-1"]
        (block,) = outlet.take()
        assert (block.json()["type"], block.json()["reason"]) == ("bye", "slow")
        assert outlet.closed
        again = place.join("trade:X_Y", BTC, after=outlet.reader.last_event_id)
        await settle()
        assert positions(again) == ["7-2", "7-3"]

    async def test_one_that_the_status_fills_again_is_not_written_to_until_it_drains(
        self, place: Place
    ) -> None:
        outlet = place.join(BTC, high=10)
        outlet.take()
        await settle()
        place.tick(BTC, 1)
        place.hub.report(None, "live", 1.0)
        outlet.take()
        await settle()
        assert outlet.full
        bound = outlet.most
        place.tick(BTC, 2, 100)
        assert bound == outlet.most
        outlet.take()
        await settle()
        assert positions(outlet) == ["7-100"]


class TestEnds:
    async def test_lifetimes_are_spread_over_the_last_fifth(
        self, make: Callable[..., Place]
    ) -> None:
        place = make(lifetime=1000.0)
        outlets = [place.join(BTC) for _ in range(100)]
        ended: list[float] = []
        for second in range(1, 1002):
            await asyncio.sleep(1)
            place.hub.tick()
            ended += [second] * (sum(outlet.closed for outlet in outlets) - len(ended))
        assert len(ended) == 100
        assert (ended[0] >= 800, ended[-1] <= 1001) == (True, True)
        assert ended[-1] - ended[0] > 100
        (status, goodbye) = outlets[0].take()
        assert status.json()["type"] == "status"
        assert (goodbye.json()["type"], goodbye.json()["reason"]) == ("bye", "lifetime")
        assert goodbye.retry == goodbye.json()["retry"]

    async def test_a_drain_ends_everyone_spread_over_its_time(self, place: Place) -> None:
        outlets = [place.join(BTC, framed=bool(number % 2)) for number in range(10)]
        ends: list[int] = []
        async with asyncio.TaskGroup() as tasks:
            draining = tasks.create_task(place.hub.drain(1.0))
            while not draining.done():
                ends.append(sum(outlet.closed for outlet in outlets))
                await asyncio.sleep(0.1)
        assert asyncio.get_running_loop().time() <= 1.1
        assert ends[0] <= 1
        assert all(later - earlier <= 2 for earlier, later in pairwise(ends))
        for outlet in outlets:
            *_, last = outlet.take()
            assert (last.json()["type"], last.json()["reason"]) == ("bye", "drain")
            assert outlet.closed
        assert place.hub.draining

    async def test_one_that_does_not_take_its_bye_is_counted_once(self, place: Place) -> None:
        outlet = place.join(BTC, high=10)
        outlet.take()
        await settle()
        (subscription,) = place.hub._subscriptions
        place.hub.end(subscription, "lifetime")
        assert outlet.full
        async with looking(place):
            await asyncio.sleep(14.1)
        assert outlet.aborts == 1
        (family,) = place.hub._metrics.streams_ended.collect()
        counted = {one.labels["reason"]: one.value for one in family.samples if one.value}
        assert counted == {"lifetime": 1}

    async def test_a_client_that_went_or_was_ended_is_not_ended_again(self, place: Place) -> None:
        outlets = [place.join(BTC) for _ in range(3)]
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(place.hub.drain(3.0))
            await asyncio.sleep(0.5)
            (_, second, _) = place.hub._subscriptions
            place.hub.end(second, "expired")
            outlets[2].owner.gone()
        *_, goodbye = outlets[1].controls()
        assert goodbye["reason"] == "expired"
        assert not outlets[2].gone

    async def test_a_client_that_does_not_read_is_dropped_instead(self, place: Place) -> None:
        outlet = place.join(BTC, high=10)
        await place.hub.drain(0)
        assert outlet.aborts == 1

    async def test_nothing_comes_after_the_bye(self, make: Callable[..., Place]) -> None:
        place = make(lifetime=0.0)
        place.tick(BTC, 1)
        waiting, starting = place.join(BTC, after="7-5"), place.join(BTC)
        place.hub.tick()
        place.tick(BTC, 2)
        place.hub.report(None, "live", 1.0)
        place.hub.publish(entry("7-2", opens="8-0"))
        await asyncio.sleep(2)
        place.hub.tick()
        for outlet in (waiting, starting):
            assert outlet.take()[-1].json()["type"] == "bye"

    async def test_a_bye_that_is_not_read_is_dropped_in_the_end(self, place: Place) -> None:
        outlet = place.join(BTC, high=150)
        await settle()
        await place.hub.drain(0)
        assert outlet.closed
        assert outlet.full
        async with looking(place):
            await asyncio.sleep(14.1)
        assert outlet.aborts == 1

    @pytest.mark.parametrize("reason", get_args(End))
    def test_a_bye_says_why_and_when_to_come_again_which_differs(self, reason: Any) -> None:
        blocks = read([bye(reason) for _ in range(20)])
        assert {("bye", reason)} == {(b.json()["type"], b.json()["reason"]) for b in blocks}
        assert [block.json()["retry"] for block in blocks] == [block.retry for block in blocks]
        assert len({block.retry for block in blocks}) > 5
        assert all(block.retry and 100 < block.retry <= 60_000 for block in blocks)
        assert {("gateway", None)} == {(block.event, block.id) for block in blocks}


class TestFlushing:
    async def test_who_has_not_gone_by_then_is_dropped(self, place: Place) -> None:
        gone, still = place.join(BTC), place.join(BTC)
        await place.hub.drain(0)
        gone.owner.gone()
        await place.hub.flush()
        assert (gone.aborts, still.aborts) == (0, 1)

    async def test_it_is_over_when_all_have_gone(self, place: Place) -> None:
        outlet = place.join(BTC)
        await place.hub.drain(0)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(place.hub.flush())
            await settle()
            outlet.owner.gone()
        assert outlet.aborts == 0
        assert asyncio.get_running_loop().time() < FLUSH

    async def test_without_streams_there_is_nothing_to_wait_for(self, place: Place) -> None:
        await place.hub.flush()
        assert asyncio.get_running_loop().time() < FLUSH


class TestWhatItWasSent:
    """Is known at the end, whichever way it went."""

    @pytest.mark.parametrize("framed", [False, True])
    async def test_by_snapshots_alone_and_in_a_group(self, place: Place, framed: bool) -> None:
        ended: list[Subscription] = []
        place.tick(BTC, 1)
        place.tick(ETH, 2)
        early = place.join("ticker:*", framed=framed)
        await settle()
        place.tick(BTC, 3, 7)
        late = FakeOutlet(framed=framed)
        place.hub.join(frozenset({Channel.parse("ticker:*")}), late, "7-5", on_left=ended.append)
        await settle()
        place.tick(ETH, 8, 20)
        await asyncio.sleep(16)  # a heartbeat
        early.owner.gone()
        place.tick(BTC, 21)
        await settle()
        assert ended == []
        late.owner.gone()
        (subscription,) = ended
        assert subscription.ended == "gone"
        assert subscription.bytes == sum(map(len, late.writes))
        assert subscription.events == len(late.events()) == 16

    async def test_and_why_it_ended_is_told_once(self, place: Place) -> None:
        ended: list[Subscription] = []
        outlet = FakeOutlet()
        place.hub.join(frozenset({Channel.parse(BTC)}), outlet, None, on_left=ended.append)
        await settle()
        place.hub.close()
        outlet.owner.gone()
        assert [one.ended for one in ended] == ["drain"]

    async def test_one_that_took_nothing_has_stalled(self, place: Place) -> None:
        ended: list[Subscription] = []
        outlet = FakeOutlet(high=10)
        place.hub.join(frozenset({Channel.parse(BTC)}), outlet, None, on_left=ended.append)
        async with looking(place):
            await asyncio.sleep(15)
        assert outlet.aborts == 1
        outlet.owner.gone()
        assert [one.ended for one in ended] == ["stalled"]
