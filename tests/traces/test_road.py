"""A frame's way as spans, in the process that leads and in those that hear it."""

import time
from collections.abc import Iterable

import pytest

from app.bus.broker import Broker, Heard, Wish
from app.bus.memory import MemoryBroker
from app.domain.event import Entry
from app.domain.position import START, Position
from app.domain.sequencer import Sequencer
from app.domain.store import Store
from app.errors import BrokerUnavailable
from app.hub.collector import Collector
from app.hub.groups import Groups
from app.telemetry import Metrics
from tests import given
from tests.traces.seen import Seen, child, place, told


class Process(Seen):
    """A process on a broker that it may share with others."""

    def __init__(self, broker: Broker) -> None:
        super().__init__()
        self._groups = Groups()
        self.collector = Collector(self._groups, Metrics(), on_written=lambda: None)
        self.broker = self.traces.along(broker, self.collector)

    def delivered(self, after: Position, until: Position) -> None:
        assert self.collector.told is not None
        self.collector.told(after, until, 3, 0.001)


async def heard(broker: Broker, wanted: int) -> list[Heard]:
    """What a process hears, taken in one by one."""
    found: list[Heard] = []
    async with broker.listen() as road:
        async for one in road:
            found.append(one)
            if sum(isinstance(one, Entry) for one in found) > wanted:
                return found
    raise AssertionError


class Leader:
    def __init__(self) -> None:
        self._sequencer = Sequencer(7, Store())
        self.opening = self._sequencer.open()

    def entry(self, *prices: str) -> Entry:
        now = time.time()
        events = [given.price("BTC_USDT", text, received=now) for text in prices]
        made = self._sequencer.sequence(events)
        assert made is not None
        return made


async def appended(broker: Broker, entries: Iterable[Entry]) -> None:
    for entry in entries:
        await broker.append(entry)


async def test_an_entry_is_one_trace_in_all_processes() -> None:
    shared = MemoryBroker(1000)
    one, other = Process(shared), Process(shared)
    leader = Leader()
    entry = leader.entry("1", "2")
    await appended(one.broker, [leader.opening, entry, leader.entry("3")])
    for process in (one, other):
        await heard(process.broker, 2)
        process.delivered(START, entry.position)
    frame = one.spans("frame")[0]
    assert told(frame) == {
        "sluice.position": "7-2",
        "sluice.events": 2,
        "sluice.kinds": ("lastprice",),
    }
    assert frame.parent is None
    sequence, append = one.spans("sequence")[0], one.spans("append")[0]
    assert child(sequence, frame)
    assert child(append, frame)
    assert (frame.start_time, frame.end_time) == (sequence.start_time, append.end_time)
    assert sequence.end_time == append.start_time
    assert other.spans("frame", "sequence", "append") == []
    for process in (one, other):
        hear, deliver = process.spans("hear")[0], process.one("deliver")
        assert child(hear, append)
        assert child(deliver, hear)
        assert told(hear)["sluice.position"] == told(deliver)["sluice.position"] == "7-2"
        assert told(deliver)["sluice.deliveries"] == 3
        assert place(deliver).trace_id == place(frame).trace_id
        assert not deliver.links


async def test_what_goes_out_in_one_write_is_linked() -> None:
    process, leader = Process(MemoryBroker(1000)), Leader()
    entries = [leader.entry(str(number)) for number in range(4)]
    await appended(process.broker, [leader.opening, *entries, leader.entry("9")])
    await heard(process.broker, 5)
    process.delivered(entries[0].position, entries[2].position)
    hear = process.spans("hear")
    one, other = process.spans("deliver")
    assert [told(span)["sluice.position"] for span in (one, other)] == ["7-2", "7-3"]
    assert child(one, hear[1])
    assert child(other, hear[2])
    assert [link.context for link in one.links] == [place(hear[2])]
    assert [link.context for link in other.links] == [place(hear[1])]
    process.delivered(entries[2].position, entries[3].position)
    assert told(process.spans("deliver")[-1])["sluice.position"] == "7-4"


async def test_every_process_takes_the_same_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_traceidratio")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", "0.3")
    shared = MemoryBroker(1000)
    one, other = Process(shared), Process(shared)
    leader = Leader()
    entries = [leader.entry(str(number)) for number in range(300)]
    await appended(one.broker, [leader.opening, *entries])
    for process in (one, other):
        await heard(process.broker, 300)
    sampled = [told(span)["sluice.position"] for span in one.spans("frame")]
    assert 50 < len(sampled) < 130
    for process in (one, other):
        # the last is not asked on from
        assert [told(span)["sluice.position"] for span in process.spans("hear")] in (
            sampled,
            sampled[:-1],
        )


async def test_none_is_sampled_where_none_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_off")
    process, leader = Process(MemoryBroker(1000)), Leader()
    await appended(process.broker, [leader.opening, leader.entry("1"), leader.entry("2")])
    await heard(process.broker, 2)
    process.delivered(START, given.at("7-9"))
    assert process.spans() == []


class Failing(MemoryBroker):
    """Takes nothing twice."""

    left = 2

    async def append(self, entry: Entry) -> None:
        if self.left and entry.envelopes:
            self.left -= 1
            raise BrokerUnavailable("not now")
        await super().append(entry)


async def test_an_append_that_is_tried_again_is_one_span() -> None:
    process, leader = Process(Failing(1000)), Leader()
    entry = leader.entry("1")
    await process.broker.append(leader.opening)
    for _ in range(2):
        with pytest.raises(BrokerUnavailable):
            await process.broker.append(entry)
    assert process.spans() == []
    between = time.time_ns()
    await process.broker.append(entry)
    append = process.one("append")
    assert append.start_time is not None
    assert append.start_time < between, "from the first attempt on"


async def test_what_nobody_follows_is_not_kept() -> None:
    process, leader = Process(MemoryBroker(1000)), Leader()
    entries = [leader.entry(str(number)) for number in range(200)]
    await appended(process.broker, [leader.opening, *entries])
    await heard(process.broker, 200)
    process.delivered(START, entries[-1].position)
    assert 0 < len(process.spans("deliver")) <= 64


async def test_all_else_is_the_brokers() -> None:
    process, leader = Process(MemoryBroker(1000)), Leader()
    entry = leader.entry("1")
    await appended(process.broker, [leader.opening, entry])
    await process.broker.save(entry.position, entry.envelopes, ())
    await process.broker.tell(Wish("other", frozenset()))
    assert await process.broker.history(leader.opening.position) == [entry]
    found = await heard(process.broker, -1)
    assert found, "the snapshots, and what follows"
