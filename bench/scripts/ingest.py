"""Book updates through decode, sequence, in-process broker and store: microseconds each.

    python ingest.py UPDATES

Twenty books of 1,000 levels a side; updates of ten levels, read 64 at a time as a turn of the loop
would. Prints one JSON object. Everything from the session on is the product's own.
"""

import asyncio
import gc
import itertools
import json
import random
import sys
import time
from collections.abc import AsyncIterator
from typing import Any, cast

import uvloop

from app.bus.lease import OwnLease
from app.bus.memory import MemoryBroker
from app.domain.channel import Channel, Kind, depth
from app.domain.event import Entry, Event
from app.domain.health import ConnectionHealth, Following
from app.domain.store import Store
from app.feed import Replica, Upstream, follow, lead
from app.hub.hub import Hub, HubOptions
from app.hub.wishes import Wishes
from app.logs import configure_logging
from app.server import SELDOM
from app.telemetry import Metrics
from app.upstream.session import Session, SessionOptions

BOOKS = [depth(f"M{number}_USDT", 0) for number in range(20)]
LEVELS, CHANGED, TURN = 1000, 5, 64


def frame(symbol: str, sides: dict[str, Any], *, full: bool) -> bytes:
    data = {"symbol": symbol, "timestamp": 1723161256, "full_reload": full, "scale_index": 0}
    message = {"id": 0, "method": "depth_update", "data": data | sides, "error": None}
    return json.dumps(message).encode()


def side(name: str, places: Any, chance: random.Random) -> list[list[str]]:
    """Levels at some places from the best; a third of the changes removes one."""
    sign = 1 if name == "asks" else -1
    return [
        [f"{61824 + sign * (place + 1) / 100:.2f}", chance.choice(["0", "0.5", f"{place}.125"])]
        for place in places
    ]


def frames(updates: int) -> tuple[list[bytes], list[bytes]]:
    """Whole books, then their changes, most of them near the best price."""
    chance = random.Random(1)
    names = ("asks", "bids")
    symbols = [f"M{number}_USDT" for number in range(len(BOOKS))]
    whole = {
        name: [[price, "1"] for price, _ in side(name, range(LEVELS), chance)] for name in names
    }
    books = [frame(symbol, whole, full=True) for symbol in symbols]
    changes = []
    for _ in range(updates):
        places: set[int] = set()
        while len(places) < CHANGED:
            places.add(min(int(chance.expovariate(1 / 60)), LEVELS - 1))
        sides = {name: side(name, places, chance) for name in names}
        changes.append(frame(chance.choice(symbols), sides, full=False))
    return books, changes


class Frames:
    """Stands where the pool does: one session, which reads frames out of memory."""

    def __init__(self, books: list[bytes], changes: list[bytes], metrics: Metrics) -> None:
        self.changed = asyncio.Event()
        self.loaded = asyncio.Event()
        self._go = asyncio.Event()
        self._books, self._changes = books, changes
        self._session = Session(
            "s",
            time.monotonic(),
            options=SessionOptions(),
            metrics=metrics,
            runs=itertools.count(1),
        )

    def start(self) -> None:
        self._go.set()

    async def run(self) -> None:
        await asyncio.Event().wait()

    async def batches(self) -> AsyncIterator[list[Event]]:
        self._session.want(frozenset(BOOKS), time.monotonic())
        for asked in map(json.loads, self._session.outgoing()):
            method = "pong" if asked["method"] == "ping" else asked["method"]
            reply = {"id": asked["id"], "method": method, "data": {}, "error": None}
            self._hear([json.dumps(reply).encode()])
        yield self._hear(self._books)
        self.loaded.set()
        await self._go.wait()
        for start in range(0, len(self._changes), TURN):
            yield self._hear(self._changes[start : start + TURN])
            await asyncio.sleep(0)
        await asyncio.Event().wait()

    def _hear(self, frames: list[bytes]) -> list[Event]:
        now, received = time.monotonic(), time.time()
        for one in frames:
            self._session.receive(one, now, received)
        return self._session.events()

    def want(self, channels: frozenset[Channel]) -> None: ...

    def resync(self, channel: Channel, reason: str) -> None:
        raise AssertionError(f"{channel} {reason}")

    def connections(self) -> tuple[ConnectionHealth, ...]:
        return (ConnectionHealth("s", "live", 0, len(BOOKS), 0),)

    def confirmed(self, _kind: Kind) -> int | None:
        return None

    def following(self) -> dict[Channel, Following]:
        return {book: Following(True, 0, 0, 0) for book in BOOKS}


class Still:
    """Stands where the market list and the audit do: there is nothing to say."""

    def knows(self, _channel: Channel) -> bool:
        return True

    def shares(self) -> dict[Channel, float]:
        return {}

    async def run(self, *_: object) -> None:
        await asyncio.Event().wait()


class Counting(Hub):
    """Stands where the hub does: fan-out is measured elsewhere."""

    _heard = _awaited = 0
    _reached = asyncio.Event()

    def publish(self, entry: Entry) -> None:
        self._heard += len(entry.envelopes)
        if self._heard >= self._awaited:
            self._reached.set()

    async def heard(self, count: int) -> None:
        """Wait for so many events in all."""
        self._awaited = count
        if self._heard < count:
            self._reached.clear()
            await self._reached.wait()


async def measure(updates: int) -> float:
    """CPU microseconds of an update."""
    metrics = Metrics()
    hub = Counting(Store(), HubOptions(), metrics)
    replica = Replica(hub.store, hub, Wishes(BOOKS, linger=60, limit=1000), "one")
    broker = MemoryBroker(10_000)
    books, changes = frames(updates)
    source = Frames(books, changes, metrics)
    still = cast("Any", Still())
    upstream = Upstream(cast("Any", source), still, still, still)

    async with asyncio.TaskGroup() as tasks:
        work = [
            tasks.create_task(follow(broker, replica, health_ttl=5)),
            tasks.create_task(lead(OwnLease(ttl=5), broker, replica, upstream, metrics)),
        ]
        await hub.heard(len(books))
        gc.collect()
        gc.freeze()
        gc.set_threshold(*SELDOM)
        before = time.process_time()
        source.start()
        await hub.heard(len(books) + updates)
        spent = time.process_time() - before
        for task in work:
            task.cancel()
    return spent * 1e6 / updates


if __name__ == "__main__":
    configure_logging("console", level="error")
    print(json.dumps({"cpu_us": uvloop.run(measure(int(sys.argv[1])))}))
