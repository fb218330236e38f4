"""Redis fails in every way, and what clients see is true meanwhile and whole afterwards."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import httpx
import pytest

from tests.e2e.fleet import JOURNAL, Fleet, fleet
from tests.e2e.market import BOOKS
from tests.e2e.member import Member
from tests.e2e.reconstruct import place
from tests.e2e.record import Client
from tests.e2e.test_fleet_faults import cut_off
from tests.e2e.waiting import until
from tests.redis.servers import Server

pytestmark = pytest.mark.e2e

TTL = 1
CUTS = 20
AHEAD = 10**14
"""An epoch that no clock of today reaches, in Unix milliseconds."""


async def kill(redis: Server) -> None:
    await redis.kill()


async def start(redis: Server) -> None:
    await redis.start()


async def pause(redis: Server) -> None:
    redis.pause()


async def resume(redis: Server) -> None:
    redis.resume()


async def fill(redis: Server) -> None:
    await redis.ask("CONFIG", "SET", "maxmemory-policy", "noeviction")
    await redis.ask("CONFIG", "SET", "maxmemory", "1mb")


async def relieve(redis: Server) -> None:
    await redis.ask("CONFIG", "SET", "maxmemory", "0")


Step = Callable[[Server], Awaitable[None]]
OUTAGES = {"killed": (kill, start), "paused": (pause, resume), "out of memory": (fill, relieve)}


@pytest.mark.parametrize(("fails", "recovers"), OUTAGES.values(), ids=OUTAGES)
async def test_an_outage_is_told_and_nothing_is_lost_by_it(
    tmp_path: Path, fails: Step, recovers: Step
) -> None:
    async with fleet(tmp_path, 2, lease_ttl=TTL) as play:
        clients = [play.join(one) for one in play.members]
        first = await play.begin()
        assert play.redis

        await fails(play.redis)
        for member, client in zip(play.members, clients, strict=True):
            await cut_off(member, client)
        await recovers(play.redis)
        await play.fine(time.time(), epoch=first)

        assert min(await play.epochs()) > first
        entries = await play.journal()
        assert [one.previous for one in entries[1:]] == [one.position for one in entries[:-1]]
        for client in clients:
            assert client.connections == 1
            assert client.mirror.resets() == []
            assert client.mirror.texts() == await play.told(client)
            assert all(client.mirror.gaps[channel] for channel in play.channels)
        assert play.most == 1


@pytest.mark.parametrize("ahead", [0, AHEAD])
async def test_a_redis_that_lost_everything_gets_a_higher_epoch_than_ever(
    tmp_path: Path, ahead: int
) -> None:
    """Also when the clock alone would not give one."""
    async with fleet(tmp_path, 0, lease_ttl=TTL) as play:
        assert play.redis
        if ahead:
            await play.redis.ask("SET", "{sluice}:epoch", ahead)
        await play.start_many(2)
        clients = [play.join(one) for one in play.members]
        first = await play.begin()
        assert first > ahead

        await play.redis.kill()
        for member, client in zip(play.members, clients, strict=True):
            await cut_off(member, client)
        play.redis.forget()
        await play.redis.start()
        await play.fine(time.time(), epoch=first)

        entries = await play.journal()
        assert entries[0].position > (first, 0)
        assert entries[0].position[1] == 0
        for client in clients:
            assert client.connections == 1
            assert client.mirror.epochs()[-1] > first
            assert all(client.mirror.gaps[channel] for channel in play.channels)
        late = play.join(await play.start())
        await play.settle()
        assert late.mirror.resets() == []
        assert play.most == 1


async def flush(redis: Server) -> None:
    await redis.ask("FLUSHALL")


async def lose_journal(redis: Server) -> None:
    await redis.ask("DEL", JOURNAL)


async def restart_empty(redis: Server) -> None:
    await redis.restart(keep_data=False)


LOSSES = {"all": flush, "the journal": lose_journal, "all, by a restart": restart_empty}


@pytest.mark.parametrize("loses", LOSSES.values(), ids=LOSSES)
async def test_data_lost_in_the_middle_of_a_lease_means_a_new_epoch_and_still_one_pool(
    tmp_path: Path, loses: Step
) -> None:
    """In a market that is quiet just then, so that no event tells the leader."""
    async with fleet(tmp_path, 2, lease_ttl=3) as play:
        assert play.redis
        clients = [play.join(one) for one in play.members]
        first = await play.begin()
        play.act("pause")

        lost = time.time()
        await loses(play.redis)
        await until(partial(in_epoch_after, first, *play.members), "another epoch")
        await play.fine(lost, epoch=first)
        entries = await play.journal()
        assert entries[0].position > (first, 0)
        assert entries[0].position[1] == 0
        for client in clients:
            assert client.connections == 1
            assert all(client.mirror.gaps[channel] for channel in play.channels)
        assert play.most == 1


async def in_epoch_after(epoch: int, *members: Member) -> bool:
    reached = [place((await one.status())["position"])[0] for one in members]
    return min(reached) > epoch


async def test_a_new_leader_that_knows_less_than_others_makes_no_id_go_down(
    tmp_path: Path,
) -> None:
    """Redis lost what the last leader published, and the next one had not heard it."""
    async with fleet(tmp_path, network=True, lease_ttl=TTL) as play:
        assert play.redis
        leader = await play.leader()
        knowing, ignorant = play.others(leader)
        client = play.join(knowing, "lastprice:*")
        everything = play.join(knowing)
        first = await play.begin()
        play.act("pause")

        ignorant.network.to_redis.partition()
        ignorant.pause()
        for _ in range(3):
            play.nudge()
        await until(partial(play.true_of, everything.mirror), "all heard")
        held = place(everything.mirror.last_id or "")
        knowing.pause()
        await leader.kill()
        await play.redis.restart(keep_data=False)
        ignorant.network.to_redis.heal()
        ignorant.resume()
        await until(lambda: '"leading"' in ignorant.log, "another leads")
        assert (await play.journal())[0].previous < held
        knowing.resume()
        await until(partial(in_epoch_after, first, knowing), "it is in the new epoch")
        await play.fine(time.time(), epoch=first)
        for one in (client, everything):
            assert one.connections == 1
            assert all(one.mirror.gaps[channel] for channel in one.mirror.at)


async def unharmed(play: Fleet, clients: list[Client]) -> None:
    """Clients have heard everything, once, on the stream they had, from the leader there was."""
    for client in clients:
        assert client.connections == 1
        assert client.mirror.resets() == []
        assert client.mirror.texts() == await play.told(client)
        assert not +client.mirror.gaps
    assert await play.epochs() == []


async def test_a_short_restart_of_redis_changes_nothing(tmp_path: Path) -> None:
    async with fleet(tmp_path, 2, lease_ttl=10) as play:
        assert play.redis
        clients = [play.join(one) for one in play.members]
        await play.begin()
        for _ in range(3):
            await heard_more(play, clients[0])
            await play.redis.restart(keep_data=True)
        await play.fine(time.time())
        await unharmed(play, clients)


async def test_a_process_that_starts_before_redis_waits_for_it(tmp_path: Path) -> None:
    async with fleet(tmp_path, 0, lease_ttl=TTL) as play, asyncio.TaskGroup() as tasks:
        assert play.redis
        await play.redis.kill()
        starting = tasks.create_task(play.start())
        url = await until(partial(served_at, tmp_path / "gateway-0.log"), "it serves")
        async with httpx.AsyncClient(base_url=url, trust_env=False) as http:
            assert (await http.get("/livez")).status_code == 200
            assert (await http.get("/readyz?for=traffic")).status_code == 503
            assert (await http.get("/v1/lastprice/BTC_USDT")).status_code == 503
        await play.redis.start()
        client = play.join(await starting)
        await play.fine(time.time())
        assert client.mirror.resets() == []


def served_at(log: Path) -> str:
    """Where a process serves, by its log; empty as long as it does not."""
    lines = log.read_text().splitlines() if log.exists() else []
    found = [line for line in map(json.loads, lines) if line.get("event") == "serving"]
    return f"http://127.0.0.1:{found[0]['port']}" if found else ""


async def test_a_redis_that_answers_slowly_delays_and_does_nothing_else(tmp_path: Path) -> None:
    async with fleet(tmp_path, 2, network=True, lease_ttl=2) as play:
        clients = [play.join(one) for one in play.members]
        await play.begin()
        for member in play.members:
            member.network.to_redis.delay = 0.3
        await play.fresh(time.time())
        await play.fine(time.time())
        play.act("play")
        for member in play.members:
            member.network.to_redis.delay = 0.0
        await play.fine(time.time())
        for client in clients:
            assert client.connections == 1
            assert client.mirror.resets() == []
            assert "down" not in client.mirror.statuses()
            assert not +client.mirror.gaps
        assert await play.epochs() == []


async def test_a_way_to_redis_that_breaks_again_and_again_loses_nothing(tmp_path: Path) -> None:
    """Answers take a while, so that much of what was done is never answered."""
    async with fleet(tmp_path, 2, network=True, lease_ttl=5) as play:
        clients = [play.join(one) for one in play.members]
        await play.begin()
        for member in play.members:
            member.network.to_redis.delay = 0.05
        for number in range(CUTS):
            for member in play.members:
                member.network.to_redis.cut()
            await heard_more(play, clients[number % 2])
        await play.fine(time.time())
        await unharmed(play, clients)


async def test_listeners_cut_off_at_speed_give_every_event_once(tmp_path: Path) -> None:
    async with fleet(tmp_path, 2, market={"rate": 800.0}, lease_ttl=5) as play:
        assert play.redis
        leader = await play.leader()
        (other,) = play.others(leader)
        clients = [play.join(other), play.join(other, *BOOKS), play.join(leader)]
        await play.begin()

        for _ in range(CUTS):
            await until(partial(all_listen, play), "a listener of each process")
            await heard_more(play, clients[0], 50)
            killed = await play.redis.ask("CLIENT", "KILL", "TYPE", "pubsub")
            assert killed == len(play.members)
        await play.fine(time.time())

        await unharmed(play, clients)
        assert len(clients[0].mirror.texts()) > CUTS * 50


async def all_listen(play: Fleet) -> bool:
    assert play.redis
    listed = await play.redis.ask("CLIENT LIST", "TYPE", "pubsub")
    return len(listed) == len(play.members)


async def heard_more(play: Fleet, client: Client, events: int = 20) -> None:
    """Wait until something came, from the exchange through the broker."""
    wanted = len(client.mirror.blocks) + events

    def more() -> bool:
        play.stir()
        return len(client.mirror.blocks) >= wanted

    await until(more, "more events on a stream")
