from typing import Any

import msgspec
import pytest

from app.glance.figures import Look, Row, Status, by_kind, rates, stalest, totals
from tests.glance.given import STATUS, row


def look(at: float, process: str = "one", **counters: float) -> Look:
    status = msgspec.convert(STATUS | {"process": process}, Status)
    return Look(at, status, counters={f"sluice_{name}_total": n for name, n in counters.items()})


def test_a_rate_is_what_came_between_two_looks() -> None:
    before, now = look(10, events=100, deliveries=5), look(12, events=150, deliveries=5)
    assert rates(before, now) == {"events": 25.0, "deliveries": 0.0, "requests": None}


def test_workers_add_up_but_for_events_which_each_of_them_counts() -> None:
    told = [
        (f"sluice_{name}_total", {"kind": kind, "worker": worker}, value)
        for name in ("events", "deliveries")
        for worker, value in (("0", 5.0), ("1", 7.0))
        for kind in ("ticker", "trade")
    ]
    assert totals(told) == {"sluice_events_total": 14, "sluice_deliveries_total": 24}
    alone: list[tuple[str, dict[str, str], float]] = [(name, {}, n) for name, _, n in told[:2]]
    assert totals(alone) == {"sluice_events_total": 10}


NOBODY = Look.of_nobody("away")


@pytest.mark.parametrize(
    ("before", "now"),
    [
        (None, look(2, events=1)),
        (NOBODY, look(2, events=1)),
        (look(1, events=1), NOBODY),
        (look(2, events=1), look(2, events=1)),
        (look(1, process="another", events=9), look(2, events=1)),
    ],
)
def test_no_rate_is_told_where_none_can_be(before: Look | None, now: Look) -> None:
    assert set(rates(before, now).values()) == {None}


EARLY, LATE = 1750952900.0, 1750953000.0


@pytest.mark.parametrize(
    ("before", "now"),
    [
        pytest.param([(9, EARLY), (9, EARLY)], [(9, EARLY), (1, LATE)], id="started anew"),
        pytest.param([(9, EARLY), (1, EARLY)], [(20, EARLY), (0, LATE)], id="after it told little"),
        pytest.param([(9, EARLY), (9, EARLY)], [(9, EARLY)], id="did not answer"),
        pytest.param([(9, EARLY)], [(9, EARLY), (9, EARLY)], id="answers again"),
    ],
)
def test_no_rate_is_told_where_not_the_same_workers_answered(
    before: list[tuple[int, float]], now: list[tuple[int, float]]
) -> None:
    """Each has told its events and when it started; the counters are sums over all of them."""
    first, second = (
        Look(
            at,
            msgspec.convert(STATUS, Status),
            counters={
                "sluice_events_total": sum(events for events, _ in workers),
                "process_start_time_seconds": sum(started for _, started in workers),
            },
        )
        for at, workers in enumerate((before, now))
    )
    assert rates(first, second)["events"] is None


def rows(*told: dict[str, Any]) -> list[Row]:
    return [msgspec.convert(one, Row) for one in told]


def test_a_kind_is_as_fresh_as_its_newest_state() -> None:
    told = rows(
        row("depth:BTC_USDT:0", live=False, known=0, stale=0, age=None),
        row("depth:ETH_USDT:0", age=3.0, stale=1),
        row("depth:TRX_USDT:0", age=1.5),
        row("ticker:*", known=7, age=None),
    )
    book, ticker = by_kind(told)
    assert (book.kind, book.live, book.followed, book.known) == ("depth", 2, 3, 2)
    assert (book.stale, book.age) == (1, 1.5)
    assert (ticker.known, ticker.age) == (7, None)


def test_the_stalest_come_first() -> None:
    told = rows(
        row("ticker:A", age=1.0),
        row("ticker:B", age=60.0),
        row("ticker:C", live=False, since=200.0),
        row("ticker:D", live=False, since=100.0),
        row("ticker:E", age=None),
    )
    assert [one.channel[-1] for one in stalest(told)] == ["D", "C", "E", "B", "A"]
