"""The rolling day."""

from app.simulator.day import BUCKETS, SPAN, Day


def test_trades_count_for_one_day() -> None:
    day = Day(1000, 10, 0.0, "seed")
    day.roll(1.0)
    base, quote = day.volumes
    day.trade(5000, 3, 1.0)
    assert (day.high, day.last) == (5000, 5000)
    assert day.volumes == (base + 3, quote + 15_000)
    day.roll(SPAN * BUCKETS + 1.0)
    assert (day.open, day.high, day.low, day.volumes) == (5000, 5000, 5000, (0, 0))


def test_the_made_up_past_ends_at_the_price() -> None:
    day = Day(1000, 10, 0.0, "seed")
    assert day.low <= 1000 <= day.high
    assert day.last == 1000
    base, quote = day.volumes
    assert day.low <= quote / base <= day.high
