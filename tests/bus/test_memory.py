"""What only the broker inside a process has; its promises are in tests/contract."""

from app.bus.broker import Snapshots
from app.bus.memory import MemoryBroker
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


async def test_the_journal_holds_no_more_entries_than_it_must() -> None:
    broker = MemoryBroker(10)
    await broker.append(entry(None, opens="7-0"))
    for number in range(1, 200):
        await broker.append(entry(f"7-{number - 1}", made("ticker:BTC_USDT", f"7-{number}")))
    assert len(broker._cold) + len(broker._hot) == 10
    assert at("7-189") == broker._floor
