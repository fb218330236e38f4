"""What of the account is settled, what waits for REST, and what to ask it.

The socket replays nothing (protocol 6.4). So whenever a private kind begins a new run, its events
wait until REST was read: subscribe, wait, read, merge, let in. Times are Unix seconds.
"""

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from enum import Enum, auto

from app.domain.account import Orders, empty, filled, finished
from app.domain.channel import PRIVATE, Channel, Kind
from app.domain.event import Data, Event
from app.domain.health import Following
from app.domain.reconcile import Held, Statement, merge
from app.domain.store import Store

WAITING = 50_000
"""Events that may wait for REST; beyond it all are dropped, and REST is read once more."""

REMEMBERED = 256
"""Balance events remembered, to know one that the exchange repeats."""

QUIET = 1.0
"""Seconds after a balance event before REST is asked for what is available and held now."""

PAUSE = 5.0
"""Seconds between two such questions."""

SOON = 1.0
"""Seconds between two questions at least, if an event was missed."""

TRIES = 5
"""How often a finished order is looked for in the history."""


@dataclass(frozen=True, slots=True)
class Question:
    """What to ask REST.

    ``kinds``: of these everything since the last thing known. ``open``: the orders held open, whose
    fate is wanted. ``known``: finished orders; the history is read back to one of them, or to its
    end if there are none. ``orders``: finished orders whose deals are wanted.
    """

    kinds: frozenset[Kind] = frozenset()
    open: frozenset[str] = frozenset()
    known: frozenset[str] = frozenset()
    orders: frozenset[str] = frozenset()


class Link(Enum):
    """How a balance event stands to the one before it."""

    FOLLOWS = auto()
    BROKEN = auto()
    REPEATED = auto()


class Wallets:
    """The chain of each wallet: an ``oldBalance`` is the last ``newBalance`` (protocol 3.6)."""

    def __init__(self) -> None:
        self._last: dict[str, Data] = {}
        self._recent: deque[Data] = deque(maxlen=REMEMBERED)

    def stand(self, info: Data) -> None:
        """Take what was told last of a currency."""
        self._last[info["currencyCode"]] = info

    def take(self, info: Data) -> Link:
        """Judge an event; one that is repeated changes nothing."""
        last = self._last.get(info["currencyCode"], {})
        repeated = info in self._recent
        self._recent.append(info)
        old, new = info.get("oldBalance"), last.get("newBalance")
        same = info.get("walletId") == last.get("walletId")
        broken = same and None not in (old, new) and Decimal(str(old)) != Decimal(str(new))
        if broken and repeated:
            return Link.REPEATED
        self.stand(info)
        return Link.BROKEN if broken else Link.FOLLOWS


class Ledger:
    """One leader's account on its ``store``; ``lost``: what was published may not all be in it.

    ``unfound``: finished orders that the history does not tell, so that deals may be missing.
    """

    def __init__(self, store: Store, *, lost: bool = False) -> None:
        self._store = store
        self._lost = set(PRIVATE) if lost else set()
        self._settled: dict[Kind, int] = {}
        self._waiting: list[Event] = []
        self._overflowed = False
        self._wallets = Wallets()
        self._touched: dict[str, float] = {}
        self._owing: set[str] = set()
        self._sought: dict[str, int] = {}
        self._seek_at = 0.0
        self.unfound: list[str] = []
        self._again: dict[Kind, float] = {}
        self._asked = 0.0
        self._doubtful: set[Kind] = set()
        self._live: dict[Kind, Following] = {}
        for state in store.of_kind(Kind.BALANCE):
            self._wallets.stand(state.reducer.data()["info"])

    def sift(self, events: Iterable[Event]) -> list[Event]:
        """What may be published now; the rest waits for REST."""
        through: list[Event] = []
        for event in events:
            kind = event.channel.kind
            if not event.channel.private:
                through.append(event)
                continue
            if kind is Kind.BALANCE:
                self._touch(event)
            if event.continuity <= self._settled.get(kind, 0):
                through += self._let_in(event)
            else:
                self._wait(event)
        return through

    def _touch(self, event: Event) -> None:
        self._touched[event.channel.subject] = event.received
        self._read_again(Kind.BALANCE, max(event.received + QUIET, self._asked + PAUSE))

    def _read_again(self, kind: Kind, due: float) -> None:
        self._again[kind] = min(due, self._again.get(kind, due))

    def _wait(self, event: Event) -> None:
        self._waiting.append(event)
        if len(self._waiting) > WAITING:
            self._waiting.clear()
            self._overflowed = True

    def _let_in(self, event: Event) -> list[Event]:
        info = event.data["info"]
        if event.channel.kind is Kind.ORDER:
            if finished(info) and info["id"] in self._owing:
                self._owing.discard(info["id"])
                self._sought[info["id"]] = 0
        elif event.channel.kind is Kind.BALANCE:
            return self._chained(event)
        return [event]

    def _chained(self, event: Event) -> list[Event]:
        """A balance event that does not follow the last one says that something was missed.

        What was missed may have been anything, so everything is read again.
        """
        link = self._wallets.take(event.data["info"])
        if link is Link.REPEATED:
            return []
        if link is Link.FOLLOWS:
            return [event]
        for kind in self._settled:
            self._read_again(kind, max(event.received, self._asked + SOON))
        self._doubtful |= self._settled.keys()
        state = self._store.get(event.channel)
        held = {} if state is None else state.reducer.data()
        return [replace_event(event, {**held, **event.data})]

    # What to ask

    def due(self, runs: Mapping[Kind, int], now: float) -> Question | None:
        """What to ask REST now; ``runs`` are those in which the private kinds are confirmed."""
        kinds = {kind for kind, run in runs.items() if self._settled.get(kind) != run}
        kinds |= {kind for kind, due in self._again.items() if due <= now and kind in self._settled}
        sought = self._sought if now >= self._seek_at else ()
        if not kinds and not sought:
            return None
        return Question(
            kinds=frozenset(kinds),
            open=frozenset(order["id"] for order in self._open()) if _tells(kinds) else frozenset(),
            known=self._known(kinds),
            orders=frozenset(sought),
        )

    def next_wake(self) -> float | None:
        """When there will be something to ask, if nothing else happens."""
        return min(
            (due for kind, due in self._again.items() if kind in self._settled), default=None
        )

    def begin(self, question: Question, now: float) -> None:
        """The question is asked now: what comes from here on REST may not know."""
        self._overflowed = False
        self._asked = now
        for kind in question.kinds:
            self._again.pop(kind, None)

    def failed(self, question: Question) -> None:
        """It was not answered: until it is, what it is about is unconfirmed."""
        self._doubtful |= question.kinds
        for kind in question.kinds:
            self._again[kind] = 0.0

    def _open(self) -> list[Data]:
        held = (state.reducer for state in self._store.of_kind(Kind.ORDER))
        return [order for one in held if isinstance(one, Orders) for order in one.open()]

    def _known(self, kinds: set[Kind]) -> frozenset[str]:
        """Where the history may stop: at what was finished, and known, before anything was missed.

        Nowhere if a kind was never read, or if only deals were missed: an order that was heard of
        meanwhile says nothing of the deals before it.
        """
        fresh = any(
            kind not in self._settled and not any(True for _ in self._store.of_kind(kind))
            for kind in kinds & {Kind.ORDER, Kind.DEAL}
        )
        if fresh or Kind.ORDER not in kinds:
            return frozenset()
        held = (state.reducer for state in self._store.of_kind(Kind.ORDER))
        return frozenset(
            order["id"] for one in held if isinstance(one, Orders) for order in one.finished()
        )

    # What was told

    def settle(
        self, question: Question, statement: Statement, runs: Mapping[Kind, int]
    ) -> list[Event]:
        """What is to be published now that REST was read, in the runs in which it was asked."""
        if self._overflowed:
            return []  # what waited is gone: read again
        if self._lost & question.kinds:
            statement = replace(statement, reached=False)
        settled = {**self._settled, **{kind: runs[kind] for kind in question.kinds if kind in runs}}
        ripe = [one for one in self._waiting if one.continuity <= settled.get(one.channel.kind, 0)]
        held = Held(self._store, settled, ripe, self._touched)
        self._owe(statement)
        made = merge(statement, held)
        for event in made:
            if event.channel.kind is Kind.BALANCE:
                self._wallets.stand(event.data["info"])
        told = {row["currencyCode"] for row in statement.balances}
        self._waiting = [
            one for one in self._waiting if one.continuity > settled.get(one.channel.kind, 0)
        ]
        self._settled = settled
        self._lost -= question.kinds
        self._doubtful -= question.kinds
        self._looked_for(question, statement)
        for event in ripe:
            currency = event.channel.subject
            contained = event.channel.kind is Kind.BALANCE and currency in told
            if not (contained and self._touched[currency] < statement.began):
                made += self._let_in(event)
        return made

    def nothing(self, channels: Iterable[Channel], now: float) -> list[Event]:
        """That there is nothing on those channels of which REST was read and nothing is known."""
        waiting = {event.channel for event in self._waiting}
        runs = self._settled
        return [
            Event(
                one, empty(one), None, now, self._settled[one.kind], full=True, origin="reconcile"
            )
            for one in channels
            if one.kind in runs
            and one.kind not in self._lost
            and one not in waiting
            and self._store.get(one) is None
        ]

    def _owe(self, statement: Statement) -> None:
        """Of what was filled before REST was read any deal may have been missed."""
        if _tells(statement.kinds):
            self._owing = {row["id"] for row in statement.active if filled(row)}

    def _looked_for(self, question: Question, statement: Statement) -> None:
        found = {row["id"] for row in statement.finished}
        for id_ in question.orders:
            tries = self._sought.pop(id_) + 1
            if id_ in found:
                continue
            if tries < TRIES:
                self._sought[id_] = tries
                self._seek_at = statement.read + PAUSE
            else:
                self.unfound.append(id_)

    # How it stands

    def following(
        self, told: Mapping[Channel, Following], runs: Mapping[Kind, int], now: float
    ) -> dict[Channel, Following]:
        """How the upstream follows everything: a private kind is live once REST was read."""
        shown = {one: how for one, how in told.items() if not one.private or one.wildcard}
        for kind in PRIVATE:
            channel = Channel(kind, "*")
            if channel not in shown:
                continue
            how = shown[channel]
            live = how.live and self._settled.get(kind) == runs.get(kind) is not None
            live = live and kind not in self._doubtful
            live = live and not (kind is Kind.DEAL and self._sought)
            before = self._live.get(kind)
            since = before.since if before is not None and before.live == live else now
            # what REST has confirmed needs no event of this run
            self._live[kind] = shown[channel] = Following(live, since, 0.0, how.broken)
        return shown


def replace_event(event: Event, data: Data) -> Event:
    """The event as a whole state, before which something was missed."""
    return Event(
        event.channel, data, event.time, event.received, event.continuity, full=True, gap=True
    )


def _tells(kinds: Iterable[Kind]) -> bool:
    """Whether the orders are to be read for these."""
    return not {Kind.ORDER, Kind.DEAL}.isdisjoint(kinds)
