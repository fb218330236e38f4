"""The hub under any sequence of events, clients, stalls, drains and reloads.

Each client checks what the contract promises (Streams) on every block that is written to it, and
rebuilds the state on its own; the log of everything published is the judge.
"""

import json
from bisect import bisect_right
from collections.abc import Callable, Iterable
from typing import Any

from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from app.domain.channel import Channel, Kind
from app.domain.event import Entry, Envelope
from app.domain.position import Position
from app.domain.sequencer import Sequencer
from app.domain.store import Store
from app.hub.collector import REST
from app.hub.hub import Hub, HubOptions
from app.hub.subscription import SLICE, Subscription
from app.telemetry import Metrics
from tests.fakes.clock import StillLoop
from tests.fakes.outlet import FakeOutlet
from tests.oracle.client import Client, Place, place, view_of_snapshot
from tests.oracle.sse import Block, Dechunker, Reader
from tests.property.market import CHANNELS, FACTS, Exchange, Fact

HISTORY = 16
LIFETIME = 400.0
LIFETIMES_END_FROM = 1000.0 + 0.8 * LIFETIME
SLACK = 16 * 1024
"""Bytes of one turn, one snapshot, and control blocks."""

PACES = st.sampled_from([0.0, 0.0005, 0.05])
"""Seconds that a write takes."""

TRADES = Channel(Kind.TRADE, "*")
WANTS = st.one_of(
    st.just({TRADES}),
    st.sets(st.sampled_from(CHANNELS), min_size=1, max_size=4),
    st.sampled_from(CHANNELS).map(lambda channel: {channel.everything}),
    st.sampled_from(CHANNELS).map(lambda channel: {channel.everything, channel}),
    st.just({TRADES, CHANNELS[0].everything, CHANNELS[6], CHANNELS[7]}),
)


class Log:
    """Every envelope ever published, in order, heard by the hub's process or not."""

    def __init__(self) -> None:
        self.places: list[Place] = []
        self.envelopes: list[dict[str, Any]] = []
        self.raws: set[str] = set()

    def add(self, envelopes: Iterable[Envelope]) -> None:
        for one in envelopes:
            envelope = json.loads(one.raw)
            self.places.append(place(envelope["position"]))
            self.envelopes.append(envelope)
            self.raws.add(one.raw.decode())

    def up_to(self, at: Place) -> list[dict[str, Any]]:
        return self.envelopes[: bisect_right(self.places, at)]

    def after(self, at: Place) -> list[dict[str, Any]]:
        return self.envelopes[bisect_right(self.places, at) :]


class Watcher(FakeOutlet):
    """A client with its own idea of the state; judges each block as it is written."""

    def __init__(
        self,
        log: Log,
        channels: frozenset[Channel],
        clock: Callable[[], float],
        work: Callable[[], None],
        *,
        after: Place | None,
        framed: bool = False,
        high: int = 10**9,
    ) -> None:
        super().__init__(framed=framed, high=high)
        self.high = high
        self._clock = clock
        self._work = work
        self.channels = channels
        self.log = log
        self.state = Client()
        self.after = after
        self.last = after or (0, 0)
        self._told = (0, 0)
        self.subscription: Subscription | None = None
        self.seen: list[str] = []
        self.resets: list[str] = []
        self.goodbye: str | None = None
        self.was_live = False
        self.idle_since = 0.0
        self._run: Place | None = None
        self._first = True
        self._written = Reader()
        self._unchunk = Dechunker()

    def _recall(self) -> None:
        """A client that resumes holds the state at its position already."""
        for envelope in [] if self.after is None else self.log.up_to(self.after):
            if self.follows(envelope["channel"]):
                self.state.take(envelope)

    def follows(self, name: str) -> bool:
        return any(channel.covers(Channel.parse(name)) for channel in self.channels)

    def write(self, data: bytes) -> None:
        self.was_live = self.was_live or (self.subscription is not None and self.subscription.live)
        if not self.aborts:
            for block in self._written.feed(self._unchunk.feed(data) if self.framed else data):
                self.judge(block)
        if not self.backlog():
            self.idle_since = self._clock()
        self._work()
        super().write(data)

    def judge(self, block: Block) -> None:
        assert self.goodbye is None, "something after the bye"
        assert block.retry == 2000 or not self._first, "the first block is the status"
        if block.event == "gateway":
            self._control(block)
        else:
            self._event(block)
        self._first = False

    def _control(self, block: Block) -> None:
        said = block.json()
        assert block.id is None
        assert said["type"] in {"status", "reset", "bye"}
        assert said["type"] == "status" or not self._first
        if said["type"] == "reset":
            self.resets.append(said["reason"])
            self.last = self._told
            self.state.reset()
            self.was_live, self._run = False, None
        elif said["type"] == "bye":
            self.goodbye = said["reason"]

    def _event(self, block: Block) -> None:
        envelope = block.json()
        at = place(envelope["position"])
        assert self.follows(envelope["channel"])
        if not self.seen and not self.resets:
            self._recall()
        assert block.event == envelope["channel"].partition(":")[0]
        if envelope["type"] == "update" and envelope["channel"] in self.state.at:
            assert at > self.state.at[envelope["channel"]], "an event came twice"
        self.state.take(envelope)
        self.seen.append(envelope["position"])
        if self._run is not None:
            assert envelope["type"] == "snapshot", "an update in the middle of a run"
            assert at > self._run, "a run is not in the order of its positions"
        if self.was_live and self.each_counts:
            assert block.data in self.log.raws, "it missed an event that counts"
        if block.id is None:
            assert envelope["type"] == "snapshot", "an update without an id"
            self._run = at
            return
        assert block.id == envelope["position"]
        assert at >= self.last, "the ids went down"
        self.last = self._told = at
        self._run = None
        self._covers(at)

    def _covers(self, at: Place) -> None:
        """An id never covers what was not sent yet."""
        for envelope in self.log.up_to(at):
            name = envelope["channel"]
            if self.follows(name):
                assert self.state.at[name] >= place(envelope["position"]), f"{name} is missing"

    @property
    def each_counts(self) -> bool:
        return any(channel.kind == "trade" for channel in self.channels)


class HubMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.loop = StillLoop()
        self.busy = 0.0
        self.log = Log()
        self.exchange = Exchange()
        self.watchers: list[Watcher] = []
        options = HubOptions(history=HISTORY, heartbeat=5.0, lifetime=LIFETIME)
        self.store = Store()
        self.hub = self.loop.do(lambda: Hub(self.store, options, Metrics()))
        self.looking = self.loop.create_task(self.hub.stalls.run())
        self.epoch = 6
        self.head: Position | None = None
        self._lead()
        self.loop.do(lambda: self.hub.reload(None))
        self._deliver(self.sequencer.open())

    def _work(self) -> None:
        self.loop.now += self.busy

    def _lead(self) -> None:
        self.epoch += 1
        self.leader = Store()
        self.leader.reload(self.store.head, [state.snapshot() for state in self.store])
        self.sequencer = Sequencer(self.epoch, self.leader, previous=self.head)

    def _deliver(self, entry: Entry) -> None:
        self.log.add(entry.envelopes)
        self.head = entry.position

        def hear() -> None:
            for one in entry.envelopes:
                self.store.apply(one)
            self.hub.publish(entry)

        self.loop.do(hear)

    def _drop(self, watcher: Watcher) -> None:
        self.watchers.remove(watcher)
        self.loop.do(watcher.owner.gone)

    @rule(turns=st.lists(st.lists(FACTS, min_size=1, max_size=4), min_size=1, max_size=6))
    def publish(self, turns: list[list[Fact]]) -> None:
        for facts in turns:
            entry = self.sequencer.sequence([self.exchange.event(fact) for fact in facts])
            if entry is not None:
                self._deliver(entry)

    @rule(number=st.integers(1, 2 * HISTORY), channel=st.sampled_from([*CHANNELS, None]))
    def flood(self, number: int, channel: Channel | None) -> None:
        """Many turns while nobody reads: on one channel, or on all of them."""
        for turn in range(number):
            one = channel or CHANNELS[turn % len(CHANNELS)]
            sides = [("100", str(turn + 1))], [("99", "1")]
            entry = self.sequencer.sequence(
                [self.exchange.event(Fact(one, False, turn % 5 == 0, *sides))]
            )
            if entry is not None:
                self._deliver(entry)

    @rule(facts=st.none() | st.lists(FACTS, max_size=6))
    def have_bad_luck(self, facts: list[Fact] | None) -> None:
        """The leader changes, or the process falls behind."""
        if facts is not None:
            self._fall_behind(facts)
            return
        self._lead()
        self._deliver(self.sequencer.open())

    def _fall_behind(self, facts: list[Fact]) -> None:
        """The process misses some entries and is told the snapshots anew."""
        entry = self.sequencer.sequence([self.exchange.event(fact) for fact in facts])
        self.head = self.head if entry is None else entry.position
        head = self.head
        assert head is not None
        known = {state.channel: state.snapshot() for state in self.store}
        known |= {
            state.channel: state.snapshot()
            for state in self.leader
            if state.channel not in known or state.position > known[state.channel].position
        }
        missed = [] if entry is None else entry.envelopes
        # a book that crossed right after is in no snapshot: nobody will ever hear of it
        self.log.add(one for one in missed if self._told(one, known.get(one.channel)))

        def reload() -> None:
            self.store.reload(head, known.values())
            self.hub.reload(head)

        self.loop.do(reload)

    def _watcher(self, channels: Iterable[Channel], **options: Any) -> Watcher:
        return Watcher(self.log, frozenset(channels), self.loop.time, self._work, **options)

    @staticmethod
    def _told(missed: Envelope, known: Envelope | None) -> bool:
        return known is not None and missed.position <= known.position

    def _join(self, watcher: Watcher, after: str | None) -> None:
        watcher.subscription = self.loop.do(lambda: self.hub.join(watcher.channels, watcher, after))
        self.watchers.append(watcher)

    @precondition(lambda self: len(self.watchers) < 6)
    @rule(
        channels=WANTS,
        framed=st.booleans(),
        high=st.sampled_from([10, 400, 10**9]),
        after=st.none() | st.integers(1, HISTORY + 4),
        reads=st.booleans(),
    )
    def join(
        self, channels: set[Channel], *, framed: bool, high: int, after: int | None, reads: bool
    ) -> None:
        """Anew, or after an event of some time ago."""
        known = None
        if after is not None and self.log.places:
            known = self.log.places[-min(after, len(self.log.places))]
        watcher = self._watcher(channels, after=known, framed=framed, high=high)
        self._join(watcher, None if known is None else f"{known[0]}-{known[1]}")
        if reads:
            self._drain()

    @precondition(lambda self: len(self.watchers) < 6)
    @rule(channels=WANTS, after=st.sampled_from(["", "x", "7", "99-1", "above", "hole"]))
    def join_with_what_nobody_knows(self, channels: set[Channel], after: str) -> None:
        if after in {"above", "hole"} and self.head is not None:
            step = 2 if after == "above" else 1000
            after = f"{self.head.epoch}-{self.head.sequence + step}"
        claimed = place(after) if "-" in after else None
        self._join(self._watcher(channels, after=claimed), after)

    @precondition(lambda self: self.watchers)
    @rule(data=st.data(), size=st.one_of(st.none(), st.integers(1, 400)))
    def read(self, data: st.DataObject, size: int | None) -> None:
        watcher = data.draw(st.sampled_from(self.watchers))
        if watcher.backlog():
            watcher.idle_since = self.loop.now
            self.loop.do(lambda: watcher.take(size))

    @precondition(lambda self: self.watchers)
    @rule(data=st.data())
    def reconnect(self, data: st.DataObject) -> None:
        """Where it is cut, it resumes by the last id that reached it."""
        watcher = data.draw(st.sampled_from(self.watchers))
        last = watcher.reader.last_event_id
        self._drop(watcher)
        again = self._watcher(
            watcher.channels,
            after=place(last) if last else None,
            framed=watcher.framed,
            high=watcher.high,
        )
        self._join(again, last)

    @rule(seconds=st.integers(0, 20), status=st.sampled_from(["live", "degraded", "down"]))
    def wait(self, seconds: int, status: Any) -> None:
        self.loop.do(lambda: self.hub.report(None, status, self.loop.now))
        for _ in range(seconds):
            self.loop.now += 1
            self.loop.settle(3)
            self.loop.do(self.hub.tick)
            for watcher in self.watchers:
                stalled = self.loop.now - watcher.idle_since
                if watcher.backlog():
                    assert watcher.gone or stalled <= 15, "a stalled client is not aborted"
                if watcher.aborts and self.loop.now < LIFETIMES_END_FROM:
                    assert stalled >= 12, "a client was aborted too early"

    @initialize(seconds=PACES)
    def begin(self, seconds: float) -> None:
        self.busy = seconds

    @rule(seconds=PACES)
    def write_slowly(self, seconds: float) -> None:
        """Each write takes a while from here on, so that the hub collects."""
        self.busy = seconds

    @rule(reads=st.booleans())
    def settle(self, *, reads: bool) -> None:
        if reads:
            self._drain()
        self.loop.settle()

    @invariant()
    def nobody_s_memory_grows(self) -> None:
        for watcher in self.watchers:
            assert watcher.high == 10**9 or watcher.most <= watcher.high + SLICE + SLACK
            assert watcher.aborts <= 1
            assert watcher.subscription is not None
            assert not (watcher.full and watcher.subscription.live), "live while it is full"

    @invariant()
    def who_is_gone_can_be_let_go(self) -> None:
        for watcher in [watcher for watcher in self.watchers if watcher.gone]:
            assert watcher.aborts or watcher.goodbye in {"slow", "lifetime"}
            if watcher.goodbye == "slow":
                assert watcher.each_counts
            self._drop(watcher)

    def teardown(self) -> None:
        try:
            self._converge()
        finally:
            for watcher in list(self.watchers):
                self._drop(watcher)
            self.looking.cancel()
            self.loop.settle()
            self.loop.close()
        assert (len(self.hub), self.hub.catching_up) == (0, 0)

    def _converge(self) -> None:
        """Once everybody has read everything, everybody holds the present state."""
        self.loop.now += 1.5
        self._drain()
        for watcher in self.watchers:
            if not watcher.gone:
                self._judge(watcher)

    def _drain(self) -> None:
        for _ in range(200):
            self.loop.now += REST
            self.loop.settle(20)
            waiting = [watcher for watcher in self.watchers if watcher.backlog()]
            for watcher in waiting:
                watcher.idle_since = self.loop.now
                self.loop.do(watcher.take)
            if not waiting:
                break

    def _judge(self, watcher: Watcher) -> None:
        assert not watcher.backlog()
        assert watcher.subscription is not None
        assert watcher.subscription.live
        if not watcher.seen and not watcher.resets:
            watcher._recall()
        for state in self.store.matching(watcher.channels):
            name, snapshot = str(state.channel), state.snapshot()
            assert watcher.state.at[name] == tuple(state.position)
            assert watcher.state.view(name) == view_of_snapshot(json.loads(snapshot.raw)["data"])
        if watcher.after is not None and not watcher.resets and watcher.high == 10**9:
            missed = self.log.after(watcher.after)
            followed = [e["position"] for e in missed if watcher.follows(e["channel"])]
            assert followed == watcher.seen, "a resume gives exactly what was missed"
        assert watcher.reader.empty_blocks == 0


TestHub = HubMachine.TestCase
TestHub.settings = settings(
    max_examples=60,
    stateful_step_count=40,
    phases=[Phase.reuse, Phase.generate],  # shrinking takes minutes: add it for a failure
)
