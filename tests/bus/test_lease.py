"""Who may lead: one at a time, whatever clocks do."""

import asyncio
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.bus.lease import Candidate, OwnLease, RedisLease, Term
from app.bus.link import Link
from tests.bus.contest import (
    EPOCH,
    KEY,
    LONG,
    TTL,
    candidates,
    holder,
    leads,
    passed,
    renewals,
    took,
    waiting,
)
from tests.bus.road import OPEN, append, broker_on, linked, ticks
from tests.e2e.waiting import until
from tests.given import at
from tests.redis.servers import BINARIES, Server


class TestCandidate:
    @pytest.mark.parametrize("text", ["free", ""])
    def test_what_is_nobody_s_may_be_taken_at_once(self, text: str) -> None:
        candidate = Candidate(5.0)
        candidate.see(text, 100.0)
        assert candidate.due(0.0, known=False) == 100.0
        candidate.see(text, 200.0)
        assert candidate.due(0.0, known=False) == 100.0

    def test_what_was_given_back_too_though_somebody_led(self) -> None:
        candidate = Candidate(5.0)
        candidate.see("free", 100.0)
        assert candidate.due(0.0, known=True) == 100.0

    def test_what_vanished_may_still_be_held(self) -> None:
        candidate = Candidate(5.0)
        candidate.see("a 7 1", 90.0)
        candidate.see("", 100.0)
        assert candidate.due(0.0, known=True) == 105.0

    @pytest.mark.parametrize("known", [True, False])
    def test_what_is_somebody_s_when_it_stayed_the_same_for_its_whole_time(
        self, *, known: bool
    ) -> None:
        candidate = Candidate(5.0)
        candidate.see("a 7 1", 100.0)
        assert candidate.due(0.0, known=known) == 105.0
        candidate.see("a 7 1", 104.9)
        assert candidate.due(0.0, known=known) == 105.0
        candidate.see("a 7 2", 104.99)
        assert candidate.due(0.0, known=known) == 109.99

    def test_with_patience_so_much_later(self) -> None:
        candidate = Candidate(5.0)
        candidate.see("free", 100.0)
        assert candidate.due(3.0, known=True) == 103.0
        candidate.see("a 7 1", 101.0)
        assert candidate.due(3.0, known=True) == 109.0
        candidate.see("free", 102.0)
        assert candidate.due(3.0, known=True) == 105.0

    @given(st.lists(st.tuples(st.sampled_from(["free", "a 1", "a 2", "b 1"]), st.floats(0, 4))))
    def test_never_while_it_is_renewed_in_time(self, seen: list[tuple[str, float]]) -> None:
        candidate, now, since, last = Candidate(5.0), 100.0, 100.0, None
        for text, pause in seen:
            now += pause
            if text != last:
                since, last = now, text
            candidate.see(text, now)
            assert candidate.due(0.0, known=True) == since + (0.0 if text == "free" else 5.0)


class TestOwn:
    """A process that shares its broker with no other has nobody to ask."""

    async def test_is_had_at_once_in_ever_higher_epochs(self) -> None:
        lease = OwnLease(ttl=5.0)
        first = await took(lease)
        assert first.epoch >= int(time.time() * 1000) - 5000
        assert first.end is None
        assert (await took(lease, lambda: 10**15)).epoch == 10**15 + 1

    async def test_is_never_lost(self) -> None:
        lease = OwnLease(ttl=0.01)
        await took(lease)
        async with asyncio.TaskGroup() as tasks:
            keeping = tasks.create_task(lease.keep())
            await passed(0.05)
            lease.check()
            assert not keeping.done()
            keeping.cancel()
        await lease.release()
        lease.check()


@pytest.mark.parametrize("binary", BINARIES.values(), ids=BINARIES)
class TestTaking:
    async def test_one_of_many_gets_it_and_the_others_wait_however_long(self, one: Server) -> None:
        terms: list[tuple[RedisLease, Term]] = []

        async def acquire(lease: RedisLease) -> None:
            terms.append((lease, await took(lease)))
            await lease.keep()

        async def renewed() -> bool:
            return await renewals(one) > 6  # for twice its time

        async with candidates(one.url, 6, ttl=TTL) as all_, asyncio.TaskGroup() as tasks:
            trying = [tasks.create_task(acquire(lease)) for lease in all_]
            await waiting(one, 5)
            await until(renewed, "renewals")
            ((first, _),) = terms
            assert await holder(one) == f"p{all_.index(first)}"
            assert list(filter(leads, all_)) == [first]
            for task in trying:
                task.cancel()

    async def test_released_another_has_it_at_once(self, one: Server) -> None:
        async with candidates(one.url, 4, ttl=LONG) as all_, asyncio.TaskGroup() as tasks:
            first = await took(all_[0])
            trying = [tasks.create_task(took(lease)) for lease in all_[1:]]
            await waiting(one, 3)
            for number in (3, 2, 1):
                (lease,) = filter(leads, all_)
                began = time.monotonic()
                await lease.release()
                assert not leads(lease)

                def next_one(left: int = number) -> bool:
                    return sum(not task.done() for task in trying) == left - 1

                await until(next_one, "the next one")
                assert time.monotonic() - began < LONG / 10  # it looks at it less often
            epochs = [first.epoch, *sorted(task.result().epoch for task in trying)]
            assert len(set(epochs)) == 4
            assert epochs == sorted(epochs)

    async def test_who_releases_what_is_no_more_its_own_changes_nothing(self, one: Server) -> None:
        async with candidates(one.url, 2, ttl=TTL) as (first, second):
            await first.release()
            await took(first)
            await took(second)
            await first.release()
            assert await holder(one) == "p1"
            await second.release()
            assert await holder(one) == "free"

    async def test_not_renewed_it_goes_to_another_only_after_the_first_has_stopped(
        self, one: Server
    ) -> None:
        async with candidates(one.url, 2, ttl=TTL) as (first, second):
            await took(first)
            began = time.monotonic()
            assert leads(first)
            await took(second)
            assert not leads(first)
            assert TTL <= time.monotonic() - began < TTL + 4.0

    async def test_no_clock_of_redis_takes_part_in_that(self, one: Server) -> None:
        """No time to live, which a step of its clock would end or stretch."""
        async with candidates(one.url, 2, ttl=TTL) as (first, second):
            await took(first)
            assert await one.ask("PTTL", KEY) == -1
            async with asyncio.TaskGroup() as tasks:
                keeping = tasks.create_task(first.keep())

                async def renewed() -> bool:
                    assert await one.ask("PTTL", KEY) == -1
                    return await renewals(one) == 3

                await until(renewed, "renewals")
                keeping.cancel()
            text = await one.ask("GET", KEY)
            await took(second)
            assert text != await one.ask("GET", KEY)
            assert await one.ask("PTTL", KEY) == -1

    async def test_a_text_that_stands_still_is_taken_whosever_it_is(self, one: Server) -> None:
        await one.ask("SET", KEY, "a process that died long ago 5")
        async with candidates(one.url, 1, ttl=TTL) as (lease,):
            began = time.monotonic()
            await took(lease)
            assert time.monotonic() - began >= TTL

    async def test_a_process_whose_answer_was_lost_may_take_it_again_at_once(
        self, one: Server
    ) -> None:
        async with linked(one.url) as link:
            first = await took(RedisLease(link, "same", ttl=LONG))
            second = await took(RedisLease(link, "same", ttl=LONG))
            assert second.epoch > first.epoch

    async def test_a_name_that_only_begins_like_the_holder_s_is_another(self, one: Server) -> None:
        async with linked(one.url) as link, linked(one.url) as other:
            await took(RedisLease(link, "p10", ttl=LONG))
            async with asyncio.TaskGroup() as tasks:
                trying = tasks.create_task(took(RedisLease(other, "p1", ttl=LONG)))
                await waiting(one, 1)
                assert not trying.done()
                trying.cancel()

    async def test_a_term_says_where_the_journal_ended(self, one: Server, link: Link) -> None:
        lease = RedisLease(link, "one", ttl=LONG)
        assert (await took(lease)).end is None
        await one.ask("DEL", EPOCH)
        await append(broker_on(link), OPEN, *ticks(1, 3))
        assert (await took(lease)).end == at("7-3")


class TestPatience:
    async def test_leaves_a_free_lease_alone_for_so_long(self, one: Server, link: Link) -> None:
        began = time.monotonic()
        await took(RedisLease(link, "one", ttl=LONG), patience=lambda: 0.5)
        assert 0.5 <= time.monotonic() - began < 5.0

    async def test_leaves_it_to_who_has_none(self, one: Server) -> None:
        async with candidates(one.url, 2, ttl=LONG) as (patient, other):
            await took(patient)
            await patient.release()
            async with asyncio.TaskGroup() as tasks:
                trying = tasks.create_task(took(patient, patience=lambda: 1.0))
                await waiting(one, 1)
                await took(other)
                await passed(1.2)
                assert not trying.done()
                trying.cancel()

    async def test_is_over_when_it_is(self, one: Server, link: Link) -> None:
        """Who stays out for a minute is a candidate like all others afterwards."""
        patience = [LONG]
        async with asyncio.TaskGroup() as tasks:
            lease = RedisLease(link, "one", ttl=1.0)
            trying = tasks.create_task(took(lease, patience=lambda: patience[0]))
            await waiting(one, 1)
            patience[0] = 0.0
            began = time.monotonic()
            await trying
            assert time.monotonic() - began < 2.0
