"""Two serving processes over one Redis, against one process over it, on the same processor."""

from functools import partial

from bench import servers
from bench.machine import SLUICE
from bench.streams import Measures, deliver
from bench.trials import Benchmark, Goal, Measure

TWO, ONE, ALONE = "two workers", "one process", "one without Redis"


def alone(clients: int, rate: float, seconds: float) -> Measures:
    """A process whose broker is its own memory."""
    with servers.sluice() as server:
        return deliver(server, clients, rate, seconds)


def over_redis(workers: int, clients: int, rate: float, seconds: float) -> Measures:
    """All processes of the family count, the supervisor too; Redis does not."""
    command = (str(SLUICE), "serve", "--workers", str(workers))
    with servers.redis_server() as port:
        env = {"SLUICE_BROKER_URL": f"redis://127.0.0.1:{port}/0"}
        with servers.sluice(env=env, command=command) as server:
            return deliver(server, clients, rate, seconds)


def cases(quick: bool) -> dict[str, dict[str, Measure]]:
    seconds = 3 if quick else 8
    return {
        f"{clients:,} clients x {rate}/s": {
            TWO: partial(over_redis, 2, clients, rate, seconds),
            ONE: partial(over_redis, 1, clients, rate, seconds),
            ALONE: partial(alone, clients, rate, seconds),
        }
        for clients, rate in ((1000, 40), (5000, 8))
    }


WORKERS = Benchmark(
    name="workers",
    title="Two processes over one Redis",
    about="CPU of all serving processes a delivery; Redis is not counted.",
    cases=cases,
    shown=("cpu_us", "p50_ms", "p99_ms", "lost"),
    goals=(Goal("cpu_us", 1.1, ONE), Goal("lost", 0)),
)
