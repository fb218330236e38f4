"""Resuming a stream (contract, Streams); the clock is virtual."""

import asyncio
from collections.abc import Callable

import pytest

from app.hub.subscription import SLICE, STEPS
from tests.given import entry, made
from tests.hub.place import BTC, ETH, Place, fields, positions, settle

pytestmark = pytest.mark.looptime


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
