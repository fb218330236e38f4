"""Ten tokens a minute for the account, whatever number of processes asks for them."""

import asyncio
from pathlib import Path

import pytest

from app.bus import pace
from app.bus.link import Link
from app.bus.pace import BURST, INTERVAL, SharedPace
from tests.bus.road import linked
from tests.redis.servers import BINARIES, Server

TOKENS = Link.key("tokens")
FAR = 10**15
"""A Unix time in milliseconds that no clock here shows."""


@pytest.fixture(name="binary", params=BINARIES)
def _binary(request: pytest.FixtureRequest) -> Path:
    return BINARIES[request.param]


async def test_a_burst_goes_at_once_and_then_one_each_interval(link: Link) -> None:
    ours = SharedPace(link)
    assert [await ours.leave() for _ in range(BURST)] == [0.0] * BURST
    for _ in range(3):  # asking costs nothing
        assert INTERVAL - 2.0 < await ours.leave() <= INTERVAL


async def test_all_processes_share_it(one: Server) -> None:
    async with linked(one.url) as first, linked(one.url) as second:
        here, there = SharedPace(first), SharedPace(second)
        for _ in range(BURST // 2):
            assert [await here.leave(), await there.leave()] == [0.0, 0.0]
        assert await here.leave() == 0.0
        assert 0.0 < await there.leave() <= INTERVAL
        assert 0.0 < await here.leave() <= INTERVAL


async def test_after_a_pause_there_is_leave_again(one: Server, link: Link) -> None:
    """As if time had passed: what is due came that much nearer."""
    ours = SharedPace(link)
    assert [await ours.leave() for _ in range(BURST)] == [0.0] * BURST

    async def passes(seconds: float) -> None:
        due = int(await one.ask("GET", TOKENS))
        await one.ask("SET", TOKENS, due - round(seconds * 1000), "PX", 60_000)

    await passes(INTERVAL)
    assert await ours.leave() == 0.0
    assert await ours.leave() > 0.0
    await passes(2 * INTERVAL)
    assert [await ours.leave() > 0.0 for _ in range(3)] == [False, False, True]
    await passes(BURST * INTERVAL)
    assert [await ours.leave() > 0.0 for _ in range(BURST + 1)] == [False] * BURST + [True]


async def test_what_is_kept_goes_by_itself(one: Server, link: Link) -> None:
    await SharedPace(link).leave()
    assert 0 < await one.ask("PTTL", TOKENS) <= 2 * BURST * INTERVAL * 1000


@pytest.mark.parametrize("ttl", [(), ("PX", 10**9)])
async def test_a_clock_that_was_set_back_makes_nobody_wait_longer_than_one_burst(
    one: Server, link: Link, monkeypatch: pytest.MonkeyPatch, ttl: tuple[object, ...]
) -> None:
    """What was due in an hour of the old clock is due in an hour more of the new one."""
    monkeypatch.setattr(pace, "INTERVAL", 0.05)
    await one.ask("SET", TOKENS, FAR, *ttl)
    ours, waited = SharedPace(link), 0.0
    while wait := await ours.leave():
        assert 0.0 < wait <= 0.05 * BURST
        waited += wait
        assert waited <= 0.05 * BURST, "asked again and again, and never let go"
        await asyncio.sleep(wait)


async def test_garbage_in_its_place_makes_nobody_wait(one: Server, link: Link) -> None:
    await one.ask("SET", TOKENS, "garbage")
    assert await SharedPace(link).leave() == 0.0


async def test_while_redis_is_away_there_is_no_leave_and_soon_another_try(
    one: Server, link: Link
) -> None:
    """Nothing could be published, so nobody needs a token."""
    ours = SharedPace(link)
    await one.kill()
    assert 0.0 < await ours.leave() < INTERVAL
    await one.start()
    assert await ours.leave() == 0.0
