from dataclasses import dataclass, field
from itertools import count
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.channel import Channel, depth
from app.domain.event import Event
from app.errors import ConnectionLost
from app.telemetry import Metrics
from app.upstream.handover import SKEW, Handover
from app.upstream.session import Session, SessionOptions

TRADES = Channel.parse("trade:*")
TRADE = Channel.parse("trade:BTC_USDT")
TICKER = Channel.parse("ticker:BTC_USDT")
DEAL = Channel.parse("deal:BTC_USDT")
BOOK = depth("BTC_USDT", 0)
RUNS = count(1)


def session() -> Session:
    made = Session("x", 0.0, options=SessionOptions(), metrics=Metrics(), runs=RUNS)
    made.want(frozenset({TRADES, BOOK, TICKER, DEAL}), 0.0)
    return made


@dataclass
class Switch:
    """A handover with both its sessions, and what of it was published."""

    old: Session = field(default_factory=session)
    new: Session = field(default_factory=session)
    heard: list[Event] = field(default_factory=list)
    now: float = 100.0

    def __post_init__(self) -> None:
        self.handover = Handover(self.old, self.new)

    def trade(self, *rows: int) -> Event:
        return self.event(TRADE, {"symbol": "BTC_USDT", "trades": [row(one) for one in rows]})

    def event(self, channel: Channel, data: dict[str, Any], *, full: bool = False) -> Event:
        return Event(channel, data, 1, self.now, -1, full)

    def from_old(self, event: Event) -> None:
        stamped = stamp(event, self.old)
        self.heard += self.handover.old([stamped], self.now)

    def from_new(self, event: Event) -> None:
        stamped = stamp(event, self.new)
        self.heard += self.handover.new([stamped], self.now)

    def confirm(self) -> None:
        self.handover.confirm(self.now)

    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.heard += self.handover.settle(self.now)

    def finish(self) -> None:
        self.heard += self.handover.finish(self.now)

    def done(self) -> bool:
        return self.handover.done(self.now)

    def rows(self) -> list[int]:
        return [number(one) for event in self.heard for one in event.data["trades"]]

    def runs(self) -> set[int]:
        return {event.continuity for event in self.heard}


def row(of: int) -> dict[str, Any]:
    return {"price": str(of), "quantity": "1", "timestamp": 7, "direction": "buy"}


def number(of: dict[str, Any]) -> int:
    return int(of["price"])


def stamp(event: Event, by: Session) -> Event:
    run = by.run(event.channel)
    return Event(event.channel, event.data, event.time, event.received, run, event.full)


def test_trades_are_joined_where_the_new_run_is_found_in_the_old_one() -> None:
    switch = Switch()
    switch.confirm()
    switch.from_old(switch.trade(1, 2))
    switch.from_old(switch.trade(3))
    switch.from_new(switch.trade(2, 3, 4))
    assert switch.rows() == [1, 2, 3]
    switch.wait(SKEW)
    assert switch.rows() == [1, 2, 3, 4]
    assert switch.done()
    switch.from_old(switch.trade(4, 5))
    switch.from_new(switch.trade(5))
    switch.finish()
    assert switch.rows() == [1, 2, 3, 4, 5]
    assert switch.runs() == {switch.old.run(TRADE)} == {switch.new.run(TRADE)}


def test_what_the_old_socket_told_first_is_not_told_again() -> None:
    switch = Switch()
    switch.confirm()
    switch.from_old(switch.trade(1, 2, 3, 4))
    switch.from_new(switch.trade(2))
    switch.wait(SKEW)
    assert not switch.done()
    switch.from_new(switch.trade(3))
    switch.from_new(switch.trade(4, 5))
    assert switch.done()
    assert switch.rows() == [1, 2, 3, 4, 5]


def test_nothing_is_joined_before_the_new_socket_is_confirmed() -> None:
    switch = Switch()
    switch.from_old(switch.trade(1))
    switch.from_new(switch.trade(1, 2))
    switch.wait(10)
    assert not switch.done()
    switch.confirm()
    switch.confirm()
    switch.wait(0)
    assert switch.rows() == [1, 2]


def test_a_channel_that_is_silent_on_both_keeps_its_run() -> None:
    switch = Switch()
    switch.confirm()
    assert not switch.done()
    switch.wait(SKEW)
    assert switch.done()
    switch.finish()
    for channel in (TRADE, TICKER, BOOK, DEAL):
        assert switch.new.run(channel) == switch.old.run(channel)


def test_what_was_told_before_the_new_socket_listened_is_no_gap() -> None:
    switch = Switch()
    switch.from_old(switch.trade(1))
    switch.confirm()
    assert not switch.done()
    switch.wait(SKEW)
    assert switch.done()
    switch.from_new(switch.trade(2))
    switch.finish()
    assert switch.rows() == [1, 2]
    assert len(switch.runs()) == 1


def test_an_ambiguous_place_is_not_trusted_until_it_is_clear() -> None:
    switch = Switch()
    switch.confirm()
    switch.from_old(switch.trade(1, 1))
    switch.from_new(switch.trade(1))
    switch.wait(SKEW)
    assert not switch.done()
    switch.from_old(switch.trade(2))
    switch.from_new(switch.trade(2, 3))
    switch.wait(0.1)
    assert switch.rows() == [1, 1, 2, 3]
    assert len(switch.runs()) == 1


def test_without_a_match_there_is_a_gap() -> None:
    switch = Switch()
    switch.confirm()
    switch.from_old(switch.trade(1))
    switch.from_new(switch.trade(5, 6))
    switch.wait(SKEW)
    switch.finish()
    assert switch.rows() == [1, 5, 6]
    assert len(switch.runs()) == 2
    assert switch.new.run(TRADE) not in {switch.old.run(TRADE), switch.new.run(TRADES)}
    assert switch.new.run(TRADES) == switch.old.run(TRADES)


def test_a_new_socket_that_goes_another_way_after_the_match_is_a_gap() -> None:
    switch = Switch()
    switch.confirm()
    switch.from_old(switch.trade(1, 2, 3))
    switch.from_new(switch.trade(1))
    switch.wait(SKEW)
    switch.from_new(switch.trade(9))
    switch.from_new(switch.trade(10))
    assert switch.done()
    switch.finish()
    assert switch.rows() == [1, 2, 3, 9, 10]
    assert len(switch.runs()) == 2


def test_rows_that_the_new_socket_still_owes_at_the_end_are_a_gap() -> None:
    switch = Switch()
    switch.confirm()
    switch.from_old(switch.trade(1, 2))
    switch.from_new(switch.trade(1))
    switch.wait(SKEW)
    switch.finish()
    assert switch.new.run(TRADE) != switch.old.run(TRADE)


def test_a_broken_run_on_the_old_socket_matches_only_what_came_after() -> None:
    switch = Switch()
    switch.confirm()
    switch.from_old(switch.trade(1))
    switch.old.lose(switch.now, TRADE)
    switch.from_old(switch.trade(3))
    switch.from_new(switch.trade(1, 2, 3))
    switch.wait(SKEW)
    assert not switch.done()


def test_a_broken_run_on_the_new_socket_is_matched_from_there_and_ends_the_silent_ones() -> None:
    switch = Switch()
    switch.confirm()
    switch.from_old(switch.trade(1, 2, 3))
    switch.from_new(switch.trade(1))
    switch.new.lose(switch.now)
    switch.from_new(switch.trade(3, 4))
    switch.wait(SKEW)
    assert switch.rows() == [1, 2, 3, 4]
    switch.finish()
    assert switch.new.run(TRADE) == switch.old.run(TRADE)
    assert switch.new.run(DEAL) != switch.old.run(DEAL)


def test_a_book_switches_at_the_new_sockets_reload() -> None:
    switch = Switch()
    switch.confirm()
    switch.from_old(switch.event(BOOK, {"n": 1}))
    switch.wait(10)
    assert not switch.done()
    switch.from_new(switch.event(BOOK, {"n": 2}, full=True))
    switch.from_old(switch.event(BOOK, {"n": 3}))
    switch.from_new(switch.event(BOOK, {"n": 4}))
    assert switch.done()
    switch.finish()
    assert [event.data["n"] for event in switch.heard] == [1, 2, 4]
    assert switch.runs() == {switch.old.run(BOOK)}


def test_a_book_that_is_not_reloaded_in_time_is_a_gap() -> None:
    switch = Switch()
    switch.confirm()
    switch.from_old(switch.event(BOOK, {"n": 1}))
    switch.finish()
    assert switch.new.run(BOOK) != switch.old.run(BOOK)


def test_of_a_latest_state_nothing_is_missing_while_either_is_heard() -> None:
    switch = Switch()
    switch.confirm()
    switch.from_old(switch.event(TICKER, {"n": 1}))
    switch.from_new(switch.event(TICKER, {"n": 5}))
    switch.from_new(switch.event(TICKER, {"n": 1}))
    switch.wait(SKEW)
    switch.finish()
    assert [event.data["n"] for event in switch.heard] == [1, 5]
    assert switch.runs() == {switch.old.run(TICKER)}


def test_an_overlap_that_was_too_short_proves_nothing() -> None:
    """The old socket may have missed what the new one was too late to hear."""
    switch = Switch()
    switch.from_old(switch.trade(1))
    switch.confirm()
    switch.wait(0.1)
    switch.old.end(ConnectionLost("broken off"))
    switch.finish()
    assert switch.new.run(TRADE) != switch.old.run(TRADE)


def test_a_socket_that_was_lost_in_the_overlap_may_have_been_deaf_before() -> None:
    switch = Switch()
    switch.confirm()
    switch.wait(SKEW)
    switch.old.end(ConnectionLost("no pong"))
    switch.finish()
    assert switch.new.run(TRADE) != switch.old.run(TRADE)


def test_what_was_joined_is_told() -> None:
    switch = Switch()
    before = switch.handover.confirmed
    switch.confirm()
    assert (before, switch.handover.confirmed) == (False, True)
    switch.from_new(switch.event(BOOK, {}, full=True))
    assert switch.handover.joined == [BOOK]


def test_a_latest_state_that_goes_another_way_goes_on() -> None:
    switch = Switch()
    switch.confirm()
    for n in (1, 2):
        switch.from_old(switch.event(TICKER, {"n": n}))
    switch.from_new(switch.event(TICKER, {"n": 1}))
    switch.wait(SKEW)
    switch.from_new(switch.event(TICKER, {"n": 3}))
    switch.finish()
    assert [event.data["n"] for event in switch.heard] == [1, 2, 3]
    assert switch.runs() == {switch.old.run(TICKER)}


def test_what_is_no_longer_wanted_is_left_out() -> None:
    switch = Switch()
    switch.confirm()
    switch.from_old(switch.event(BOOK, {"n": 1}))
    for one in (switch.old, switch.new):
        one.want(frozenset({TRADES}), 0.0)
    switch.wait(SKEW)
    assert switch.done()
    switch.finish()


def test_what_is_wanted_after_the_old_socket_ended_has_its_own_run() -> None:
    switch = Switch()
    other = depth("ETH_USDT", 0)
    switch.new.want(frozenset({TRADES, other}), 0.0)
    switch.from_new(switch.event(other, {"n": 1}, full=True))
    assert switch.runs() == {switch.new.run(other)}


@pytest.mark.parametrize("channel", [DEAL, TICKER])
def test_events_of_one_row_are_matched_whole(channel: Channel) -> None:
    switch = Switch()
    switch.confirm()
    for n in (1, 2):
        switch.from_old(switch.event(channel, {"n": n}))
    for n in (2, 3):
        switch.from_new(switch.event(channel, {"n": n}))
    switch.wait(SKEW)
    switch.finish()
    assert [event.data["n"] for event in switch.heard] == [1, 2, 3]
    assert len(switch.runs()) == 1


def test_an_empty_event_does_no_harm() -> None:
    switch = Switch()
    switch.confirm()
    switch.from_old(switch.trade())
    switch.from_new(switch.trade())
    switch.wait(SKEW)
    switch.from_old(switch.trade(1))
    switch.from_new(switch.trade(1))
    switch.wait(SKEW)
    switch.finish()
    assert switch.rows() == [1]


# Any sequence, seen by two sockets


@dataclass(frozen=True)
class Seen:
    """What one socket sees of the sequence: when each row arrives, and how they are batched."""

    rows: list[int]
    arrivals: list[float]
    cuts: list[bool]

    def batches(self) -> list[tuple[float, list[int]]]:
        made: list[tuple[float, list[int]]] = []
        for one, arrival, cut in zip(self.rows, self.arrivals, self.cuts, strict=True):
            if cut or not made or made[-1][0] != arrival:
                made.append((arrival, []))
            made[-1][1].append(one)
        return made


DELAYS = st.sampled_from([0.0, 0.1, 0.9, 1.8])


@st.composite
def worlds(draw: st.DrawFn, alphabet: int) -> tuple[list[int], Seen, Seen, float]:
    """A true sequence of rows, what the old and the new socket see, when the new one listens."""
    size = draw(st.integers(0, 14))
    rows = (
        draw(st.lists(st.integers(1, alphabet), min_size=size, max_size=size))
        if alphabet
        else list(range(size))
    )
    gaps = draw(st.lists(st.sampled_from([0.0, 0.05, 0.5, 3.0]), min_size=size, max_size=size))
    begins = [sum(gaps[: at + 1]) for at in range(size)]
    listens = draw(st.sampled_from([0.0, 0.3, 1.0, 2.5, 4.0]))

    def seen(from_: float) -> Seen:
        kept = [at for at in range(size) if begins[at] >= from_]
        arrivals: list[float] = []
        for at in kept:
            arrival = begins[at] + draw(DELAYS)
            arrivals.append(max(arrival, arrivals[-1] if arrivals else 0.0))
        cuts = draw(st.lists(st.booleans(), min_size=len(kept), max_size=len(kept)))
        return Seen([rows[at] for at in kept], arrivals, cuts)

    return rows, seen(0.0), seen(listens), listens


def play(old: Seen, new: Seen, listens: float) -> Switch:
    """Both sockets from the moment the new one listens, to a while after the last row."""
    switch = Switch(now=0.0)
    arriving = [(at, 0, rows) for at, rows in old.batches()]
    arriving += [(at, 1, rows) for at, rows in new.batches()]
    end = max([at for at, _, _ in arriving], default=0.0) + 2 * SKEW + listens
    ticks = [tick / 10 for tick in range(int(end * 10) + 2)]
    finished = False
    for now in sorted({*ticks, *(at for at, _, _ in arriving)}):
        switch.now = now
        for _, socket, rows in [one for one in arriving if one[0] == now]:
            event = switch.trade(*rows)
            if finished:
                switch.heard += [stamp(event, switch.new)] if socket else []
            elif socket:
                switch.from_new(event)
            elif now < listens:
                switch.heard.append(stamp(event, switch.old))
            else:
                switch.from_old(event)
        if now >= listens:
            switch.confirm()
        if not finished:
            switch.wait(0)
            if switch.done():
                switch.finish()
                finished = True
    if not finished:
        switch.finish()
    return switch


@settings(max_examples=100)
@given(worlds(alphabet=0))
def test_distinct_rows_come_through_once_and_whole(
    world: tuple[list[int], Seen, Seen, float],
) -> None:
    rows, old, new, listens = world
    switch = play(old, new, listens)
    assert switch.rows() == rows
    assert len(switch.runs()) <= 1


@settings(max_examples=100)
@given(worlds(alphabet=2))
def test_rows_that_repeat_come_through_whole_or_with_a_gap(
    world: tuple[list[int], Seen, Seen, float],
) -> None:
    rows, old, new, listens = world
    switch = play(old, new, listens)
    if len(switch.runs()) <= 1:
        assert switch.rows() == rows
        return
    first, second = sorted(switch.runs(), key=[e.continuity for e in switch.heard].index)
    before = [
        number(one) for e in switch.heard if e.continuity == first for one in e.data["trades"]
    ]
    after = [
        number(one) for e in switch.heard if e.continuity == second for one in e.data["trades"]
    ]
    assert before == rows[: len(before)]
    assert after == rows[len(rows) - len(after) :]
