"""Ten thousand streams on which nothing comes: their memory, and how fast they are opened."""

import time
from functools import partial

from bench import servers
from bench.fanout import Opening
from bench.machine import memory_kib
from bench.streams import Measures, opened
from bench.trials import Benchmark, Goal, Measure


def idle(opening: Opening, clients: int) -> Measures:
    with opening() as server:
        base = memory_kib(server.pid)
        with opened(server, clients, 3, "-k", "256") as client:
            time.sleep(1)
            grown = memory_kib(server.pid) - base
            result = client.finish()
    return {
        "kib": grown / clients,
        "connects_per_s": result["connected"] / result["connect_s"],
        "base_mib": base / 1024,
    }


def cases(_quick: bool) -> dict[str, dict[str, Measure]]:
    peers: dict[str, Opening] = {"sluice": servers.sluice, "nchan": servers.nchan}
    return {"10,000 clients": {name: partial(idle, one, 10_000) for name, one in peers.items()}}


IDLE = Benchmark(
    name="idle",
    title="Idle streams",
    about="Proportional memory (PSS) of the server beyond what it has without any stream.",
    cases=cases,
    shown=("kib", "connects_per_s", "base_mib"),
    goals=(Goal("kib", 8), Goal("connects_per_s", 4000, at_least=True)),
)
