"""Spans of requests: FastAPI's own, put right, and one for the opening of a stream.

FastAPI's lasts until the answer is complete, which for a stream may be an hour, or never if its
connection was taken: a stream has a span for its opening, and one for its end, of no length.
"""

from functools import partial

from opentelemetry import propagate
from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor
from opentelemetry.sdk.trace.sampling import Decision, Sampler
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Tracer,
    get_current_span,
    set_span_in_context,
)
from opentelemetry.trace import Span as AnySpan
from opentelemetry.util.types import Attributes
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.guard import EXEMPT, template
from app.api.stream import ENDED, PATH
from app.hub.subscription import Subscription
from app.logs import REQUEST
from app.traces.ids import Ids

REDACTED = "REDACTED"


class Sample:
    """The requests that FastAPI is to trace.

    It costs more than an answer to prepare a span, so the sampler is asked before: about an id that
    the span gets if it says yes. What comes in a trace already is left to FastAPI.
    """

    def __init__(self, sampler: Sampler, ids: Ids) -> None:
        self._sampler = sampler
        self._ids = ids

    def excludes(self, scope: Scope) -> bool:
        """Whether FastAPI has no span for it: nor has a probe, and a stream has others."""
        if scope["path"] == PATH or scope["path"] in EXEMPT:
            return True
        if any(name == b"traceparent" for name, _ in scope["headers"]):
            return False
        trace = self._ids.generate_trace_id()
        result = self._sampler.should_sample(Context(), trace, scope["method"], SpanKind.SERVER)
        if result.decision is Decision.DROP:
            return True
        self._ids.choose(trace)
        return False


class Unquerying(SpanProcessor):
    """Takes the query out of what FastAPI tells: a ticket may stand in it."""

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Before anyone else sees it."""
        if span.attributes is not None and "url.query" in span.attributes:
            span.set_attribute("url.query", REDACTED)

    def on_end(self, span: ReadableSpan) -> None:
        """Nothing is left to do."""


class RequestSpans:
    """Stands around the Guard, within FastAPI's span."""

    def __init__(self, app: ASGIApp, tracer: Tracer) -> None:
        self._app = app
        self._tracer = tracer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in EXEMPT:
            await self._app(scope, receive, send)
        elif scope["path"] == PATH:
            await self._open(scope, receive, send)
        else:
            span = get_current_span()
            named = partial(_named, span, scope, send) if span.is_recording() else send
            await self._app(scope, receive, named)

    async def _open(self, scope: Scope, receive: Receive, send: Send) -> None:
        span = self._tracer.start_span(
            "GET",
            propagate.extract(Headers(scope=scope)),
            SpanKind.SERVER,
            {
                "http.request.method": scope["method"],
                "url.scheme": scope.get("scheme", "http"),
                "url.path": PATH,
                "network.protocol.version": scope.get("http_version", ""),
            },
        )
        if span.is_recording():
            scope[ENDED] = partial(self._ended, span.get_span_context())

        async def opened(message: Message) -> None:
            await _named(span, scope, send, message)
            if message["type"] == "http.response.start":
                span.end()

        try:
            await self._app(scope, receive, opened)
        finally:
            if span.is_recording():  # it was not answered
                span.end()

    def _ended(self, opened: SpanContext, subscription: Subscription) -> None:
        told: Attributes = {
            "sluice.reason": subscription.ended,
            "sluice.events": subscription.events,
            "sluice.bytes": subscription.bytes,
        }
        within = set_span_in_context(NonRecordingSpan(opened), Context())
        self._tracer.start_span("stream ended", within, attributes=told).end()


async def _named(span: AnySpan, scope: Scope, send: Send, message: Message) -> None:
    """Name a span as soon as it is known what was asked for, whichever road answers it."""
    if message["type"] == "http.response.start" and span.is_recording():
        route = template(scope)
        if route == "none":
            span.set_attribute("url.path", REDACTED)  # it may be anything
        else:
            span.update_name(f"{scope['method']} {route}")
            span.set_attribute("http.route", route)
        span.set_attribute("http.response.status_code", message["status"])
        span.set_attribute("sluice.request_id", REQUEST.get(""))
    await send(message)
