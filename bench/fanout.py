"""Fan-out of one channel: events by themselves, events in floods, and beside stopped readers."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial

from bench import servers
from bench.servers import Server
from bench.streams import deliver
from bench.trials import Benchmark, Goal, Measure, Measures

Opening = Callable[[], AbstractContextManager[Server]]

PEERS: dict[str, Opening] = {
    "sluice": servers.sluice,
    "nchan": servers.nchan,
    "nchan+redis": servers.nchan_redis,
    "c": servers.climit,
}
HANDWRITTEN_RATE = 12
"""Events a second that FastAPI with sse-starlette can send to 1,000 clients."""
BURSTS: dict[str, Opening] = {
    "sluice": servers.sluice,
    "nchan": servers.nchan,
    "c": partial(servers.climit, 5),
}


def steady(opening: Opening, clients: int, rate: float, seconds: float) -> Measures:
    """Events far enough apart that none waits for another."""
    with opening() as server:
        return deliver(server, clients, rate, seconds)


def steady_cases(quick: bool) -> dict[str, dict[str, Measure]]:
    seconds = 3 if quick else 8
    cases: dict[str, dict[str, Measure]] = {}
    for clients, rate in (1000, 40), (5000, 8), (10_000, 3):
        name = f"{clients:,} clients x {rate}/s"
        cases[name] = {
            peer: partial(steady, opening, clients, rate, seconds)
            for peer, opening in PEERS.items()
        }
        if clients == 1000:
            cases[name]["sse-starlette"] = partial(
                steady, servers.handwritten, clients, HANDWRITTEN_RATE, seconds
            )
    return cases


FANOUT = Benchmark(
    name="fanout",
    title="Fan-out, an event at a time",
    about="One channel, 150 bytes of data an event; sse-starlette at a rate that it can do.",
    cases=steady_cases,
    shown=("cpu_us", "per_cpu_s", "p50_ms", "p99_ms", "bytes", "lost"),
    goals=(
        Goal("per_cpu_s", 1.1, "nchan", at_least=True),
        Goal("per_cpu_s", 0.75, "c", at_least=True),
        Goal("per_cpu_s", 4, "sse-starlette", at_least=True),
        Goal("p99_ms", 1, "nchan", cases=("1,000 clients x 40/s", "5,000 clients x 8/s")),
        Goal("lost", 0),
    ),
    chart="cpu_us",
)

STEP = 1.1
"""Between two rates of a search's end."""
LATE = 100.0
"""Milliseconds of p99 that are too many."""


def most(opening: Opening, clients: int, first: float, seconds: float) -> Measures:
    """The most events a second that come without loss and in time, to 10 %."""
    with opening() as server:

        def tried(rate: float) -> Measures | None:
            found = deliver(server, clients, rate, seconds)
            fine = not found["lost"] and not found["closed"] and found["p99_ms"] < LATE
            return found | {"rate": rate} if fine else None

        best, step = tried(first), 2.0
        while best is None and first > 1:
            first /= 4
            best = tried(first)
        if best is None:
            raise SystemExit("not even one event a second came in time")
        while step > STEP:
            better = tried(best["rate"] * step)
            # one stall of the machine is no limit
            better = better or tried(best["rate"] * step)
            if better is None:
                step **= 0.5
            else:
                best = better
        return best


def most_cases(quick: bool) -> dict[str, dict[str, Measure]]:
    seconds = 1 if quick else 2
    first = {"sluice": 1000.0, "nchan": 50.0, "c": 1000.0}
    return {
        "1,000 clients": {
            peer: partial(most, opening, 1000, first[peer], seconds)
            for peer, opening in BURSTS.items()
        }
    }


MOST = Benchmark(
    name="most",
    title="Most deliveries a second",
    about="No loss, p99 below 100 ms; events may be collected, in C for 5 ms. CPU is in "
    "processors; source and client share one.",
    cases=most_cases,
    shown=(
        "rate", "deliveries_per_s", "bytes_per_s", "p99_ms", "server_cpu", "source_cpu",
        "client_cpu",
    ),
    goals=(Goal("deliveries_per_s", 40, "nchan", at_least=True),),
    rounds=2,
)  # fmt: skip
