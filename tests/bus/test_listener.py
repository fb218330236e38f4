"""Every entry once and in order, whatever happens to the connection, to Redis and to its data."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from structlog.testing import capture_logs

from app.bus.broker import Heard, Snapshots, Wish
from app.bus.lease import RedisLease
from app.bus.link import Link
from app.bus.messages import Packed
from app.bus.redis import RedisBroker
from app.domain.channel import Channel
from app.domain.event import Entry
from app.domain.health import Health
from app.errors import LeaseLost
from app.telemetry import Metrics
from tests.bus.contest import passed
from tests.bus.road import (
    BTC,
    LIMIT,
    OPEN,
    append,
    broker_on,
    count,
    heard,
    heard_entries,
    linked,
    listeners,
    no_more,
    put,
    ticks,
)
from tests.e2e.waiting import until
from tests.given import at, entry, made
from tests.redis.proxy import Proxy, proxy
from tests.redis.servers import Server

HEALTH = Health(7, 1.0, "live", 0.5)
SOON = 4.0
"""Seconds within which a loss is noticed that nothing announces."""


class Far:
    """A process behind a network of its own, and what it hears, taken as it comes."""

    def __init__(self, between: Proxy, metrics: Metrics) -> None:
        self.between = between
        self.metrics = metrics
        self._heard: list[Heard] = []

    async def listen(self, listening: AsyncIterator[Heard]) -> None:
        async for one in listening:
            self._heard.append(one)

    async def hears(self, number: int = 1, *, within: float = 2 * LIMIT) -> list[Heard]:
        """The next that it hears, so many."""
        await until(
            lambda: len(self._heard) >= number, lambda: f"{number}: {self._heard}", limit=within
        )
        found, self._heard = self._heard[:number], self._heard[number:]
        return found

    async def idle(self, broker: RedisBroker) -> None:
        """It has heard all there is, and waits: the next that it hears is told only now."""
        wish = Wish("idle", frozenset())
        await broker.tell(wish)
        assert await self.hears() == [wish]

    @property
    def losses(self) -> float:
        return count(self.metrics, "broker_losses")


@asynccontextmanager
async def far(one: Server) -> AsyncIterator[Far]:
    """It has heard the first snapshots, none, and is subscribed."""
    metrics = Metrics()
    async with (
        proxy(one.port) as between,
        linked(between.url, limit=1.0) as link,
        broker_on(link, metrics=metrics).listen() as listening,
        asyncio.TaskGroup() as tasks,
    ):
        process = Far(between, metrics)
        hearing = tasks.create_task(process.listen(listening))
        assert await process.hears() == [Snapshots(None, ())]
        await subscribed(one, link)
        yield process
        hearing.cancel()


async def subscribed(one: Server, link: Link, number: int = 1) -> None:
    """Until so many connections hear what is published."""

    async def so() -> bool:
        return await listeners(one, link) == number

    await until(so, f"{number} subscribed")


async def fence(one: Server, least: int) -> None:
    """Until every epoch below one is refused."""

    async def so() -> bool:
        return int(await one.ask("GET", Link.key("epoch")) or 0) >= least

    await until(so, f"a fence of {least}")


class TestConnection:
    async def test_cut_twenty_times_it_hears_every_entry_once_and_in_order(
        self, one: Server, link: Link, broker: RedisBroker
    ) -> None:
        cuts, each = 20, 100
        async with far(one) as process, asyncio.TaskGroup() as tasks:
            hearing = tasks.create_task(process.hears(1 + cuts * each, within=30))
            await broker.append(OPEN)
            for number in range(cuts):
                await subscribed(one, link)
                first = number * each + 1
                await append(broker, *ticks(first, first + each // 2 - 1))
                process.between.cut()
                await append(broker, *ticks(first + each // 2, first + each - 1))
            assert [OPEN, *ticks(1, cuts * each)] == await hearing
            assert process.losses == cuts
            await process.idle(broker)

    async def test_silence_is_noticed_and_after_it_nothing_is_missing(
        self, one: Server, link: Link, broker: RedisBroker
    ) -> None:
        """A network that hangs tells nobody."""
        async with far(one) as process:
            await append(broker, OPEN, *ticks(1, 2))
            await process.hears(3)
            process.between.partition()
            await append(broker, *ticks(3, 4))
            await until(lambda: process.losses == 1, "the loss")
            await append(broker, *ticks(5, 6))
            process.between.heal()
            assert ticks(3, 6) == await process.hears(4)
            await process.idle(broker)

    async def test_a_connection_that_is_reset_into_silence_is_made_again(
        self, one: Server, link: Link, broker: RedisBroker
    ) -> None:
        async with far(one) as process:
            await append(broker, OPEN, *ticks(1, 2))
            await process.hears(3)
            process.between.partition()
            process.between.cut()
            await until(lambda: process.losses == 1, "the loss")
            await append(broker, *ticks(3, 4))
            process.between.heal()
            assert ticks(3, 4) == await process.hears(2)

    async def test_silence_without_a_loss_is_no_loss(
        self, one: Server, broker: RedisBroker
    ) -> None:
        """A quiet market: signs of life are asked for, and given."""
        async with far(one) as process:
            await passed(2.5)
            assert process.losses == 0
            await broker.append(OPEN)
            assert await process.hears() == [OPEN]

    async def test_it_can_be_left_at_once_while_nothing_answers(
        self, one: Server, broker: RedisBroker
    ) -> None:
        loop = asyncio.get_running_loop()
        async with far(one) as process:
            await append(broker, OPEN)
            await process.hears(1)
            process.between.partition()
            left = loop.time()
        assert loop.time() - left < 2.0

    async def test_what_is_told_while_it_is_away_is_told_as_soon_as_it_is_back(
        self, one: Server, link: Link, broker: RedisBroker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("app.bus.listener.QUIET", 60.0)  # it waits for no silence
        wish = Wish("one", frozenset({Channel.parse("ticker:*")}))
        async with far(one) as process:
            await process.idle(broker)
            process.between.refuse()
            process.between.cut()
            await until(lambda: process.losses == 1, "the loss")
            journal = await append(broker, OPEN, *ticks(1, 3))
            await broker.tell(HEALTH)
            await broker.tell(wish)
            process.between.accept()
            assert await process.hears(4) == journal
            found = await process.hears(3)  # the last wish of every process
            assert all(each in found for each in (HEALTH, wish))


class TestLostMessages:
    """Pub/sub may lose anything; the journal knows better."""

    async def test_an_entry_that_was_not_told_comes_before_the_one_that_was(
        self, one: Server, broker: RedisBroker
    ) -> None:
        async with far(one) as process:
            await append(broker, OPEN)
            assert await process.hears() == [OPEN]
            await process.idle(broker)
            await put(one, *ticks(1, 1), total=1)
            await put(one, *ticks(2, 2), total=2)
            await append(broker, *ticks(3, 4))
            assert ticks(1, 4) == await process.hears(4)
            assert count(process.metrics, "broker_holes") == 1
            await process.idle(broker)

    async def test_one_that_nothing_follows_is_noticed_by_the_leader_s_next_health(
        self, one: Server, broker: RedisBroker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("app.bus.listener.QUIET", 60.0)  # silence does not help here
        async with far(one) as process:
            await append(broker, OPEN)
            assert await process.hears() == [OPEN]
            await process.idle(broker)
            await put(one, *ticks(1, 1))
            await broker.tell(HEALTH)
            found = await process.hears(2, within=SOON)
            assert all(each in found for each in (HEALTH, *ticks(1, 1)))

    async def test_one_that_nothing_follows_is_noticed_in_silence(
        self, one: Server, broker: RedisBroker
    ) -> None:
        async with far(one) as process:
            await append(broker, OPEN)
            assert await process.hears() == [OPEN]
            await process.idle(broker)
            await put(one, *ticks(1, 1))
            assert ticks(1, 1) == await process.hears(within=SOON)

    async def test_one_that_is_told_twice_or_late_is_heard_once(
        self, one: Server, link: Link, broker: RedisBroker
    ) -> None:
        async with far(one) as process:
            await append(broker, OPEN, *ticks(1, 4))
            await process.hears(5)
            for again in [OPEN, *ticks(2, 4)]:
                await one.ask("SPUBLISH", link.channel, b"E" + Packed.of(again).dumps())
            await append(broker, *ticks(5, 5))
            assert ticks(5, 5) == await process.hears(1)

    async def test_what_does_not_fit_into_its_inbox_is_read_from_the_journal(
        self, one: Server, link: Link, broker: RedisBroker
    ) -> None:
        async with linked(one.url) as other, broker_on(other, keep=10).listen() as listening:
            await heard(listening)
            await subscribed(one, link)
            journal = await append(broker, OPEN, *ticks(1, 300, size=3))
            assert journal == await heard_entries(listening, len(journal))
            await no_more(broker, listening)
            journal = await append(broker, *ticks(301, 309))
            assert journal == await heard_entries(listening, 9)


class TestLostData:
    async def test_it_stays_quiet_and_follows_on_when_an_epoch_opens_after_its_head(
        self, one: Server, link: Link, broker: RedisBroker
    ) -> None:
        """Nothing was lost to it, so its clients are not reset."""
        async with far(one) as process:
            await append(broker, OPEN, *ticks(1, 5))
            await process.hears(6)
            await one.restart(keep_data=False)
            await subscribed(one, link)
            await process.idle(broker)
            opening = entry("7-5", opens="8-0")
            await append(broker, opening)
            await broker.save(at("8-0"), [made(BTC, "7-5")], [])
            await append(broker, *ticks(1, 3, epoch=8))
            assert [opening, *ticks(1, 3, epoch=8)] == await process.hears(4)
            await process.idle(broker)

    async def test_who_was_behind_hears_the_snapshots_once_they_are_saved(
        self, one: Server, link: Link, broker: RedisBroker
    ) -> None:
        async with far(one) as process:
            await append(broker, OPEN, *ticks(1, 3))
            await process.hears(4)
            process.between.refuse()
            process.between.cut()
            await append(broker, *ticks(4, 5))
            await one.restart(keep_data=False)
            await append(broker, entry("7-5", opens="8-0"))
            process.between.accept()
            await subscribed(one, link)
            snapshot = made(BTC, "7-5")
            await broker.save(at("8-0"), [snapshot], [])
            with capture_logs() as told:
                assert await process.hears() == [Snapshots(at("8-0"), (snapshot,))]
            anew = {"event": "state taken up anew", "head": "7-3", "watermark": "8-0"}
            assert anew.items() <= told[-1].items()
            await append(broker, *ticks(1, 3, epoch=8))
            assert ticks(1, 3, epoch=8) == await process.hears(3)

    async def test_a_tail_that_only_others_had_heard_is_told_by_snapshots(
        self, one: Server, link: Link, broker: RedisBroker
    ) -> None:
        """The journal came back shorter, and its next leader knows more."""
        async with far(one) as process:
            await append(broker, OPEN, *ticks(1, 3))
            await process.hears(4)
            snapshot = made(BTC, "7-9")
            await append(broker, entry("7-9", opens="8-0"))
            await broker.save(at("8-0"), [snapshot], [])
            assert await process.hears() == [Snapshots(at("8-0"), (snapshot,))]
            await append(broker, *ticks(1, 3, epoch=8))
            assert ticks(1, 3, epoch=8) == await process.hears(3)

    @pytest.mark.parametrize("opening", [entry(None, opens="8-0"), entry("7-2", opens="8-0")])
    async def test_an_epoch_that_opens_behind_its_head_is_soon_over_and_the_next_told_of_the_loss(
        self, one: Server, link: Link, broker: RedisBroker, opening: Entry
    ) -> None:
        """Its leader never heard what this process holds, so it would mark no gap."""
        async with far(one) as process:
            await append(broker, OPEN, *ticks(1, 5))
            await process.hears(6)
            await one.ask("FLUSHALL")
            await append(broker, opening)
            assert await process.hears() == [opening]
            await fence(one, 9)
            with pytest.raises(LeaseLost, match="has begun"):
                await broker.append(ticks(1, 1, epoch=8)[0])
            term = await RedisLease(link, "one", ttl=LIMIT).acquire(lambda: 8)
            assert term.lost

    async def test_where_nothing_was_lost_nobody_is_stopped(
        self, one: Server, link: Link, broker: RedisBroker
    ) -> None:
        """Nor is an opening after more than this process has heard."""
        async with far(one) as process:
            await append(broker, OPEN, *ticks(1, 5), entry("7-5", opens="8-0"))
            await process.hears(7)
            process.between.cut()
            await append(broker, *ticks(1, 2, epoch=8), entry("8-2", opens="9-0"))
            await process.hears(3)
            await append(broker, entry("9-7", opens="10-0"))
            await broker.save(at("10-0"), [], [])
            assert await process.hears() == [Snapshots(at("10-0"), ())]
            await broker.tell(Health(10, 1.0, "live", 0.5))
            await process.hears()
            await process.idle(broker)
            assert await one.ask("GET", Link.key("epoch")) is None

    async def test_an_epoch_up_to_its_own_is_refused_as_soon_as_it_is_back(
        self, one: Server, broker: RedisBroker
    ) -> None:
        """Also while nobody leads yet, and nobody tells anything."""
        async with far(one) as process:
            await append(broker, OPEN, *ticks(1, 5))
            await process.hears(6)
            await one.restart(keep_data=False)
            await fence(one, 7)
            with pytest.raises(LeaseLost, match="has begun"):
                await broker.append(entry(None, opens="6-0"))

    @pytest.mark.parametrize("opening", [entry(None, opens="5-0"), entry("7-2", opens="6-0")])
    async def test_an_epoch_below_its_own_is_never_followed_and_soon_refused(
        self, one: Server, link: Link, broker: RedisBroker, opening: Entry
    ) -> None:
        """A leader that knew nothing, on a server whose clock is behind."""
        epoch = opening.position.epoch
        async with far(one) as process:
            await append(broker, OPEN, *ticks(1, 5))
            await process.hears(6)
            await one.ask("FLUSHALL")
            await append(broker, opening, *ticks(1, 2, epoch=epoch))
            health = Health(epoch, 1.0, "live", 0.5)
            await broker.tell(health)
            assert await process.hears() == [health]
            await fence(one, 7)
            with pytest.raises(LeaseLost, match="has begun"):
                await broker.append(ticks(3, 3, epoch=epoch)[0])
            with pytest.raises(LeaseLost):
                await broker.append(entry(f"{epoch}-2", opens=f"{epoch}-0"))
