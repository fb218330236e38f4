"""Before everything: the Host check, the headers of every answer, the count of requests.

Pure ASGI, and after the head of an answer it only passes on, so streams do not feel it.
"""

import re
from collections.abc import Iterable
from functools import lru_cache

from prometheus_client import Counter
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.problems import problem
from app.errors import MalformedRequest

PAGES = "/docs"
"""Where there are pages, not answers to programs."""

EXEMPT = frozenset({"/livez", "/readyz", "/metrics"})
"""Paths that answer to any Host: probes come by address."""

FIELDS = "sluice.fields"
"""Where the scope holds header fields for the answer, whoever makes it."""

SECURITY = [(b"x-content-type-options", b"nosniff"), (b"referrer-policy", b"no-referrer")]

_POLICY = {
    "default-src": "'none'",
    "script-src": "'self' 'unsafe-inline'",
    "style-src": "'self' 'unsafe-inline'",
    "img-src": "'self' data:",
    "connect-src": "'self'",
    "base-uri": "'none'",
    "form-action": "'none'",
    "frame-ancestors": "'none'",
}
"""The reference's own scripts and no others; its first lines are written into the page."""

_PAGE = (b"content-security-policy", "; ".join(map(" ".join, _POLICY.items())).encode())


class Guard:
    """To stand around the whole application, so that its answers to bugs pass here too.

    ``allowed_hosts``: the accepted names, with or without a port; ``*`` among them accepts any.
    """

    def __init__(self, app: ASGIApp, *, allowed_hosts: Iterable[str]) -> None:
        self._app = app
        hosts = [_spelt(host).encode() for host in allowed_hosts]
        self._any = b"*" in hosts
        names = b"|".join(map(re.escape, hosts))
        self._host = re.compile(b"(?:%b)(?::[0-9]{0,5})?" % names, re.IGNORECASE)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        answered = False

        async def guarded(message: Message) -> None:
            nonlocal answered
            if not answered:
                answered = True
                message["headers"] = [
                    *message.get("headers", ()),
                    *SECURITY,
                    *scope.get(FIELDS, ()),
                ]
                if scope["path"].startswith(PAGES):
                    message["headers"].append(_PAGE)
                _count(scope, message["status"])
            await send(message)

        try:
            await (self._app if self._accepts(scope) else _MISDIRECTED)(scope, receive, guarded)
        finally:
            if not answered:
                # a client that went before it was answered
                _count(scope, 500)

    def _accepts(self, scope: Scope) -> bool:
        if self._any or scope["path"] in EXEMPT:
            return True
        hosts = [value for name, value in scope["headers"] if name == b"host"]
        return len(hosts) == 1 and self._host.fullmatch(hosts[0]) is not None


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
        _counter(metrics.requests, path if isinstance(path, str) else "none", status).inc()


@lru_cache
def _counter(requests: Counter, path: str, status: int) -> Counter:
    return requests.labels(path, status)
