"""A process or the network fails, and what clients of the others see stays true."""

import time
from functools import partial
from pathlib import Path

import pytest

from tests.e2e.fleet import BACK, BUSY, Fleet, fleet
from tests.e2e.member import Member
from tests.e2e.reconstruct import Json, place
from tests.e2e.record import Client
from tests.e2e.waiting import until

pytestmark = pytest.mark.e2e

TTL = 1


# The leader


async def test_when_the_leader_is_killed_another_leads_and_all_starts_anew(tmp_path: Path) -> None:
    async with fleet(tmp_path, lease_ttl=2) as play:
        leader = await play.leader()
        left = play.others(leader)
        staying = [play.join(one) for one in left]
        leaving = play.join(leader)
        first = await play.begin()

        leaving.url = left[0].url
        killed = time.time()
        await leader.kill()
        await play.fresh(killed, *left, epoch=first, limit=(2 + 2) * BUSY)
        await play.fine(killed, epoch=first)
        assert [one.connections for one in staying] == [1, 1]
        assert play.most == 1
        for client in play.clients:
            await check_takeover(play, client)


async def check_takeover(play: Fleet, client: Client) -> None:
    """Every channel began anew once, with a gap, in an epoch that is above the one before."""
    (epoch,) = await play.epochs()
    assert epoch > play.held[0]
    mirror = client.mirror
    assert mirror.resets() == []
    assert mirror.epochs()[-1] == epoch
    assert set(mirror.epochs()) <= {play.held[0], epoch}
    for channel in play.channels:
        new = [
            one
            for one in mirror.heard
            if one["channel"] == channel and place(one["position"])[0] == epoch
        ]
        assert (new[0]["type"], new[0].get("gap")) == ("snapshot", True), channel
        assert mirror.gaps[channel] == 1, channel


async def test_a_leader_that_slept_publishes_nothing_when_it_wakes(tmp_path: Path) -> None:
    async with fleet(tmp_path, lease_ttl=TTL) as play:
        old = await play.leader()
        own, other = play.join(old), play.join(play.others(old)[0])
        first = await play.begin()

        old.pause()
        asleep = time.time()
        await play.fresh(asleep, *play.alive, epoch=first)
        before = [one.position for one in await play.journal() if one.position[0] == first]
        await until(lambda: time.time() > asleep + 3 * TTL, "three lease times")
        assert "not leading" not in old.log
        old.resume()
        await until(lambda: "not leading" in old.log, lambda: old.log)
        await play.fine(time.time())

        entries = await play.journal()
        assert [one.position for one in entries if one.position[0] == first] == before
        assert [one.previous for one in entries[1:]] == [one.position for one in entries[:-1]]
        assert await play.leader() is not old
        assert [own.connections, other.connections] == [1, 1]
        for client in (own, other):
            await check_takeover(play, client)


# The network


async def test_a_leader_that_cannot_reach_redis_is_followed_by_another(tmp_path: Path) -> None:
    async with fleet(tmp_path, 2, network=True, lease_ttl=TTL) as play:
        old = await play.leader()
        (other,) = play.others(old)
        clients = [play.join(old), play.join(other)]
        first = await play.begin()

        old.network.to_redis.partition()
        parted = time.time()
        await play.fresh(parted, other, epoch=first)
        await until(lambda: "not leading" in old.log, lambda: old.log)
        await cut_off(old, clients[0])
        status = await other.status()
        assert status["process"] == status["lease"]["leader"]
        assert play.most == 1, "the old leader was still connected to the exchange"

        old.network.to_redis.heal()
        await play.fine(time.time())
        assert [one.connections for one in clients] == [1, 1]
        for client in clients:
            await check_takeover(play, client)


async def test_a_process_that_is_told_to_stop_as_its_term_ends_stops(tmp_path: Path) -> None:
    """It has lost the lease, and still waits for the exchange to take its leave."""
    async with fleet(tmp_path, 2, network=True, lease_ttl=TTL) as play:
        old = await play.leader()
        (other,) = play.others(old)
        await play.begin()

        old.network.to_exchange.partition()
        old.network.to_redis.partition()
        await until(lambda: '"leading"' in other.log, "another leads")
        await old.terminate()
        old.network.to_exchange.heal()  # so that the exchange sees that it has gone
        await play.fine(time.time())


async def cut_off(member: Member, client: Client) -> None:
    """A process that hears nothing says so in every way, and stays up."""
    await until(partial(client.is_told, "down"), "status down on its stream")

    async def stale() -> bool:
        answers = await member.answers("lastprice:*", "trade:*")
        return bool(answers) and all(one["stale"] for one in answers)

    await until(stale, "stale answers")
    assert await member.running.status("/readyz") == 503
    assert await member.running.status("/readyz?for=traffic") == 200
    assert await member.running.status("/livez") == 200


async def test_a_follower_that_was_cut_off_catches_up_without_a_loss(tmp_path: Path) -> None:
    async with fleet(tmp_path, 2, network=True, lease_ttl=TTL) as play:
        leader = await play.leader()
        (member,) = play.others(leader)
        client, other = play.join(member), play.join(leader)
        await play.begin()

        member.network.to_redis.partition()
        await cut_off(member, client)
        await play.fresh(time.time(), leader)
        assert len(client.mirror.blocks) < len(other.mirror.blocks)
        member.network.to_redis.heal()
        await play.fine(time.time())
        assert client.connections == 1
        assert client.mirror.resets() == []
        assert client.mirror.texts() == await play.told(client)
        assert await play.epochs() == []
        assert await play.leader() is leader
        assert "down" not in other.mirror.statuses()


async def test_a_follower_that_was_cut_off_for_too_long_starts_anew(tmp_path: Path) -> None:
    """The journal no longer reaches back to what it knows."""
    async with fleet(tmp_path, 2, network=True, lease_ttl=TTL, history=200) as play:
        leader = await play.leader()
        (member,) = play.others(leader)
        client = play.join(member)
        await play.begin()

        member.network.to_redis.partition()

        async def forgotten() -> bool:
            play.stir()
            return (await play.journal())[0].previous > play.held

        await until(forgotten, "a journal that begins later")
        member.network.to_redis.heal()
        await play.fine(time.time())
        assert client.connections == 1
        assert client.mirror.resets() == ["history_expired"]
        assert not +client.mirror.gaps, "nothing was missed between the exchange and the leader"
        assert await play.leader() is leader


async def test_a_leader_that_cannot_reach_the_exchange_hands_over(tmp_path: Path) -> None:
    quick: Json = {"upstream_ping_interval": 0.5, "upstream_pong_timeout": 0.5}
    async with fleet(tmp_path, 2, network=True, lease_ttl=TTL, **quick) as play:
        old = await play.leader()
        (other,) = play.others(old)
        clients = [play.join(old), play.join(other)]
        first = await play.begin()

        old.network.to_exchange.partition()
        parted = time.time()
        for client in clients:
            await until(partial(client.is_told, "degraded", "down"), "not live on a stream")
        assert await play.epochs() == [], "it handed over at once"
        await play.fresh(parted, epoch=first)
        assert await play.leader() is other
        assert "not leading" in old.log
        old.network.to_exchange.heal()
        await play.fine(time.time())
        assert await play.leader() is other
        assert [one.connections for one in clients] == [1, 1]
        for client in clients:
            await check_takeover(play, client)


async def test_an_exchange_that_nobody_can_reach_does_not_send_the_lease_round(
    tmp_path: Path,
) -> None:
    async with fleet(tmp_path, 2, lease_ttl=TTL) as play:
        clients = [play.join(one) for one in play.members]
        await play.begin()

        play.switch(away=True)
        away = time.time()
        for client in clients:
            await until(partial(client.is_told, "down"), "status down on a stream")
        await until(lambda: time.time() > away + 12 * TTL, "twelve lease times", limit=BACK)
        epochs = await play.epochs()
        assert 0 < len(epochs) <= len(play.members)
        for member, client in zip(play.members, clients, strict=True):
            await cut_off(member, client)

        play.switch(away=False)
        await play.fine(time.time())
        assert [one.connections for one in clients] == [1, 1]
        assert await play.epochs() == epochs, "there was no need of another leader"
