"""One conversation with the exchange, without the network: frames in, events and frames out. Pure.

Owns ids, acknowledgements, keepalive, unreadable frames and the watch for muteness; each kind's
subscription is a Line. ``now`` is monotonic seconds, ``received`` Unix seconds.
"""

import logging
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from app.domain.channel import Channel, Kind
from app.domain.event import Event
from app.errors import ConnectionLost, ProtocolViolation, UpstreamError
from app.logs import logger
from app.telemetry import Metrics
from app.upstream import wire
from app.upstream.line import Ask, Line

_log = logger(__name__)

FIRST_ID = 1000
"""Ids start high: the exchange's events carry small ones (protocol 2.6)."""

_LISTS = (Kind.LASTPRICE, Kind.TICKER, Kind.TRADE)
"""Kinds whose wildcard is a whole market list: never silent for long."""


class State(StrEnum):
    """Where a session stands; ``TRANSITIONS`` says what may follow."""

    OPENING = "opening"
    LIVE = "live"
    MUTE = "mute"
    CLOSED = "closed"


TRANSITIONS: dict[State, frozenset[State]] = {
    State.OPENING: frozenset({State.LIVE, State.CLOSED}),
    State.LIVE: frozenset({State.MUTE, State.CLOSED}),
    State.MUTE: frozenset({State.LIVE, State.CLOSED}),
    State.CLOSED: frozenset(),
}


@dataclass(frozen=True, slots=True)
class SessionOptions:
    """Times in seconds.

    Order books are reloaded every ``book_renewal``. More than ``garbage_limit`` unreadable frames
    within ``garbage_window`` close the session.
    """

    ping_interval: float = 20.0
    pong_timeout: float = 10.0
    ack_timeout: float = 5.0
    mute_after: float = 60.0
    garbage_limit: int = 10
    garbage_window: float = 60.0
    book_renewal: float = 600.0


class Session:
    """The protocol state of one socket that is open since ``now``."""

    def __init__(
        self,
        name: str,
        now: float,
        *,
        options: SessionOptions,
        metrics: Metrics,
        runs: Iterator[int],
    ) -> None:
        self._name = name
        self._options = options
        self._metrics = metrics
        self._state = State.OPENING
        self._fault: UpstreamError | None = None
        self._lines = {kind: Line(kind, runs, renewal=options.book_renewal) for kind in Kind}
        self._pending: dict[int, tuple[Line, float]] = {}
        self._next_id = FIRST_ID
        self._events: list[Event] = []
        self._outgoing: list[str] = []
        self._next_ping = now
        self._pong_due: float | None = None
        self._heard = now
        self._garbage: deque[float] = deque()
        self._violations: set[str] = set()
        self._changes = 0
        self._verbose = logging.getLogger(__name__).isEnabledFor(logging.DEBUG)
        self._count = {
            name: metrics.upstream_messages.labels(name)
            for name in (*Kind, "pong", "reply", "foreign")
        }
        self.wake(now)

    @property
    def state(self) -> State:
        return self._state

    @state.setter
    def state(self, state: State) -> None:
        if state is self._state:
            return
        if state not in TRANSITIONS[self._state]:
            raise RuntimeError(f"session cannot go from {self._state} to {state}")
        self._say("=", f"{self._state} to {state}")
        self._state = state
        self._changes += 1

    @property
    def fault(self) -> UpstreamError | None:
        """Why the session closed itself; the socket is to be closed then."""
        return self._fault

    @property
    def revision(self) -> int:
        """Changes with everything but plain events: the state, confirmations, runs, deadlines."""
        return self._changes

    def want(self, channels: frozenset[Channel], now: float) -> None:
        """Replace the set of channels (and wildcards) that this socket is to bring."""
        for kind, line in self._lines.items():
            line.want(frozenset(channel for channel in channels if channel.kind is kind))
        self._changes += 1
        self._advance(now)

    def receive(self, frame: str | bytes, now: float, received: float) -> None:
        """Take a frame in; never raises, whatever it holds."""
        if self._state is State.CLOSED:
            return
        if self._verbose:
            self._say("<", str(frame))
        try:
            message = wire.read(frame)
        except ProtocolViolation as violation:
            self._violated(violation, now)
            return
        if type(message) is wire.Update:
            self._update(message, now, received)
        elif type(message) is wire.Reply:
            self._count["reply"].inc()
            self._answered(message, now)
        elif type(message) is wire.Pong:
            self._count["pong"].inc()
            self._pong_due = None
            self._alive()
        else:
            self._count["foreign"].inc()

    def wake(self, now: float) -> None:
        """A deadline may have passed."""
        if self._state is State.CLOSED:
            return
        self._changes += 1
        if self._pong_due is not None and now >= self._pong_due:
            self._close(ConnectionLost("no pong"))
        elif now >= self._next_ping:
            self._ping(now)
        self._expire(now)
        self._watch(now)
        self._advance(now)

    def next_wake(self) -> float | None:
        """When to call ``wake`` at the latest; None once closed."""
        if self._state is State.CLOSED:
            return None
        times = [self._next_ping, *(deadline for _, deadline in self._pending.values())]
        waiting = [line.next_wake() for line in self._lines.values()]
        times.extend(time for time in waiting if time is not None)
        if self._pong_due is not None:
            times.append(self._pong_due)
        if (mute := self._mute_at()) is not None:
            times.append(mute)
        return min(times)

    def events(self) -> list[Event]:
        """What was heard since the last call."""
        events, self._events = self._events, []
        return events

    def outgoing(self) -> list[str]:
        """The frames to send now."""
        frames, self._outgoing = self._outgoing, []
        return frames

    def confirmed(self, channel: Channel) -> bool:
        """Whether ``channel`` is acknowledged, loaded if it is a book, and the socket not mute."""
        return self._state is State.LIVE and self._lines[channel.kind].confirmed(channel)

    def whole(self, kind: Kind) -> int | None:
        """The newest run of all of a kind, once that is acknowledged; None before."""
        line = self._lines[kind]
        if self._state is not State.LIVE or not line.whole:
            return None
        return max(line.runs.values())

    def hears(self, channel: Channel) -> bool:
        """Whether ``channel`` is wanted, by itself or under its wildcard."""
        return self._lines[channel.kind].hears(channel)

    def run(self, channel: Channel) -> int:
        """The number of the unbroken run that a wanted channel is in."""
        return self._lines[channel.kind].run(channel)

    def broken(self) -> dict[Channel, int]:
        """The runs of channels that were broken without their wildcard."""
        apart = {}
        for kind, line in self._lines.items():
            runs = line.runs
            whole = runs.get(Channel(kind, "*"))
            if whole is not None:
                apart.update({one: run for one, run in runs.items() if run != whole})
        return apart

    def adopt(self, runs: dict[Channel, int]) -> None:
        """Continue the runs of another session, for channels that lost nothing on the way."""
        for channel, number in runs.items():
            self._lines[channel.kind].adopt({channel: number})
        self._changes += 1

    @property
    def breaks(self) -> int:
        """How often any run was broken."""
        return sum(line.breaks for line in self._lines.values())

    def continue_runs(self, other: "Session") -> None:
        """Continue all runs of another session that brought the same channels."""
        for kind, line in self._lines.items():
            line.adopt(other._lines[kind].runs)  # noqa: SLF001  two of the same class
        self._changes += 1

    def lose(self, now: float, scope: Channel | None = None) -> None:
        """Something on ``scope`` (None: on everything) was missed: new runs, books reload."""
        for kind, line in self._lines.items():
            if scope is None or scope.kind is kind:
                line.lose(scope, now)
        self._changes += 1
        self._advance(now)

    def end(self, why: UpstreamError) -> None:
        """The socket has ended, or is to end."""
        self._close(why)
        self._changes += 1

    # Frames by what they are

    def _update(self, update: wire.Update, now: float, received: float) -> None:
        kind = update.channel.kind
        self._count[kind].inc()
        line = self._lines[kind]
        if line.hears(update.channel):
            self._heard = now
            if self._state is State.MUTE:
                self.state = State.LIVE
        before = line.revision
        run = line.accept(update, now)
        if run is not None:
            self._events.append(
                Event(update.channel, update.data, update.time, received, run, update.full)
            )
        if line.revision != before:
            self._changes += 1
            self._advance(now)

    def _answered(self, reply: wire.Reply, now: float) -> None:
        found = self._pending.pop(reply.id, None) if reply.id is not None else None
        if found is None:
            self._metrics.upstream_violations.labels("reply to no request").inc()
            return
        line, _deadline = found
        if reply.error is not None:
            _log.warning(
                "request rejected", connection=self._name, kind=line.kind, code=reply.error[0]
            )
        watched = self._watched
        line.answered(now, accepted=reply.error is None)
        if not watched:
            self._heard = now
        self._alive()
        self._advance(now)

    def _violated(self, violation: ProtocolViolation, now: float) -> None:
        reason = str(violation)
        self._metrics.upstream_violations.labels(reason).inc()
        if reason not in self._violations:
            self._violations.add(reason)
            _log.warning("unusable frame", connection=self._name, reason=reason)
        scope = violation.scope if isinstance(violation, wire.BadEvent) else None
        if scope is not None and not scope.wildcard:
            self.lose(now, scope)
            return
        self._garbage.append(now)
        while self._garbage[0] <= now - self._options.garbage_window:
            self._garbage.popleft()
        if len(self._garbage) > self._options.garbage_limit:
            self._close(ProtocolViolation("too many unreadable frames"))
        else:
            self.lose(now, scope)

    # Deadlines

    def _ping(self, now: float) -> None:
        self._send(wire.ping(self._take_id()))
        self._next_ping = now + self._options.ping_interval
        if self._pong_due is None:
            self._pong_due = now + self._options.pong_timeout

    def _expire(self, now: float) -> None:
        expired = [id_ for id_, (_, deadline) in self._pending.items() if deadline <= now]
        for id_ in expired:
            line, _deadline = self._pending.pop(id_)
            if line.subscribing:
                line.answered(now, accepted=False)
            else:
                self._close(ConnectionLost("request not answered"))

    @property
    def _watched(self) -> bool:
        return any(self._lines[kind].whole for kind in _LISTS)

    def _mute_at(self) -> float | None:
        """When silence turns into a fault; None while silence is no sign of anything."""
        if self._state is State.MUTE:
            return self._heard + max(1.0, self._options.mute_after / 2)
        if self._state is State.LIVE and self._watched:
            return self._heard + self._options.mute_after
        return None

    def _watch(self, now: float) -> None:
        deadline = self._mute_at()
        if deadline is None or now < deadline:
            return
        if self._state is State.MUTE:
            self._close(ConnectionLost("mute"))
            return
        self.state = State.MUTE
        self._heard = now
        for line in self._lines.values():
            line.renew(now)

    def _alive(self) -> None:
        if self._state is State.OPENING:
            self.state = State.LIVE
        self._changes += 1

    def _advance(self, now: float) -> None:
        if self._state is State.CLOSED:
            return
        for line in self._lines.values():
            before = line.renewals
            while (ask := line.due(now)) is not None:
                self._ask(line, ask, now)
            self._metrics.resyncs.labels("interval").inc(line.renewals - before)

    def _ask(self, line: Line, ask: Ask, now: float) -> None:
        id_ = self._take_id()
        self._pending[id_] = (line, now + self._options.ack_timeout)
        method = wire.method(line.kind, ask.verb)
        self._send(wire.request(id_, method, wire.params(ask.channels)))
        self._changes += 1

    def _take_id(self) -> int:
        self._next_id += 1
        return self._next_id - 1

    def _send(self, frame: str) -> None:
        self._outgoing.append(frame)
        if self._verbose:
            self._say(">", frame)

    def _close(self, fault: UpstreamError) -> None:
        if self._fault is None:
            self._say("!", str(fault))
            self._fault = fault
            self.state = State.CLOSED

    def _say(self, mark: str, text: str) -> None:
        """The transcript: ``<`` in, ``>`` out, ``=`` state, ``!`` fault."""
        _log.debug("transcript", connection=self._name, mark=mark, text=text)
