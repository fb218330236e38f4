"""Streams as a client sees them (contract, Streams); the clock is virtual."""

import asyncio
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from itertools import pairwise
from typing import Any, get_args

import pytest

from app.domain.channel import Channel
from app.domain.event import Entry, Envelope
from app.domain.store import Store
from app.errors import NotReady
from app.hub.hub import Hub, HubOptions, bye
from app.hub.subscription import SLICE, STEPS, End
from app.telemetry import Metrics
from tests.fakes.outlet import FakeOutlet
from tests.given import at, entry, made, row
from tests.oracle.sse import read

pytestmark = pytest.mark.looptime

BTC, ETH = "ticker:BTC_USDT", "ticker:ETH_USDT"


class Place:
    """A hub, its store, and clients."""

    def __init__(self, hub: Hub, held: ExitStack) -> None:
        self.hub = hub
        self._held = held
        self._places: dict[FakeOutlet, ExitStack] = {}

    def publish(self, *envelopes: Envelope) -> None:
        """As the pipe does: store first, then hub."""
        for one in envelopes:
            self.hub.store.apply(one)
        self.hub.publish(Entry(None, envelopes[-1].position, envelopes))

    def tick(self, channel: str, first: int, last: int | None = None) -> None:
        """Events ``7-first`` to ``7-last`` on one channel, an entry each."""
        for number in range(first, (last or first) + 1):
            self.publish(made(channel, f"7-{number}"))

    def join(
        self,
        *channels: str,
        after: str | None = None,
        framed: bool = False,
        high: int = 64 * 1024,
        low: int = 0,
    ) -> FakeOutlet:
        outlet = FakeOutlet(framed=framed, high=high, low=low)
        place = self.hub.subscribe(frozenset(map(Channel.parse, channels)), outlet, after)
        self._places[outlet] = self._held.enter_context(ExitStack())
        self._places[outlet].enter_context(place)
        return outlet

    def leave(self, outlet: FakeOutlet) -> None:
        """The client goes."""
        self._places[outlet].close()


@pytest.fixture(name="make")
def _make() -> Iterator[Callable[..., Place]]:
    with ExitStack() as held:
        yield lambda **options: Place(Hub(Store(), HubOptions(**options), Metrics()), held)


@pytest.fixture(name="place")
async def _place(make: Callable[..., Place]) -> Place:
    return make()


async def settle() -> None:
    """Let everything happen that is due now."""
    for _ in range(100):
        await asyncio.sleep(0)


def positions(outlet: FakeOutlet) -> list[str]:
    return [event["position"] for event in outlet.events()]


def fields(controls: Iterable[Any], name: str) -> list[Any]:
    return [control.get(name) for control in controls]


class TestStarting:
    @pytest.mark.parametrize("framed", [False, True])
    async def test_the_status_goes_out_at_once_and_first(
        self, place: Place, *, framed: bool
    ) -> None:
        place.tick(BTC, 1)
        outlet = place.join(BTC, framed=framed)
        (first, *_) = outlet.take()
        assert outlet.body.startswith(b"retry: 2000\n")
        assert (first.event, first.id, first.retry) == ("gateway", None, 2000)
        assert {"type", "upstream", "since"} == set(first.json())
        assert (first.json()["type"], first.json()["upstream"]) == ("status", "down")

    async def test_then_a_snapshot_per_channel_with_an_id_on_the_last_only(
        self, place: Place
    ) -> None:
        for number, channel in enumerate([BTC, ETH, "ticker:A_B"], 1):
            place.tick(channel, number)
        outlet = place.join("ticker:*")
        await settle()
        blocks = [block for block in outlet.take() if block.event != "gateway"]
        assert [block.id for block in blocks] == [None, None, "7-3"]
        assert [block.json()["position"] for block in blocks] == ["7-1", "7-2", "7-3"]
        assert {"snapshot"} == {block.json()["type"] for block in blocks}

    async def test_then_updates(self, place: Place) -> None:
        place.tick(BTC, 1)
        outlet = place.join(BTC)
        await settle()
        outlet.take()
        update = made(BTC, "7-2", {"price": "2"}, type_="update", previous="7-1")
        place.publish(update, made(ETH, "7-3"))
        (block,) = outlet.take()
        assert (block.event, block.id, block.data) == ("ticker", "7-2", update.raw.decode())

    async def test_a_channel_that_is_not_known_yet_gets_its_snapshot_when_it_is(
        self, place: Place
    ) -> None:
        outlet = place.join(BTC)
        await settle()
        assert outlet.events() == []
        place.tick(BTC, 1)
        assert positions(outlet) == ["7-1"]

    async def test_what_comes_while_it_starts_is_neither_lost_nor_told_twice(
        self, place: Place
    ) -> None:
        place.tick(BTC, 1)
        place.tick(ETH, 2)
        outlet = place.join("ticker:*")
        place.tick(BTC, 3)
        await settle()
        place.tick(BTC, 4)
        assert positions(outlet) == ["7-1", "7-2", "7-3", "7-4"]

    async def test_a_turn_goes_out_as_one_write(self, place: Place) -> None:
        outlet = place.join("ticker:*")
        await settle()
        before = len(outlet.writes)
        place.publish(made(BTC, "7-1"), made(ETH, "7-2"), made(BTC, "7-3"))
        assert before + 1 == len(outlet.writes)
        assert positions(outlet) == ["7-1", "7-2", "7-3"]

    async def test_members_of_a_group_share_the_same_bytes(self, place: Place) -> None:
        one, other = place.join(BTC), place.join(BTC)
        await settle()
        place.tick(BTC, 1)
        assert one.writes[-1] is other.writes[-1]

    async def test_a_wildcard_and_a_channel_under_it_bring_each_event_once(
        self, place: Place
    ) -> None:
        place.tick(BTC, 1)
        outlet = place.join("ticker:*", BTC)
        await settle()
        place.tick(BTC, 2)
        assert positions(outlet) == ["7-1", "7-2"]

    async def test_a_thousand_snapshots_come_in_slices_as_the_outlet_drains(
        self, place: Place
    ) -> None:
        for number in range(1, 1001):
            place.publish(made(f"ticker:M{number}_USDT", f"7-{number}", {"text": "x" * 500}))
        outlet = place.join("ticker:*", high=4096)
        blocks = outlet.take()
        turns = 0
        while not blocks or blocks[-1].id is None:
            turns += 1
            assert turns < 1000
            await asyncio.sleep(0)
            blocks += outlet.take()
        assert turns > 10
        assert outlet.most < SLICE + 4096
        assert [str(n) for n in range(1, 1001)] == [
            block.json()["position"].removeprefix("7-") for block in blocks[1:]
        ]

    async def test_nobody_else_waits_while_a_stream_starts(self, place: Place) -> None:
        for number in range(1, 500):
            place.publish(made(f"ticker:M{number}_USDT", f"7-{number}", {"text": "x" * 500}))
        live = place.join(BTC)
        await settle()
        place.join("ticker:*")
        place.tick(BTC, 500)
        assert positions(live) == ["7-500"]


class TestResuming:
    @pytest.fixture(name="place")
    async def _place(self, make: Callable[..., Place]) -> Place:
        place = make(history=100)
        for number in range(1, 21):
            place.publish(made(BTC if number % 2 else ETH, f"7-{number}"))
        return place

    async def test_gets_exactly_what_it_missed_on_its_channels_and_goes_on(
        self, place: Place
    ) -> None:
        outlet = place.join(BTC, after="7-14")
        await settle()
        place.publish(made(BTC, "7-21"))
        assert positions(outlet) == ["7-15", "7-17", "7-19", "7-21"]
        assert outlet.reader.last_event_id == "7-21"
        assert all(block.id for block in outlet.reader.blocks[1:])

    async def test_at_the_head_it_gets_nothing_but_what_comes(self, place: Place) -> None:
        outlet = place.join(BTC, after="7-20")
        await settle()
        assert outlet.events() == []
        place.tick(BTC, 21)
        assert positions(outlet) == ["7-21"]

    async def test_inside_a_batch_it_gets_the_rest_of_it(self, place: Place) -> None:
        place.publish(made(BTC, "7-21"), made(BTC, "7-22"), made(BTC, "7-23"))
        outlet = place.join(BTC, after="7-22")
        await settle()
        assert positions(outlet) == ["7-23"]

    async def test_an_empty_id_counts_as_none(self, place: Place) -> None:
        outlet = place.join(BTC, after="")
        await settle()
        controls = outlet.controls()
        assert fields(controls, "type") == ["status"]
        assert [block.json()["position"] for block in outlet.reader.blocks if block.id] == ["7-19"]

    @pytest.mark.parametrize("after", ["x", "7", "7-20;", "-1", "9" * 40, "07-20"])
    async def test_a_malformed_position_is_unknown_at_once(self, place: Place, after: str) -> None:
        outlet = place.join(BTC, after=after)
        await settle()
        blocks = outlet.take()
        assert [block.event for block in blocks] == ["gateway", "gateway", "ticker"]
        assert blocks[1].json() == {"type": "reset", "reason": "unknown_position"}
        assert (blocks[1].id, blocks[2].id) == (None, "7-19")

    async def test_a_position_older_than_what_is_kept_has_expired(self, place: Place) -> None:
        place.tick(ETH, 21, 300)
        outlet = place.join(BTC, after="7-19")
        await settle()
        assert fields(outlet.controls(), "type") == ["status", "reset"]
        assert outlet.reader.blocks[1].json()["reason"] == "history_expired"
        assert outlet.reader.blocks[2].json()["position"] == "7-19"

    async def test_a_position_above_the_end_is_waited_for_a_second(self, place: Place) -> None:
        outlet = place.join(BTC, after="7-22")
        await asyncio.sleep(0.9)
        assert fields(outlet.controls(), "type") == ["status"]
        await asyncio.sleep(0.2)
        assert fields(outlet.controls(), "type") == ["reset"]
        assert outlet.reader.blocks[1].json()["reason"] == "unknown_position"
        assert outlet.reader.last_event_id == "7-19"

    async def test_a_position_that_is_heard_of_within_the_second_resumes(
        self, place: Place
    ) -> None:
        outlet = place.join(BTC, after="7-22")
        await asyncio.sleep(0.5)
        place.publish(made(BTC, "7-21"), made(BTC, "7-22"))
        place.tick(BTC, 23)
        await asyncio.sleep(2)
        assert positions(outlet) == ["7-23"]
        assert len(outlet.reader.blocks) == 2

    async def test_one_that_waits_longer_does_not_hold_up_another(self, place: Place) -> None:
        soon, late = place.join(BTC, after="7-21"), place.join(BTC, after="7-25")
        place.tick(BTC, 21, 22)
        await settle()
        assert [positions(soon), positions(late)] == [["7-22"], []]

    async def test_one_that_waits_and_cannot_take_more_goes_on_when_it_can(
        self, place: Place
    ) -> None:
        outlet = place.join(BTC, after="7-22", high=10)
        outlet.take()
        place.hub.report(None, "live", 1.0)
        outlet.take()
        place.hub.report(None, "degraded", 2.0)
        place.tick(BTC, 21, 23)
        outlet.take()
        await settle()
        assert positions(outlet) == ["7-23"]

    async def test_a_long_stretch_without_anything_for_it_is_passed_over(
        self, make: Callable[..., Place]
    ) -> None:
        place = make()
        place.tick(ETH, 1, STEPS + 10)
        outlet = place.join(BTC, after="7-1")
        await settle()
        place.tick(BTC, STEPS + 11)
        assert [f"7-{STEPS + 11}"] == positions(outlet)

    async def test_a_position_that_another_epoch_overtook_is_unknown(self, place: Place) -> None:
        """The journal lost its tail: the client heard what nobody knows any more."""
        outlet = place.join(BTC, after="7-25")
        place.hub.publish(entry("7-20", opens="8-0"))
        await settle()
        assert fields(outlet.controls(), "type") == ["status", "reset"]
        assert outlet.reader.last_event_id == "7-19"

    async def test_over_a_change_of_leaders_nothing_is_missing(self, place: Place) -> None:
        place.hub.publish(entry("7-20", opens="8-0"))
        place.publish(made(BTC, "8-1", gap=True))
        outlet = place.join(BTC, after="7-19")
        other = place.join(BTC, after="8-0")
        await settle()
        assert positions(outlet) == ["8-1"]
        assert positions(other) == ["8-1"]

    async def test_a_long_resume_comes_in_slices_as_the_outlet_drains(
        self, make: Callable[..., Place]
    ) -> None:
        place = make()
        for number in range(1, 401):
            place.publish(made(BTC, f"7-{number}", {"text": "x" * 1000}))
        outlet = place.join(BTC, after="7-1", high=2000)
        await settle()
        assert outlet.full
        assert outlet.most < SLICE + 4000
        got = positions(outlet)
        while len(got) < 399:
            await settle()
            got += positions(outlet)
        assert [f"7-{number}" for number in range(2, 401)] == got

    async def test_a_resume_that_is_overtaken_by_the_history_s_end_is_reset(
        self, place: Place
    ) -> None:
        for number in range(21, 90):
            place.publish(made(BTC, f"7-{number}", {"text": "x" * 2000}))
        outlet = place.join(BTC, after="7-1", high=100)
        await settle()
        place.tick(ETH, 90, 400)
        first = outlet.take()
        await settle()
        rest = outlet.take()
        assert [True] * (len(first) - 1) == [bool(block.id) for block in first[1:]]
        assert rest[0].json() == {"type": "reset", "reason": "history_expired"}
        assert rest[1].json()["position"] == "7-89"


class TestStatus:
    async def test_a_change_is_told_to_every_stream_once(self, place: Place) -> None:
        one, other = place.join(BTC), place.join(ETH, framed=True)
        await settle()
        one.take()
        other.take()
        for _ in range(3):
            place.hub.report(None, "live", 1750952911.4826)
        expected = [{"type": "status", "upstream": "live", "since": "1750952911.483"}]
        assert expected == one.controls()
        assert expected == other.controls()
        assert [block.id for block in one.reader.blocks[1:]] == [None]

    async def test_a_stream_that_is_behind_hears_the_last_status_when_it_has_drained(
        self, place: Place
    ) -> None:
        outlet = place.join(BTC, high=10)
        place.hub.report(None, "live", 1.0)
        place.hub.report(None, "degraded", 2.0)
        assert fields(outlet.controls(), "upstream") == ["down"]
        await settle()
        assert fields(outlet.controls(), "upstream") == ["degraded"]

    async def test_a_new_stream_hears_the_present_one_once(self, place: Place) -> None:
        place.hub.report(None, "live", 1.0)
        outlet = place.join(BTC)
        await settle()
        assert fields(outlet.controls(), "upstream") == ["live"]


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

    async def test_one_that_takes_nothing_for_twelve_seconds_is_aborted(self, place: Place) -> None:
        outlet = place.join(BTC, high=10)
        async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
            running = tasks.create_task(place.hub.run())
            await asyncio.sleep(11.5)
            assert outlet.aborts == 0
            await asyncio.sleep(3)
            assert outlet.aborts == 1
            place.hub.report(None, "live", 1.0)
            await asyncio.sleep(20)
            assert outlet.aborts == 1
            running.cancel()

    async def test_one_that_takes_a_little_now_and_then_is_not(self, place: Place) -> None:
        outlet = place.join(BTC, high=10)
        place.tick(BTC, 1, 3)
        for _ in range(6):
            for _ in range(10):
                await asyncio.sleep(1)
                place.hub.tick()
            outlet.take(5)
        assert not outlet.gone
        outlet.take()
        await settle()
        assert positions(outlet) == ["7-3"]

    async def test_a_pause_of_less_is_survived(self, place: Place) -> None:
        outlet = place.join(BTC, high=10)
        place.tick(BTC, 1, 3)
        for _ in range(11):
            await asyncio.sleep(1)
            place.hub.tick()
        outlet.take()
        await settle()
        assert positions(outlet) == ["7-3"]

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


class TestReloading:
    async def test_every_stream_is_reset_and_gets_the_state(self, place: Place) -> None:
        place.tick(BTC, 1)
        live, lagging = place.join(BTC), place.join(BTC, high=10)
        await settle()
        live.take()
        place.hub.store.reload(at("8-5"), [made(BTC, "8-3")])
        place.hub.reload(at("8-5"))
        await settle()
        for outlet in (live, lagging):
            outlet.take()
            await settle()
            outlet.take()
            *_, reset, snapshot = outlet.reader.blocks
            assert reset.json() == {"type": "reset", "reason": "history_expired"}
            assert (snapshot.id, snapshot.json()["type"]) == ("8-3", "snapshot")

    async def test_what_came_before_has_expired(self, place: Place) -> None:
        place.tick(BTC, 1, 5)
        place.hub.store.reload(at("7-9"), [made(BTC, "7-8")])
        place.hub.reload(at("7-9"))
        old, new = place.join(BTC, after="7-5"), place.join(BTC, after="7-9")
        await settle()
        assert fields(old.controls(), "type") == ["status", "reset"]
        assert fields(new.controls(), "type") == ["status"]

    async def test_a_stream_that_waits_for_its_position_goes_on_waiting(self, place: Place) -> None:
        outlet = place.join(BTC, after="7-9")
        place.hub.store.reload(at("7-9"), [made(BTC, "7-8")])
        place.hub.reload(at("7-9"))
        await asyncio.sleep(2)
        assert fields(outlet.controls(), "type") == ["status"]
        place.tick(BTC, 10)
        assert positions(outlet) == ["7-10"]

    async def test_an_empty_journal_is_a_beginning(self, place: Place) -> None:
        before = place.hub.loaded
        place.hub.reload(None)
        assert (before, place.hub.loaded) == (False, True)
        place.tick(BTC, 1)
        outlet = place.join(BTC)
        await settle()
        assert positions(outlet) == ["7-1"]

    async def test_a_stream_that_was_ended_is_left_alone(self, place: Place) -> None:
        outlet = place.join(BTC)
        await place.hub.drain(0)
        place.hub.reload(at("7-9"))
        place.hub.report(None, "live", 1.0)
        place.hub.tick()
        assert fields(outlet.controls(), "type") == ["status", "bye"]


class TestHeartbeats:
    async def test_only_an_idle_stream_gets_them(self, place: Place) -> None:
        idle, busy = place.join(BTC), place.join(ETH, framed=True)
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(place.hub.run())
            for number in range(1, 48):
                await asyncio.sleep(1)
                place.tick(ETH, number)
            running.cancel()
        idle.take()
        busy.take()
        assert idle.reader.comments == [" hb"] * 3
        assert busy.reader.comments == []
        assert idle.body.endswith(b": hb\n: hb\n: hb\n")
        assert not idle.reader.unfinished

    async def test_their_distance_is_the_setting(self, make: Callable[..., Place]) -> None:
        place = make(heartbeat=2.0)
        outlet = place.join(BTC)
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(place.hub.run())
            await asyncio.sleep(10.25)
            running.cancel()
        outlet.take()
        assert len(outlet.reader.comments) == 5

    async def test_a_lagging_stream_gets_none(self, place: Place) -> None:
        outlet = place.join(BTC, high=10)
        await asyncio.sleep(11)
        place.hub.tick()
        outlet.take()
        assert outlet.reader.comments == []


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

    async def test_a_client_that_went_or_was_ended_is_not_ended_again(self, place: Place) -> None:
        outlets = [place.join(BTC) for _ in range(3)]
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(place.hub.drain(3.0))
            await asyncio.sleep(0.5)
            (_, second, _) = place.hub._subscriptions
            place.hub.end(second, "expired")
            place.leave(outlets[2])
        *_, goodbye = outlets[1].controls()
        assert goodbye["reason"] == "expired"
        assert not outlets[2].gone

    async def test_a_client_that_does_not_read_is_dropped_instead(self, place: Place) -> None:
        outlet = place.join(BTC, high=10)
        await place.hub.drain(0)
        place.hub.tick()
        await asyncio.sleep(20)
        place.hub.tick()
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
        for _ in range(14):
            await asyncio.sleep(1)
            place.hub.tick()
        assert outlet.aborts == 1

    @pytest.mark.parametrize("reason", get_args(End))
    def test_a_bye_says_why_and_when_to_come_again_which_differs(self, reason: Any) -> None:
        blocks = read([bye(reason) for _ in range(20)])
        assert {("bye", reason)} == {(b.json()["type"], b.json()["reason"]) for b in blocks}
        assert [block.json()["retry"] for block in blocks] == [block.retry for block in blocks]
        assert len({block.retry for block in blocks}) > 5
        assert all(block.retry and 100 < block.retry <= 60_000 for block in blocks)
        assert {("gateway", None)} == {(block.event, block.id) for block in blocks}


class TestWatching:
    async def test_the_next_event_on_a_channel_wakes_those_who_wait(self, place: Place) -> None:
        async with asyncio.TaskGroup() as tasks:
            waiting = [tasks.create_task(place.hub.changed(Channel.parse(BTC))) for _ in range(2)]
            other = tasks.create_task(place.hub.changed(Channel.parse(ETH)))
            await settle()
            place.tick(BTC, 1)
            await settle()
            assert [task.done() for task in (*waiting, other)] == [True, True, False]
            place.hub.reload(at("7-5"))
            await settle()
            assert other.done()
        assert not place.hub._watchers

    async def test_who_gives_up_is_forgotten(self, place: Place) -> None:
        async def give_up() -> None:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(1):
                    await place.hub.changed(Channel.parse(BTC))

        async with asyncio.TaskGroup() as tasks:
            for _ in range(2):
                tasks.create_task(give_up())
        assert not place.hub._watchers

    async def test_who_is_cancelled_as_the_event_comes_does_no_harm(self, place: Place) -> None:
        async with asyncio.TaskGroup() as tasks:
            waiting = tasks.create_task(place.hub.changed(Channel.parse(BTC)))
            await settle()
            waiting.cancel()
            place.tick(BTC, 1)

    async def test_a_drain_wakes_them_and_refuses_new_ones(self, place: Place) -> None:
        async def watch() -> None:
            with pytest.raises(NotReady):
                await place.hub.changed(Channel.parse(BTC))

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(watch())
            await settle()
            await place.hub.drain(1)
        await watch()


class TestCounting:
    async def test_a_client_that_went_leaves_nothing_behind(self, place: Place) -> None:
        hub = place.hub
        place.tick(BTC, 1)
        for after in (None, "7-1", "7-9", "x"):
            with hub.subscribe(frozenset([Channel.parse(BTC)]), FakeOutlet(), after):
                await settle()
                assert len(hub) == 1
        await asyncio.sleep(2)
        assert (len(hub), hub.catching_up, list(hub._groups), hub._early) == (0, 0, [], {})

    async def test_streams_that_are_not_live_are_counted(self, place: Place) -> None:
        place.join(BTC)
        place.join(BTC, after="7-9")
        place.join(BTC, high=10)
        await settle()
        assert (len(place.hub), place.hub.catching_up) == (3, 2)

    async def test_the_metrics_tell(self, place: Place) -> None:
        value = place.hub._metrics.registry.get_sample_value
        place.join(BTC)
        place.join(BTC)
        await settle()
        place.publish(made(BTC, "7-1"), made(BTC, "7-2", gap=True))
        assert value("sluice_streams_open") == 2
        assert value("sluice_events_total", {"kind": "ticker"}) == 2
        assert value("sluice_gaps_total", {"kind": "ticker"}) == 1
        assert value("sluice_deliveries_total") == 4
        await place.hub.drain(0)
        assert value("sluice_streams_ended_total", {"reason": "drain"}) == 2
