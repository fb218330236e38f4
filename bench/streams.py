"""Many event streams, opened and read by the C load client, while a server is fed.

The events stop before the streams do: what a server still owed is delivered, what it lost shows,
and the closing of the streams is not counted.
"""

import contextlib
import json
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from bench.machine import BIN, OTHERS, cpu_seconds, on
from bench.servers import Server

SETTLE = 1.0
"""Seconds between the last event and the last look."""
Measures = dict[str, float]


@dataclass
class Client:
    """The load client, all its streams open; `result` is what it said in the end."""

    process: subprocess.Popen[str]
    result: dict[str, Any] = field(default_factory=dict)

    def finish(self) -> dict[str, Any]:
        """Wait for what it says. Raises SystemExit if a stream did not open."""
        output, _ = self.process.communicate(timeout=120)
        self.result = json.loads(output)
        if self.result["failed"]:
            bad = self.result["first_bad_status"]
            raise SystemExit(f"{self.result['failed']} streams did not open, status {bad}")
        return self.result


@contextlib.contextmanager
def opened(server: Server, clients: int, seconds: float, *options: str) -> Iterator[Client]:
    """Streams that are all open, for so many seconds from then on."""
    where = [] if "-F" in options else ["-P", server.path]
    process = subprocess.Popen(
        on(
            OTHERS, BIN / "sseload", "-p", str(server.port), *where, "-c", str(clients),
            "-t", str(seconds), "-m", server.marks.event, *options,
        ),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    try:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("READY"):
                break
        yield Client(process)
    finally:
        process.kill()
        process.communicate()


def deliver(
    server: Server,
    clients: int,
    rate: float,
    seconds: float,
    *options: str,
    during: Callable[[], None] = lambda: None,
) -> Measures:
    """Feed the server for some seconds and measure what its clients get.

    CPU is in microseconds a delivery, latency in milliseconds from the making of an event to its
    reading, bytes are those on the wire.
    """
    marks = server.marks
    options += tuple(word for mark in marks.times for word in ("-l", mark))
    options += ("-q", marks.sequence) if marks.sequence else ("-C",)
    with opened(server, clients, seconds + 2 * SETTLE, *options) as client:
        before, source = cpu_seconds(server.pid), server.source()
        with server.feed(rate, seconds):
            during()
        time.sleep(SETTLE)
        spent, made = cpu_seconds(server.pid) - before, server.source() - source
        result = client.finish()
    return measures(result, spent, made, clients, seconds)


def measures(
    result: dict[str, Any], spent: float, made: float, clients: int, seconds: float
) -> Measures:
    """What the report is made of, out of the load client's result."""
    delivered = result["matched"]
    if not delivered:
        raise SystemExit(f"nothing was delivered: {result}")
    unlike = (result["last_max"] - result["last_min"]) * clients
    return {
        "deliveries": delivered,
        "deliveries_per_s": delivered / seconds,
        "cpu_us": spent * 1e6 / delivered,
        "per_cpu_s": delivered / max(spent, 0.01),
        "p50_ms": result["p50_ms"],
        "p99_ms": result["p99_ms"],
        "max_ms": result["max_ms"],
        "lost": result["seq_gaps"] + result["chain_breaks"] + result["resyncs"] + unlike,
        "closed": result["closed"],
        "bytes": result["bytes"] / delivered,
        "bytes_per_s": result["bytes"] / seconds,
        "server_cpu": spent / seconds,
        "client_cpu": (result["cpu_user_s"] + result["cpu_sys_s"]) / seconds,
        "source_cpu": made / seconds,
    }
