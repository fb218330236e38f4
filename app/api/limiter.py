"""The limit on requests that stands before every route. Pure ASGI."""

import math

from starlette.types import ASGIApp, Receive, Scope, Send

from app.api.client import client_of
from app.api.deps import state_of
from app.api.guard import EXEMPT, FIELDS
from app.api.problems import problem
from app.errors import TooManyRequests

UNLIMITED = EXEMPT | {"/v1/stream"}
"""Probes, and streams, which have limits of their own (``Admission``)."""


class Limiter:
    """Refuses what is too much with 429, and has every other answer say what is left.

    ``RateLimit`` and ``RateLimit-Policy`` are written as draft-ietf-httpapi-ratelimit-headers-09
    (and -08, -10) has them; the Guard puts them into the answer. Before the lifespan has begun
    nothing is counted: only documents are served then.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in UNLIMITED or "state" not in scope:
            await self._app(scope, receive, send)
            return
        state = state_of(scope)
        quotas, client = state["quotas"], client_of(scope)
        if quotas.owes(client):
            await quotas.settle(client)
        taken = quotas.take(client)
        wait = math.ceil(taken.wait) or 1
        scope[FIELDS] = (
            (b"ratelimit-policy", quotas.policy),
            (b"ratelimit", b'"default";r=%d;t=%d' % (max(taken.left, 0), wait)),
        )
        if not taken.refused:
            await self._app(scope, receive, send)
            return
        state["metrics"].refused.labels("rate").inc()
        refusal = TooManyRequests("more requests came from here than one client may make", wait)
        await problem(refusal)(scope, receive, send)
