"""Who may read answers in a browser: pages of the listed origins, spelt exactly (CORS)."""

from collections.abc import Iterable

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp

from app.api.problems import problem
from app.errors import MalformedRequest

READABLE = (
    *("ETag", "Age", "Sluice-Stale", "Retry-After"),
    *("RateLimit", "RateLimit-Policy", "X-Request-ID"),
)
"""Headers that a page may read beside those that any may."""
SENT = ("Authorization", "X-API-Key", "Last-Event-ID", "If-None-Match", "X-Request-ID")
"""Headers that a page may send after a preflight."""


class Cors(CORSMiddleware):
    """Answers preflights, and has every answer say whether the asking page may read it."""

    def __init__(self, app: ASGIApp, *, origins: Iterable[str]) -> None:
        super().__init__(
            app,
            allow_origins=tuple(origins),
            allow_credentials=True,
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=SENT,
            expose_headers=READABLE,
        )

    def preflight_response(self, request_headers: Headers) -> Response:
        """The library's answer; a refusal in the shape of every other error."""
        answer = super().preflight_response(request_headers)
        if answer.status_code == 200:
            return answer
        refusal = problem(
            MalformedRequest("this origin, method or header is not let through: see the API guide")
        )
        refusal.headers["vary"] = answer.headers["vary"]
        return refusal
