"""What the gateway counts of itself: every metric by its name."""

from bisect import bisect_left
from collections import Counter as Counts
from collections.abc import Iterator
from itertools import accumulate

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

SOON = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5)
"""Bounds of what should take milliseconds, in seconds."""


class Requests(Collector):
    """The requests that were answered, by the routes' templates.

    Every request is counted, in one thread: plain numbers cost a quarter of what the library's do,
    each of which has a lock.
    """

    def __init__(self) -> None:
        self._answered = Counts[tuple[str, int]]()
        self._took: dict[str, list[int]] = {}
        self._seconds: dict[str, float] = {}

    def count(self, route: str, status: int, seconds: float | None) -> None:
        """One more; ``seconds`` until the head of its answer, None if that says nothing."""
        self._answered[route, status] += 1
        if seconds is not None:
            if route not in self._took:
                self._took[route] = [0] * (len(SOON) + 1)
                self._seconds[route] = 0.0
            self._took[route][bisect_left(SOON, seconds)] += 1
            self._seconds[route] += seconds

    def collect(self) -> Iterator[Metric]:
        """The two families."""
        answered = CounterMetricFamily(
            "sluice_http_requests", "HTTP requests answered", labels=("route", "status")
        )
        for (route, status), count in self._answered.items():
            answered.add_metric((route, str(status)), count)
        yield answered
        took = HistogramMetricFamily(
            "sluice_http_request_seconds",
            "From a request to the head of its answer; not of requests that were to wait",
            labels=("route",),
        )
        bounds = [*map(floatToGoString, SOON), "+Inf"]
        for route, counts in self._took.items():
            buckets = list(zip(bounds, accumulate(counts), strict=True))
            took.add_metric((route,), buckets, self._seconds[route])
        yield took


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
        self.events = counter("sluice_events", "Events heard, on every process alike", "kind")
        self.gaps = counter("sluice_gaps", "Events heard with a gap before them", "kind")
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
        self.requests = Requests()
        self.registry.register(self.requests)
        self.refused = counter(
            "sluice_http_refused", "Requests and connections refused before any route", "reason"
        )
