"""Several gateway processes over one Redis serve as one."""

import asyncio
import re
import time
from functools import partial
from pathlib import Path

import pytest

from tests.e2e.fleet import BUSY, Fleet, fleet
from tests.e2e.gateway import free_port
from tests.e2e.market import BOOKS, WILD
from tests.e2e.member import Member
from tests.e2e.process import at_once, following, opened
from tests.e2e.reconstruct import Json, Place, place
from tests.e2e.record import Client
from tests.e2e.waiting import until
from tests.redis.servers import BINARIES

pytestmark = pytest.mark.e2e

SETTLED: Json = {"lease_ttl": 5, "upstream_connections": 2}
"""Settings for what has no fault in it: nobody is to lose the lease by the way."""
TTL = 1
NO_CREDENTIALS = {"upstream_user_id": None, "upstream_api_key": None}

PATHS = (
    "/v1/lastprice",
    "/v1/lastprice/BTC_USDT",
    "/v1/ticker?symbols=BTC_USDT,ETH_USDT",
    "/v1/ticker/TRX_USDT",
    "/v1/trades/BTC_USDT?limit=100",
    "/v1/depth/BTC_USDT?scale=0",
    "/v1/depth/TRX_USDT?scale=1&limit=3",
    f"/v1/state?channels={','.join((*WILD, *BOOKS))}",
    "/v1/markets",
    "/v1/markets/BTC_USDT/scales",
)
AGE = re.compile(rb'"age":[0-9.]+')


@pytest.mark.parametrize("binary", BINARIES.values(), ids=BINARIES)
async def test_three_processes_share_one_pool_and_serve_the_same_bytes(
    tmp_path: Path, binary: Path
) -> None:
    async with fleet(tmp_path, binary=binary, **SETTLED) as play:
        clients = [play.join(member) for member in play.members]
        await play.begin()
        await play.fine(time.time())

        heard = [one.mirror.blocks for one in clients]
        assert len(heard[0]) >= len(play.channels)
        assert heard[0] == heard[1] == heard[2]
        assert all(block.id is not None for block in heard[0])
        for path in PATHS:
            answers = [await one.running.http.get(path) for one in play.members]
            assert {answer.status_code for answer in answers} == {200}, path
            assert len({AGE.sub(b"", answer.content) for answer in answers}) == 1, path
            assert len({answer.headers.get("etag") for answer in answers}) == 1, path
        report = play.report()
        assert len(report["connections"]) == report["tokens_issued"] == play.most == 2
        told = [await one.status() for one in play.members]
        for name in ("upstream", "lease", "position", "connections"):
            assert told[0][name] == told[1][name] == told[2][name]


async def test_what_clients_of_any_process_want_is_followed_until_that_process_is_long_dead(
    tmp_path: Path,
) -> None:
    async with fleet(tmp_path, **SETTLED) as play:
        dying, living = play.others(await play.leader())
        lost = play.join(dying, "depth:ETH_USDT:1")
        kept = play.join(living, "depth:SOL_USDT:2")
        await lost.knows("depth:ETH_USDT:1")
        await kept.knows("depth:SOL_USDT:2")
        await play.begin()

        play.clients.remove(lost)
        lost.stop()
        await dying.kill()
        await until(lambda: "ETH_USDT:1" not in play.subscribed("depth"), "its wish is gone")
        assert "SOL_USDT:2" in play.subscribed("depth")
        await play.settle()
        assert kept.connections == 1
        assert not +kept.mirror.gaps
        assert play.most == 2


async def test_when_the_leader_is_told_to_stop_another_leads_at_once(tmp_path: Path) -> None:
    """Long before its lease would have ended."""
    async with fleet(tmp_path, lease_ttl=20) as play:
        leader = await play.leader()
        left = play.others(leader)
        staying = [play.join(one) for one in left]
        leaving = play.join(leader)
        first = await play.begin()

        leaving.url = left[0].url
        told = time.time()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(leader.terminate())
            tasks.create_task(play.fresh(told, *left, epoch=first, limit=1.0 * BUSY))
        await play.fine(told, epoch=first)
        assert leader.running.process.returncode == 0
        assert play.most == 1
        assert leaving.mirror.farewells() == ["drain"]
        assert [one.connections for one in staying] == [1, 1]
        for client in play.clients:
            assert client.mirror.resets() == []
            assert {client.mirror.gaps[channel] for channel in client.mirror.at} == {1}
            assert client.mirror.epochs()[-1] > first
            assert set(client.mirror.epochs()) <= {first, *await play.epochs()}
        assert len(await play.epochs()) == 1


async def test_tokens_are_paced_over_all_processes(tmp_path: Path) -> None:
    """Five at once, then one in six seconds: the third leader has to wait for its second one."""
    async with fleet(tmp_path, lease_ttl=20, upstream_connections=2) as play:
        for _ in range(2):
            leader = await play.leader()
            await until(lambda: len(play.open()) == 2, "both connections")
            await leader.terminate()
        await until(lambda: play.report()["tokens_issued"] == 6, "six tokens")
        assert time.time() - play.made >= 6
        await until(lambda: len(play.open()) == 2, "both connections")
        await play.fine(play.made)
        assert play.most == 2


# Resuming on another process


async def test_a_client_resumes_on_another_process_and_on_one_that_was_only_just_started(
    tmp_path: Path,
) -> None:
    async with fleet(tmp_path, 2, lease_ttl=5) as play:
        first, second = play.members
        clients = [
            play.join(first),
            play.join(first, "ticker:*"),
            play.join(first, "lastprice:ETH_USDT", "depth:TRX_USDT:1"),
        ]
        await play.begin()

        await away(play, clients)
        await come_back(play, clients, second)
        held = await away(play, clients)
        await until(partial(saved_beyond, play, held), "snapshots beyond what they hold")
        third = await play.start()
        await come_back(play, clients, third)


async def away(play: Fleet, clients: list[Client]) -> Place:
    """Lose the connections and find nobody to come back to; the most held, while more happens."""
    play.act("play")
    for client in clients:
        client.move(f"http://127.0.0.1:{free_port()}")
    held = [client.mirror.last_id for client in clients]
    await play.fresh(time.time())
    assert [client.mirror.last_id for client in clients] == held
    return max(place(one or "") for one in held)


async def come_back(play: Fleet, clients: list[Client], member: Member) -> None:
    """On that process each must get exactly what it missed."""
    before = [(one.mirror.last_id, len(one.mirror.blocks), one.connections) for one in clients]
    for client in clients:
        client.url = member.url
    await play.fine(time.time())
    for client, (held, mark, connections) in zip(clients, before, strict=True):
        missed = await play.told(client, place(held or ""))
        assert client.mirror.texts()[mark:] == missed
        assert missed
        assert client.mirror.resets() == []
        assert client.connections == connections + 1


async def saved_beyond(play: Fleet, held: Place) -> bool:
    return await play.saved() > held


async def test_a_process_started_late_knows_what_was_quiet_for_longer_than_the_journal(
    tmp_path: Path,
) -> None:
    async with fleet(tmp_path, 1, lease_ttl=5, history=50) as play:
        first = play.join(play.members[0])
        await play.begin()
        play.act("pause")
        await play.settle()
        held = (await play.journal())[-1].position
        for number in range(60):
            price = {"symbol": "BTC_USDT", "timestamp": int(play.made), "price": f"1.{number:04}"}
            message = {"id": 0, "method": "lastprice_update", "data": price, "error": None}
            play.act("emit", message=message, publish=True)
        await until(lambda: first.mirror.state("lastprice:BTC_USDT") == price, "all heard")
        assert (await play.journal())[0].previous >= held
        late = play.join(await play.start())
        await play.settle()
        for channel in play.channels:
            assert late.mirror.counts[f"snapshot {channel}"] == 1
        assert not +late.mirror.gaps


async def test_a_position_that_nobody_keeps_gets_a_reset_with_its_reason(tmp_path: Path) -> None:
    async with fleet(tmp_path, 2, lease_ttl=5, history=50) as play:
        await play.fresh(play.made)
        old = (await play.journal())[-1].position

        async def forgotten() -> bool:
            play.nudge()
            return (await play.journal())[0].previous > old

        await until(forgotten, "a journal that begins later")
        await play.fresh(time.time())
        entries = await play.journal()
        assert sum(len(one.envelopes) for one in entries[1:]) < 50
        await play.start()  # which has heard of none of it
        epoch, sequence = entries[-1].position
        expired = [f"{old[0]}-{old[1]}", f"{epoch - 1}-7"]
        unknown = [f"{epoch}-{sequence + 1_000_000}", f"{epoch + 1_000_000}-1"]
        asked = [(one, at) for one in play.members for at in (*expired, *unknown)]
        reasons = await at_once(*(refusal(*one) for one in asked))
        assert reasons == (["history_expired"] * 2 + ["unknown_position"] * 2) * 3


async def refusal(member: Member, position: str) -> str:
    """Why a stream starts over; it must, with snapshots."""
    target = following("lastprice:BTC_USDT", "ticker:*")
    async with opened(member.url, target, headers={"last-event-id": position}) as stream:
        block = await stream.until(lambda block: block.json()["type"] != "status")
        assert block.json()["type"] == "reset"
        reason: str = block.json()["reason"]
        assert (await stream.data())["type"] == "snapshot"
        return reason


# Roles


async def test_a_process_that_only_feeds_leads_and_one_that_only_serves_never_does(
    tmp_path: Path,
) -> None:
    async with fleet(tmp_path, 0) as play:
        serving = await play.start(role="serve", **NO_CREDENTIALS)
        assert await serving.running.status("/readyz") == 503
        feeding = await play.start(role="feed")
        client = play.join(serving)
        await play.fresh(play.made, serving)
        assert await play.leader() is feeding
        for path in ("/livez", "/readyz", "/readyz?for=traffic", "/metrics", "/v1/status"):
            assert await feeding.running.status(path) == 200, path
        for path in (*PATHS, "/v1/stream?channels=ticker:*", "/v1/orders", "/v1/balances"):
            assert await feeding.running.status(path) == 404, path

        epoch = await play.begin()
        await feeding.kill()
        killed = time.time()
        await until(partial(client.is_told, "down"), "nobody leads")
        await until(lambda: time.time() > killed + 3 * TTL, "three lease times")
        status = await serving.status()
        assert status["lease"] == {"held": False, "epoch": epoch, "leader": None}
        assert await play.epochs() == []
        assert await serving.running.status("/readyz") == 503
        assert await serving.running.status("/readyz?for=traffic") == 200
        assert '"leading"' not in serving.log

        since = time.time()
        await play.start(role="feed")
        await play.fresh(since, serving, epoch=epoch)
        await play.settle()
        assert client.connections == 1
        assert await serving.running.status("/readyz") == 200
