"""What scripts measure that reach into a process: ingest, garbage collection, ways to write.

A script runs under the measured tree's own Python, so it imports only what that tree installs, and
stands by itself.
"""

import json
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from bench import servers
from bench.machine import (
    HERE,
    SERVER,
    SLUICE,
    beside,
    free_port,
    memory_kib,
    on,
    running,
    wait_for_port,
)
from bench.servers import PLAIN, Server, published
from bench.streams import Measures, deliver, opened
from bench.trials import Benchmark, Goal, Measure

SCRIPTS = HERE / "scripts"
PYTHON = beside(SLUICE, "python")


def ingest(updates: int) -> Measures:
    command = on(SERVER, PYTHON, SCRIPTS / "ingest.py", str(updates))
    said = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout
    each = float(json.loads(said)["cpu_us"])
    return {"cpu_us": each, "per_cpu_s": 1e6 / each}


INGEST = Benchmark(
    name="ingest",
    title="Ingest",
    about="Depth updates of ten levels, books of 1,000 levels a side: decode, sequence, in-process "
    "broker, store; on one processor.",
    cases=lambda quick: {
        "20 books": {"sluice": partial(ingest, 10_000 if quick else 40_000)},
    },
    shown=("cpu_us", "per_cpu_s"),
    goals=(Goal("per_cpu_s", 30_000, at_least=True),),
)


def collected(tuning: str, seconds: float) -> Measures:
    """Fan-out to 5,000 streams, and the longest pause of the collector."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "pause"
        command = (PYTHON, str(SCRIPTS / "collector.py"), tuning, str(file), "serve")
        with servers.sluice(command=command) as server:
            found = deliver(server, 5000, 8, seconds)
        return found | {"pause_ms": float(file.read_text())}


COLLECTOR = Benchmark(
    name="collector",
    title="Garbage collection",
    about="5,000 clients x 8/s; tuned: frozen once it serves and collected seldom; plain: as "
    "Python comes. The longest pause is one collection's, the opening of the streams included.",
    cases=lambda quick: {
        "5,000 clients x 8/s": {
            tuning: partial(collected, tuning, 3 if quick else 8) for tuning in ("tuned", "plain")
        }
    },
    shown=("cpu_us", "p50_ms", "p99_ms", "max_ms", "pause_ms"),
)

WAYS = {
    "send": "the ASGI send, driven one step",
    "transport": "transport.write",
    "descriptor": "os.write",
    "taken": "taken from uvicorn, transport.write",
}


@contextmanager
def hub(way: str) -> Iterator[Server]:
    port, feed = free_port(), free_port()
    command = [PYTHON, str(SCRIPTS / "ways.py"), way, str(port), str(feed)]
    with running(command, SERVER) as process:
        wait_for_port(port)
        yield Server(process.pid, port, "/", PLAIN, published("tcp", feed))


def written(way: str, clients: int, rate: float, seconds: float) -> Measures:
    with hub(way) as server:
        base = memory_kib(server.pid)
        with opened(server, clients, 2):
            time.sleep(1)
            kib = (memory_kib(server.pid) - base) / clients
    with hub(way) as server:
        return deliver(server, clients, rate, seconds) | {"kib": kib}


def ways(quick: bool) -> dict[str, dict[str, Measure]]:
    seconds = 3 if quick else 8
    return {
        f"{clients:,} clients x {rate}/s": {
            label: partial(written, way, clients, rate, seconds) for way, label in WAYS.items()
        }
        for clients, rate in ((1000, 40), (10_000, 3))
    }


WRITING = Benchmark(
    name="ways",
    title="Ways to write",
    about="A tiny hub under uvicorn which writes the same frame to all streams.",
    cases=ways,
    shown=("cpu_us", "p99_ms", "kib", "lost"),
)
