"""The same question again, answered ahead of the routing.

FastAPI's routing and validation cost several times what an answer from ready bytes costs, and most
of opening a stream. So what they made of a request's target is kept, and the same target is
answered from it if that can be done at once. Everything else, every refusal among it, takes the
road through FastAPI.
"""

from collections.abc import Callable

from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from app.errors import ClientError

AGAIN = "sluice.again"
"""Where a route leaves the ``Question`` in the scope, if its target may be asked again."""

LONGEST = 250
"""Bytes of a query string that is kept."""

Question = Callable[[Scope], ASGIApp | None]
"""What a target asks, read and validated: the answer to a request as of now, rights and limits
judged anew; None if it needs a wait. Raises ClientError for a refusal."""


class FastPath:
    """Remembers at most ``most`` questions, each by its path and query string."""

    def __init__(self, app: ASGIApp, *, most: int = 4096) -> None:
        self._app = app
        self._most = most
        self._known: dict[tuple[str, bytes], tuple[Question, BaseRoute]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope.get("method") != "GET":
            await self._app(scope, receive, send)
            return
        target = scope["path"], scope["query_string"]
        known = self._known.get(target)
        if known is not None and (answer := _at_once(known[0], scope)) is not None:
            scope["route"] = known[1]
            await answer(scope, receive, send)
            return
        await self._app(scope, receive, send)
        if AGAIN in scope and len(scope["query_string"]) <= LONGEST:
            self._keep(target, scope)

    def _keep(self, target: tuple[str, bytes], scope: Scope) -> None:
        if len(self._known) >= self._most:
            self._known.clear()
        self._known[target] = scope[AGAIN], scope["route"]


def _at_once(question: Question, scope: Scope) -> ASGIApp | None:
    try:
        return question(scope)
    except ClientError:
        return None
