"""Servers that say nothing, as after a loss of power: others answer in their place."""

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from app.bus.link import Link
from app.errors import BrokerUnavailable
from tests.bus.road import linked
from tests.e2e.waiting import until
from tests.redis.cluster import cluster
from tests.redis.sentinel import Sentinels, sentinels

LIMIT = 2.0
"""As the product has it with a lease of five seconds."""


async def silent(made: Sentinels) -> None:
    made.sentinels[0].pause()


async def gone(made: Sentinels) -> None:
    await made.sentinels[0].kill()


@pytest.mark.parametrize("fails", [silent, gone])
async def test_a_sentinel_that_is_asked_first_and_does_not_answer_is_passed_over(
    tmp_path: Path, fails: Callable[[Sentinels], Awaitable[None]]
) -> None:
    async with sentinels(tmp_path) as made:
        await fails(made)
        async with linked(made.url, limit=LIMIT) as link:

            async def served() -> bool:
                return await _works(link)

            await until(served, "another sentinel is asked")
            async with link.subscribed() as messages:
                await messages.ping()
                assert await messages.message(LIMIT) == b""
        made.sentinels[0].resume()


async def test_a_cluster_s_primary_that_hangs_is_left_for_the_new_one(tmp_path: Path) -> None:
    async with cluster(tmp_path) as made, linked(made.url, limit=LIMIT) as link:
        assert await link.call("SET", link.key("a"), "1")
        owner = await made.owner(link.key("a"))
        owner.pause()

        async def served() -> bool:
            return await _works(link)

        await until(served, "the cluster serves again", limit=30)
        async with link.subscribed() as messages:
            await messages.ping()
            assert await messages.message(LIMIT) == b""
        owner.resume()


async def _works(link: Link) -> bool:
    try:
        return bool(await link.call("SET", link.key("a"), "2"))
    except BrokerUnavailable:
        return False
