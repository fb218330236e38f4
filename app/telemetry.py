"""What the gateway says of itself: log lines without secrets, and every metric by its name."""

import logging
import re
import sys
from collections.abc import Mapping, MutableMapping
from typing import Any, Literal

import structlog
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
)

_NAME = r"(?:x-api-|api_?|access_)?(?:token|ticket|key|sign|authorization|password)"
_SECRET = re.compile(
    rf"(?i)((?:\b{_NAME}="
    r"|\b(?:authorization|x-api-key)['\"]?:\s*['\"]?"
    rf"|['\"]{_NAME}['\"]:\s*['\"])(?:(?:bearer|basic)\s+)?)[^\s&\"']+"
)
_NAMED = re.compile(rf"(?i){_NAME}|(?:set_?)?cookies?|secret|query_?string")
_COOKIE = re.compile(r"(?i)(\b(?:set-)?cookie['\"]?[:,]\s*b?['\"]?)[^\r\n'\"]+")
_HEADER = re.compile(r"(?i)(['\"](?:proxy-)?(?:authorization|x-api-key)['\"],\s*b?['\"])[^'\"]*")
_QUERY = re.compile(r"((?:[a-z+]+://|/)[^\s?\"']*)\?[^\s\"']+")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")

LogFormat = Literal["console", "json"]


def redact(text: str) -> str:
    """``text`` without secret-looking query values and without control characters."""
    return _CONTROL.sub(lambda found: repr(found[0])[1:-1], _SECRET.sub(r"\1***", text))


def redact_line(text: str) -> str:
    """As ``redact``, and without cookies and query strings: what may stand in a log."""
    for pattern in (_QUERY, _COOKIE, _HEADER):
        text = pattern.sub(r"\1?***" if pattern is _QUERY else r"\1***", text)
    return redact(text)


def _redacted(
    _logger: Any, _method: str, fields: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    for name, value in fields.items():
        fields[name] = _clean(name, value)
    return fields


def _clean(name: str, value: Any) -> Any:
    """A field as it may stand in a log, and what is in it."""
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if _NAMED.fullmatch(name):
        return "***"
    if isinstance(value, Mapping):
        return {redact_line(str(key)): _clean(str(key), one) for key, one in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_clean("", one) for one in value]
    return redact_line(str(value))


class _Redacting(logging.Filter):
    """For loggers with handlers of their own: their lines are redacted as ours are."""

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, tuple):  # uvicorn's formatter wants them one by one
            record.args = tuple(
                redact_line(one) if isinstance(one, str) else one for one in record.args
            )
        return True


class _Silent(logging.Filter):
    """For what tells whole requests, headers and all, at its lowest level."""

    def filter(self, _record: logging.LogRecord) -> bool:
        return False


def configure_logging(log_format: LogFormat | None = None, *, level: int = logging.INFO) -> None:
    """Send every log line, the libraries' too, through one redacting formatter to stderr."""
    if log_format is None:
        log_format = "console" if sys.stderr.isatty() else "json"
    before: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        _redacted,
    ]
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
        if log_format == "console"
        else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[*before, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.ExtraAdder(), *before],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    logging.root.handlers = [handler]
    logging.root.setLevel(level)
    for chatty in ("httpx", "httpcore", "websockets", "uvicorn"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    for name, kind in (("access", _Redacting), ("error", _Redacting), ("asgi", _Silent)):
        served = logging.getLogger(f"uvicorn.{name}")
        if not any(isinstance(one, kind) for one in served.filters):
            served.addFilter(kind())


def logger(name: str) -> structlog.stdlib.BoundLogger:
    """The logger of a room."""
    bound: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(name)
    return bound


class Metrics:
    """Every metric of a process, by name; label values are from closed sets."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call] # not typed by the library
        self.registry = CollectorRegistry()

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(name, text, labels, registry=self.registry)

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(name, text, labels, registry=self.registry)

        self.upstream_messages = counter(
            "sluice_upstream_messages", "Frames read from the exchange", "kind"
        )
        self.upstream_violations = counter(
            "sluice_upstream_violations", "Frames that broke the exchange's protocol", "reason"
        )
        self.upstream_connections = gauge(
            "sluice_upstream_connections", "Upstream sockets that are live"
        )
        self.upstream_disconnects = counter(
            "sluice_upstream_disconnects", "Upstream sockets that ended", "reason"
        )
        self.token_fetches = counter(
            "sluice_upstream_token_fetches", "Socket tokens asked for", "outcome"
        )
        self.resyncs = counter("sluice_book_resyncs", "Order books subscribed anew", "reason")
        self.audits = counter("sluice_book_audits", "Order books compared with REST", "outcome")
        self.audit_match = gauge(
            "sluice_book_audit_match_ratio", "Share of the top levels that matched REST", "channel"
        )
        self.events = counter("sluice_events", "Events published", "kind")
        self.gaps = counter("sluice_gaps", "Events published with a gap before them", "kind")
        self.streams = gauge("sluice_streams_open", "Event streams open")
        self.streams_lagging = gauge("sluice_streams_catching_up", "Event streams not live")
        self.streams_ended = counter("sluice_streams_ended", "Event streams that ended", "reason")
        self.deliveries = counter("sluice_deliveries", "Events written to event streams")
        self.delivery_age = Histogram(
            "sluice_delivery_age_seconds",
            "From reading an event off the exchange to writing it to streams, per batch",
            registry=self.registry,
            buckets=(0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5),
        )
        self.broker_losses = counter("sluice_broker_losses", "Times that the broker was lost")
        self.broker_holes = counter(
            "sluice_broker_holes", "Holes in what was published, filled from the journal"
        )
        self.terms = counter("sluice_lease_terms", "Times that this process has come to lead")
        self.leading = gauge("sluice_lease_held", "Whether this process leads")
        self.requests = counter("sluice_http_requests", "HTTP requests answered", "route", "status")
        self.refused = counter(
            "sluice_http_refused", "Requests and connections refused before any route", "reason"
        )
