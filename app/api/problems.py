"""Errors as ``application/problem+json`` (RFC 9457): the only room that renders them.

``type`` is ``/problems/`` and the title with hyphens for the gateway's own errors, ``about:blank``
for plain HTTP ones. What a client sent is shown without control characters and cut.
"""

from http import HTTPStatus
from typing import Any

import msgspec
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from app.errors import (
    BrokerUnavailable,
    ClientError,
    MalformedRequest,
    NotReady,
    UpstreamUnavailable,
)
from app.logs import logger, redact

log = logger("problems")

MEDIA_TYPE = "application/problem+json"

LONGEST = 500
"""Characters of a detail."""

_RETRY_AFTER = 2

_PLAIN = {
    404: "nothing is served at this path",
    405: "this path does not take this method",
    500: "the gateway failed on this request; its log says why",
}

_encode = msgspec.json.Encoder().encode


def problem(error: ClientError) -> Response:
    """An error of the gateway as the answer that a client gets."""
    headers = {}
    if error.retry_after is not None:
        headers["retry-after"] = str(error.retry_after)
    if error.status == 401:
        headers["www-authenticate"] = "Bearer"
    kind = "/problems/" + error.title.replace(" ", "-")
    return _render(kind, error.title, error.status, error.detail, headers)


def install(app: FastAPI) -> None:
    """Have every error of ``app`` rendered here."""
    for kind in (
        ClientError,
        RequestValidationError,
        HTTPException,
        UpstreamUnavailable,
        BrokerUnavailable,
    ):
        app.add_exception_handler(kind, _answer)
    app.add_exception_handler(Exception, _failed)


async def _answer(_request: Request, error: Exception) -> Response:
    match error:
        case ClientError():
            return problem(error)
        case RequestValidationError():
            return problem(MalformedRequest(_first(error.errors()), status=422))
        case UpstreamUnavailable():
            return problem(NotReady("the exchange cannot be asked now", retry_after=_RETRY_AFTER))
        case BrokerUnavailable():
            tell_away(error)
            return problem(NotReady("the broker cannot be reached now", retry_after=_RETRY_AFTER))
        case HTTPException():
            return _plain(error.status_code, error.detail, dict(error.headers or {}))
    raise error


async def _failed(_request: Request, _error: Exception) -> Response:
    return failure()


def tell_away(error: BrokerUnavailable) -> None:
    """Tell the log what the client is not told."""
    log.warning("no broker for a request", reason=str(error))


def failure() -> Response:
    """The answer to a bug of ours."""
    return _plain(500, "", {})


def _plain(status: int, detail: str, headers: dict[str, str]) -> Response:
    title = HTTPStatus(status).phrase.lower()
    return _render("about:blank", title, status, _PLAIN.get(status, detail), headers)


def _first(found: Any) -> str:
    """The first thing that is wrong with the parameters; never its value."""
    where = ".".join(str(part) for part in found[0]["loc"][1:2]) or str(found[0]["loc"][0])
    more = f" ({len(found) - 1} more)" if len(found) > 1 else ""
    return f"{where}: {found[0]['msg'][:1].lower()}{found[0]['msg'][1:]}{more}"


def _render(kind: str, title: str, status: int, detail: str, headers: dict[str, str]) -> Response:
    clean = redact(detail).encode(errors="backslashreplace").decode()[:LONGEST]
    return Response(
        _encode({"type": kind, "title": title, "status": status, "detail": clean}),
        status_code=status,
        headers={"cache-control": "no-store", **headers},
        media_type=MEDIA_TYPE,
    )
