"""Before every route: the Host check, the headers of every answer, the count of requests.

Pure ASGI, and after the head of an answer it only passes on, so streams do not feel it.
"""

import re
from collections.abc import Iterable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.problems import SECURITY, problem
from app.errors import MalformedRequest

EXEMPT = frozenset({"/livez", "/readyz", "/metrics"})
"""Paths that answer to any Host: probes come by address."""

_PORT = re.compile(rb":[0-9]{0,5}")
_HEADERS = [(name.encode(), value.encode()) for name, value in SECURITY.items()]


class Guard:
    """To be added last to the application's middleware, so that it stands before all of it.

    ``allowed_hosts``: the accepted names, with or without a port; ``*`` among them accepts any.
    """

    def __init__(self, app: ASGIApp, *, allowed_hosts: Iterable[str]) -> None:
        self._app = app
        self._hosts = tuple(_spelt(host).lower().encode() for host in allowed_hosts)
        self._any = b"*" in self._hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        answered = False

        async def guarded(message: Message) -> None:
            nonlocal answered
            if not answered:
                answered = True
                message["headers"] = [*message.get("headers", ()), *_HEADERS]
                _count(scope, message["status"])
            await send(message)

        try:
            await (self._app if self._accepts(scope) else _MISDIRECTED)(scope, receive, guarded)
        finally:
            if not answered:
                # a bug, or a client that went before it was answered: what follows passes outside
                _count(scope, 500)

    def _accepts(self, scope: Scope) -> bool:
        if self._any or scope["path"] in EXEMPT:
            return True
        hosts = [value.lower() for name, value in scope["headers"] if name == b"host"]
        return len(hosts) == 1 and any(self._names(host, hosts[0]) for host in self._hosts)

    @staticmethod
    def _names(host: bytes, given: bytes) -> bool:
        return given.startswith(host) and (
            len(given) == len(host) or _PORT.fullmatch(given, len(host)) is not None
        )


_MISDIRECTED = problem(
    MalformedRequest("this Host is not served here: see SLUICE_ALLOWED_HOSTS", status=421)
)


def _spelt(host: str) -> str:
    """As a Host header spells it: an IPv6 address stands in brackets."""
    return f"[{host}]" if ":" in host and not host.startswith("[") else host


def _count(scope: Scope, status: int) -> None:
    """Count by the route's template: as few label values as there are routes."""
    metrics = scope.get("state", {}).get("metrics")
    if metrics is not None:
        path = getattr(scope.get("route"), "path", None)
        metrics.requests.labels(path if isinstance(path, str) else "none", status).inc()
