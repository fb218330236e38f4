"""States as answers: how old and how stale they are now, their validators, their bytes.

Nothing here waits, so what one answer holds belongs to one moment.
"""

import time
from collections.abc import Callable, Sequence

from starlette.requests import Request
from starlette.responses import Response

from app.api.parameters import unchanged
from app.domain.position import Position
from app.domain.store import State
from app.errors import NotReady
from app.hub.hub import Hub


class Answer:
    """What is known now of the states that a request asked for; at least one.

    It is as old as its oldest state, stale if any state is, and at the greatest position.
    """

    def __init__(self, hub: Hub, states: Sequence[State], *, stale_after: float) -> None:
        now = time.time()
        self._states = states
        self._ages = [max(0.0, now - state.received) for state in states]
        self._stale = [is_stale(hub, state, now, stale_after) for state in states]
        self.position: Position = max(state.position for state in states)

    def single(self, request: Request, *, max_age: float | None, limit: int | None) -> Response:
        """The envelope of the one state."""
        state = self._states[0]
        return self._respond(
            request, max_age, lambda: self._envelope(0, state.snapshot(limit).raw), self._ages[0]
        )

    def several(self, request: Request, *, max_age: float | None) -> Response:
        """The envelopes of all states."""
        return self._respond(request, max_age, self._list, max(self._ages))

    def unchanged(self, *, max_age: float | None) -> Response:
        """304, whatever the request's validators: the end of a wait in which nothing came."""
        age = max(self._ages)
        _require_fresh(age, max_age)
        return Response(status_code=304, headers=self._headers(age))

    def _respond(
        self, request: Request, max_age: float | None, body: Callable[[], bytes], age: float
    ) -> Response:
        _require_fresh(age, max_age)
        headers = self._headers(age)
        if unchanged(request.headers.getlist("if-none-match"), self.position):
            return Response(status_code=304, headers=headers)
        return Response(body(), headers=headers, media_type="application/json")

    def _headers(self, age: float) -> dict[str, str]:
        return {
            "etag": f'"{self.position}"',
            "cache-control": "no-cache",
            "age": str(int(age)),
            "sluice-stale": "true" if any(self._stale) else "false",
        }

    def _list(self) -> bytes:
        envelopes = (
            self._envelope(number, state.snapshot().raw)
            for number, state in enumerate(self._states)
        )
        return b'{"data":[%b]}' % b",".join(envelopes)

    def _envelope(self, number: int, raw: bytes) -> bytes:
        """The encoded snapshot, opened at its end for what holds only now."""
        stale = b"true" if self._stale[number] else b"false"
        return b'%b,"age":%.3f,"stale":%b}' % (raw[:-1], self._ages[number], stale)


def is_stale(hub: Hub, state: State, now: float, after: float) -> bool:
    """Whether the upstream has not confirmed a channel for ``after`` seconds."""
    if hub.health is None:
        upstream, since = hub.status
        return upstream == "down" and now - since >= after
    return hub.health.stale(state.channel, state.received, now, after)


def _require_fresh(age: float, max_age: float | None) -> None:
    if max_age is not None and age > max_age:
        raise NotReady(f"the answer would be {age:.3f} s old, at most {max_age:g} s were asked for")
