"""What only the broker inside a process has; its promises are in tests/contract."""

import pytest

from app.bus.broker import Snapshots
from app.bus.memory import HOT, MemoryBroker
from app.domain.event import Entry
from tests.given import at, entry, made


async def test_listeners_that_went_are_forgotten() -> None:
    broker = MemoryBroker(10)
    async with broker.listen() as listening:
        await anext(listening)
        assert len(broker._listeners) == 1
    assert len(broker._listeners) == 0


async def test_the_same_entry_object_reaches_every_listener() -> None:
    """Decoded once, encoded once: nothing is copied inside a process."""
    broker = MemoryBroker(10)
    opened, ticked = entry(None, opens="7-0"), entry("7-0", made("ticker:BTC_USDT", "7-1"))
    async with broker.listen() as one, broker.listen() as other:
        assert Snapshots(None, ()) == await anext(one)
        assert Snapshots(None, ()) == await anext(other)
        await broker.append(opened)
        await broker.append(ticked)
        assert [opened, ticked] == [await anext(one), await anext(one)]
        await anext(other)
        assert ticked is await anext(other)


@pytest.mark.parametrize(
    ("keep", "size", "hot", "cold"),
    [(10, 1, 10, 0), (HOT + 100, 1, HOT, 100), (HOT + 100, HOT + 1, 1, 1), (1, HOT + 1, 1, 0)],
)
async def test_the_journal_holds_no_more_entries_than_it_must(
    keep: int, size: int, hot: int, cold: int
) -> None:
    broker = MemoryBroker(keep)
    await broker.append(entry(None, opens="7-0"))
    event = made("ticker:BTC_USDT", "7-1")
    for number in range(4 * HOT):
        position = at(f"7-{(number + 1) * size}")
        await broker.append(Entry(broker._last, position, (event,) * size))
    assert (hot, cold) == (len(broker._hot), len(broker._cold))
    assert broker._hot_events == hot * size
    assert str(broker._floor) == f"7-{(4 * HOT - hot - cold) * size}"
