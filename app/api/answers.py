"""States as answers: how old and how stale they are now, their validators, their bytes.

Nothing here waits, so what one answer holds belongs to one moment.
"""

import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
from starlette.responses import Response
from starlette.types import Scope

from app.api.parameters import unchanged
from app.domain.channel import Channel
from app.domain.event import Data, Envelope
from app.domain.position import START
from app.domain.store import State
from app.errors import NotReady
from app.hub.hub import Hub

Headers = list[tuple[bytes, bytes]]

_encode = msgspec.json.Encoder().encode


class Wanted(NamedTuple):
    """What is wanted of one channel.

    ``max_age``: seconds; older is not served. ``limit``: trades, or levels of each side, at most.
    """

    channel: Channel
    max_age: float | None = None
    limit: int | None = None


_VARY = (b"vary", b"Authorization, X-API-Key, Cookie")
"""A list holds what its caller may see: a cache must not tell it to another, whose list may well
stand at the same position."""


class Ready(Response):
    """A response that is bytes already: Starlette would encode each header of it again."""

    def __init__(self, status: int, headers: Headers, body: bytes = b"") -> None:
        self.status_code = status
        self.raw_headers = headers
        self.body = body
        self.background = None


class Answer:
    """What is known now of the states that a request asked for.

    It is as old as its oldest state, stale if any state is, and at the greatest position. Without
    states it stands at the beginning: only of an account may nothing be an answer.
    """

    def __init__(self, hub: Hub, states: Sequence[State], *, stale_after: float) -> None:
        now = time.time()
        self.states = states
        self._hub = hub
        self._stale_after = stale_after
        self._private = not states
        self._parts: list[tuple[State, float, bool]] = []
        self._age = 0.0
        self.stale = False
        self.position = START
        for state in states:
            age = max(0.0, now - state.received)
            stale = is_stale(hub, state, now, stale_after)
            self._parts.append((state, age, stale))
            self._age = max(self._age, age)
            self.stale |= stale
            self._private |= state.channel.private
            self.position = max(self.position, state.position)

    def single(self, scope: Scope, wanted: Wanted) -> Response:
        """The envelope of the one state."""
        headers = self._headers(wanted.max_age)
        if self._is_known(scope):
            return Ready(304, headers)
        [(state, age, stale)] = self._parts
        return _whole(headers, _envelope(state.snapshot(wanted.limit), age, stale))

    def several(self, scope: Scope, max_age: float | None) -> Response:
        """The envelopes of all states."""
        headers = self._headers(max_age)
        if self._is_known(scope):
            return Ready(304, headers)
        envelopes = (_envelope(state.snapshot(), age, stale) for state, age, stale in self._parts)
        return _whole(headers, b'{"data":[%b]}' % b",".join(envelopes))

    def of(self, states: Sequence[State]) -> "Answer":
        """The answer about some of the states."""
        return Answer(self._hub, states, stale_after=self._stale_after)

    def listed(self, scope: Scope, found: Sequence[Data], max_age: float | None) -> Response:
        """What was found in the states, with how old and stale that is beside it."""
        beside = b',"position":"%d-%d","age":%.3f,"stale":%b' % (
            *self.position,
            self._age,
            b"true" if self.stale else b"false",
        )
        return self._found(scope, found, max_age, beside)

    def alone(self, scope: Scope, found: Data, max_age: float | None) -> Response:
        """The one thing that was found."""
        return self._found(scope, found, max_age, b"")

    def _found(self, scope: Scope, found: Any, max_age: float | None, beside: bytes) -> Response:
        headers = self._headers(max_age)
        if self._is_known(scope):
            return Ready(304, headers)
        return _whole(headers, b'{"data":%b%b}' % (_encode(found), beside))

    def unchanged(self, max_age: float | None) -> Response:
        """304, whatever the request's validators: the end of a wait in which nothing came."""
        return Ready(304, self._headers(max_age))

    def _is_known(self, scope: Scope) -> bool:
        validators = [value for name, value in scope["headers"] if name == b"if-none-match"]
        return bool(validators) and unchanged(validators, self.position)

    def _headers(self, max_age: float | None) -> Headers:
        if max_age is not None and self._age > max_age:
            raise NotReady(
                f"the answer would be {self._age:.3f} s old, at most {max_age:g} s were asked for"
            )
        return [
            (b"etag", b'"%d-%d"' % self.position),
            (b"cache-control", b"private, no-store" if self._private else b"no-cache"),
            _VARY,
            (b"age", b"%d" % self._age),
            (b"sluice-stale", b"true" if self.stale else b"false"),
        ]


def _whole(headers: Headers, body: bytes) -> Response:
    headers += [
        (b"content-length", b"%d" % len(body)),
        (b"content-type", b"application/json"),
    ]
    return Ready(200, headers, body)


def _envelope(snapshot: Envelope, age: float, stale: bool) -> bytes:
    """The encoded snapshot, opened at its end for what holds only now."""
    return b'%b,"age":%.3f,"stale":%b}' % (snapshot.raw[:-1], age, b"true" if stale else b"false")


def is_stale(hub: Hub, state: State, now: float, after: float) -> bool:
    """Whether the upstream has not confirmed a channel for ``after`` seconds."""
    if hub.health is None:
        upstream, since = hub.status
        return upstream == "down" and now - since >= after
    return hub.health.stale(state.channel, state.received, now, after)
