"""How the cost of an event grows with the clients that get it, and with channels nobody follows."""

import json
import time
import urllib.request
from functools import partial

from bench import servers
from bench.fanout import steady
from bench.machine import cpu_seconds
from bench.servers import Server
from bench.trials import Benchmark, Measure, Measures

CLIENTS = (1, 10, 100, 1000, 3000, 10_000)
MARKETS = (1, 10, 100, 1000, 3333)
"""Three channels each: without a client no book is followed."""


def published(server: Server) -> int:
    """Events the gateway has numbered."""
    with urllib.request.urlopen(server.url("/v1/status"), timeout=10) as answer:  # noqa: S310 -- our own URL
        return int(json.load(answer)["position"].partition("-")[2])


def followed(clients: int, seconds: float) -> Measures:
    found = steady(servers.sluice, clients, min(200, 30_000 // clients), seconds)
    return found | {"event_us": found["cpu_us"] * clients}


def unfollowed(markets: int, seconds: float) -> Measures:
    """No client: the gateway decodes, numbers, keeps."""
    with servers.sluice(load=str(markets)) as server:
        with server.feed(2000, 2 + 3 * markets / 2000):
            pass
        before, heard = cpu_seconds(server.pid), published(server)
        with server.feed(2000, seconds):
            pass
        time.sleep(0.5)
        spent, events = cpu_seconds(server.pid) - before, published(server) - heard
    return {"event_us": spent * 1e6 / events}


def by_clients(quick: bool) -> dict[str, dict[str, Measure]]:
    seconds = 3 if quick else 6
    return {f"{one:,}": {"sluice": partial(followed, one, seconds)} for one in CLIENTS}


def by_channels(quick: bool) -> dict[str, dict[str, Measure]]:
    seconds = 3 if quick else 6
    return {f"{3 * one:,}": {"sluice": partial(unfollowed, one, seconds)} for one in MARKETS}


GROWTH = Benchmark(
    name="clients",
    title="An event's cost over its clients",
    about="CPU of the server an event, one channel.",
    cases=by_clients,
    shown=("event_us", "cpu_us", "p99_ms", "lost"),
    rounds=2,
    chart="event_us",
)
UNFOLLOWED = Benchmark(
    name="channels",
    title="An event's cost over channels that nobody follows",
    about="CPU of the server an event, at 1,500 events/s that no client gets.",
    cases=by_channels,
    shown=("event_us",),
    rounds=2,
    chart="event_us",
)
