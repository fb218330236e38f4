"""The SDK, set up by its own environment variables, and what is traced with it."""

import asyncio
from collections.abc import Mapping
from threading import Thread

from fastapi.telemetry import TelemetryConfig
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter, SpanExporter
from starlette.types import ASGIApp

from app import __version__
from app.bus.broker import Broker
from app.errors import NoTraces
from app.hub.collector import Collector
from app.traces.ids import Ids
from app.traces.requests import RequestSpans, Sample, Unquerying
from app.traces.road import Road, TracedBroker

FLUSH = 2.0
"""Seconds that a receiver has, in the end, to take the last spans."""


class Traces:
    """Spans of this process; ``processor`` is what they end at."""

    def __init__(self, processor: SpanProcessor) -> None:
        resource = Resource.create()
        if str(resource.attributes[SERVICE_NAME]).startswith("unknown_service"):
            resource = resource.merge(Resource({SERVICE_NAME: "sluice"}))
        resource = resource.merge(Resource({SERVICE_VERSION: __version__}))
        ids = Ids()
        self._provider = TracerProvider(resource=resource, id_generator=ids, shutdown_on_exit=False)
        self._provider.add_span_processor(Unquerying())
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("sluice", __version__)
        self._sample = Sample(self._provider.sampler, ids)
        self._road = Road(self._tracer, self._provider.sampler, ids)

    @classmethod
    def to(cls, environ: Mapping[str, str]) -> "Traces":
        """Spans for whom the environment names; raises NoTraces."""
        return cls(BatchSpanProcessor(_exporter(environ)))

    @property
    def sampling(self) -> str:
        """What decides which spans there are."""
        return self._provider.sampler.get_description()

    @property
    def config(self) -> TelemetryConfig:
        """What FastAPI is told: a span for every request but streams, and nothing else."""
        return {
            "tracer_provider": self._provider,
            "tracing": True,
            "operation_spans": False,
            "metrics": False,
            "logs": False,
            "auto_configure": False,
            "exclude": self._sample.excludes,
        }

    def along(self, broker: Broker, collector: Collector) -> Broker:
        """The broker, with spans for what goes through it and on to streams."""
        collector.told = self._road.delivered
        return TracedBroker(broker, self._road)

    def around(self, app: ASGIApp) -> ASGIApp:
        """The application, with spans for streams too."""
        return RequestSpans(app, self._tracer)

    async def close(self) -> None:
        """Send what is left, if that does not take too long."""
        # no executor's: one that hangs would keep the process from ending
        closing = Thread(target=self._provider.shutdown, name="traces-close", daemon=True)
        closing.start()
        await asyncio.to_thread(closing.join, FLUSH)


def _exporter(environ: Mapping[str, str]) -> SpanExporter:
    kind = environ.get("OTEL_TRACES_EXPORTER", "").strip().lower() or "otlp"
    if kind == "console":
        return ConsoleSpanExporter()
    if kind != "otlp":
        raise NoTraces(f"OTEL_TRACES_EXPORTER is {kind!r}, expected otlp, console or none")
    for name in ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"):
        protocol = environ.get(name, "").strip()
        if protocol and protocol != "http/protobuf":
            raise NoTraces(f"{name} is {protocol!r}, expected http/protobuf")
        if protocol:
            break
    return OTLPSpanExporter()
