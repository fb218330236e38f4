"""What the gateway counts of itself: every metric by its name."""

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
)

SOON = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5)
"""Bounds of what should take milliseconds, in seconds."""


class Metrics:
    """Every metric of a process, by name; label values are from closed sets."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call] # not typed by the library
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        GCCollector(registry=self.registry)

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(name, text, labels, registry=self.registry)

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(name, text, labels, registry=self.registry)

        def histogram(name: str, text: str, *labels: str) -> Histogram:
            return Histogram(name, text, labels, registry=self.registry, buckets=SOON)

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
            "sluice_book_audit_match_ratio",
            "Share of the top levels that matched REST, of the book where it is lowest",
        )
        self.audit_match.set(1)
        self.events = counter("sluice_events", "Events published", "kind")
        self.gaps = counter("sluice_gaps", "Events published with a gap before them", "kind")
        self.streams = gauge("sluice_streams_open", "Event streams open")
        self.polls = gauge("sluice_long_polls_waiting", "REST requests that wait for news")
        self.streams_lagging = gauge("sluice_streams_catching_up", "Event streams not live")
        self.streams_ended = counter("sluice_streams_ended", "Event streams that ended", "reason")
        self.deliveries = counter("sluice_deliveries", "Events written to event streams")
        self.stream_bytes = counter("sluice_stream_bytes", "Bytes written to event streams")
        self.delivery_age = histogram(
            "sluice_delivery_age_seconds",
            "From reading an event off the exchange to writing it to streams, per batch",
        )
        self.journal_delay = histogram(
            "sluice_journal_delay_seconds",
            "From reading an event off the exchange to hearing it from the broker, per batch",
        )
        self.broker_losses = counter("sluice_broker_losses", "Times that the broker was lost")
        self.broker_holes = counter(
            "sluice_broker_holes", "Holes in what was published, filled from the journal"
        )
        self.terms = counter("sluice_lease_terms", "Times that this process has come to lead")
        self.leading = gauge("sluice_lease_held", "Whether this process leads")
        self.requests = counter("sluice_http_requests", "HTTP requests answered", "route", "status")
        self.request_seconds = histogram(
            "sluice_http_request_seconds",
            "From a request to the head of its answer; not of requests that were to wait",
            "route",
        )
        self.refused = counter(
            "sluice_http_refused", "Requests and connections refused before any route", "reason"
        )
