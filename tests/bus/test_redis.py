"""The broker in Redis beyond what every broker promises: what is lost, garbage, and Redis away."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from app.bus.broker import Notice, Snapshots, Wish
from app.bus.link import Link
from app.bus.redis import RedisBroker
from app.domain.channel import Channel
from app.domain.health import Health
from app.errors import BrokerUnavailable
from tests.bus.road import (
    BTC,
    LIMIT,
    OPEN,
    append,
    broker_on,
    heard,
    heard_entries,
    linked,
    no_more,
    put,
    ticks,
)
from tests.e2e.waiting import until
from tests.given import at, entry, made
from tests.redis.servers import Server, server

WISH = Wish("one", frozenset({Channel.parse("ticker:*")}))


class TestHistory:
    """Either everything after a position, or None: a stream that resumes must miss nothing."""

    async def test_ends_with_the_entry_that_holds_the_position_asked_for(
        self, broker: RedisBroker
    ) -> None:
        journal = await append(broker, OPEN, *ticks(1, 90, size=3))
        assert journal[2:11] == await broker.history(at("7-3"), at("7-30"))
        assert journal[2:11] == await broker.history(at("7-3"), at("7-29"))
        assert journal[2:12] == await broker.history(at("7-3"), at("7-31"))
        assert await broker.history(at("7-30"), at("7-30")) == []

    async def test_there_is_none_over_what_was_lost(self, broker: RedisBroker) -> None:
        await append(broker, OPEN, *ticks(1, 3), entry("7-50", opens="8-0"), *ticks(1, 3, epoch=8))
        for after in ("0-0", "7-0", "7-2", "7-3"):
            assert await broker.history(at(after)) is None
            assert await broker.history(at(after), at("8-2")) is None
        assert ticks(1, 3, epoch=8) == await broker.history(at("8-0"))
        assert ticks(3, 3, epoch=8) == await broker.history(at("8-2"))

    async def test_there_is_some_before_what_was_lost(self, broker: RedisBroker) -> None:
        await append(broker, OPEN, *ticks(1, 5), entry("7-50", opens="8-0"))
        assert ticks(2, 4) == await broker.history(at("7-1"), at("7-4"))
        assert ticks(2, 5) == await broker.history(at("7-1"), at("7-5"))

    @pytest.mark.parametrize("missing", ["7-2", "7-40"])
    async def test_there_is_none_over_an_entry_that_somebody_deleted(
        self, broker: RedisBroker, one: Server, missing: str
    ) -> None:
        await append(broker, OPEN, *ticks(1, 60))
        await one.ask("XDEL", Link.key("journal"), missing)
        assert await broker.history(at("7-1")) is None
        assert ticks(41, 60) == await broker.history(at("7-40"))

    @pytest.mark.parametrize("text", [b"garbage", b"7-2 7-3\ngarbage", b"7-2 7-3\n{}"])
    async def test_there_is_none_over_an_entry_that_cannot_be_read(
        self, broker: RedisBroker, one: Server, text: bytes
    ) -> None:
        await append(broker, OPEN, *ticks(1, 2))
        await put(one, *ticks(3, 3), total=3, text=text)
        await append(broker, entry("7-3", opens="8-0"), *ticks(1, 3, epoch=8))
        assert await broker.history(at("7-1")) is None
        assert ticks(1, 3, epoch=8) == await broker.history(at("8-0"))

    async def test_there_is_none_while_the_journal_ends_before_the_position_asked_for(
        self, broker: RedisBroker, one: Server
    ) -> None:
        """Redis came back with less than its listeners have heard, and nobody leads yet."""
        await append(broker, OPEN, *ticks(1, 3))
        assert await broker.history(at("7-1"), at("7-40")) is None
        await one.ask("FLUSHALL")
        assert await broker.history(at("7-1"), at("7-40")) is None

    async def test_there_is_none_after_a_position_of_a_former_life(
        self, broker: RedisBroker
    ) -> None:
        """All was lost, and nobody was left to know how far it had come."""
        await append(broker, entry(None, opens="8-0"), *ticks(1, 3, epoch=8))
        assert await broker.history(at("7-5")) is None
        assert await broker.history(at("7-5"), at("8-3")) is None

    async def test_there_is_none_after_a_position_that_nobody_knows_any_more(
        self, broker: RedisBroker
    ) -> None:
        """Redis lost a tail that a client has heard and no process has."""
        await append(broker, OPEN, *ticks(1, 3), entry("7-3", opens="8-0"), *ticks(1, 3, epoch=8))
        assert await broker.history(at("7-5")) is None
        assert await broker.history(at("7-5"), at("8-3")) is None


ASKED: dict[str, Callable[[RedisBroker], Awaitable[object]]] = {
    "append": lambda broker: broker.append(ticks(4, 4)[0]),
    "save": lambda broker: broker.save(at("7-3"), [made(BTC, "7-3")], []),
    "history": lambda broker: broker.history(at("7-1")),
    "health": lambda broker: broker.tell(Health(7, 1.0, "live", 0.5)),
    "wish": lambda broker: broker.tell(WISH),
}


class TestAway:
    @pytest.mark.parametrize("asked", ASKED)
    async def test_while_redis_is_away_it_is_unavailable_and_afterwards_it_works(
        self, broker: RedisBroker, one: Server, asked: str
    ) -> None:
        await append(broker, OPEN, *ticks(1, 3))
        await one.ask("BGSAVE")
        await until((one.folder / "dump.rdb").exists, "what was saved")
        await one.kill()
        with pytest.raises(BrokerUnavailable):
            await ASKED[asked](broker)
        await one.start()
        await ASKED[asked](broker)

    @pytest.mark.parametrize("asked", ["append", "save", "health", "wish"])
    async def test_a_server_that_refuses_for_memory_is_unavailable_until_it_has_some(
        self, broker: RedisBroker, one: Server, asked: str
    ) -> None:
        await append(broker, OPEN, *ticks(1, 3))
        await one.ask("CONFIG", "SET", "maxmemory", "1")
        with pytest.raises(BrokerUnavailable, match="memory"):
            await ASKED[asked](broker)
        assert ticks(1, 3) == await broker.history(at("7-0"))
        await one.ask("CONFIG", "SET", "maxmemory", "0")
        await ASKED[asked](broker)

    async def test_a_replica_takes_nothing(
        self, broker: RedisBroker, one: Server, tmp_path: Path
    ) -> None:
        await append(broker, OPEN, *ticks(1, 3))
        await one.ask("REPLICAOF", "127.0.0.1", 1)
        for name in ("append", "save", "health", "wish"):
            with pytest.raises(BrokerUnavailable, match="read only"):
                await ASKED[name](broker)

    async def test_a_listener_outlives_it_and_hears_what_was_kept_and_what_comes(
        self, broker: RedisBroker, one: Server
    ) -> None:
        async with broker.listen() as listening:
            assert Snapshots(None, ()) == await heard(listening)
            written = await append(broker, OPEN, *ticks(1, 3))
            assert written == await heard_entries(listening, 4)
            await one.ask("SAVE")
            await one.restart(keep_data=True)
            await append(broker, *ticks(4, 6))
            assert ticks(4, 6) == await heard_entries(listening, 3)
            await no_more(broker, listening)


GARBAGE = [
    b"",
    b"E",
    b"Egarbage",
    b"E7-3 7-4\ngarbage",
    b"E7-3 7-4\n{}",
    b"H",
    b"H7-3\ngarbage",
    b"W7-3\n{}",
    b"W" + b"x" * 100,
    b"X7-3\n{}",
    b"\xff\xfe\n\xff",
]


class TestGarbage:
    @pytest.mark.parametrize("text", GARBAGE)
    async def test_published_by_somebody_else_it_stops_no_listener(
        self, broker: RedisBroker, one: Server, link: Link, text: bytes
    ) -> None:
        async with broker.listen() as listening:
            await heard(listening)
            await append(broker, OPEN, *ticks(1, 3))
            await heard_entries(listening, 4)
            assert await one.ask("SPUBLISH", link.channel, text) == 1
            await append(broker, *ticks(4, 6))
            assert ticks(4, 6) == await heard_entries(listening, 3)
            await broker.tell(WISH)
            assert await heard(listening) == WISH

    @pytest.mark.parametrize("text", [b"garbage", b"7-3 7-4\n{}", b"7-3 7-4\ngarbage", b""])
    async def test_in_the_journal_it_is_passed_over_with_the_next_opening(
        self, broker: RedisBroker, one: Server, text: bytes
    ) -> None:
        """What it hides is told by the snapshots that every opening brings."""
        async with broker.listen() as listening:
            await heard(listening)
            await append(broker, OPEN, *ticks(1, 3))
            await heard_entries(listening, 4)
            await put(one, *ticks(4, 4), total=4, text=text)
            snapshot = made(BTC, "7-3")
            await append(broker, entry("7-4", opens="8-0"))
            await broker.save(at("8-0"), [snapshot], [])
            await append(broker, *ticks(1, 2, epoch=8))
            assert Snapshots(at("8-0"), (snapshot,)) == await heard(listening)
            assert ticks(1, 2, epoch=8) == await heard_entries(listening, 2)
            await no_more(broker, listening)

    async def test_among_the_snapshots_it_holds_a_new_listener_only_until_the_next_opening(
        self, broker: RedisBroker, one: Server
    ) -> None:
        await append(broker, OPEN, *ticks(1, 3))
        await broker.save(at("7-3"), [made(BTC, "7-3")], [])
        await one.ask("HSET", Link.key("snapshots"), "garbage", "garbage")
        async with broker.listen() as listening, asyncio.TaskGroup() as tasks:
            first = tasks.create_task(heard(listening, within=4 * LIMIT))
            await append(broker, entry("7-3", opens="8-0"))
            await broker.save(at("8-0"), [made(BTC, "7-3")], [])
            assert Snapshots(at("8-0"), (made(BTC, "7-3"),)) == await first

    @pytest.mark.parametrize("key", ["health", "wishes"])
    async def test_as_the_last_notice_it_stops_no_new_listener(
        self, broker: RedisBroker, one: Server, key: str
    ) -> None:
        told: Notice = WISH if key == "health" else Health(7, 1.0, "live", 0.5)
        await append(broker, OPEN)
        await broker.tell(told)
        words = ("SET", Link.key(key)) if key == "health" else ("HSET", Link.key(key), "x")
        await one.ask(*words, "garbage")
        async with broker.listen() as listening:
            assert Snapshots(None, ()) == await heard(listening)
            assert await heard_entries(listening, 1) == [OPEN]
            assert told == await heard(listening)


async def test_a_server_that_hangs_gives_no_answer_in_time(tmp_path: Path) -> None:
    async with server(tmp_path, appendonly="no") as one, linked(one.url, limit=0.3) as link:
        broker = broker_on(link)
        await append(broker, OPEN, *ticks(1, 3))
        one.pause()
        for name in ("append", "history", "health", "wish"):
            with pytest.raises(BrokerUnavailable):
                async with asyncio.timeout(LIMIT):
                    await ASKED[name](broker)
        one.resume()
        await broker.append(ticks(4, 4)[0])
