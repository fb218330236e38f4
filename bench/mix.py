"""The realistic mix: four channels a client out of two hundred, the well-liked ones followed most.

Nothing is lost if every update names the event before it on its channel, and no channel begins
anew. All books are followed from the start: each subscribe makes the exchange reload them.
"""

import random
import tempfile
import time
from functools import partial
from pathlib import Path

from bench import servers
from bench.servers import Marks
from bench.streams import deliver
from bench.trials import Benchmark, Goal, Measure, Measures

MARKETS = 50
FOLLOWED = 4
SETTLED = 2
"""Seconds: the books begin anew when a further upstream connection joins."""
BOOKS = ",".join(f"depth:M{market}_USDT:0" for market in range(MARKETS))
FOLLOWING = {"SLUICE_CHANNELS": f"lastprice:*,ticker:*,trade:*,{BOOKS}"}
MARKS = Marks(('"price":', '"asks":[["2",'), None, '"type":"update"')


def wishes(clients: int) -> list[str]:
    """Each client's path: channels drawn by Zipf's law, the same on every run."""
    chance = random.Random(1)
    channels = [
        f"{kind}:M{market}_USDT{':0' if kind == 'depth' else ''}"
        for market in range(MARKETS)
        for kind in ("ticker", "trade", "lastprice", "depth")
    ]
    weights = [1 / rank for rank in range(1, len(channels) + 1)]
    found = []
    for _ in range(clients):
        drawn: dict[str, None] = {}
        while len(drawn) < FOLLOWED:
            drawn[chance.choices(channels, weights)[0]] = None
        found.append(f"/v1/stream?channels={','.join(drawn)}")
    return found


def mixed(clients: int, rate: int, seconds: float) -> Measures:
    with (
        servers.sluice(load=str(MARKETS), marks=MARKS, env=FOLLOWING) as server,
        tempfile.TemporaryDirectory() as folder,
    ):
        file = Path(folder) / "paths"
        file.write_text("\n".join(wishes(clients)) + "\n")
        time.sleep(SETTLED)
        return deliver(server, clients, rate, seconds, "-F", str(file))


def cases(quick: bool) -> dict[str, dict[str, Measure]]:
    seconds = 4 if quick else 10
    return {
        f"{clients:,} clients, {rate:,} events/s": {
            "sluice": partial(mixed, clients, rate, seconds)
        }
        for clients, rate in ((1000, 2000), (5000, 400))
    }


MIX = Benchmark(
    name="mix",
    title="The realistic mix",
    about=f"{MARKETS} markets, four kinds; every client follows {FOLLOWED} of the 200 channels, "
    "drawn by Zipf's law.",
    cases=cases,
    shown=("deliveries_per_s", "cpu_us", "p50_ms", "p99_ms", "server_cpu", "lost", "closed"),
    goals=(Goal("p99_ms", 100), Goal("lost", 0), Goal("closed", 0)),
)
