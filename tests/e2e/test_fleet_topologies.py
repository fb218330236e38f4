"""A Redis that replaces its own failed server: Sentinel and Cluster, with gateways over them."""

import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tests.e2e.fleet import BUSY, JOURNAL, Fleet, fleet
from tests.e2e.waiting import until
from tests.redis.cluster import cluster
from tests.redis.sentinel import sentinels
from tests.redis.servers import BINARIES, Server

pytestmark = pytest.mark.e2e

PROMISED = 3.0
"""Seconds after the failover itself within which there is fresh data again."""
FAILOVER = 30.0
"""Seconds that the failover itself may take."""

TTL = 1
"""Less than a failover takes, so that afterwards there is a new leader in any case."""

Owner = Callable[[], Awaitable[Server]]


async def survives_a_failover(play: Fleet, owner: Owner) -> None:
    """The server that holds the journal is killed: another takes over, and so does the service."""
    clients = [play.join(one) for one in play.members]
    old = await owner()
    first = await play.begin(at=old)

    await old.kill()

    async def replaced() -> bool:
        return await owner() is not old

    await until(replaced, "another server", limit=FAILOVER)
    failed_over = time.time()
    await play.fresh(failed_over, epoch=first, limit=PROMISED * BUSY)
    await play.fine(failed_over, epoch=first)
    play.act("play")
    await old.start()
    await play.fine(time.time())
    for client in clients:
        assert client.connections == 1
        assert client.mirror.resets() == []
    assert play.most == 1


@pytest.fixture(params=BINARIES)
def binary(request: pytest.FixtureRequest) -> Path:
    return BINARIES[request.param]


async def test_a_primary_under_sentinels_fails(tmp_path: Path, binary: Path) -> None:
    async with (
        sentinels(tmp_path, binary=binary) as made,
        fleet(tmp_path, 2, broker=made.url, lease_ttl=TTL) as play,
    ):
        await survives_a_failover(play, made.primary)


async def test_the_owner_of_the_journal_in_a_cluster_fails(tmp_path: Path, binary: Path) -> None:
    async with (
        cluster(tmp_path, binary=binary) as made,
        fleet(tmp_path, 2, broker=made.url, lease_ttl=TTL) as play,
    ):
        await survives_a_failover(play, lambda: made.owner(JOURNAL))
