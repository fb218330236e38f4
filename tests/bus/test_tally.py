"""Requests counted together in a real Redis."""

import time
from pathlib import Path

import pytest

from app.bus.link import Link
from app.bus.tally import Tally
from app.errors import BrokerUnavailable
from tests.bus.road import linked
from tests.redis.servers import BINARIES, Server

HOUR = 3600


@pytest.fixture(name="binary", params=BINARIES)
def _binary(request: pytest.FixtureRequest) -> Path:
    return BINARIES[request.param]


async def test_processes_count_together_by_the_clock_of_redis(one: Server) -> None:
    async with linked(one.url) as first, linked(one.url) as second:
        here, there = Tally(first, HOUR), Tally(second, HOUR)
        at, count, before = await here.add("a", 3)
        assert abs(at - time.time()) < 5
        assert (count, before) == (3, 0)
        assert (await there.add("a", 4))[1:] == (7, 0)
        assert (await there.add("b", 1))[1:] == (1, 0)
        assert (await here.add("a", 0))[1:] == (7, 0)


async def test_a_new_window_remembers_the_one_before_and_no_older_one(
    one: Server, link: Link
) -> None:
    """As if time had passed: what is kept is of windows further back."""
    tally = Tally(link, HOUR)
    await tally.add("a", 5)

    async def back(windows: int) -> None:
        now = int(time.time()) // HOUR
        keys = [Link.key(f"requests:{HOUR}:{parity}") for parity in ("even", "odd")]
        this, other = (keys[(now + turn) % 2] for turn in (0, 1))
        if windows == 1:
            await one.ask("RENAME", this, other)
            await one.ask("HSET", other, "#", now - 1)
        else:
            await one.ask("HSET", this, "#", now - windows)

    await back(1)
    assert (await tally.add("a", 1))[1:] == (1, 5)
    await back(2)
    assert (await tally.add("a", 1))[2] in {0, 5}  # the one before was not touched
    assert (await tally.add("b", 1))[1:] == (1, 0)


async def test_what_is_kept_goes_by_itself_and_lies_in_our_slot(one: Server, link: Link) -> None:
    await Tally(link, HOUR).add("a", 1)
    (key,) = await one.ask("KEYS", "*")
    assert key.startswith(b"{sluice}:")
    assert 0 < await one.ask("PTTL", key) <= 2 * HOUR * 1000


async def test_redis_that_hangs_or_is_away_is_said_so(one: Server, link: Link) -> None:
    tally = Tally(link, HOUR)
    await tally.add("a", 1)
    one.pause()
    with pytest.raises(BrokerUnavailable):
        await tally.add("a", 1)
    one.resume()
    await one.kill()
    with pytest.raises(BrokerUnavailable):
        await tally.add("a", 1)


async def test_garbage_in_its_place_is_said_so(one: Server, link: Link) -> None:
    for parity in ("even", "odd"):
        await one.ask("SET", Link.key(f"requests:{HOUR}:{parity}"), "garbage")
    with pytest.raises(BrokerUnavailable):
        await Tally(link, HOUR).add("a", 1)
