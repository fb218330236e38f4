"""Two serving processes over one Redis, against one process by itself, on the same processor."""

from functools import partial

from bench import servers
from bench.machine import SLUICE
from bench.streams import Measures, deliver
from bench.trials import Benchmark, Goal, Measure


def alone(clients: int, rate: float, seconds: float) -> Measures:
    with servers.sluice() as server:
        return deliver(server, clients, rate, seconds)


def together(clients: int, rate: float, seconds: float) -> Measures:
    """All processes of the family count, the supervisor too; Redis does not."""
    command = (str(SLUICE), "serve", "--workers", "2")
    with servers.redis_server() as port:
        env = {"SLUICE_BROKER_URL": f"redis://127.0.0.1:{port}/0"}
        with servers.sluice(env=env, command=command) as server:
            return deliver(server, clients, rate, seconds)


def cases(quick: bool) -> dict[str, dict[str, Measure]]:
    seconds = 3 if quick else 8
    return {
        f"{clients:,} clients x {rate}/s": {
            "two workers": partial(together, clients, rate, seconds),
            "one process": partial(alone, clients, rate, seconds),
        }
        for clients, rate in ((1000, 40), (5000, 8))
    }


WORKERS = Benchmark(
    name="workers",
    title="Two processes over one Redis",
    about="CPU of all serving processes a delivery; Redis is not counted.",
    cases=cases,
    shown=("cpu_us", "p50_ms", "p99_ms", "lost"),
    goals=(Goal("cpu_us", 1.1, "one process"), Goal("lost", 0)),
)
