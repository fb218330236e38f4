"""Three processes over one Redis are restarted in turn under load, and nobody misses an event."""

import random
import time
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path

import pytest

from tests.e2e.fleet import Fleet, fleet
from tests.e2e.market import BOOKS, WILD
from tests.e2e.reconstruct import place
from tests.e2e.record import Client

pytestmark = pytest.mark.e2e

FOLLOWED = (
    (*WILD, *BOOKS),
    ("trade:*",),
    ("ticker:*", "depth:TRX_USDT:1"),
    ("lastprice:ETH_USDT", "trade:BTC_USDT", "depth:BTC_USDT:0"),
)
"""What clients follow: of each list one at each process."""


async def test_nobody_misses_an_event_in_a_rolling_restart(tmp_path: Path) -> None:
    """Clients come back when they are told, to whichever process; the leader is restarted last.

    All events of the test are in the journal, and each client must have heard every one of its
    channels, once and in order, the snapshots with which a new leader begins among them.
    """
    async with fleet(tmp_path, market={"rate": 300.0}, drain=0.5, lease_ttl=20) as play:
        first = await play.leader()
        old = [*play.others(first), first]
        anywhere = chosen(play)
        clients = [
            play.join(one, *channels, choose=anywhere.__next__, patient=True)
            for one in old
            for channels in FOLLOWED
        ]
        await play.begin()

        for one in old:
            await one.terminate()
            await play.start()  # it takes traffic when this ends
        since = time.time()
        await play.fresh(since)
        await play.fine(since)

        (epoch,) = await play.epochs()
        assert await play.leader() is not first
        for client in clients:
            await check(play, client, epoch)
        assert sum(client.connections for client in clients) >= 2 * len(clients)
        assert play.most == 1


def chosen(play: Fleet) -> Iterator[str]:
    """Where a client goes, as a load balancer would send it: any process that lives."""
    chance = random.Random(1)
    for _ in cycle([None]):
        yield chance.choice(play.alive).url


async def check(play: Fleet, client: Client, epoch: int) -> None:
    """It was ended in order only, has resumed each time, and heard everything."""
    mirror = client.mirror
    assert mirror.resets() == []
    assert set(mirror.farewells()) <= {"drain"}
    assert mirror.texts() == await play.told(client)
    gaps = [place(one["position"])[0] for one in mirror.heard if one.get("gap")]
    assert set(gaps) == {epoch}, "a new leader alone makes a gap"
    assert all(
        count == 1 for channel, count in mirror.gaps.items() if not channel.startswith("depth:")
    ), "and one on each channel; a book that crosses while all are busy is loaded anew"
