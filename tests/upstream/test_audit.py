import asyncio
from collections.abc import Iterable

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.channel import Channel, depth
from app.telemetry import Metrics
from app.upstream.audit import (
    BAD_IN_A_ROW,
    LEVELS,
    RESYNC_PAUSE,
    Audit,
    Record,
    Sides,
    matching_share,
)
from app.upstream.rest import Rest, RestOptions

BOOK = depth("BTC_USDT", 0)
GOOD_BOOK: Sides = ([("2.0", "1"), ("2.1", "1")], [("1.9", "1"), ("1.8", "1")])
WRONG_BOOK: Sides = ([("9.0", "1")], [("8.9", "1")])


def test_the_share_compares_numbers_and_not_text() -> None:
    ours: Sides = ([("2", "1.0")], [("1.90", "3")])
    assert matching_share(ours, ([("2.00", "1")], [("1.9", "3.000")])) == 1.0


def test_the_share_counts_what_either_side_lacks() -> None:
    ours: Sides = ([("2", "1"), ("3", "1")], [])
    assert matching_share(ours, ([("2", "1")], [])) == 0.5
    assert matching_share(([("2", "1")], []), ours) == 0.5
    assert matching_share(([("2", "1")], []), ([("2", "2")], [])) == 0.0
    assert matching_share(([], []), ([], [])) == 1.0


def test_only_the_top_counts() -> None:
    asks = [(str(price), "1") for price in range(100, 200)]
    assert matching_share((asks, []), (asks[:20], [])) == 1.0


SIDE = st.lists(st.tuples(st.sampled_from("12345"), st.sampled_from("12")), max_size=30)


@given(SIDE, SIDE, SIDE, SIDE)
def test_a_share_is_a_share_and_symmetric(
    a: list[tuple[str, str]],
    b: list[tuple[str, str]],
    c: list[tuple[str, str]],
    d: list[tuple[str, str]],
) -> None:
    share = matching_share((a, b), (c, d))
    assert 0.0 <= share <= 1.0
    assert share == matching_share((c, d), (a, b))
    assert matching_share((a, b), (a, b)) == 1.0


def test_no_audit_counts_before_some_level_has_matched_well() -> None:
    record = Record(level=4)
    assert [record.judge(0.0, 1.0) for _ in range(5)] == ["untrusted"] * 5
    assert record.level == (4 + 5) % LEVELS
    assert record.judge(0.9, 1.0) == "match"
    assert record.judge(0.1, 1.0) == "mismatch"
    assert record.level == (4 + 5) % LEVELS


def test_a_book_is_resynced_after_some_bad_audits_in_a_row_and_not_soon_again() -> None:
    record = Record(level=0, trusted=True)
    assert [record.judge(0.2, 1.0), record.judge(0.2, 2.0)] == ["mismatch", "mismatch"]
    assert record.judge(0.6, 3.0) == "match"
    verdicts = [record.judge(0.2, 4.0) for _ in range(BAD_IN_A_ROW)]
    assert verdicts == ["mismatch", "mismatch", "resync"]
    assert {record.judge(0.2, 100.0) for _ in range(10)} == {"mismatch"}
    assert record.judge(0.2, 4.0 + RESYNC_PAUSE) == "resync"


class Followed:
    """A pool that follows some books, and the resyncs asked of it."""

    def __init__(self, *channels: Channel) -> None:
        self.channels = list(channels)
        self.resynced: list[tuple[Channel, str]] = []

    def following(self) -> Iterable[Channel]:
        return self.channels

    def resync(self, channel: Channel, reason: str) -> None:
        self.resynced.append((channel, reason))


def page(sides: Sides) -> dict[str, object]:
    asks, bids = ([{"price": p, "quantity": q} for p, q in side] for side in sides)
    return {"result": {"timestamp": "1", "asks": asks, "bids": bids}}


class Auditing:
    """An audit with the exchange's answers and our books in plain sight."""

    def __init__(self) -> None:
        self.theirs: Sides | None = GOOD_BOOK
        self.ours: list[Sides | None] = [GOOD_BOOK]
        self.asked: list[str] = []
        self.metrics = Metrics()
        client = httpx.AsyncClient(transport=httpx.MockTransport(self._answer))
        rest = Rest(client, RestOptions("https://api", "https://m", "https://s"), None)
        self.audit = Audit(rest, self.metrics, interval=2.0)

    def _answer(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(str(request.url))
        if self.theirs is None:
            return httpx.Response(500)
        return httpx.Response(200, json=page(self.theirs))

    def top(self, _channel: Channel, levels: int) -> Sides | None:
        assert levels == 20
        return self.ours.pop(0) if len(self.ours) > 1 else self.ours[0]

    def outcomes(self, outcome: str) -> float:
        value = self.metrics.registry.get_sample_value(
            "sluice_book_audits_total", {"outcome": outcome}
        )
        return value or 0.0


async def test_a_book_that_is_not_known_is_not_audited() -> None:
    auditing = Auditing()
    auditing.ours = [None]
    await auditing.audit.audit(BOOK, Followed(BOOK), auditing.top)
    assert auditing.asked == []


async def test_a_match_is_told_as_a_share() -> None:
    auditing = Auditing()
    await auditing.audit.audit(depth("BTC_USDT", 2), Followed(), auditing.top)
    assert auditing.asked == ["https://api/v1/exchange/market/order-book/BTC_USDT?level=2"]
    assert auditing.audit.shares() == {depth("BTC_USDT", 2): 1.0}
    assert auditing.outcomes("match") == 1


async def test_the_better_of_before_and_after_counts() -> None:
    auditing = Auditing()
    auditing.ours = [WRONG_BOOK, GOOD_BOOK]
    await auditing.audit.audit(BOOK, Followed(), auditing.top)
    auditing.ours = [GOOD_BOOK, None]
    await auditing.audit.audit(BOOK, Followed(), auditing.top)
    assert auditing.outcomes("match") == 2


async def test_a_host_that_is_away_is_no_verdict() -> None:
    auditing = Auditing()
    auditing.theirs = None
    await auditing.audit.audit(BOOK, Followed(), auditing.top)
    assert auditing.outcomes("unavailable") == 1
    assert auditing.audit.shares() == {}


async def test_a_bad_book_is_resynced_once_the_level_is_trusted() -> None:
    auditing, pool = Auditing(), Followed(BOOK)
    auditing.ours = [WRONG_BOOK]
    for _ in range(5):
        await auditing.audit.audit(BOOK, pool, auditing.top)
    assert pool.resynced == []
    auditing.ours = [GOOD_BOOK]
    await auditing.audit.audit(BOOK, pool, auditing.top)
    auditing.ours = [WRONG_BOOK]
    for _ in range(5):
        await auditing.audit.audit(BOOK, pool, auditing.top)
    assert pool.resynced == [(BOOK, "audit")]
    assert auditing.audit.shares() == {BOOK: 0.0}


@pytest.mark.looptime
async def test_followed_books_are_audited_in_turn_and_forgotten_afterwards() -> None:
    auditing = Auditing()
    pool = Followed(BOOK, depth("ETH_USDT", 0), Channel.parse("ticker:*"))
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(auditing.audit.run(pool, auditing.top))
        await asyncio.sleep(9)
        assert len(auditing.asked) == 4
        assert set(auditing.audit.shares()) == {BOOK, depth("ETH_USDT", 0)}
        pool.channels = [BOOK]
        await asyncio.sleep(2)
        assert set(auditing.audit.shares()) == {BOOK}
        pool.channels = []
        await asyncio.sleep(4)
        assert auditing.audit.shares() == {}
        running.cancel()
