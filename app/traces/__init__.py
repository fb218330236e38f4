"""Traces, where wanted: the way of a frame, and requests, as OpenTelemetry spans.

The SDK is an extra, and what is to be done with spans its own ``OTEL_*`` environment variables say.
Where they say nothing, nothing here is even loaded.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from app.errors import NoTraces
from app.logs import logger

if TYPE_CHECKING:
    from app.traces.traces import Traces

log = logger("traces")

_WANTING = (
    "OTEL_TRACES_EXPORTER",
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
)


def wanted(environ: Mapping[str, str]) -> bool:
    """Whether traces are to be sent anywhere."""
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    if environ.get("OTEL_TRACES_EXPORTER", "").strip().lower() == "none":
        return False
    return any(environ.get(name, "").strip() for name in _WANTING)


def begin(environ: Mapping[str, str]) -> "Traces | None":
    """What traces this process; None if none are wanted, or can be had (which is told)."""
    if not wanted(environ):
        return None
    try:
        from app.traces.traces import Traces  # noqa: PLC0415 -- loaded only where it is wanted
    except ImportError as error:
        log.warning("no traces", reason=f"{error}: install requirements-traces.txt")
        return None
    try:
        traces = Traces.to(environ)
    except NoTraces as error:
        log.warning("no traces", reason=str(error))
        return None
    log.info("traces", sampler=traces.sampling)
    return traces
