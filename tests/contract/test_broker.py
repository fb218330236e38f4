"""What app/bus/broker.py promises, asked of every broker.

A new broker joins by a factory in ``BROKERS``; ``keep`` is the number of events it keeps.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from app.bus.broker import Broker, Heard, Snapshots, Wish
from app.bus.link import Link
from app.bus.memory import MemoryBroker
from app.bus.redis import RedisBroker
from app.domain.channel import Channel
from app.domain.event import Entry
from app.domain.health import Health
from app.domain.position import Position
from app.errors import LeaseLost
from app.telemetry import Metrics
from tests.given import at, entry, made
from tests.redis.servers import BINARIES, server

LIMIT = 5.0
"""Seconds after which what should be heard counts as lost."""

Factory = Callable[[int], AbstractAsyncContextManager[Broker]]


@asynccontextmanager
async def _memory(keep: int) -> AsyncIterator[Broker]:
    yield MemoryBroker(keep)


def _on(binary: Path) -> Factory:
    @asynccontextmanager
    async def broker(keep: int) -> AsyncIterator[Broker]:
        with TemporaryDirectory() as folder:
            async with server(Path(folder), binary=binary, appendonly="no") as running:
                link = Link(running.url, limit=LIMIT)
                try:
                    yield RedisBroker(link, keep, linger=60, health_ttl=60, metrics=Metrics())
                finally:
                    await link.close()

    return broker


BROKERS: dict[str, Factory] = {
    "memory": _memory,
    **{name: _on(binary) for name, binary in BINARIES.items()},
}


@pytest.fixture(name="factory", params=BROKERS)
def _factory(request: pytest.FixtureRequest) -> Factory:
    return BROKERS[request.param]


@pytest.fixture(name="broker")
async def _broker(factory: Factory) -> AsyncIterator[Broker]:
    async with factory(1000) as broker:
        yield broker


@pytest.fixture(name="small")
async def _small(factory: Factory) -> AsyncIterator[Broker]:
    """A broker that keeps ten events."""
    async with factory(10) as broker:
        yield broker


async def heard(listening: AsyncIterator[Heard]) -> Heard:
    async with asyncio.timeout(LIMIT):
        return await anext(listening)


async def heard_entries(listening: AsyncIterator[Heard], number: int) -> list[Entry]:
    found = [await heard(listening) for _ in range(number)]
    assert all(isinstance(one, Entry) for one in found), found
    return [one for one in found if isinstance(one, Entry)]


async def no_more(broker: Broker, listening: AsyncIterator[Heard]) -> None:
    """Nothing waits: the next thing heard is a notice given only now."""
    wish = Wish("no more", frozenset())
    await broker.tell(wish)
    assert wish == await heard(listening)


def ticks(first: int, last: int, *, size: int = 1, epoch: int = 7) -> list[Entry]:
    """Entries ``epoch-first`` to ``epoch-last``, chained, of ``size`` events each."""
    return [
        entry(
            f"{epoch}-{number - 1}",
            *(
                made("ticker:BTC_USDT", f"{epoch}-{position}")
                for position in range(number, number + size)
            ),
        )
        for number in range(first, last + 1, size)
    ]


OPEN = entry(None, opens="7-0")


async def append(broker: Broker, *entries: Entry) -> list[Entry]:
    for one in entries:
        await broker.append(one)
    return list(entries)


class TestAppending:
    async def test_the_first_entry_follows_nothing(self, broker: Broker) -> None:
        await append(broker, OPEN, *ticks(1, 3))
        assert [OPEN, *ticks(1, 3)] == await broker.history(at("0-0"))

    @pytest.mark.parametrize(
        "wrong",
        [
            entry(None, made("ticker:BTC_USDT", "7-4")),
            entry("7-2", made("ticker:BTC_USDT", "7-4")),
            entry("7-4", made("ticker:BTC_USDT", "7-5")),
            entry("6-3", made("ticker:BTC_USDT", "7-4")),
            entry("7-1", made("ticker:BTC_USDT", "7-2")),
            entry(None, opens="8-0"),
        ],
    )
    async def test_what_does_not_follow_the_last_entry_is_refused_and_changes_nothing(
        self, broker: Broker, wrong: Entry
    ) -> None:
        journal = await append(broker, OPEN, *ticks(1, 3))
        with pytest.raises(LeaseLost, match="7-3"):
            await broker.append(wrong)
        assert journal == await broker.history(at("0-0"))

    async def test_an_empty_journal_refuses_what_follows_something(self, broker: Broker) -> None:
        with pytest.raises(LeaseLost):
            await broker.append(ticks(1, 1)[0])

    async def test_a_retry_of_the_last_entry_succeeds_and_is_there_once(
        self, broker: Broker
    ) -> None:
        journal = await append(broker, OPEN, *ticks(1, 3))
        await broker.append(journal[-1])
        assert journal == await broker.history(at("0-0"))
        await append(broker, *ticks(4, 4))

    async def test_a_retry_of_an_older_entry_is_refused(self, broker: Broker) -> None:
        journal = await append(broker, OPEN, *ticks(1, 3))
        with pytest.raises(LeaseLost):
            await broker.append(journal[-2])

    async def test_a_late_leader_is_refused_once_another_has_opened_its_epoch(
        self, broker: Broker
    ) -> None:
        await append(broker, OPEN, *ticks(1, 3), entry("7-3", opens="8-0"))
        with pytest.raises(LeaseLost):
            await broker.append(ticks(4, 4)[0])
        await append(broker, *ticks(1, 1, epoch=8))


class TestHistory:
    async def test_gives_the_entries_with_events_after_a_position(self, broker: Broker) -> None:
        journal = await append(broker, OPEN, *ticks(1, 9, size=3))
        assert journal[2:] == await broker.history(at("7-3"))
        assert await broker.history(at("7-9")) == []

    async def test_a_position_inside_an_entry_gives_that_entry_too(self, broker: Broker) -> None:
        journal = await append(broker, OPEN, *ticks(1, 9, size=3))
        assert journal[2:] == await broker.history(at("7-4"))

    async def test_reaches_over_epochs(self, broker: Broker) -> None:
        await append(broker, OPEN, *ticks(1, 2), entry("7-2", opens="8-0"))
        await append(broker, *ticks(1, 1, epoch=8))
        found = await broker.history(at("7-1"))
        assert found is not None
        assert [str(o.position) for one in found for o in one.envelopes] == ["7-2", "8-1"]

    async def test_gives_a_long_journal_back_as_it_was_appended(self, broker: Broker) -> None:
        journal = await append(broker, OPEN, *ticks(1, 900, size=3))
        assert journal == await broker.history(at("0-0"))
        assert journal[100:] == await broker.history(at("7-297"))

    async def test_is_empty_at_first(self, broker: Broker) -> None:
        assert await broker.history(at("0-0")) == []

    async def test_keeps_at_least_the_events_asked_for(self, small: Broker) -> None:
        journal = await append(small, OPEN, *ticks(1, 25))
        assert journal[-10:] == await small.history(at("7-15"))

    async def test_does_not_reach_back_beyond_what_was_trimmed(self, small: Broker) -> None:
        await append(small, OPEN, *ticks(1, 60))
        assert await small.history(at("7-1")) is None
        assert await small.history(at("0-0")) is None

    async def test_counts_events_and_trims_whole_entries(self, small: Broker) -> None:
        journal = await append(small, OPEN, *ticks(1, 60, size=4))
        assert journal[-3:] == await small.history(at("7-48"))
        assert await small.history(at("7-1")) is None

    async def test_an_entry_larger_than_all_that_is_kept_stays_whole(self, small: Broker) -> None:
        journal = await append(small, OPEN, *ticks(1, 3), *ticks(4, 40, size=37))
        assert journal[-1:] == await small.history(at("7-3"))

    async def test_memory_is_bounded_in_events(self, small: Broker) -> None:
        position = "7-0"
        await small.append(OPEN)
        for number in range(1, 300):
            await append(small, *ticks(number, number))
            position = f"7-{number}"
        found = [await small.history(at(f"7-{number}")) for number in range(300)]
        kept = next(one for one in found if one is not None)
        assert str(kept[-1].position) == position
        assert 10 <= sum(len(one.envelopes) for one in kept) <= 20


class TestListening:
    async def test_hears_snapshots_first_even_if_there_are_none(self, broker: Broker) -> None:
        async with broker.listen() as listening:
            assert Snapshots(None, ()) == await heard(listening)

    async def test_hears_every_entry_in_order_once(self, broker: Broker) -> None:
        async with broker.listen() as listening:
            await heard(listening)
            journal = await append(broker, OPEN, *ticks(1, 20))
            await broker.append(journal[-1])
            assert journal == await heard_entries(listening, 21)
            await no_more(broker, listening)

    async def test_hears_entries_appended_while_it_works_on_one(self, broker: Broker) -> None:
        await append(broker, OPEN, *ticks(1, 2))
        async with broker.listen() as listening:
            await heard(listening)
            await heard(listening)
            await append(broker, *ticks(3, 4))
            assert ticks(1, 4) == await heard_entries(listening, 4)
            await no_more(broker, listening)

    async def test_waits_for_what_is_to_come(self, broker: Broker) -> None:
        async with broker.listen() as listening, asyncio.TaskGroup() as tasks:
            await heard(listening)
            waiting = tasks.create_task(heard_entries(listening, 1))
            await asyncio.sleep(0)
            await broker.append(OPEN)
            assert await waiting == [OPEN]

    async def test_a_long_backlog_is_heard_as_it_was_appended(self, broker: Broker) -> None:
        async with broker.listen() as behind:
            await heard(behind)
            journal = await append(broker, OPEN, *ticks(1, 900, size=3))
            assert journal[:10] == await heard_entries(behind, 10)
            journal += await append(broker, *ticks(901, 990, size=3))
            async with broker.listen() as late:
                await heard(late)
                assert journal == await heard_entries(late, len(journal))
            assert journal[10:] == await heard_entries(behind, len(journal) - 10)

    async def test_a_late_listener_to_a_long_journal_hears_what_came_after_the_watermark(
        self, broker: Broker
    ) -> None:
        journal = await append(broker, OPEN, *ticks(1, 900))
        await broker.save(at("7-450"), [made("ticker:BTC_USDT", "7-450")], [])
        async with broker.listen() as listening:
            await heard(listening)
            assert journal[451:] == await heard_entries(listening, 450)

    async def test_two_listeners_hear_the_same(self, broker: Broker) -> None:
        async with broker.listen() as one, broker.listen() as other:
            await heard(one)
            await heard(other)
            journal = await append(broker, OPEN, *ticks(1, 5))
            assert journal == await heard_entries(one, 6)
            assert journal == await heard_entries(other, 6)

    async def test_a_listener_that_went_is_no_burden(self, broker: Broker) -> None:
        async with broker.listen() as listening:
            await heard(listening)
        await append(broker, OPEN, *ticks(1, 5))

    async def test_a_late_listener_hears_the_snapshots_and_only_what_came_after(
        self, broker: Broker
    ) -> None:
        await append(broker, OPEN, *ticks(1, 5))
        snapshot = made("ticker:BTC_USDT", "7-5")
        await broker.save(at("7-5"), [snapshot], [])
        await append(broker, *ticks(6, 8))
        async with broker.listen() as listening:
            assert Snapshots(at("7-5"), (snapshot,)) == await heard(listening)
            assert ticks(6, 8) == await heard_entries(listening, 3)
            await no_more(broker, listening)

    async def test_what_is_saved_while_it_works_on_the_snapshots_makes_no_hole(
        self, broker: Broker
    ) -> None:
        await append(broker, OPEN, *ticks(1, 5))
        async with broker.listen() as listening:
            assert Snapshots(None, ()) == await heard(listening)
            await broker.save(at("7-5"), [made("ticker:BTC_USDT", "7-5")], [])
            await append(broker, *ticks(6, 6))
            assert [OPEN, *ticks(1, 6)] == await heard_entries(listening, 7)

    async def test_a_watermark_inside_an_entry_makes_no_hole(self, broker: Broker) -> None:
        await append(broker, OPEN, *ticks(1, 9, size=3))
        await broker.save(at("7-4"), [made("ticker:BTC_USDT", "7-4")], [])
        async with broker.listen() as listening:
            await heard(listening)
            assert ticks(4, 9, size=3) == await heard_entries(listening, 2)

    async def test_who_falls_behind_the_journal_hears_the_snapshots_anew(
        self, small: Broker
    ) -> None:
        await append(small, OPEN)
        async with small.listen() as listening:
            await heard(listening)
            await heard_entries(listening, 1)
            await append(small, *ticks(1, 50))
            snapshot = made("ticker:BTC_USDT", "7-50")
            await small.save(at("7-50"), [snapshot], [])
            assert Snapshots(at("7-50"), (snapshot,)) == await heard(listening)
            await append(small, *ticks(51, 52))
            assert ticks(51, 52) == await heard_entries(listening, 2)

    async def test_who_falls_behind_while_it_works_on_an_entry_is_told_without_a_further_one(
        self, small: Broker
    ) -> None:
        await append(small, OPEN, *ticks(1, 3))
        async with small.listen() as listening:
            await heard(listening)
            await heard_entries(listening, 2)
            await append(small, *ticks(4, 50))
            snapshot = made("ticker:BTC_USDT", "7-45")
            await small.save(at("7-45"), [snapshot], [])
            assert Snapshots(at("7-45"), (snapshot,)) == await heard(listening)
            assert ticks(46, 50) == await heard_entries(listening, 5)

    async def test_while_journal_and_snapshots_do_not_meet_it_waits_for_a_save(
        self, small: Broker
    ) -> None:
        await append(small, OPEN, *ticks(1, 50))
        async with small.listen() as listening, asyncio.TaskGroup() as tasks:
            await small.tell(Wish("p", frozenset()))
            waiting = tasks.create_task(heard(listening))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            snapshot = made("ticker:BTC_USDT", "7-48")
            await small.save(at("7-48"), [snapshot], [])
            assert Snapshots(at("7-48"), (snapshot,)) == await waiting
            assert ticks(49, 50) == await heard_entries(listening, 2)
            assert Wish("p", frozenset()) == await heard(listening)

    async def test_the_chain_never_breaks_whatever_the_listener_s_pace(self, small: Broker) -> None:
        """Slow and fast by turns: an entry follows the one before, or snapshots stand between."""
        await append(small, OPEN)
        async with small.listen() as listening:
            last: Position | None = None
            for number, pace in enumerate([1, 2, 0, 0, 0, 9, 1, 0, 0, 14, 3] * 6):
                newest = f"7-{5 + number * 5}"
                await append(small, *ticks(1 + number * 5, 5 + number * 5))
                await small.save(at(newest), [made("ticker:BTC_USDT", newest)], [])
                for _ in range(pace if last != at(newest) else 0):
                    one = await heard(listening)
                    if isinstance(one, Snapshots):
                        last = one.watermark
                    else:
                        assert isinstance(one, Entry)
                        assert last == one.previous
                        last = one.position
                    if last == at(newest):
                        break


class TestSnapshots:
    async def test_a_channel_has_one_snapshot_the_last_saved(self, broker: Broker) -> None:
        await append(broker, OPEN, *ticks(1, 5))
        old = [made("ticker:BTC_USDT", "7-1"), made("ticker:ETH_USDT", "7-2")]
        await broker.save(at("7-2"), old, [])
        new = made("ticker:BTC_USDT", "7-5")
        await broker.save(at("7-5"), [new], [])
        async with broker.listen() as listening:
            snapshots = await heard(listening)
        assert isinstance(snapshots, Snapshots)
        assert snapshots.watermark == at("7-5")
        assert {new.position, at("7-2")} == {one.position for one in snapshots.envelopes}

    async def test_a_channel_that_is_gone_has_none(self, broker: Broker) -> None:
        await append(broker, OPEN, *ticks(1, 5))
        await broker.save(at("7-1"), [made("ticker:BTC_USDT", "7-1")], [])
        gone = [Channel.parse("ticker:BTC_USDT"), Channel.parse("ticker:NEVER_SEEN")]
        await broker.save(at("7-5"), [], gone)
        async with broker.listen() as listening:
            assert Snapshots(at("7-5"), ()) == await heard(listening)

    async def test_a_late_leader_cannot_save(self, broker: Broker) -> None:
        await append(broker, OPEN, *ticks(1, 5), entry("7-5", opens="8-0"))
        with pytest.raises(LeaseLost):
            await broker.save(at("7-5"), [made("ticker:BTC_USDT", "7-5")], [])
        async with broker.listen() as listening:
            assert Snapshots(None, ()) == await heard(listening)

    async def test_nobody_saves_before_an_epoch_was_opened(self, broker: Broker) -> None:
        with pytest.raises(LeaseLost):
            await broker.save(at("7-5"), [made("ticker:BTC_USDT", "7-5")], [])

    async def test_a_new_leader_saves_at_its_opening(self, broker: Broker) -> None:
        await append(broker, OPEN, *ticks(1, 5), entry("7-5", opens="8-0"))
        snapshot = made("ticker:BTC_USDT", "7-5")
        await broker.save(at("8-0"), [snapshot], [])
        async with broker.listen() as listening:
            assert Snapshots(at("8-0"), (snapshot,)) == await heard(listening)
            await no_more(broker, listening)


class TestNotices:
    async def test_every_listener_hears_them(self, broker: Broker) -> None:
        health = Health(7, 1.0, "live", 0.5)
        async with broker.listen() as one, broker.listen() as other:
            await heard(one)
            await heard(other)
            await broker.tell(health)
            assert health == await heard(one)
            assert health == await heard(other)

    async def test_only_the_last_of_each_sender_counts(self, broker: Broker) -> None:
        """A listener that was busy hears the latest word; nothing queues up for it."""
        last = [Health(7, 99.0, "live", 0.5)]
        wishes = [Wish(name, frozenset({Channel.parse("ticker:*")})) for name in ("a", "b")]
        async with broker.listen() as listening:
            await heard(listening)
            for at_ in range(100):
                await broker.tell(Health(7, float(at_), "live", 0.5))
                await broker.tell(Wish("a", frozenset()))
                await broker.tell(Wish("b", frozenset()))
            for wish in wishes:
                await broker.tell(wish)
            said = [await heard(listening) for _ in range(3)]
            assert all(one in said for one in [*last, *wishes])
            await no_more(broker, listening)

    async def test_a_late_listener_hears_the_last_health(self, broker: Broker) -> None:
        health = Health(7, 1.0, "live", 0.5)
        await broker.tell(Health(7, 0.0, "down", 0.0))
        await broker.tell(health)
        async with broker.listen() as listening:
            assert Snapshots(None, ()) == await heard(listening)
            assert health == await heard(listening)

    async def test_they_are_no_part_of_the_journal(self, broker: Broker) -> None:
        await append(broker, OPEN)
        await broker.tell(Health(7, 1.0, "live", 0.5))
        assert await broker.history(at("0-0")) == [OPEN]
        await append(broker, *ticks(1, 1))
