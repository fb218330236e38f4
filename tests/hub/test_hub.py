"""Streams as a client sees them (contract, Streams); the clock is virtual."""

import asyncio
from collections.abc import Callable

import pytest

from app.domain.channel import Channel
from app.errors import NotReady
from app.hub import subscription
from app.hub.subscription import SLICE
from tests.e2e.waiting import until
from tests.given import at, made
from tests.hub.place import BTC, ETH, Place, fields, positions, settle

pytestmark = pytest.mark.looptime


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

    async def test_an_event_in_the_very_turn_is_no_second_snapshot(self, place: Place) -> None:
        place.tick(BTC, 1)
        outlet, empty = place.join("ticker:*"), place.join(ETH)
        place.publish(made(BTC, "7-2", type_="update", previous="7-1"))
        place.publish(made(ETH, "7-3"))
        await settle()
        told = [(one["position"], one["type"]) for one in outlet.events()]
        assert told == [("7-1", "snapshot"), ("7-2", "update"), ("7-3", "snapshot")]
        assert positions(empty) == ["7-3"]

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


class TestLongHistories:
    """The steps of a turn are made few here, so that a short history is a long one."""

    async def test_a_resume_lets_others_in_between(
        self, place: Place, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(subscription, "STEPS", 10)
        for first in range(1, 500, 10):
            place.tick(BTC, first)
            place.tick(ETH, first + 1, first + 9)
        live, outlet = place.join("ticker:A_B"), place.join(BTC, after="7-1")
        got = positions(outlet)
        assert len(got) <= 1, "it went on in the turn that it came in"
        turns = 0
        while len(got) < 49:
            turns += 1
            place.tick("ticker:A_B", 500 + turns)
            assert positions(live) == [f"7-{500 + turns}"]
            await asyncio.sleep(0)
            assert turns < 100
            got += positions(outlet)
        assert turns > 40
        assert got == [f"7-{number}" for number in range(11, 500, 10)]

    async def test_and_takes_no_stack(self, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(subscription, "STEPS", 1)
        place.tick(BTC, 1, 1500)
        outlet = place.join(BTC, after="7-1", high=10**9)
        await until(lambda: not place.hub.catching_up, "it is live")
        assert positions(outlet) == [f"7-{number}" for number in range(2, 1501)]


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


class TestWatching:
    @pytest.fixture(autouse=True)
    def _loaded(self, place: Place) -> None:
        place.hub.reload(None)

    async def test_is_refused_while_the_state_is_not_loaded(self, place: Place) -> None:
        place.hub.loaded = False
        with pytest.raises(NotReady, match="starting"):
            await place.hub.changed(Channel.parse(BTC))

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


class TestShuttingDown:
    @pytest.mark.parametrize("after", [None, "7-1", "7-9", "x"])
    async def test_a_stream_that_was_let_in_before_is_ended_as_it_joins(
        self, place: Place, after: str | None
    ) -> None:
        place.tick(BTC, 1)
        await place.hub.drain(0)
        outlet = place.join(BTC, after=after)
        assert outlet.closed
        *_, goodbye = outlet.controls()
        assert (goodbye["type"], goodbye["reason"]) == ("bye", "drain")
        place.tick(BTC, 2)
        await asyncio.sleep(2)
        assert outlet.take() == []

    async def test_to_close_ends_every_stream_and_wakes_who_waits(self, place: Place) -> None:
        async def watch() -> None:
            with pytest.raises(NotReady):
                await place.hub.changed(Channel.parse(BTC))

        place.tick(BTC, 1)
        live, waiting, gone = place.join(BTC), place.join(BTC, after="7-9"), place.join(BTC)
        stuck = place.join(BTC, high=10)
        gone.owner.gone()
        async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
            tasks.create_task(watch())
            await settle()
            place.hub.close()
            place.hub.close()
        for outlet in (live, waiting):
            *_, goodbye = outlet.controls()
            assert (goodbye["type"], goodbye["reason"]) == ("bye", "drain")
            assert outlet.closed
        assert (stuck.aborts, gone.gone) == (1, False)
        await watch()
        late = place.join(BTC)
        assert late.closed


class TestCounting:
    async def test_a_client_that_went_leaves_nothing_behind(self, place: Place) -> None:
        hub = place.hub
        place.tick(BTC, 1)
        for after in (None, "7-1", "7-9", "x"):
            outlet = place.join(BTC, after=after)
            await settle()
            assert len(hub) == 1
            outlet.owner.gone()
        await asyncio.sleep(2)
        assert (len(hub), hub.catching_up, list(hub._groups), hub._early._waiting) == (0, 0, [], {})

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
