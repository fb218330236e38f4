"""The leader's state and numbering: decides update, snapshot, gap or withhold for every event.

Positions grow by one per event; an entry holds what was read in one turn. An order book is
published only from a full reload on, and never crossed. What is missed on a private channel was
judged before (``reconcile``): here only news is told from repetition.
"""

from collections.abc import Iterable

from app.domain.account import Deals, Orders
from app.domain.channel import Channel, Kind
from app.domain.event import Data, Entry, Envelope, Event, Type, envelope
from app.domain.position import Position
from app.domain.store import LAST, Depth, State, Store

AHEAD = 60.0
"""Seconds by which the exchange's clock may be ahead; a time beyond that judges nothing."""


class Sequencer:
    """Makes entries of events, in one epoch.

    ``store`` holds what was known before (a new leader's replica); its channels all start anew
    with ``gap``, as nobody heard the exchange between the two leaders. So do all others if
    something was ``lost``: what the last leader published may not all be in ``store``.
    """

    def __init__(
        self,
        epoch: int,
        store: Store,
        *,
        previous: Position | None = None,
        lost: bool = False,
    ) -> None:
        self._epoch = epoch
        self._sequence = 0
        self._previous = previous
        self._store = store
        self._known: set[Channel] = {state.channel for state in store}
        self._lost = lost
        self._continuity: dict[Channel, int] = {}
        self._crossed: list[Channel] = []

    @property
    def head(self) -> Position:
        """The position of the last event numbered."""
        return Position(self._epoch, self._sequence)

    def open(self) -> Entry:
        """The entry with which the leader opens its epoch."""
        return self._entry(())

    def sequence(self, events: Iterable[Event]) -> Entry | None:
        """Number what is to be published of ``events``; None if that is nothing."""
        made = [one for event in events if (one := self._decide(event)) is not None]
        return self._entry(tuple(made)) if made else None

    def take_crossed(self) -> list[Channel]:
        """The books found crossed since the last call: each needs a full reload."""
        crossed, self._crossed = self._crossed, []
        return crossed

    def forget(self, channel: Channel) -> None:
        """Drop the state of a channel that is no longer followed; its next event is a gap."""
        self._store.forget(channel)
        self._continuity.pop(channel, None)

    def state(self, channel: Channel) -> State | None:
        """What was last published on a channel."""
        return self._store.get(channel) if channel in self._continuity else None

    def _entry(self, envelopes: tuple[Envelope, ...]) -> Entry:
        entry = Entry(self._previous, self.head, envelopes)
        self._previous = self.head
        return entry

    def _decide(self, event: Event) -> Envelope | None:
        if event.channel.private:
            return self._account(event)
        unbroken = self._continuity.get(event.channel) == event.continuity
        if event.channel.kind is Kind.DEPTH:
            if event.full:
                return self._reload(event)
            return self._delta(event) if unbroken else None
        if unbroken:
            return self._publish(event, "update", event.data)
        return self._restart(event)

    def _reload(self, event: Event) -> Envelope | None:
        fresh = Depth()
        fresh.replace(event.data)
        if fresh.book.crossed:
            self._withhold(event.channel)
            return None
        return self._publish(event, "snapshot", fresh.data())

    def _delta(self, event: Event) -> Envelope | None:
        state = self._store.get(event.channel)
        if state is None:
            return None
        state.reducer.update(event.data)
        if isinstance(state.reducer, Depth) and state.reducer.book.crossed:
            self._withhold(event.channel)
            return None
        return self._publish(event, "update", event.data, reduced=state)

    def _account(self, event: Event) -> Envelope | None:
        """A private fact: what is no news is not told again, whoever told it first."""
        channel, held = event.channel, self._store.get(event.channel)
        lost = self._lost and channel not in self._continuity
        if event.full:
            return self._publish(event, "snapshot", event.data, gap=event.gap or lost)
        if held is None:
            fresh = State(channel).reducer
            fresh.update(event.data)
            gap = lost or channel in self._known
            return self._publish(event, "snapshot", fresh.data(), gap=gap)
        if (
            event.origin is None
            and isinstance(held.reducer, Orders | Deals)
            and not held.reducer.news(event.data)
        ):
            return None
        return self._publish(event, "update", event.data, gap=False)

    def _withhold(self, channel: Channel) -> None:
        """A crossed book is never published; nothing of it is until a full reload."""
        self.forget(channel)
        self._crossed.append(channel)

    def _restart(self, event: Event) -> Envelope | None:
        """The first event after a break: a snapshot of what is known now.

        The exchange may replay what it sent before (protocol 7.10): an object older than the one
        held says nothing new.
        """
        held = self._store.get(event.channel)
        latest = event.received + AHEAD
        if event.channel.kind is not Kind.TRADE:
            if held is not None and (event.time or 0) < (held.last.time or 0) <= latest:
                return None
            return self._publish(event, "snapshot", event.data)
        older = [] if held is None else held.reducer.data()["trades"]
        newer = _unheard(event.data["trades"], [r for r in older if r["timestamp"] <= latest])
        if not newer:
            return None
        trades = [*reversed(newer), *older][:LAST]
        return self._publish(event, "snapshot", {"symbol": event.data["symbol"], "trades": trades})

    def _publish(
        self,
        event: Event,
        type_: Type,
        data: Data,
        *,
        reduced: State | None = None,
        gap: bool | None = None,
    ) -> Envelope:
        """Number and encode; ``reduced`` is the state that contains the event already.

        Whether there is a ``gap`` is seen from the event's run, unless it is given.
        """
        channel, held = event.channel, self._store.get(event.channel)
        if gap is None:
            broken = self._continuity.get(channel) != event.continuity
            gap = broken and (self._lost or channel in self._known)
        self._sequence += 1
        made = envelope(
            channel,
            type_,
            position=Position(self._epoch, self._sequence),
            previous=held.position if type_ == "update" and held is not None else None,
            time=event.time,
            received=event.received,
            data=data,
            gap=gap,
            origin=event.origin,
        )
        if reduced is None:
            self._store.apply(made)
        else:
            reduced.settle(made)
        self._known.add(channel)
        self._continuity[channel] = event.continuity
        return made


def _unheard(trades: list[Data], held: list[Data]) -> list[Data]:
    """The rows of ``trades`` that are not a replay of ``held`` (newest first).

    Trades carry no id: rows older than the newest one held, or equal to one held, count as
    replayed.
    """
    if not held:
        return trades
    last = held[0]["timestamp"]
    return [row for row in trades if row["timestamp"] >= last and row not in held]
