"""The process that leads: what ends a term, what does not, and what the next one begins with."""

import asyncio

import pytest

from app.bus.broker import Snapshots, Wish
from app.domain.channel import Channel
from app.domain.event import Entry
from app.domain.health import ConnectionHealth, Following
from app.domain.health import Upstream as Status
from app.domain.position import START
from app.feed.lead import BATCH, CUT_OFF, _judge, _parts
from tests.bus.road import OPEN
from tests.e2e.waiting import until
from tests.feed.leading import GivenLease, Process, broken_chain, candidate, lease_on
from tests.feed.place import FaultyBroker, channels, replica
from tests.given import at, entry, made, price

PRICES = "lastprice:*"
BTC = "lastprice:BTC_USDT"
BOOK, OTHER_BOOK = "depth:BTC_USDT:0", "depth:ETH_USDT:0"


def connected(*states: str) -> list[ConnectionHealth]:
    return [ConnectionHealth("upstream", state, 1.0, 2, 3) for state in states]


def confirmed(*, live: bool, since: float = 0.0) -> Following:
    return Following(live=live, since=since, unbroken=0.0, broken=0.0)


class TestJudging:
    @pytest.mark.parametrize(
        ("states", "following", "status"),
        [
            ([], [], "down"),
            (["waiting", "opening"], [], "down"),
            (["waiting", "opening"], [confirmed(live=True)], "down"),
            (["live"], [], "live"),
            (["live", "waiting"], [confirmed(live=True)], "live"),
            (["live", "live"], [confirmed(live=True), confirmed(live=False)], "degraded"),
            (["live", "live"], [confirmed(live=False, since=99.0)], "live"),
            (["live", "live"], [confirmed(live=False, since=97.0)], "degraded"),
            (["live", "opening"], [confirmed(live=False, since=99.0)], "degraded"),
        ],
    )
    def test_says_how_the_upstream_is(
        self, states: list[str], following: list[Following], status: Status
    ) -> None:
        assert _judge(connected(*states), following, 100.0) == status


@pytest.mark.parametrize("number", [1, BATCH, BATCH + 1, 3 * BATCH])
def test_a_turn_with_many_events_makes_several_entries(number: int) -> None:
    events = [price("BTC_USDT", str(one)) for one in range(number)]
    parts = list(_parts(events))
    assert [one for part in parts for one in part] == events
    assert all(0 < len(part) <= BATCH for part in parts)


async def begun(process: Process, lease: GivenLease, number: int = 1) -> None:
    """Wait until the term of that number has told something."""
    await until(lambda: len(lease.terms) >= number, f"term {number}")
    await process.fresh(BTC, lease.terms[number - 1].epoch)


class TestTerms:
    async def test_who_is_refused_ends_its_term_and_leads_again_in_a_higher_epoch(self) -> None:
        broker = FaultyBroker()
        lease = lease_on(broker)
        async with candidate(lease, broker, replica(PRICES)) as process:
            await begun(process, lease)
            assert process.leading
            broker.refusing["append"] = 1
            await begun(process, lease, 2)
            assert (len(lease.terms), lease.released) == (2, 1)
            assert lease.terms[1].epoch > lease.terms[0].epoch
            written = await broker.history(START) or []
            assert broken_chain(written) == []
            openings = [one.position for one in written if not one.envelopes]
            assert [one.epoch for one in openings] == [term.epoch for term in lease.terms]
            assert process.leading
        assert lease.released == 2
        assert not process.leading

    @pytest.mark.parametrize("what", ["append", "save", "health"])
    async def test_whatever_is_refused_first_ends_it(self, what: str) -> None:
        broker = FaultyBroker()
        lease = lease_on(broker)
        async with candidate(lease, broker, replica(PRICES)) as process:
            await begun(process, lease)
            broker.refusing[what] = 1
            await begun(process, lease, 2)
            assert lease.released == 1

    async def test_a_lease_that_is_lost_ends_it(self) -> None:
        broker = FaultyBroker()
        lease = lease_on(broker)
        async with candidate(lease, broker, replica(PRICES)) as process:
            await begun(process, lease)
            lease.lost.set()
            await begun(process, lease, 2)
            assert lease.released == 1

    @pytest.mark.parametrize("what", ["append", "save"])
    async def test_a_broker_that_is_away_at_the_opening_ends_no_process(self, what: str) -> None:
        broker = FaultyBroker()
        lease = lease_on(broker)
        broker.away[what] = 2
        async with candidate(lease, broker, replica(PRICES)) as process:
            await until(lambda: broker.away[what] == 0, "two that fail")
            await process.fresh(BTC, lease.terms[-1].epoch)
            assert broken_chain(await broker.history(START) or []) == []

    async def test_an_error_that_nobody_expects_ends_the_process(self) -> None:
        class Broken(FaultyBroker):
            async def append(self, entry: Entry) -> None:
                if entry.envelopes:
                    raise RuntimeError("a bug")
                await super().append(entry)

        broker = Broken()
        lease = lease_on(broker)

        async def live() -> None:
            async with candidate(lease, broker, replica(PRICES)):
                await asyncio.Event().wait()

        with pytest.raises(ExceptionGroup) as failed:
            await live()
        assert failed.group_contains(RuntimeError, match="a bug")
        assert lease.released == 1


class TestAppending:
    @pytest.mark.parametrize("deaf", [False, True], ids=["not taken", "taken, not answered"])
    async def test_an_entry_that_could_not_be_appended_is_tried_again_as_it_is(
        self, deaf: bool
    ) -> None:
        broker = FaultyBroker()
        lease = lease_on(broker)
        async with candidate(lease, broker, replica(PRICES)) as process:
            await begun(process, lease)
            broker.deaf = deaf
            broker.away["append"] = 3
            await until(lambda: broker.away["append"] == 0, "three tries")
            seen = len(broker.appended)
            await until(lambda: len(broker.appended) > seen + 3, "more entries")
            tries: dict[int, int] = {}
            for one in broker.appended:
                tries[id(one)] = tries.get(id(one), 0) + 1
            assert sorted(tries.values())[-2:] == [1, 4]
            assert broken_chain(await broker.history(START) or []) == []
            assert (len(lease.terms), lease.released) == (1, 0)

    async def test_it_is_not_tried_again_once_the_time_is_over(self) -> None:
        broker = FaultyBroker()
        lease = lease_on(broker)
        async with candidate(lease, broker, replica(PRICES)) as process:
            await begun(process, lease)
            broker.away["append"] = 1_000_000
            await until(lambda: len({id(one) for one in broker.appended[-2:]}) == 1, "tries")
            lost = broker.appended[-1]
            lease.over = True
            await until(lambda: lease.released == 1, "the end of the term")
            broker.away["append"] = 0
            await begun(process, lease, 2)
            written = await broker.history(START) or []
            assert lost.position not in [one.position for one in written]
            assert broken_chain(written) == []


FORMER = [
    OPEN,
    entry(
        "7-0",
        made(
            BOOK,
            "7-1",
            {
                "symbol": "BTC_USDT",
                "scale_index": 0,
                "timestamp": 100,
                "asks": [["2", "1"]],
                "bids": [["1", "1"]],
            },
        ),
        made(BTC, "7-2", {"symbol": "BTC_USDT", "timestamp": 100, "price": "1"}),
    ),
]
"""What another leader has left."""


async def left() -> FaultyBroker:
    broker = FaultyBroker()
    for one in FORMER:
        await broker.append(one)
    return broker


class TestTakingOver:
    async def test_the_first_health_says_that_what_was_followed_is_followed_on(self) -> None:
        """Nobody has asked for the book yet here, and no process may forget it."""
        broker = await left()
        process = replica(PRICES, linger=60.0)
        async with candidate(lease_on(broker), broker, process, away=True) as one:
            await until(lambda: len(broker.healths) > 1, "two healths")
            assert [channels(PRICES, BOOK)] * 2 == [
                {*each.following} for each in broker.healths[:2]
            ]
            assert (one.epoch(BOOK), one.epoch(BTC)) == (7, 7)
            one.exchange.control.set(away=False)
            await one.fresh(BOOK, 8)

    async def test_what_was_not_heard_between_the_leaders_is_a_gap(self) -> None:
        broker = await left()
        async with candidate(lease_on(broker), broker, replica(PRICES)) as process:
            await process.fresh(BOOK, 8)
            await process.fresh(BTC, 8)
            written = await broker.history(at("7-2")) or []
            for name in (BOOK, BTC):
                first = next(
                    envelope
                    for one in written
                    for envelope in one.envelopes
                    if str(envelope.channel) == name
                )
                assert (first.type, first.gap, first.previous) == ("snapshot", True, None)

    @pytest.mark.parametrize("lost", [False, True])
    async def test_where_something_was_lost_every_channel_begins_with_a_gap(
        self, lost: bool
    ) -> None:
        """Others may have heard of channels that this leader does not know."""
        broker = FaultyBroker()
        lease = lease_on(broker)
        lease.forgetful = lost
        async with candidate(lease, broker, replica(PRICES)) as process:
            await begun(process, lease)
            written = await broker.history(START) or []
            heard = [envelope for one in written for envelope in one.envelopes]
            firsts = {one.channel: one for one in reversed(heard)}.values()
            assert firsts
            assert {one.gap for one in firsts} == {lost}

    async def test_after_a_loss_the_others_may_object_before_it_connects_to_the_exchange(
        self,
    ) -> None:
        """The journal has lost what this process knows; another may know more."""
        broker, issued = await left(), list[int]()
        await broker.save(at("7-2"), FORMER[1].envelopes, [])
        broker.refusing["health"] = 1

        class Watched(GivenLease):
            async def release(self) -> None:
                issued.append(process.exchange.control.report()["tokens_issued"])
                await super().release()

        lease = Watched()
        lease.end = lambda: broker.last if lease.terms else None
        async with candidate(lease, broker, replica(PRICES)) as process:
            await begun(process, lease, 2)
            assert issued == [0]
            assert broken_chain(await broker.history(START) or []) == []

    async def test_the_opening_follows_the_journal_and_all_states_are_saved_with_it(self) -> None:
        broker = await left()
        lease = lease_on(broker)
        async with candidate(lease, broker, replica(PRICES), away=True):
            await until(lambda: len(broker.appended) > len(FORMER), "the opening")
            opening = broker.appended[-1]
            assert (opening.previous, opening.envelopes) == (at("7-2"), ())
            assert opening.position.sequence == 0
            await until(lambda: broker._watermark == opening.position, "what is saved")
            async with broker.listen() as listening:
                snapshots = await anext(listening)
            assert isinstance(snapshots, Snapshots)
            assert {str(one.position) for one in snapshots.envelopes} == {"7-1", "7-2"}

    async def test_what_nobody_asks_for_again_is_followed_no_longer_than_its_linger(self) -> None:
        broker = await left()
        process = replica(PRICES, linger=1.5)
        book = Channel.parse(BOOK)
        async with candidate(lease_on(broker), broker, process) as one:
            await until(lambda: book in one.pool.following(), "followed on")
            await until(lambda: book in broker.saved, "saved")
            await until(lambda: one.epoch(BOOK) == 0, "forgotten")
            await one.fresh(BTC, 8)
            assert book not in one.pool.following()
            await until(lambda: book not in broker.saved, "not saved any more")


class TestFollowing:
    async def test_what_any_process_wants_is_followed_if_the_exchange_lists_it(self) -> None:
        broker = FaultyBroker()
        lease = lease_on(broker)
        unlisted = "depth:NO_SUCH:0"
        async with candidate(lease, broker, replica(PRICES, linger=2.0)) as process:

            async def known() -> bool:
                await broker.tell(Wish("other", channels(OTHER_BOOK, unlisted)))
                return process.epoch(OTHER_BOOK) > 0

            await until(known, "the book")
            assert channels(PRICES, OTHER_BOOK) == process.pool.following().keys()
            await until(lambda: process.epoch(OTHER_BOOK) == 0, "gone with its process")
            assert channels(PRICES) == process.pool.following().keys()

    async def test_snapshots_that_could_not_be_saved_are_saved_with_the_next(self) -> None:
        broker = FaultyBroker()
        lease = lease_on(broker)
        async with candidate(lease, broker, replica(PRICES)) as process:
            await begun(process, lease)
            broker.away["save"] = 2
            await until(lambda: broker.away["save"] == 0, "two saves that fail")
            process.exchange.control.act("pause")
            await until(lambda: broker._watermark == broker.last, "what is saved")
            async with broker.listen() as listening:
                snapshots = await anext(listening)
            assert isinstance(snapshots, Snapshots)
            held = {state.channel: state.position for state in process.replica.store}
            assert held == {one.channel: one.position for one in snapshots.envelopes}
            assert lease.released == 0


class TestHandingOver:
    async def test_cut_off_it_hands_over_once_and_not_again_until_somebody_was_live(self) -> None:
        loop, broker = asyncio.get_running_loop(), FaultyBroker()
        lease = lease_on(broker, ttl=0.2)
        async with candidate(lease, broker, replica(PRICES), away=True) as process:
            await until(lambda: lease.released == 1, "handed over")
            await until(lambda: len(lease.terms) == 2, "taken again, as nobody else wants it")
            assert lease.patience == [0.0, lease.ttl]
            again = loop.time()
            await until(lambda: loop.time() > again + 3 * CUT_OFF * lease.ttl, "an outage")
            assert lease.released == 1
            process.exchange.control.set(away=False)
            await process.status("live")
            assert lease.released == 1
            process.exchange.control.set(away=True)
            await until(lambda: lease.released == 2, "handed over again")

    async def test_with_any_live_connection_it_stays(self) -> None:
        loop, broker = asyncio.get_running_loop(), FaultyBroker()
        lease = lease_on(broker, ttl=0.5)
        async with candidate(lease, broker, replica(PRICES)) as process:
            await process.status("live")
            began = loop.time()
            await until(lambda: loop.time() > began + 2 * CUT_OFF * lease.ttl, "a while")
            assert (len(lease.terms), lease.released) == (1, 0)

    async def test_who_has_nobody_to_hand_over_to_stays(self) -> None:
        loop, broker = asyncio.get_running_loop(), FaultyBroker()
        lease = lease_on(broker, ttl=0.2, shared=False)
        async with candidate(lease, broker, replica(PRICES), away=True):
            await until(lambda: lease.terms, "a term")
            began = loop.time()
            await until(lambda: loop.time() > began + 3 * CUT_OFF * lease.ttl, "an outage")
            assert (len(lease.terms), lease.released) == (1, 0)
