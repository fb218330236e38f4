import asyncio

import pytest

from app.domain.channel import Channel
from app.hub.watchers import Watchers
from tests.hub.place import settle

BTC, ETH = Channel.parse("ticker:BTC_USDT"), Channel.parse("ticker:ETH_USDT")


async def test_only_who_waits_for_the_channel_is_woken() -> None:
    watchers = Watchers()
    async with asyncio.TaskGroup() as tasks:
        waits = [tasks.create_task(watchers.wait(channel)) for channel in (BTC, BTC, ETH)]
        await settle()
        watchers.wake([BTC])
        await settle()
        assert [task.done() for task in waits] == [True, True, False]
        watchers.wake()
    assert not watchers


async def test_who_gives_up_leaves_nothing_behind() -> None:
    watchers = Watchers()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await watchers.wait(BTC)
    assert not watchers
    watchers.wake([BTC])


async def test_who_waits_again_at_once_is_not_forgotten() -> None:
    """A woken reader that gives up its place must not take the next one's."""
    watchers = Watchers()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(watchers.wait(BTC))
        await settle()
        watchers.wake([BTC])
        again = tasks.create_task(watchers.wait(BTC))
        await settle()
        assert not again.done()
        watchers.wake([BTC])
