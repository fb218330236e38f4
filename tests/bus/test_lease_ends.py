"""How a term ends, and that the next is in a higher epoch, whatever was lost."""

import asyncio
import time

import pytest
from structlog.testing import capture_logs

from app.bus.lease import FREE, RedisLease, Term
from app.bus.link import Link
from app.domain.position import Position
from app.errors import LeaseLost
from tests.bus.contest import (
    EPOCH,
    KEY,
    LONG,
    TTL,
    candidates,
    holder,
    leads,
    lost,
    passed,
    renewals,
    took,
    waiting,
)
from tests.bus.road import OPEN, append, broker_on, linked, ticks
from tests.e2e.waiting import until
from tests.given import entry
from tests.redis.proxy import proxy
from tests.redis.servers import Server


class TestEpochs:
    """Every term has a higher one than any before, whatever was lost and whoever remembers."""

    async def test_they_begin_with_redis_s_time(self, link: Link) -> None:
        term = await took(RedisLease(link, "one", ttl=TTL))
        assert abs(term.epoch / 1000 - time.time()) < 60

    async def test_they_rise_with_each_term_also_when_that_time_is_behind(
        self, one: Server, link: Link
    ) -> None:
        await one.ask("SET", EPOCH, 10**14)
        lease = RedisLease(link, "one", ttl=TTL)
        assert [(await took(lease)).epoch - 10**14 for _ in range(3)] == [1, 2, 3]

    async def test_they_rise_above_what_a_candidate_has_heard(
        self, one: Server, link: Link
    ) -> None:
        lease = RedisLease(link, "one", ttl=TTL)
        assert (await took(lease, lambda: 10**14)).epoch == 10**14 + 1
        await one.ask("FLUSHALL")
        assert (await took(lease, lambda: 10**14 + 1)).epoch == 10**14 + 2

    async def test_they_rise_above_what_one_that_still_waits_has_heard(self, one: Server) -> None:
        """All data was lost; the first to come knows less than another."""
        async with candidates(one.url, 3, ttl=LONG) as (low, high, third):
            await took(low)
            async with asyncio.TaskGroup() as tasks:
                trying = tasks.create_task(took(high, lambda: 10**14))
                await waiting(one, 1)
                await low.release()
                assert (await trying).epoch == 10**14 + 1
                trying = tasks.create_task(took(third))
                await waiting(one, 1)
                await high.release()
                assert (await trying).epoch == 10**14 + 2

    async def test_they_rise_above_the_journal(self, one: Server, link: Link) -> None:
        """Somebody deleted the key that says how far they had come."""
        epoch = 10**14
        await one.ask("XADD", Link.key("journal"), f"{epoch}-5", "total", 1, "entry", "any")
        term = await took(RedisLease(link, "one", ttl=TTL))
        assert term == Term(epoch + 1, Position(epoch, 5))

    async def test_they_rise_over_lost_data(self, one: Server, link: Link) -> None:
        lease = RedisLease(link, "one", ttl=LONG)
        epochs = []
        for _ in range(3):
            epochs.append((await took(lease)).epoch)
            await one.ask("FLUSHALL")
        await one.restart(keep_data=False)
        epochs.append((await took(lease)).epoch)
        assert sorted(set(epochs)) == epochs

    async def test_what_a_candidate_has_heard_is_asked_for_each_time(self, one: Server) -> None:
        """It follows on while it waits."""
        heard = [0]
        async with candidates(one.url, 2, ttl=LONG) as (first, second):
            await took(first)
            async with asyncio.TaskGroup() as tasks:
                trying = tasks.create_task(took(second, lambda: heard[0]))
                await waiting(one, 1)
                heard[0] = 10**14
                await first.release()
                assert (await trying).epoch == 10**14 + 1


class TestVanished:
    """Redis has lost its data while somebody leads."""

    async def test_who_knows_of_a_leader_waits_until_that_one_has_stopped(
        self, one: Server
    ) -> None:
        async with candidates(one.url, 2, ttl=TTL) as (first, second):
            epoch = (await took(first)).epoch
            await one.ask("FLUSHALL")
            await took(second, lambda: epoch)
            assert not leads(first)

    async def test_who_knows_of_none_begins(self, one: Server) -> None:
        async with candidates(one.url, 1, ttl=LONG) as (first,):
            await took(first)
            assert await holder(one) == "p0"


class TestLosses:
    """A term says whether something was published that nobody can tell any more."""

    async def test_at_first_and_after_a_leader_who_has_published_nothing_is_lost(
        self, one: Server, link: Link
    ) -> None:
        lease, broker = RedisLease(link, "one", ttl=LONG), broker_on(link)
        first = await took(lease)
        assert not first.lost
        await broker.append(entry(None, opens=f"{first.epoch}-0"))
        await append(broker, *ticks(1, 3, epoch=first.epoch))
        assert not (await took(lease, lambda: first.epoch)).lost

    async def test_where_the_journal_ends_before_an_epoch_that_somebody_knows_something_is(
        self, one: Server, link: Link
    ) -> None:
        lease, broker = RedisLease(link, "one", ttl=TTL), broker_on(link)
        await append(broker, OPEN, *ticks(1, 3))
        assert (await took(lease, lambda: 8)).lost
        await one.ask("FLUSHALL")
        assert (await took(lease, lambda: 8)).lost
        await one.ask("FLUSHALL")
        await one.ask("SET", EPOCH, 9)
        assert (await took(lease)).lost


class TestKeeping:
    async def test_who_finds_another_s_text_has_lost_it(self, one: Server, link: Link) -> None:
        lease = RedisLease(link, "one", ttl=TTL)
        for text in ("other 1 0", "", "one 1 0"):
            await took(lease)
            await one.ask("SET", KEY, text)
            await lost(lease)
            assert not leads(lease)
            assert (await one.ask("GET", KEY)).decode() == text
            await one.ask("DEL", KEY)

    async def test_who_finds_it_gone_has_lost_it(self, one: Server, link: Link) -> None:
        lease = RedisLease(link, "one", ttl=TTL)
        await took(lease)
        await one.ask("FLUSHALL")
        await lost(lease)
        assert await holder(one) == ""

    async def test_who_cannot_renew_it_stops_before_another_has_it(self, one: Server) -> None:
        """The network to Redis hangs: nothing is told, and time runs out."""
        async with (
            proxy(one.port) as between,
            linked(between.url, limit=TTL * 0.4) as link,
            linked(one.url) as other,
        ):
            first, second = RedisLease(link, "one", ttl=TTL), RedisLease(other, "two", ttl=TTL)
            await took(first)
            stopped: list[float] = []

            async def keep() -> None:
                with pytest.raises(LeaseLost):
                    await first.keep()
                stopped.append(time.monotonic())

            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(keep())
                taking = tasks.create_task(took(second))
                await waiting(one, 1)
                between.partition()
                cut = time.monotonic()
                await taking
                assert not leads(first), "it still believes that it leads"
                assert time.monotonic() - cut < 2 * TTL + 4.0
            assert stopped[0] - cut <= TTL + 1.0
            between.heal()

    async def test_a_short_trouble_costs_nothing(self, one: Server) -> None:
        ttl = 3.0
        async with proxy(one.port) as between, linked(between.url, limit=0.2) as link:
            lease = RedisLease(link, "one", ttl=ttl)
            await took(lease)

            async with asyncio.TaskGroup() as tasks:
                keeping = tasks.create_task(lease.keep())
                for trouble in (between.cut, between.refuse, between.partition):
                    seen = await renewals(one)
                    trouble()
                    between.cut()
                    await passed(0.3)
                    between.accept()
                    between.heal()

                    async def again(before: int = seen) -> bool:
                        return await renewals(one) > before

                    await until(again, "renewed again")
                    assert leads(lease)
                assert not keeping.done()
                keeping.cancel()


class TestStopped:
    """A candidate is told to stop."""

    @pytest.mark.parametrize("lost", [False, True], ids=["answer on its way", "answer lost"])
    async def test_before_it_hears_that_the_lease_is_its_own_it_gives_it_back(
        self, one: Server, *, lost: bool
    ) -> None:
        await one.ask("SET", KEY, FREE)
        async with proxy(one.port) as between, linked(between.url) as link:
            await link.call("PING")  # to connect takes answers
            between.delay = LONG
            with capture_logs() as told:
                async with asyncio.TaskGroup() as tasks:
                    trying = tasks.create_task(took(RedisLease(link, "one", ttl=LONG)))

                    async def taken() -> bool:
                        return await holder(one) == "one"

                    await until(taken, "taken, and not told yet")
                    if lost:
                        between.refuse()
                        between.cut()
                        await until(lambda: bool(told), "it tries again in a while")
                        between.accept()
                    between.delay = 0.0
                    trying.cancel()
            assert await holder(one) == FREE

    @pytest.mark.parametrize("other", ["two", "one-more"])
    async def test_while_another_leads_it_leaves_the_lease_alone(
        self, one: Server, link: Link, other: str
    ) -> None:
        async with linked(one.url) as theirs, asyncio.TaskGroup() as tasks:
            await took(RedisLease(theirs, other, ttl=LONG))
            trying = tasks.create_task(took(RedisLease(link, "one", ttl=LONG)))
            await waiting(one, 1)
            trying.cancel()
        assert await holder(one) == other


class TestAway:
    async def test_a_candidate_waits_until_redis_is_there(self, one: Server, link: Link) -> None:
        await one.kill()
        lease = RedisLease(link, "one", ttl=TTL)
        async with asyncio.TaskGroup() as tasks:
            trying = tasks.create_task(took(lease))
            await passed(0.3)
            assert not trying.done()
            await one.start()
            await trying
        assert await holder(one) == "one"

    @pytest.mark.parametrize("keep_data", [True, False])
    async def test_a_candidate_outlives_a_restart_while_it_waits(
        self, one: Server, keep_data: bool
    ) -> None:
        async with candidates(one.url, 2, ttl=TTL) as (first, second):
            term = await took(first)
            await one.ask("SAVE")
            async with asyncio.TaskGroup() as tasks:
                trying = tasks.create_task(took(second))
                await waiting(one, 1)
                await one.restart(keep_data=keep_data)
                assert (await trying).epoch > term.epoch
            await lost(first)

    async def test_a_release_that_does_not_get_through_is_left_to_its_end(
        self, one: Server, link: Link
    ) -> None:
        lease = RedisLease(link, "one", ttl=TTL)
        await took(lease)
        await one.kill()
        await lease.release()
        assert not leads(lease)
