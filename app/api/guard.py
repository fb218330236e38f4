"""Before everything: the Host check, the headers of every answer, the count and log of requests.

Pure ASGI, and after the head of an answer it only passes on, so streams do not feel it.
"""

import asyncio
import logging
import re
from collections.abc import Iterable
from time import perf_counter

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.client import client_of
from app.api.problems import failure, problem
from app.api.request_id import FIELD, identify
from app.errors import MalformedRequest, NotReady
from app.logs import REQUEST, logger

log = logger("request")
_verbose = logging.getLogger("request").isEnabledFor

WAIT = b"wait="
"""In the query of a request that may be answered later on purpose."""

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

        began = perf_counter()
        hosts, asked = _read(scope)
        request = identify(asked)
        REQUEST.set(request.decode())
        status = 0

        async def guarded(message: Message) -> None:
            nonlocal status
            if not status:
                status = message["status"]
                message["headers"] = [
                    *message.get("headers", ()),
                    *SECURITY,
                    (FIELD, request),
                    *scope.get(FIELDS, ()),
                ]
                if scope["path"].startswith(PAGES):
                    message["headers"].append(_PAGE)
                _count(scope, status, perf_counter() - began)
            await send(message)

        app = self._app if self._accepts(scope["path"], hosts) else _MISDIRECTED
        try:
            await app(scope, receive, guarded)
        except asyncio.CancelledError:
            if status:
                raise
            await _LEAVING(scope, receive, guarded)  # the server would say 500, in plain text
        except Exception:
            if not status:
                await failure()(scope, receive, guarded)
            raise
        finally:
            if not status:
                # a client that went before it was answered
                status = 500
                _count(scope, status)
            _tell(scope, status, perf_counter() - began)

    def _accepts(self, path: str, hosts: list[bytes]) -> bool:
        if self._any or path in EXEMPT:
            return True
        return len(hosts) == 1 and self._host.fullmatch(hosts[0]) is not None


_MISDIRECTED = problem(
    MalformedRequest("this Host is not served here: see SLUICE_ALLOWED_HOSTS", status=421)
)

_LEAVING = problem(NotReady("this process is shutting down"))


def _read(scope: Scope) -> tuple[list[bytes], bytes | None]:
    """The values of Host, and of the request's id the last."""
    hosts, asked = [], None
    for name, value in scope["headers"]:
        if name == b"host":
            hosts.append(value)
        elif name == FIELD:
            asked = value
    return hosts, asked


def _spelt(host: str) -> str:
    """As a Host header spells it: an IPv6 address stands in brackets."""
    return f"[{host}]" if ":" in host and not host.startswith("[") else host


def _count(scope: Scope, status: int, duration: float | None = None) -> None:
    """Count by the route's template: as few label values as there are routes."""
    metrics = scope.get("state", {}).get("metrics")
    if metrics is None:
        return
    waited = duration is None or WAIT in scope["query_string"]
    metrics.requests.count(template(scope), status, None if waited else duration)


def _tell(scope: Scope, status: int, duration: float) -> None:
    """A line for what was not as it should be; for every request at the lowest level alone.

    Neither path nor query stand in it: what a client wrote there may be secret.
    """
    if status < 400 and not _verbose(logging.DEBUG):
        return
    level = logging.DEBUG if status < 400 else logging.INFO if status < 500 else logging.WARNING
    log.log(
        level,
        "request",
        method=scope["method"],
        route=template(scope),
        status=status,
        duration=round(duration, 6),
        client=client_of(scope),
    )


def template(scope: Scope) -> str:
    """The route that answers a request; ``none`` where there is none, or none was asked yet."""
    path = getattr(scope.get("route"), "path", None)
    return path if isinstance(path, str) else "none"
