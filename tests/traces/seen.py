"""Traces that end in the test's hands."""

from collections.abc import Mapping

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanContext

from app.traces.traces import Traces


class Seen:
    """One process's traces, and the spans that have ended in it."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self.traces = Traces(SimpleSpanProcessor(self._exporter))

    def spans(self, *names: str) -> list[ReadableSpan]:
        """In the order in which they ended; only those of such names, if any are given."""
        found = self._exporter.get_finished_spans()
        return [span for span in found if not names or span.name in names]

    def one(self, name: str) -> ReadableSpan:
        (span,) = self.spans(name)
        return span


def place(span: ReadableSpan) -> SpanContext:
    context: SpanContext | None = span.context
    assert context is not None
    return context


def told(span: ReadableSpan) -> Mapping[str, object]:
    assert span.attributes is not None
    return dict(span.attributes)


def child(span: ReadableSpan, parent: ReadableSpan) -> bool:
    """Whether it stands under the other, wherever both were made."""
    return (
        span.parent is not None
        and span.parent.span_id == place(parent).span_id
        and place(span).trace_id == place(parent).trace_id
    )
