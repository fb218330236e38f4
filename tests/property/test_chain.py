"""Sequencer and Store against an independent model of the contract."""

import json
from dataclasses import dataclass, field
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.channel import Channel, Kind
from app.domain.event import Entry, Envelope, Event
from app.domain.position import Position
from app.domain.sequencer import Sequencer
from app.domain.store import Store
from tests.oracle.client import Client, NaiveBook, view_of_snapshot
from tests.property.market import CHANNELS, FACTS, Exchange, Fact

FORGET = st.sampled_from(CHANNELS)
TAKEOVER = st.just("takeover")
STEPS = st.lists(
    st.one_of(st.lists(FACTS, min_size=1, max_size=5), FACTS.map(lambda f: [f]), FORGET, TAKEOVER),
    max_size=30,
)


@dataclass
class Model:
    """Which events are to be published, as what, and which with a gap (contract, envelope)."""

    known: set[Channel] = field(default_factory=set)
    run: dict[Channel, int] = field(default_factory=dict)
    books: dict[Channel, NaiveBook] = field(default_factory=dict)

    def expect(self, event: Event) -> tuple[str, bool] | None:
        channel = event.channel
        unbroken = self.run.get(channel) == event.continuity
        if channel.kind is Kind.DEPTH:
            if not event.full and not unbroken:
                return None
            held = self.books.setdefault(channel, NaiveBook())
            held.reload(event.data) if event.full else held.change(event.data)
            if held.crossed:
                self.run.pop(channel, None)
                return None
        gap = channel in self.known and not unbroken
        self.known.add(channel)
        self.run[channel] = event.continuity
        return "snapshot" if event.full or not unbroken else "update", gap


@dataclass
class Deployment:
    """A leader, a replica, a client, and the model beside them."""

    exchange: Exchange = field(default_factory=Exchange)
    model: Model = field(default_factory=Model)
    replica: Store = field(default_factory=Store)
    client: Client = field(default_factory=Client)
    heard: list[Envelope] = field(default_factory=list)
    head: Position | None = None
    epoch: int = 7

    def __post_init__(self) -> None:
        self.leader = Store()
        self.sequencer = Sequencer(self.epoch, self.leader)
        self.hear(self.sequencer.open())

    def step(self, step: list[Fact] | Channel | str) -> None:
        if isinstance(step, list):
            self.publish(step)
        elif isinstance(step, Channel):
            self.sequencer.forget(step)
            self.model.run.pop(step, None)
        else:
            self.take_over()

    def take_over(self) -> None:
        self.epoch += 1
        self.leader = Store()
        self.leader.reload(self.replica.head, [state.snapshot() for state in self.replica])
        self.sequencer = Sequencer(self.epoch, self.leader, previous=self.head)
        self.model.run.clear()
        self.hear(self.sequencer.open())

    def publish(self, facts: list[Fact]) -> None:
        events = [self.exchange.event(fact) for fact in facts]
        expected = [
            (event.channel, *said)
            for event in events
            if (said := self.model.expect(event)) is not None
        ]
        entry = self.sequencer.sequence(events)
        envelopes = () if entry is None else entry.envelopes
        assert expected == [(one.channel, one.type, one.gap) for one in envelopes]
        if entry is not None:
            self.hear(entry)

    def hear(self, entry: Entry) -> None:
        assert entry.previous == self.head
        for one in entry.envelopes:
            assert self.head is None or one.position > self.head
            self.head = one.position
            assert self.replica.apply(one)
            self.client.take(json.loads(one.raw))
            self.heard.append(one)
        self.head = entry.position


def shown(store: Store) -> dict[str, Any]:
    return {str(state.channel): json.loads(state.snapshot().raw) for state in store}


@settings(max_examples=100)
@given(STEPS)
def test_a_chain_is_unbroken_and_has_gaps_exactly_where_the_contract_wants_them(
    steps: list[list[Fact] | Channel | str],
) -> None:
    deployment = Deployment()
    for step in steps:
        deployment.step(step)


@settings(max_examples=60)
@given(STEPS)
def test_leader_replica_and_client_hold_the_same_state(
    steps: list[list[Fact] | Channel | str],
) -> None:
    deployment = Deployment()
    for step in steps:
        deployment.step(step)
    replica = shown(deployment.replica)
    for channel, snapshot in replica.items():
        assert deployment.client.view(channel) == view_of_snapshot(snapshot["data"])
        state = deployment.sequencer.state(Channel.parse(channel))
        if state is not None:
            assert json.loads(state.snapshot().raw) == snapshot


@settings(max_examples=60)
@given(STEPS, st.data())
def test_repeated_and_stale_envelopes_change_nothing(
    steps: list[list[Fact] | Channel | str], data: st.DataObject
) -> None:
    deployment = Deployment()
    for step in steps:
        deployment.step(step)
    before, head = shown(deployment.replica), deployment.replica.head
    if deployment.heard:
        for one in data.draw(st.lists(st.sampled_from(deployment.heard), max_size=10)):
            assert not deployment.replica.apply(one)
    assert (before, head) == (shown(deployment.replica), deployment.replica.head)


@settings(max_examples=60)
@given(STEPS, st.integers(0, 100))
def test_a_process_that_loads_snapshots_and_the_tail_holds_the_same_state(
    steps: list[list[Fact] | Channel | str], cut: int
) -> None:
    """The tail may overlap what the snapshots contain."""
    deployment, early = Deployment(), Store()
    for number, step in enumerate(steps):
        deployment.step(step)
        if number == cut:
            early.reload(
                deployment.replica.head, [state.snapshot() for state in deployment.replica]
            )
    for one in deployment.heard:
        early.apply(one)
    assert shown(deployment.replica) == shown(early)
