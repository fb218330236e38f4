"""What a reader finds in Redis; how it is written is test_redis's and test_scripts's."""

from collections.abc import Callable

import pytest

from app.bus.broker import Notice, Snapshots, Wish
from app.bus.journal import FIRST_PAGE, LARGEST_PAGE, Journal
from app.bus.link import Link
from app.bus.messages import Packed, dump_notice
from app.bus.redis import RedisBroker
from app.domain.channel import Channel
from app.domain.health import Health
from app.domain.position import START, Position
from app.errors import BrokerUnavailable, Unreadable
from tests.bus.road import BTC, ETH, OPEN, append, broker_on, linked, put, ticks
from tests.given import at, entry, made
from tests.redis.servers import Server

HEALTH = Health(7, 1.0, "live", 0.5)


@pytest.fixture(name="journal")
def _journal(link: Link) -> Journal:
    return Journal(link)


async def positions(journal: Journal, after: str) -> list[str]:
    return [str(one.position) async for one in journal.after(at(after))]


async def test_at_first_there_is_nothing(journal: Journal) -> None:
    assert await positions(journal, "0-0") == []
    assert (await journal.floor(), await journal.end()) == (START, START)
    assert await journal.snapshots() == Snapshots(None, ())
    assert await journal.notices() == []


class TestEntries:
    @pytest.mark.parametrize("size", [1, 40])
    @pytest.mark.parametrize("entries", [FIRST_PAGE - 1, FIRST_PAGE, 2 * LARGEST_PAGE + 7])
    async def test_all_after_a_position_come_in_order_once(
        self, journal: Journal, broker: RedisBroker, entries: int, size: int
    ) -> None:
        number = (entries - 1) * size
        written = await append(broker, OPEN, *ticks(1, number, size=size))
        assert len(written) == entries
        assert [str(one.position) for one in written] == await positions(journal, "0-0")
        assert [f"7-{number}"] == await positions(journal, f"7-{number - 1}")
        assert await positions(journal, f"7-{number}") == []

    async def test_they_come_as_they_were_sent(self, journal: Journal, broker: RedisBroker) -> None:
        written = await append(broker, OPEN, *ticks(1, 6, size=3))
        assert [Packed.of(one) for one in written] == [one async for one in journal.after(START)]

    async def test_what_is_appended_while_it_reads_comes_too(
        self, journal: Journal, broker: RedisBroker
    ) -> None:
        await append(broker, OPEN, *ticks(1, 2 * FIRST_PAGE))
        found: list[Position] = []
        async for one in journal.after(START):
            if not found:
                await append(broker, *ticks(2 * FIRST_PAGE + 1, 100))
            found.append(one.position)
        assert found == [at(f"7-{number}") for number in range(101)]

    async def test_one_that_cannot_be_read_follows_nothing(
        self, journal: Journal, broker: RedisBroker, one: Server
    ) -> None:
        """So it makes a hole before itself, and none after."""
        await append(broker, OPEN, *ticks(1, 2))
        await put(one, *ticks(3, 3), text=b"not an entry")
        await one.ask("XADD", Link.key("journal"), "7-4", "something", "else")
        odd = [one async for one in journal.after(at("7-1"))]
        assert [(one.previous, one.position) for one in odd] == [
            (at("7-1"), at("7-2")),
            (at("7-3"), at("7-3")),
            (at("7-4"), at("7-4")),
        ]


class TestReach:
    async def test_the_end_is_the_last_position(
        self, journal: Journal, broker: RedisBroker
    ) -> None:
        await append(broker, OPEN)
        assert at("7-0") == await journal.end()
        await append(broker, *ticks(1, 9, size=3))
        assert at("7-9") == await journal.end()

    async def test_a_journal_that_lost_nothing_holds_everything_after_the_start(
        self, journal: Journal, broker: RedisBroker
    ) -> None:
        await append(broker, OPEN, *ticks(1, 9))
        assert await journal.floor() == START

    async def test_after_trimming_it_holds_everything_after_its_floor(
        self, journal: Journal, link: Link
    ) -> None:
        await append(broker_on(link, keep=10), OPEN, *ticks(1, 60, size=3))
        assert at("7-48") == await journal.floor()
        assert (await positions(journal, "7-48"))[0] == "7-51"

    async def test_the_floor_of_one_that_was_lost_is_what_its_opening_follows(
        self, journal: Journal, broker: RedisBroker
    ) -> None:
        await append(broker, entry("7-50", opens="8-0"))
        assert at("7-50") == await journal.floor()


class TestSnapshots:
    async def test_they_come_with_how_far_they_reach(
        self, journal: Journal, broker: RedisBroker
    ) -> None:
        await append(broker, OPEN, *ticks(1, 5))
        saved = {made(BTC, "7-5").raw, made(ETH, "7-3").raw}
        await broker.save(at("7-5"), [made(BTC, "7-5"), made(ETH, "7-3")], [])
        found = await journal.snapshots()
        assert found.watermark == at("7-5")
        assert saved == {one.raw for one in found.envelopes}

    @pytest.mark.parametrize(
        "text",
        [
            b"",
            b"not JSON",
            b"{}",
            b"[1]",
            made(BTC, "7-5").raw.replace(b"7-5", b"7"),
            made(BTC, "7-5").raw.replace(b"ticker:BTC_USDT", b"nothing"),
            made(BTC, "7-5").raw.replace(b'"ticker:BTC_USDT"', b"5"),
        ],
    )
    async def test_garbage_among_them_is_unreadable(
        self, journal: Journal, one: Server, text: bytes
    ) -> None:
        await one.ask("HSET", Link.key("snapshots"), BTC, text, "watermark", "7-5")
        with pytest.raises(Unreadable):
            await journal.snapshots()


class TestNotices:
    async def test_the_last_of_each_sender_is_kept(
        self, journal: Journal, broker: RedisBroker
    ) -> None:
        wishes = [Wish(name, frozenset({Channel.parse("trade:*")})) for name in ("a", "b c", "")]
        told: list[Notice] = [Wish("a", frozenset()), Health(7, 0.5, "down", 0.0), HEALTH, *wishes]
        for one in told:
            await broker.tell(one)
        found = await journal.notices()
        assert len(found) == 4
        assert all(one in found for one in [HEALTH, *wishes])

    async def test_a_health_is_kept_no_longer_than_it_holds(
        self, journal: Journal, link: Link, one: Server
    ) -> None:
        await broker_on(link, health_ttl=30.0).tell(HEALTH)
        assert 25_000 < await one.ask("PTTL", Link.key("health")) <= 30_000

    @pytest.mark.parametrize("text", [b"", b"not JSON", b"1 {}", b'1 {"process":"x"}'])
    async def test_one_that_cannot_be_read_hides_no_other(
        self, journal: Journal, broker: RedisBroker, one: Server, text: bytes
    ) -> None:
        await one.ask("HSET", Link.key("wishes"), "x", text)
        wish = Wish("a", frozenset({Channel.parse("trade:*")}))
        await append(broker, OPEN)
        await broker.tell(HEALTH)
        # past the script, whose ways with garbage are test_scripts's
        await one.ask("HSET", Link.key("wishes"), "a", b"1 " + dump_notice(wish))
        assert await journal.notices() == [HEALTH, wish]


READS: dict[str, Callable[[Journal], object]] = {
    "after": lambda journal: anext(journal.after(START)),
    "floor": Journal.floor,
    "end": Journal.end,
    "snapshots": Journal.snapshots,
    "notices": Journal.notices,
}


@pytest.mark.parametrize("read", READS)
async def test_while_redis_is_away_there_is_no_answer(one: Server, read: str) -> None:
    async with linked(one.url) as link:
        await one.kill()
        with pytest.raises(BrokerUnavailable):
            await READS[read](Journal(link))  # type: ignore[misc] # each gives an awaitable
