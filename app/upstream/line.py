"""One kind's subscription on one socket: what was asked for, what is confirmed, what is owed. Pure.

A subscribe replaces the kind's set at the exchange (protocol 6.2), so every one carries the
complete set and at most one request is in flight. It is not known whether the exchange replaces,
merges or rejects a repeated subscribe: all three are lived with.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from app.domain.channel import Channel, Kind
from app.upstream.wire import Update, Verb

PACE = 1.0
"""Seconds between two subscribes of one kind on one socket."""

RELOAD = 3.0
"""Seconds after the acknowledgement within which a book's full reload is expected."""

RELOAD_MAX = 60.0
PATIENCE_MAX = 30.0
REFUSED_FOR = 300.0
"""Seconds for which a channel that made the exchange reject a subscribe is left out of it."""

RUNS_MAX = 10_000
"""Runs told apart at once; beyond it all start anew, as only a hostile exchange gets there."""


class Phase(StrEnum):
    """Where the conversation about one kind stands."""

    IDLE = "idle"
    SUBSCRIBING = "subscribing"
    STEADY = "steady"
    DROPPING = "dropping"
    CLEARING = "clearing"


TRANSITIONS: dict[Phase, frozenset[Phase]] = {
    Phase.IDLE: frozenset({Phase.SUBSCRIBING, Phase.CLEARING}),
    Phase.SUBSCRIBING: frozenset({Phase.STEADY, Phase.IDLE}),
    Phase.STEADY: frozenset({Phase.SUBSCRIBING, Phase.DROPPING, Phase.CLEARING}),
    Phase.DROPPING: frozenset({Phase.STEADY}),
    Phase.CLEARING: frozenset({Phase.IDLE}),
}
"""From each phase to those that may follow; DROPPING and CLEARING wait for an unsubscribe."""

_ASKING = frozenset({Phase.SUBSCRIBING, Phase.DROPPING, Phase.CLEARING})
_HEARING = frozenset({Phase.SUBSCRIBING, Phase.STEADY, Phase.DROPPING})


class Ask(NamedTuple):
    """A request to be sent now."""

    verb: Verb
    channels: frozenset[Channel]


@dataclass(slots=True)
class _Book:
    """What an order book is owed: nothing of it is passed on before its full reload."""

    loaded: bool = False
    awaiting: bool = True
    due: float | None = None
    next_try: float = 0.0
    delay: float = RELOAD
    tries: int = 0


class Line:
    """The subscription of one kind.

    Books are reloaded every ``renewal`` seconds, as nothing else finds a lost delta for sure.
    ``runs`` gives numbers that are unique over the life of the process; a channel gets a new one
    whenever something of it may have been missed.
    """

    def __init__(self, kind: Kind, runs: Iterator[int], *, renewal: float = 600.0) -> None:
        self.kind = kind
        self.revision = 0
        self.breaks = 0
        self._everything = Channel(kind, "*")
        self._fresh = runs
        self._phase = Phase.IDLE
        self._wanted: frozenset[Channel] = frozenset()
        self._asked: frozenset[Channel] = frozenset()
        self._held: frozenset[Channel] = frozenset()
        self._proven: frozenset[Channel] = frozenset()
        self._lingering: set[Channel] = set()
        self._runs: dict[Channel, int] = {}
        self._books: dict[Channel, _Book] = {}
        self._again = False
        self._clear = False
        self._drop: set[Channel] = set()
        self._clean = True
        self._from_clean = True
        self._merges = False
        self._not_before = 0.0
        self._patience = 0.0
        self._settled = 0.0
        self._renewal = renewal
        self._renew_at: float | None = None
        self.renewals = 0
        self._refused: dict[Channel, float] = {}

    @property
    def phase(self) -> Phase:
        return self._phase

    @phase.setter
    def phase(self, phase: Phase) -> None:
        if phase not in TRANSITIONS[self._phase]:
            raise RuntimeError(f"{self.kind} line cannot go from {self._phase} to {phase}")
        self._phase = phase
        self.revision += 1

    @property
    def subscribing(self) -> bool:
        """Whether a subscribe waits for its answer."""
        return self._phase is Phase.SUBSCRIBING

    @property
    def whole(self) -> bool:
        """Whether the exchange has confirmed that it sends all of this kind."""
        return self._everything in self._held

    def confirmed(self, channel: Channel) -> bool:
        """Whether the exchange is known to send ``channel``, and a book is loaded."""
        if channel not in self._held and self._everything not in self._held:
            return False
        if self.kind is not Kind.DEPTH:
            return True
        book = self._books.get(channel)
        return book is not None and book.loaded

    def run(self, channel: Channel) -> int:
        """The number of the unbroken run that ``channel`` is in."""
        number = self._runs.get(channel)
        return self._runs[self._everything] if number is None else number

    @property
    def runs(self) -> dict[Channel, int]:
        """The numbers of all runs told apart."""
        return dict(self._runs)

    def adopt(self, runs: dict[Channel, int]) -> None:
        """Go on with run numbers of another line that this one continues without a loss."""
        self._runs.update(runs)
        self.revision += 1

    # What is wanted

    def want(self, channels: frozenset[Channel]) -> None:
        """Replace the wanted set."""
        if channels == self._wanted:
            return
        before, self._wanted = self._wanted, channels
        self._number(channels - before)
        if self._everything not in channels:
            self._runs = {one: self._runs[one] for one in self._runs.keys() & channels}
        if self.kind is Kind.DEPTH:
            self._books = {channel: self._books.get(channel) or _Book() for channel in channels}
        self._again = bool(channels)
        self._clear = self._clear or not channels
        self._drop -= channels - before
        self.revision += 1

    def _number(self, added: Iterable[Channel]) -> None:
        """Take run numbers: what the whole kind has brought so far goes on in its run."""
        for channel in added:
            if channel not in self._runs:
                whole = self._runs.get(self._everything) if self.whole else None
                self._runs[channel] = next(self._fresh) if whole is None else whole

    # What is asked

    def due(self, now: float) -> Ask | None:
        """The next request, if one is to be sent now."""
        if self._phase in _ASKING:
            return None
        self._look_over(now)
        if self._clear and (ask := self._ask_clear()) is not None:
            return ask
        if self._drop:
            return self._ask_drop()
        if self._again and now >= self._not_before:
            return self._ask_subscribe(now)
        return None

    def _ask_clear(self) -> Ask | None:
        self._clear = False
        self._drop.clear()
        self._held = self._asked = frozenset()
        if self._clean:
            return None
        self._renumber()
        self.phase = Phase.CLEARING
        return Ask("unsubscribe", frozenset({self._everything}))

    def _ask_drop(self) -> Ask:
        dropped, self._drop = frozenset(self._drop), set()
        self._asked -= dropped
        self._held -= dropped
        self._lingering -= dropped
        self.phase = Phase.DROPPING
        return Ask("unsubscribe", dropped)

    def _ask_subscribe(self, now: float) -> Ask | None:
        self._again = False
        target = self._wanted - self._refused.keys()
        if self._everything in target:
            target = frozenset({self._everything})
        if not target:
            return self._ask_clear()
        self._not_before = now + PACE
        self._renew_at = None
        self._from_clean, self._clean = self._clean, False
        self._asked = target
        self._lingering |= target
        for channel in target & self._books.keys():
            book = self._books[channel]
            if not (self._merges and book.loaded):
                book.awaiting, book.due = True, None
                book.tries += 1
        self.phase = Phase.SUBSCRIBING
        return Ask("subscribe", target)

    def answered(self, now: float, *, accepted: bool) -> None:
        """The request in flight was answered; a subscribe that is never answered counts as no."""
        if self._phase is Phase.CLEARING:
            self._clean = True
            self._lingering.clear()
            self.phase = Phase.IDLE
        elif self._phase is Phase.DROPPING:
            self.phase = Phase.STEADY
        elif accepted:
            self._settle(now)
        else:
            self._fall_back(now)

    def _settle(self, now: float) -> None:
        self._held = self._proven = self._asked
        self._settled = now
        self._patience = 0.0
        if self.kind is Kind.DEPTH:
            self._renew_at = now + self._renewal
        for book in self._books.values():
            if book.awaiting and book.due is None:
                book.due = now + book.delay
        self.phase = Phase.STEADY

    def _fall_back(self, now: float) -> None:
        """A failed subscribe may have left nothing, or half (protocol 6.2): clear, ask anew."""
        if self._from_clean:
            self._blame(now)
        self._held = self._asked = frozenset()
        self._clear = self._again = True
        self.phase = Phase.IDLE

    def _blame(self, now: float) -> None:
        """Even a first subscribe was rejected: leave out what is new in it, or wait longer."""
        suspects = self._asked - self._proven
        if suspects and suspects != self._asked:
            self._refused.update(dict.fromkeys(suspects, now + REFUSED_FOR))
            return
        self._patience = min(max(PACE, self._patience * 2), PATIENCE_MAX)
        self._not_before = max(self._not_before, now + self._patience)

    def _look_over(self, now: float) -> None:
        """Find what has fallen due: overdue full reloads, channels refused long ago."""
        for channel in [name for name, until in self._refused.items() if until <= now]:
            del self._refused[channel]
            self._again = self._again or channel in self._wanted
        for channel, book in self._books.items():
            if book.due is not None and book.due <= now:
                self._overdue(channel, book, now)
        if self._renew_at is not None and self._renew_at <= now:
            self._renew_books()

    def _renew_books(self) -> None:
        """Subscribe anew, which reloads every book; one that merges has to be told no first."""
        self._renew_at = None
        self._again = bool(self._wanted)
        self.renewals += 1
        if self._merges:
            for channel in self._held:
                self._break(channel)
                self._drop.add(channel)

    def _overdue(self, channel: Channel, book: _Book, now: float) -> None:
        if book.loaded:  # asked for again, and the exchange saw no reason to reload: it merges
            self._merges = True
            self._break(channel)
        if book.tries or self._merges:
            self._drop.add(channel)
        book.due = None
        book.next_try = now + book.delay
        book.delay = min(book.delay * 2, RELOAD_MAX)
        self._again = True

    def next_wake(self) -> float | None:
        """When ``due`` is to be asked at the latest."""
        if self._phase in _ASKING:
            return None
        times = [book.due for book in self._books.values() if book.due is not None]
        times.extend(self._refused.values())
        if self._renew_at is not None:
            times.append(self._renew_at)
        if self._again:
            times.append(self._not_before)
        return min(times, default=None)

    # What comes

    def hears(self, channel: Channel) -> bool:
        """Whether an event of ``channel`` is one that was asked for."""
        return channel in self._wanted or self._everything in self._wanted

    def accept(self, update: Update, now: float) -> int | None:
        """The run number with which to pass an event on; None if it must not be."""
        channel = update.channel
        if not self.hears(channel):
            self._stray(channel, now)
            return None
        if self._phase not in _HEARING or not (
            channel in self._asked or self._everything in self._asked
        ):
            return None  # between two subscriptions: the run that is coming starts later
        if self.kind is Kind.DEPTH and not self._usable(self._books[channel], update, now):
            return None
        return self.run(channel)

    def _usable(self, book: _Book, update: Update, now: float) -> bool:
        if not update.full:
            return not book.awaiting
        if book.awaiting or not book.loaded:
            book.loaded, book.awaiting, book.due, book.tries = True, False, None, 0
            self.revision += 1
        if now >= book.next_try + RELOAD_MAX:
            book.delay = RELOAD
        return True

    def _stray(self, channel: Channel, now: float) -> None:
        """An event nobody wants: if we once asked for it, the exchange merges; say no once."""
        if self._phase is not Phase.STEADY or now < self._settled + PACE:
            return
        if self._everything in self._lingering:
            self._clear = self._again = True
            self.revision += 1
        elif channel in self._lingering - self._drop:
            self._drop |= self._lingering - self._wanted
            self.revision += 1

    # What is lost

    def lose(self, scope: Channel | None, now: float) -> None:
        """Something on ``scope`` (None: on all) may have been missed: new runs, books reload."""
        if scope is None or scope.wildcard:
            self._renumber()
            lost = list(self._books)
        elif not self.hears(scope):
            return
        else:
            self._break(scope)
            lost = [scope]
        for channel in lost:
            self._reload(channel, now)

    def renew(self, now: float) -> None:
        """Ask for everything anew, as nothing is heard of it."""
        self.lose(None, now)
        self._again = bool(self._wanted)

    def _reload(self, channel: Channel, now: float) -> None:
        """Ask for a book's full reload, the later the more often that was needed of late."""
        book = self._books.get(channel)
        if book is not None:
            book.loaded, book.awaiting, book.tries = False, True, 0
            if channel in self._held:
                book.due = max(now, book.next_try)

    def _break(self, channel: Channel) -> None:
        if len(self._runs) > RUNS_MAX:
            self._renumber()
        self._runs[channel] = next(self._fresh)
        if channel in self._books:
            self._books[channel].loaded = False
        self.breaks += 1
        self.revision += 1

    def _renumber(self) -> None:
        self._runs = {channel: next(self._fresh) for channel in self._wanted}
        for book in self._books.values():
            book.loaded, book.awaiting, book.due = False, True, None
        self.breaks += 1
        self.revision += 1
