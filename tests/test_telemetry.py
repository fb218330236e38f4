"""Every metric by its name."""

import re

import pytest
from prometheus_client import generate_latest

from app.telemetry import Metrics


def test_each_process_has_its_own_metrics() -> None:
    one, other = Metrics(), Metrics()
    one.events.labels("ticker").inc()
    text = generate_latest(one.registry).decode()
    assert 'sluice_events_total{kind="ticker"} 1.0' in text
    assert 'kind="ticker"' not in generate_latest(other.registry).decode()
    names = re.findall(r"^# TYPE (\S+)", text, re.MULTILINE)
    assert all(name.startswith(("sluice_", "process_", "python_")) for name in names)
    assert "process_open_fds" in names


def test_a_process_that_compared_no_book_found_none_wrong() -> None:
    assert "sluice_book_audit_match_ratio 1.0" in generate_latest(Metrics().registry).decode()


def test_requests_are_counted_by_route_and_status_and_timed_by_route() -> None:
    metrics = Metrics()
    for status, seconds in ((200, 0.0004), (200, 0.0005), (404, 0.02), (200, None), (200, 60)):
        metrics.requests.count("/v1/depth/{symbol}", status, seconds)
    text = generate_latest(metrics.registry).decode()
    told = [line.partition("{")[::2] for line in text.splitlines() if "/v1/depth" in line]
    assert ("sluice_http_requests_total", 'route="/v1/depth/{symbol}",status="200"} 4.0') in told
    assert ("sluice_http_requests_total", 'route="/v1/depth/{symbol}",status="404"} 1.0') in told
    buckets = [
        rest.removeprefix('le="').split('"')[0] + " " + rest.split()[-1]
        for name, rest in told
        if name.endswith("_bucket")
    ]
    assert buckets[:2] == ["0.0005 2.0", "0.001 2.0"]
    assert buckets[4:6] == ["0.01 2.0", "0.025 3.0"]
    assert buckets[-2:] == ["5.0 3.0", "+Inf 4.0"]
    labels = {"route": "/v1/depth/{symbol}"}
    value = metrics.registry.get_sample_value
    assert value("sluice_http_request_seconds_sum", labels) == pytest.approx(60.0209)
    assert value("sluice_http_request_seconds_count", labels) == 4
