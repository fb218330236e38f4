"""The way of a frame, from the exchange's socket to the streams, as spans.

    frame ─┬─ sequence                                    the leader
           └─ append ── hear ── deliver                   every process

An entry is traced or not, as the sampler says of a trace whose id is made of its position: all
processes say the same. Others cost a hash.
"""

import time
from collections import deque
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

from opentelemetry.context import Context
from opentelemetry.sdk.trace.sampling import Decision, Sampler
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    TraceFlags,
    Tracer,
    set_span_in_context,
)
from opentelemetry.util.types import Attributes

from app.bus.broker import Broker, Heard, Notice
from app.domain.channel import Channel
from app.domain.event import Entry, Envelope
from app.domain.position import Position
from app.traces.ids import Ids, names

PENDING = 64
"""Entries that wait to be delivered and are traced; of more the oldest are not told of further."""


class Road:
    """The spans of entries, in the process that appends them and in those that hear them."""

    def __init__(self, tracer: Tracer, sampler: Sampler, ids: Ids) -> None:
        self._tracer = tracer
        self._sampler = sampler
        self._ids = ids
        self._heard: deque[tuple[Position, Span]] = deque(maxlen=PENDING)

    def appended(self, entry: Entry, began: int, ended: int) -> None:
        """An entry was appended, between two times in Unix nanoseconds."""
        if not self._sampled(entry):
            return
        frame, append = names(entry.position)
        start = min(began, *(int(one.received * 1e9) for one in entry.envelopes))
        told: Attributes = {
            "sluice.position": str(entry.position),
            "sluice.events": len(entry.envelopes),
            "sluice.kinds": sorted({one.channel.kind for one in entry.envelopes}),
        }
        kind = SpanKind.CONSUMER
        with self._ids.named(frame):
            root = self._tracer.start_span("frame", Context(), kind, told, start_time=start)
        within = set_span_in_context(root, Context())
        sequence = self._tracer.start_span("sequence", within, start_time=start)
        sequence.end(began)
        with self._ids.named(append):
            last = self._tracer.start_span("append", within, SpanKind.PRODUCER, start_time=began)
        last.end(ended)
        root.end(ended)

    def heard(self, entry: Entry) -> Span | None:
        """An entry has come, whoever appended it: a span to be ended when it is taken in."""
        if not self._sampled(entry):
            return None
        _, append = names(entry.position)
        sender = SpanContext(
            append.trace, append.span, is_remote=True, trace_flags=TraceFlags(TraceFlags.SAMPLED)
        )
        told: Attributes = {
            "sluice.position": str(entry.position),
            "sluice.events": len(entry.envelopes),
        }
        within = set_span_in_context(NonRecordingSpan(sender), Context())
        span = self._tracer.start_span("hear", within, SpanKind.CONSUMER, told)
        self._heard.append((entry.position, span))
        return span

    def delivered(self, after: Position, until: Position, deliveries: int, took: float) -> None:
        """What was published between two positions was written to streams, in ``took`` seconds.

        A span for each entry that is traced, linked to the others that went out in the same write.
        """
        written: list[tuple[Position, Span]] = []
        while self._heard and self._heard[0][0] <= until:
            one = self._heard.popleft()
            if one[0] > after:
                written.append(one)
        ended = time.time_ns()
        for position, parent in written:
            told: Attributes = {"sluice.position": str(position), "sluice.deliveries": deliveries}
            span = self._tracer.start_span(
                "deliver",
                set_span_in_context(parent, Context()),
                SpanKind.PRODUCER,
                told,
                [Link(one.get_span_context()) for _, one in written if one is not parent],
                start_time=ended - int(took * 1e9),
            )
            span.end(ended)

    def _sampled(self, entry: Entry) -> bool:
        if not entry.envelopes:
            return False
        frame, _ = names(entry.position)
        result = self._sampler.should_sample(Context(), frame.trace, "frame", SpanKind.CONSUMER)
        return result.decision is Decision.RECORD_AND_SAMPLE


class TracedBroker:
    """A broker whose entries are traced."""

    def __init__(self, broker: Broker, road: Road) -> None:
        self._broker = broker
        self._road = road
        self._tried: tuple[Position | None, int] = (None, 0)

    async def append(self, entry: Entry) -> None:
        """As the broker does; told once it is done, from the first attempt on."""
        if entry.position != self._tried[0]:
            self._tried = entry.position, time.time_ns()
        await self._broker.append(entry)
        self._road.appended(entry, self._tried[1], time.time_ns())

    async def save(
        self, watermark: Position, changed: Iterable[Envelope], gone: Iterable[Channel]
    ) -> None:
        """As the broker does."""
        await self._broker.save(watermark, changed, gone)

    async def history(self, after: Position, until: Position | None = None) -> list[Entry] | None:
        """As the broker does."""
        return await self._broker.history(after, until)

    async def tell(self, notice: Notice) -> None:
        """As the broker does."""
        await self._broker.tell(notice)

    @asynccontextmanager
    async def listen(self) -> AsyncIterator[AsyncIterator[Heard]]:
        """As the broker does; a span ends when its entry is taken in and the next is asked for."""
        async with self._broker.listen() as heard:
            yield self._hear(heard)

    async def _hear(self, heard: AsyncIterator[Heard]) -> AsyncIterator[Heard]:
        async for one in heard:
            span = self._road.heard(one) if isinstance(one, Entry) else None
            yield one
            if span is not None:
                span.end()
