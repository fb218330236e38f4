"""Clients that take nothing are aborted, and no others (contract, Streams); a virtual clock."""

import asyncio

import pytest

from tests.given import at
from tests.hub.place import BTC, Place, looking, positions, settle

pytestmark = pytest.mark.looptime


@pytest.mark.parametrize("high", [10, 64 * 1024])
@pytest.mark.parametrize("framed", [False, True])
async def test_one_that_takes_nothing_for_twelve_seconds_is_aborted_once(
    place: Place, high: int, *, framed: bool
) -> None:
    """Whether its outlet is full or holds next to nothing."""
    outlet = place.join(BTC, high=high, framed=framed)
    async with looking(place):
        await asyncio.sleep(11.9)
        assert outlet.aborts == 0
        await asyncio.sleep(2.2)
        assert outlet.aborts == 1
        place.hub.report(None, "live", 1.0)
        place.tick(BTC, 1)
        await asyncio.sleep(20)
        assert outlet.aborts == 1


async def test_its_time_begins_with_what_it_does_not_take(place: Place) -> None:
    outlet = place.join(BTC)
    async with looking(place):
        outlet.take()
        await asyncio.sleep(60)
        place.tick(BTC, 1)
        await asyncio.sleep(11.9)
        assert outlet.aborts == 0
        await asyncio.sleep(2.2)
        assert outlet.aborts == 1


async def test_one_that_takes_a_little_now_and_then_is_not(place: Place) -> None:
    outlet = place.join(BTC, high=10)
    place.tick(BTC, 1, 3)
    async with looking(place):
        for _ in range(6):
            await asyncio.sleep(10)
            outlet.take(5)
    assert not outlet.gone
    outlet.take()
    await settle()
    assert positions(outlet) == ["7-3"]


@pytest.mark.parametrize("framed", [False, True])
async def test_nor_is_one_that_is_written_more_than_it_takes(place: Place, *, framed: bool) -> None:
    outlet = place.join(BTC, framed=framed)
    outlet.take()
    await settle()
    async with looking(place):
        for number in range(1, 61):
            place.tick(BTC, number)
            await asyncio.sleep(1)
            outlet.take(10)
            assert outlet.backlog()
    assert not outlet.gone
    assert outlet.backlog() > 600


async def test_what_it_is_written_is_not_what_it_takes(place: Place) -> None:
    outlet = place.join(BTC)
    outlet.take()
    await settle()
    async with looking(place):
        for number in range(1, 15):
            place.tick(BTC, number)
            await asyncio.sleep(1)
    assert outlet.aborts == 1


async def test_what_a_reload_adds_does_not_hide_that_it_takes_something(place: Place) -> None:
    outlet = place.join(BTC, high=10)
    async with looking(place):
        for _ in range(6):
            await asyncio.sleep(10)
            outlet.take(20)
            place.hub.reload(at("7-1"))
    assert not outlet.gone


async def test_a_pause_of_less_is_survived(place: Place) -> None:
    outlet = place.join(BTC, high=10)
    place.tick(BTC, 1, 3)
    async with looking(place):
        await asyncio.sleep(11)
        outlet.take()
        await settle()
    assert positions(outlet) == ["7-3"]


async def test_one_that_goes_while_others_are_looked_at_is_left_alone(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, *others = [place.join(BTC) for _ in range(3)]

    def abort() -> None:
        for one in others:
            one.owner.gone()

    monkeypatch.setattr(first, "abort", abort)
    async with looking(place):
        await asyncio.sleep(15)
    assert not any(one.aborts for one in others)


async def test_all_of_many_are_looked_at(place: Place) -> None:
    outlets = [place.join(BTC) for _ in range(1000)]
    async with looking(place):
        await asyncio.sleep(14.1)
    assert all(outlet.aborts == 1 for outlet in outlets)
