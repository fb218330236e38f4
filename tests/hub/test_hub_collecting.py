"""Clients that come, lag or are reset while the hub collects."""

import asyncio
from typing import Any

import pytest

from app.hub.collector import REST
from tests.fakes.outlet import FakeOutlet
from tests.given import at, made
from tests.hub.place import BTC, ETH, Place, settle

pytestmark = pytest.mark.looptime  # nothing is late, however busy the machine is


def write_for_long(place: Place) -> None:
    """As if the hub had just written for long: it rests from here on."""
    place.hub.collector._paid_off = asyncio.get_running_loop().time() + 2 * REST


def update(place: Place, number: int) -> None:
    place.publish(made(BTC, f"7-{number}", type_="update", previous=f"7-{number - 1}"))


async def rest() -> None:
    await asyncio.sleep(REST + 0.001)
    await settle()


def told(outlet: FakeOutlet) -> list[tuple[str, str]]:
    return [(event["type"], event["position"]) for event in outlet.events()]


async def collecting(place: Place) -> FakeOutlet:
    """Have 7-2 collected for the one client there is, which holds 7-1; its outlet."""
    place.tick(BTC, 1)
    outlet = place.join(BTC)
    await settle()
    assert told(outlet) == [("snapshot", "7-1")]
    write_for_long(place)
    update(place, 2)
    assert told(outlet) == []
    return outlet


async def test_what_is_collected_comes_after_the_rest(
    place: Place,
) -> None:
    outlet = await collecting(place)
    update(place, 3)
    await rest()
    assert told(outlet) == [("update", "7-2"), ("update", "7-3")]


async def test_who_comes_meanwhile_gets_each_event_once(
    place: Place,
) -> None:
    first = await collecting(place)
    late = place.join(BTC)
    await settle()
    update(place, 3)
    await rest()
    assert told(first) == [("update", "7-2"), ("update", "7-3")]
    assert told(late) == [("snapshot", "7-2"), ("update", "7-3")]
    await rest()
    update(place, 4)
    assert told(first) == told(late) == [("update", "7-4")]
    assert place.hub.catching_up == 0


async def test_who_resumes_meanwhile_gets_each_event_once(
    place: Place,
) -> None:
    await collecting(place)
    late = place.join(BTC, after="7-1")
    await settle()
    update(place, 3)
    await rest()
    assert told(late) == [("update", "7-2"), ("update", "7-3")]


async def test_who_lags_meanwhile_is_owed_what_was_collected(place: Place) -> None:
    outlet = place.join(BTC, high=400)
    place.tick(BTC, 1)
    await settle()
    outlet.take()
    write_for_long(place)
    update(place, 2)
    fill(place, outlet)
    await rest()
    assert told(outlet) == []
    await settle()
    assert told(outlet) == [("snapshot", "7-2")]


async def test_who_lags_before_it_is_live_holds_the_present_state_in_the_end(
    place: Place,
) -> None:
    await collecting(place)
    late = place.join(BTC, ETH, high=600)
    await settle()
    assert told(late) == [("snapshot", "7-2")]
    fill(place, late)
    update(place, 3)
    update(place, 4)
    update(place, 5)
    await rest()
    assert told(late) == []
    await settle()
    assert told(late) == [("snapshot", "7-5")]


async def test_what_was_collected_before_a_reload_comes_before_it(
    place: Place,
) -> None:
    outlet = await collecting(place)
    place.hub.reload(at("7-9"))
    await rest()
    blocks = [(block.event, block.id) for block in outlet.take()]
    assert blocks == [("ticker", "7-2"), ("gateway", None), ("ticker", "7-2")]


async def test_who_goes_meanwhile_is_written_nothing(
    place: Place,
) -> None:
    first = await collecting(place)
    late = place.join(BTC)
    await settle()
    late.take()
    for outlet in (first, late):
        outlet.owner.gone()
    await rest()
    assert told(first) == told(late) == []


def fill(place: Place, outlet: FakeOutlet) -> None:
    """Tell changes of the upstream's status until the outlet is full."""
    statuses: list[Any] = ["live", "down"]
    number = 0
    while not outlet.full:
        place.hub.report(None, statuses[number % 2], float(number))
        number += 1
