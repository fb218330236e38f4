"""What Redis itself refuses, replaces and forgets, whoever asks: each script is one step."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.bus import scripts
from app.bus.broker import Notice, Snapshots, Wish
from app.bus.journal import Journal
from app.bus.lease import RedisLease
from app.bus.link import Link
from app.bus.memory import MemoryBroker
from app.bus.messages import dump_notice
from app.bus.redis import RedisBroker
from app.domain.channel import Channel
from app.domain.event import Entry
from app.domain.health import Health
from app.domain.position import START
from app.errors import BrokerUnavailable, LeaseLost
from tests.bus.road import BTC, ETH, LIMIT, OPEN, append, broker_on, linked, put, ticks
from tests.e2e.waiting import until
from tests.given import at, entry, made
from tests.redis.servers import BINARIES, Server, server


@pytest.fixture(name="binary", params=BINARIES)
def _binary(request: pytest.FixtureRequest) -> Path:
    return BINARIES[request.param]


async def contents(one: Server) -> dict[bytes, bytes]:
    """All that the server holds."""
    return {key: await one.ask("DUMP", key) for key in await one.ask("KEYS", "*")}


async def unchanged(one: Server, link: Link, refused: Callable[[], object]) -> None:
    """A refusal changes nothing, and nothing is told."""
    before = await contents(one)
    async with link.subscribed() as messages:
        with pytest.raises(LeaseLost):
            await refused()  # type: ignore[misc] # each gives an awaitable
        await one.ask("SPUBLISH", link.channel, "the next")
        async with asyncio.timeout(LIMIT):
            assert await messages.message(LIMIT) == b"the next"
    assert before == await contents(one)


async def begin(link: Link, epoch: int) -> None:
    """Another process comes to lead in an epoch, and has not opened it yet."""
    await link.run(scripts.RAISE, ("epoch",), epoch)


class TestAppending:
    async def test_an_older_epoch_than_has_begun_is_refused_although_it_follows(
        self, one: Server, link: Link, broker: RedisBroker
    ) -> None:
        await append(broker, OPEN, *ticks(1, 3))
        await begin(link, 8)
        (late,) = ticks(4, 4)
        with pytest.raises(LeaseLost, match="epoch 8 has begun"):
            await broker.append(late)
        await unchanged(one, link, lambda: broker.append(late))
        await append(broker, entry("7-3", opens="8-0"), *ticks(1, 1, epoch=8))

    async def test_taking_the_lease_is_enough_to_refuse_the_former_leader(
        self, one: Server, link: Link, broker: RedisBroker
    ) -> None:
        await append(broker, OPEN, *ticks(1, 3))
        term = await RedisLease(link, "other", ttl=5.0).acquire(lambda: 0)
        assert (at("7-3"), True) == (term.end, term.epoch > 7)
        await unchanged(one, link, lambda: broker.append(ticks(4, 4)[0]))
        await append(broker, entry("7-3", opens=f"{term.epoch}-0"))

    async def test_who_waits_for_the_lease_and_knows_a_higher_epoch_refuses_it_too(
        self, one: Server, link: Link, broker: RedisBroker
    ) -> None:
        """Somebody has heard of that epoch, so nobody who follows may believe a lower one."""
        holder = RedisLease(link, "holder", ttl=60.0)
        term = await holder.acquire(lambda: 0)
        epoch = term.epoch
        await append(broker, entry(None, opens=f"{epoch}-0"), *ticks(1, 3, epoch=epoch))
        async with asyncio.TaskGroup() as tasks:
            waiting = tasks.create_task(
                RedisLease(link, "waiting", ttl=60.0).acquire(lambda: epoch + 5)
            )

            async def begun() -> bool:
                return bool(await one.ask("GET", Link.key("epoch")) == b"%d" % (epoch + 5))

            await until(begun, "the higher epoch")
            waiting.cancel()
        await unchanged(one, link, lambda: broker.append(ticks(4, 4, epoch=epoch)[0]))

    @pytest.mark.parametrize(
        "opening",
        [
            entry("7-3", opens="8-0"),
            entry("7-50", opens="8-0"),
            entry("7-4", opens="8-0"),
            entry("8-12", opens="9-0"),
        ],
    )
    async def test_an_opening_may_follow_more_than_the_journal_holds(
        self, broker: RedisBroker, opening: Entry
    ) -> None:
        await append(broker, OPEN, *ticks(1, 3))
        await broker.append(opening)
        epoch = opening.position.epoch
        after = await append(broker, *ticks(1, 2, epoch=epoch))
        assert after == await broker.history(opening.position)

    async def test_an_opening_may_follow_what_an_empty_journal_has_lost(
        self, broker: RedisBroker
    ) -> None:
        await broker.append(entry("7-50", opens="8-0"))
        after = await append(broker, *ticks(1, 2, epoch=8))
        assert after == await broker.history(at("8-0"))

    @pytest.mark.parametrize(
        "wrong",
        [
            entry("7-2", opens="8-0"),
            entry("6-9", opens="8-0"),
            entry(None, opens="8-0"),
            entry("7-3", opens="6-0"),
            entry("7-50", opens="7-0"),
            entry("7-50", made(BTC, "7-51")),
            entry("7-50", made(BTC, "8-1")),
            entry("7-50", made(BTC, "8-10")),
        ],
    )
    async def test_an_opening_may_not_follow_less_and_nothing_else_may_leave_a_hole(
        self, one: Server, link: Link, broker: RedisBroker, wrong: Entry
    ) -> None:
        await append(broker, OPEN, *ticks(1, 3))
        await unchanged(one, link, lambda: broker.append(wrong))

    async def test_what_is_not_taken_is_not_taken_in_part(
        self, one: Server, link: Link, broker: RedisBroker
    ) -> None:
        """Neither stored nor told: the leader tries the same again."""
        await append(broker, OPEN, *ticks(1, 3))
        before = await contents(one)
        (more,) = ticks(4, 4)
        async with link.subscribed() as messages:
            await one.ask("CONFIG", "SET", "maxmemory", "1")
            with pytest.raises(BrokerUnavailable):
                await broker.append(more)
            assert before == await contents(one)
            await one.ask("CONFIG", "SET", "maxmemory", "0")
            await broker.append(more)
            async with asyncio.timeout(LIMIT):
                assert (await messages.message(LIMIT) or b"").startswith(b"E7-3 7-4\n")

    async def test_a_foreign_entry_at_the_journal_s_end_does_not_stop_the_next_leader(
        self, one: Server, broker: RedisBroker
    ) -> None:
        await append(broker, OPEN, *ticks(1, 3))
        await one.ask("XADD", Link.key("journal"), "7-9", "something", "else")
        with pytest.raises(LeaseLost):
            await broker.append(ticks(4, 4)[0])
        await append(broker, entry("7-9", opens="8-0"), *ticks(1, 2, epoch=8))
        assert ticks(1, 2, epoch=8) == await broker.history(at("8-0"))

    async def test_an_entry_of_garbage_in_the_journal_does_not_stop_the_next_leader(
        self, one: Server, broker: RedisBroker
    ) -> None:
        await append(broker, OPEN, *ticks(1, 3))
        await put(one, *ticks(4, 4), total=4, text=b"garbage")
        await append(broker, entry("7-4", opens="8-0"), *ticks(1, 2, epoch=8))
        assert await broker.history(at("7-3")) is None
        assert ticks(1, 2, epoch=8) == await broker.history(at("8-0"))


SIZES = st.lists(st.integers(0, 12), min_size=1, max_size=30)
"""Events of each entry; none: a new epoch opens."""


def chain(sizes: list[int]) -> list[Entry]:
    written, epoch, number = [OPEN], 7, 0
    for size in sizes:
        before = str(written[-1].position)
        if size == 0:
            epoch, number = epoch + 1, 0
            written.append(entry(before, opens=f"{epoch}-0"))
        else:
            numbers = range(number + 1, number + size + 1)
            written.append(entry(before, *(made(BTC, f"{epoch}-{one}") for one in numbers)))
            number += size
    return written


def test_trimming_keeps_the_events_asked_for_as_whole_entries_and_no_more(binary: Path) -> None:
    """Just what the broker inside a process keeps, whatever the sizes of entries are."""

    async def compare(one: Server, sizes: list[int], keep: int) -> None:
        await one.ask("FLUSHALL")
        memory, written = MemoryBroker(keep), chain(sizes)
        async with linked(one.url) as link:
            redis = broker_on(link, keep=keep)
            for each in written:
                await memory.append(each)
                await redis.append(each)
            kept = [each.position async for each in Journal(link).after(START)]
            found = written[-len(kept) :]
            assert kept == [each.position for each in found]
            events = [len(each.envelopes) for each in found]
            assert sum(events) >= min(keep, sum(sizes))
            assert sum(events[1:]) < keep
            for position in [START, *(each.position for each in written)]:
                assert await memory.history(position) == await redis.history(position)

    with TemporaryDirectory() as folder, asyncio.Runner() as runner:
        running = server(Path(folder), binary=binary, appendonly="no")
        one = runner.run(running.__aenter__())
        try:

            @settings(max_examples=40)
            @given(SIZES, st.integers(1, 20))
            def check(sizes: list[int], keep: int) -> None:
                runner.run(compare(one, sizes, keep))

            check()
        finally:
            runner.run(running.__aexit__(None, None, None))


class TestSaving:
    async def test_a_watermark_beyond_the_journal_is_refused(
        self, link: Link, broker: RedisBroker
    ) -> None:
        """Who loaded it would know what was never published."""
        await append(broker, OPEN, *ticks(1, 3))
        with pytest.raises(LeaseLost):
            await broker.save(at("7-4"), [made(BTC, "7-4")], [])
        assert await Journal(link).snapshots() == Snapshots(None, ())

    async def test_at_an_opening_they_replace_all_that_were_kept(
        self, link: Link, broker: RedisBroker
    ) -> None:
        await append(broker, OPEN, *ticks(1, 5))
        await broker.save(at("7-5"), [made(BTC, "7-5"), made(ETH, "7-3")], [])
        await append(broker, entry("7-5", opens="8-0"))
        await broker.save(at("8-0"), [made(BTC, "7-5")], [])
        assert await Journal(link).snapshots() == Snapshots(at("8-0"), (made(BTC, "7-5"),))

    async def test_later_ones_leave_the_others_as_they_were(
        self, link: Link, broker: RedisBroker
    ) -> None:
        await append(broker, OPEN, *ticks(1, 5))
        await broker.save(at("7-0"), [made(ETH, "6-9")], [])
        await broker.save(at("7-5"), [made(BTC, "7-5")], [])
        found = await Journal(link).snapshots()
        assert {at("6-9"), at("7-5")} == {one.position for one in found.envelopes}

    @pytest.mark.parametrize("watermark", ["7-0", "7-5"])
    async def test_a_leader_after_whom_an_epoch_has_begun_is_refused(
        self, one: Server, link: Link, broker: RedisBroker, watermark: str
    ) -> None:
        await append(broker, OPEN, *ticks(1, 5))
        await broker.save(at("7-3"), [made(BTC, "7-3")], [])
        await begin(link, 8)
        changed, gone = [made(BTC, "7-5")], [Channel.parse(ETH)]
        await unchanged(one, link, lambda: broker.save(at(watermark), changed, gone))

    async def test_nobody_saves_into_a_journal_that_was_lost(
        self, one: Server, link: Link, broker: RedisBroker
    ) -> None:
        """Its epoch is to be opened first: snapshots without a journal meet nothing."""
        await unchanged(one, link, lambda: broker.save(at("7-5"), [made(BTC, "7-5")], []))


class TestTelling:
    async def test_the_health_of_a_former_leader_is_refused(
        self, one: Server, link: Link, broker: RedisBroker
    ) -> None:
        told = Health(7, 1.0, "live", 0.5)
        await broker.tell(told)
        await begin(link, 8)
        await unchanged(one, link, lambda: broker.tell(Health(7, 2.0, "down", 2.0)))
        await broker.tell(Health(8, 3.0, "live", 3.0))

    async def test_a_new_leader_may_tell_before_it_has_opened_its_epoch(
        self, link: Link, broker: RedisBroker
    ) -> None:
        term = await RedisLease(link, "one", ttl=5.0).acquire(lambda: 0)
        told = Health(term.epoch, 1.0, "down", 0.5)
        await broker.tell(told)
        assert await Journal(link).notices() == [told]

    async def test_the_wishes_of_a_process_that_tells_no_more_go_after_their_linger(
        self, link: Link
    ) -> None:
        steady, passing = Wish("steady", frozenset()), Wish("passing", frozenset())
        long, short = broker_on(link, linger=60.0), broker_on(link, linger=0.3)
        await long.tell(passing)
        await long.tell(steady)
        assert await Journal(link).notices() == [passing, steady]

        async def alone() -> bool:
            await short.tell(steady)
            return await Journal(link).notices() == [steady]

        await until(alone, "only those that are told")

    async def test_a_wish_from_a_clock_that_was_ahead_does_not_stay_for_ever(
        self, one: Server, link: Link, broker: RedisBroker
    ) -> None:
        steady = Wish("steady", frozenset())
        future = b"%d " % 10**15 + dump_notice(Wish("passing", frozenset()))
        await one.ask("HSET", Link.key("wishes"), "passing", future)
        await broker.tell(steady)
        assert await Journal(link).notices() == [steady]

    @pytest.mark.parametrize("text", [b"", b"garbage", b"-", b"12", b"{}"])
    @pytest.mark.parametrize("notice", [Wish("one", frozenset()), Health(7, 1.0, "live", 0.5)])
    async def test_garbage_among_the_wishes_keeps_nobody_from_telling(
        self, one: Server, link: Link, broker: RedisBroker, text: bytes, notice: Notice
    ) -> None:
        await one.ask("HSET", Link.key("wishes"), "other", text)
        await broker.tell(notice)
        assert notice in await Journal(link).notices()
