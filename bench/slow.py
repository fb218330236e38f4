"""Readers that stop, among others that read: what these notice, and when the stopped are gone."""

import time
from functools import partial

from bench import servers
from bench.machine import descriptors
from bench.streams import Measures, deliver, opened
from bench.trials import Benchmark, Goal, Measure

CLIENTS, STOPPED, RATE = 5000, 100, 8
GONE = 20.0
"""Seconds of feeding: the kernel's buffers fill first, then a stopped reader has 15 s."""


def beside(stopped: int, seconds: float) -> Measures:
    """Feed streams of which some are never read; their own buffers are small."""
    with servers.sluice() as server:
        if not stopped:
            return deliver(server, CLIENTS, RATE, seconds) | {"gone_s": 0}
        base = descriptors(server.pid)
        options = ("-s", str(stopped), "-b", "4096")
        with opened(server, stopped, seconds + 30, *options):
            gone = [seconds]

            def watch() -> None:
                began = time.monotonic()
                while time.monotonic() - began < seconds:
                    if descriptors(server.pid) <= base + CLIENTS:
                        gone[0] = time.monotonic() - began
                        return
                    time.sleep(0.2)

            found = deliver(server, CLIENTS, RATE, seconds, during=watch)
        return found | {"gone_s": gone[0]}


def cases(_quick: bool) -> dict[str, dict[str, Measure]]:
    return {
        f"{CLIENTS:,} clients x {RATE}/s": {
            f"{STOPPED} stopped": partial(beside, STOPPED, GONE),
            "none stopped": partial(beside, 0, GONE),
        }
    }


SLOW = Benchmark(
    name="slow",
    title="Stopped readers",
    about="Seconds from the first event until the descriptors of the stopped are closed: the "
    "kernel's buffers fill first.",
    cases=cases,
    shown=("cpu_us", "p50_ms", "p99_ms", "lost", "gone_s"),
    goals=(Goal("p99_ms", 1.1, "none stopped"), Goal("lost", 0), Goal("gone_s", 17)),
)
