"""Every metric by its name."""

import re

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
