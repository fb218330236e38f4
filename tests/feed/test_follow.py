"""What every process does: it keeps its replica, its clients and the others up to date.

The clock is virtual.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import pairwise

import pytest

from app.bus.broker import Wish
from app.domain.channel import Channel
from app.domain.event import Entry
from app.domain.health import Following, Health
from app.feed import Replica, follow
from tests.fakes.outlet import FakeOutlet
from tests.feed.place import FaultyBroker, channels, replica
from tests.given import at, entry, made
from tests.hub.place import BTC, ETH, fields, settle

pytestmark = pytest.mark.looptime

TTL = 5.0
OPEN = entry(None, opens="7-0")
LIVE = Following(live=True, since=90.0, unbroken=90.0, broken=80.0)


def health(upstream: str = "live", *, at_: float = 1000.0, **following: Following) -> Health:
    """Of a leader that follows some kinds as a whole."""
    names = {Channel.parse(f"{kind}:*"): one for kind, one in following.items()}
    return Health(7, at_, upstream, 1.0, following=names)  # type: ignore[arg-type] # one of three


@asynccontextmanager
async def following(broker: FaultyBroker, process: Replica) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(follow(broker, process, health_ttl=TTL))
        await settle()
        yield
        running.cancel()


def tick(number: int, channel: str = BTC) -> Entry:
    return entry(f"7-{number - 1}", made(channel, f"7-{number}"))


class TestHearing:
    async def test_what_is_appended_is_in_the_store_and_with_the_clients(self) -> None:
        broker, process, outlet = FaultyBroker(), replica(), FakeOutlet()
        async with following(broker, process):
            process.hub.join(channels(BTC), outlet, None)
            for one in (OPEN, tick(1), tick(2, ETH), tick(3)):
                await broker.append(one)
            await settle()
            assert [one["position"] for one in outlet.events()] == ["7-1", "7-3"]
            assert process.head == at("7-3")
            assert {str(state.channel): str(state.position) for state in process.store} == {
                BTC: "7-3",
                ETH: "7-2",
            }

    async def test_it_is_loaded_with_the_first_snapshots(self) -> None:
        broker, process = FaultyBroker(), replica()
        assert not process.loaded.is_set()
        await broker.append(OPEN)
        await broker.append(tick(1))
        await broker.save(at("7-1"), [made(BTC, "7-1")], [])
        async with following(broker, process):
            assert process.loaded.is_set()
            assert process.head == at("7-1")
            assert process.hub.loaded

    async def test_who_asks_waits_until_it_has_caught_up(self) -> None:
        broker, process = FaultyBroker(), replica()
        async with asyncio.TaskGroup() as tasks:
            first = tasks.create_task(process.caught_up(None))
            later = tasks.create_task(process.caught_up(at("7-2")))
            await settle()
            assert (first.done(), later.done()) == (False, False)
            async with following(broker, process):
                assert (first.done(), later.done()) == (True, False)
                await broker.append(OPEN)
                await broker.append(tick(1))
                await settle()
                assert not later.done()
                await broker.append(tick(2))
                await settle()
                assert later.done()

    async def test_what_is_no_longer_followed_is_forgotten_unless_it_came_after_that(self) -> None:
        """``received`` of what is made here is 100.5."""
        broker, process = FaultyBroker(), replica()
        async with following(broker, process):
            for one in (OPEN, tick(1), tick(2, "lastprice:BTC_USDT")):
                await broker.append(one)
            await broker.tell(health(at_=100.0, ticker=LIVE))
            await settle()
            assert {"ticker", "lastprice"} == {state.channel.kind for state in process.store}
            await broker.tell(health(at_=101.0, ticker=LIVE))
            await settle()
            assert [state.channel.kind for state in process.store] == ["ticker"]


class TestHealth:
    async def test_clients_are_told_how_the_upstream_is(self) -> None:
        broker, process, outlet = FaultyBroker(), replica(), FakeOutlet()
        async with following(broker, process):
            process.hub.join(channels(BTC), outlet, None)
            for upstream in ("live", "degraded", "degraded", "live"):
                await broker.tell(health(upstream))
                await settle()
            told = fields(outlet.controls(), "upstream")
            assert told == ["down", "live", "degraded", "live"]

    async def test_without_any_for_its_time_the_upstream_is_down(self) -> None:
        broker, process = FaultyBroker(), replica()
        async with following(broker, process):
            await broker.tell(health())
            await asyncio.sleep(TTL * 0.9)
            assert process.hub.status == ("live", 1.0)
            await asyncio.sleep(TTL * 0.4)
            assert process.hub.status[0] == "down"
            assert process.hub.health is None
            await broker.tell(health())
            await settle()
            assert process.hub.status == ("live", 1.0)

    async def test_with_one_in_time_it_stays_as_it_is(self) -> None:
        broker, process = FaultyBroker(), replica()
        async with following(broker, process):
            for _ in range(10):
                await broker.tell(health())
                await asyncio.sleep(TTL * 0.9)
                assert process.hub.status[0] == "live"

    async def test_it_remembers_when_the_leader_was_last_live(self) -> None:
        loop, broker, process = asyncio.get_running_loop(), FaultyBroker(), replica()
        async with following(broker, process):
            await asyncio.sleep(10.0)
            await broker.tell(health("degraded"))
            await settle()
            live = process.heard_live
            assert live == pytest.approx(loop.time(), abs=0.1)
            await asyncio.sleep(3.0)
            await broker.tell(health("down"))
            await settle()
            assert process.heard_live == live
            assert process.heard_health == pytest.approx(loop.time(), abs=0.1)


class TestWishes:
    async def test_what_its_clients_want_is_told_at_once(self) -> None:
        broker, process = FaultyBroker(), replica("ticker:*")
        async with following(broker, process):
            assert broker.wishes("one") == [frozenset()]
            process.wishes.hold(channels(BTC, "depth:BTC_USDT:0"))
            await settle()
            assert broker.wishes("one")[1:] == [channels("depth:BTC_USDT:0")]
            process.wishes.hold(channels("depth:ETH_USDT:0"))
            await settle()
            assert broker.wishes("one")[2:] == [channels("depth:BTC_USDT:0", "depth:ETH_USDT:0")]

    async def test_what_they_no_longer_want_is_told_soon(self) -> None:
        loop = asyncio.get_running_loop()
        broker, process = FaultyBroker(), replica(linger=60.0)
        async with following(broker, process):
            process.wishes.hold(channels("depth:BTC_USDT:0"))
            process.wishes.release(channels("depth:BTC_USDT:0"), loop.time())
            await asyncio.sleep(59.0)
            assert broker.wishes("one")[-1] == channels("depth:BTC_USDT:0")
            await asyncio.sleep(3.0)
            assert broker.wishes("one")[-1] == frozenset()

    @pytest.mark.parametrize("linger", [0.5, 3.0, 60.0])
    async def test_the_same_is_told_again_before_the_others_forget_it(self, linger: float) -> None:
        broker, process = FaultyBroker(), replica(linger=linger)
        async with following(broker, process):
            process.wishes.hold(channels("depth:BTC_USDT:0"))
            await settle()
            await asyncio.sleep(10 * linger)
            gaps = [later - sooner for sooner, later in pairwise(broker.times[1:])]
            assert len(gaps) >= 20
            assert max(gaps) < linger / 2
            assert set(broker.wishes("one")[2:]) == {channels("depth:BTC_USDT:0")}

    async def test_what_another_process_wants_is_wanted_until_it_is_not_heard_any_more(
        self,
    ) -> None:
        loop = asyncio.get_running_loop()
        broker, process = FaultyBroker(), replica("ticker:*", linger=10.0)
        async with following(broker, process):
            bell = process.bell
            await broker.tell(Wish("other", channels("depth:BTC_USDT:0")))
            await settle()
            assert bell.is_set()
            wanted = channels("ticker:*", "depth:BTC_USDT:0")
            assert process.wishes.wanted(loop.time()) == wanted
            await asyncio.sleep(9.0)
            await broker.tell(Wish("other", channels("depth:BTC_USDT:0")))
            await asyncio.sleep(9.0)
            assert process.wishes.wanted(loop.time()) == wanted
            await asyncio.sleep(2.0)
            assert process.wishes.wanted(loop.time()) == channels("ticker:*")

    async def test_its_own_word_is_not_another_s(self) -> None:
        """What it heard of itself would keep a channel wanted after the last client."""
        loop = asyncio.get_running_loop()
        broker, process = FaultyBroker(), replica(linger=10.0)
        async with following(broker, process):
            process.wishes.hold(channels("depth:BTC_USDT:0"))
            await asyncio.sleep(0.5)  # between two looks
            process.wishes.release(channels("depth:BTC_USDT:0"), loop.time())
            await asyncio.sleep(10.1)
            assert process.wishes.wanted(loop.time()) == frozenset()

    async def test_while_the_broker_is_away_it_tries_again(self) -> None:
        broker, process = FaultyBroker(), replica()
        async with following(broker, process):
            broker.away["wish"] = 3
            process.wishes.hold(channels("depth:BTC_USDT:0"))
            await settle()
            assert broker.wishes("one") == [frozenset()]
            await asyncio.sleep(5.0)
            assert broker.away["wish"] == 0
            assert broker.wishes("one")[-1] == channels("depth:BTC_USDT:0")


async def test_health_that_is_heard_late_counts_from_when_it_was_told() -> None:
    broker, process = FaultyBroker(), replica()
    async with following(broker, process):
        await broker.tell(replace(health(), late=TTL - 1.0))
        await settle()
        assert process.hub.status[0] == "live"
        await asyncio.sleep(TTL / 2)
        assert process.hub.status == ("down", 1000.0 + TTL)
