"""What two looks at a gateway tell. Pure."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import msgspec


class Upstream(msgspec.Struct):
    """How the exchange is heard; Unix seconds."""

    status: str
    since: float


class Lease(msgspec.Struct):
    """Whether anybody leads, and who."""

    held: bool
    epoch: int | None
    leader: str | None


class Connection(msgspec.Struct):
    """One socket to the exchange."""

    name: str
    state: str
    since: float
    following: int
    reconnects: int


class Row(msgspec.Struct):
    """One followed channel, or all under one wildcard; ``age`` in seconds is the newest state's."""

    channel: str
    live: bool
    since: float
    known: int
    stale: int
    age: float | None


class Streams(msgspec.Struct):
    """Open ones, and those of them that are not live."""

    open: int
    catching_up: int


class Most(msgspec.Struct):
    """What a process may have at most."""

    streams: int
    streams_per_client: int
    followed: int


class Status(msgspec.Struct):
    """What ``/v1/status`` says, as far as it is shown."""

    version: str
    process: str
    upstream: Upstream
    lease: Lease
    position: str
    connections: list[Connection]
    channels: list[Row]
    streams: Streams
    followed: int
    limits: Most
    draining: bool


@dataclass(frozen=True, slots=True)
class Look:
    """What was seen ``at`` a monotonic time.

    ``raw`` is the status as it came, ``counters`` the metrics as ``totals`` has them; ``unready``
    and ``closed`` say why the two readiness probes fail, ``away`` why there is nothing newer.
    """

    at: float
    status: Status | None
    raw: dict[str, Any] = field(default_factory=dict)
    counters: dict[str, float] = field(default_factory=dict)
    unready: str = ""
    closed: str = ""
    away: str = ""

    @classmethod
    def of_nobody(cls, why: str) -> Self:
        """Nothing was seen yet."""
        return cls(0.0, None, away=why)


COUNTED = {
    "events": "sluice_events_total",
    "deliveries": "sluice_deliveries_total",
    "requests": "sluice_http_requests_total",
}
"""What is shown a second, and the counter of it."""

STARTED = "process_start_time_seconds"
"""Summed over the workers that answered, it is another if not the same ones did."""


def totals(samples: Iterable[tuple[str, Mapping[str, str], float]]) -> dict[str, float]:
    """Every metric, told by name, labels and value, summed over its labels.

    Of several workers each counts every event, so there the one that counted most is taken.
    """
    by_worker: defaultdict[tuple[str, str], float] = defaultdict(float)
    for name, labels, value in samples:
        by_worker[name, labels.get("worker", "")] += value
    found: dict[str, float] = {}
    for (name, _), value in by_worker.items():
        before = found.get(name, 0.0)
        found[name] = max(before, value) if name == COUNTED["events"] else before + value
    return found


def rates(before: Look | None, now: Look) -> dict[str, float | None]:
    """What happened a second between two looks at the same processes; None if unknown."""
    found: dict[str, float | None] = dict.fromkeys(COUNTED)
    if before is None or before.status is None or now.status is None or now.at <= before.at:
        return found
    if before.status.process != now.status.process:
        return found
    if before.counters.get(STARTED) != now.counters.get(STARTED):
        return found
    for name, counter in COUNTED.items():
        if counter in now.counters:
            more = now.counters[counter] - before.counters.get(counter, 0.0)
            found[name] = round(more / (now.at - before.at), 1)
    return found


@dataclass(frozen=True, slots=True)
class Freshness:
    """A kind's channels together; ``age`` is that of its newest state, None if there is none."""

    kind: str
    live: int
    followed: int
    known: int
    stale: int
    age: float | None


def by_kind(rows: list[Row]) -> list[Freshness]:
    """How fresh each kind is."""
    kinds: dict[str, list[Row]] = {}
    for row in rows:
        kinds.setdefault(row.channel.partition(":")[0], []).append(row)
    return [
        Freshness(
            kind,
            live=sum(row.live for row in found),
            followed=len(found),
            known=sum(row.known for row in found),
            stale=sum(row.stale for row in found),
            age=min((row.age for row in found if row.age is not None), default=None),
        )
        for kind, found in kinds.items()
    ]


def stalest(rows: list[Row]) -> list[Row]:
    """The worst first: not live and longest so, then never heard, then heard longest ago."""

    def merit(row: Row) -> tuple[bool, float]:
        if not row.live:
            return False, row.since
        return True, float("-inf") if row.age is None else -row.age

    return sorted(rows, key=merit)
