"""Trials: what is measured, in alternation, with what came out kept in one file.

A benchmark has cases; in each, the servers run in turn, round after round, so that the machine's
drift falls on all of them alike, and a ratio is taken within its round.
"""

import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from bench.machine import HERE, QUIET, Noise, describe, revision, say, wait_for_quiet

RESULTS = HERE / "results.json"

Measures = dict[str, float]
Measure = Callable[[], Measures]


@dataclass(frozen=True)
class Goal:
    """Of a measure of the first server: against a peer's or, without one, by itself."""

    measure: str
    limit: float
    peer: str | None = None
    at_least: bool = False
    cases: tuple[str, ...] = ()
    """Only these; all if there are none."""

    def reached(self, value: float) -> bool:
        return value >= self.limit if self.at_least else value <= self.limit


@dataclass(frozen=True)
class Benchmark:
    """`cases` gives each case's servers, the gateway first, with what measures them once."""

    name: str
    title: str
    about: str
    cases: Callable[[bool], dict[str, dict[str, Measure]]]
    shown: tuple[str, ...]
    goals: tuple[Goal, ...] = ()
    rounds: int = 3
    chart: str | None = None
    """The measure to draw."""


@dataclass(frozen=True)
class Trial:
    benchmark: str
    case: str
    server: str
    round: int
    noise: float
    """Processors that others used meanwhile."""
    measures: Measures = field(default_factory=dict)


@dataclass
class Results:
    """The last run of each benchmark."""

    machines: dict[str, str] = field(default_factory=dict)
    trials: list[Trial] = field(default_factory=list)

    @classmethod
    def load(cls) -> "Results":
        if not RESULTS.exists():
            return cls()
        kept: dict[str, Any] = json.loads(RESULTS.read_text())
        return cls(kept["machines"], [Trial(**trial) for trial in kept["trials"]])

    def save(self) -> None:
        RESULTS.write_text(json.dumps(asdict(self), indent=1))

    def replace(self, benchmark: str, where: str, trials: list[Trial]) -> None:
        """Put a run of a benchmark in the place of its last one."""
        self.machines[benchmark] = where
        self.trials = [one for one in self.trials if one.benchmark != benchmark] + trials

    def of(self, benchmark: str) -> dict[str, dict[str, list[Trial]]]:
        """Trials by case and server, in their order."""
        found: dict[str, dict[str, list[Trial]]] = {}
        for trial in self.trials:
            if trial.benchmark == benchmark:
                found.setdefault(trial.case, {}).setdefault(trial.server, []).append(trial)
        return found


def run(benchmark: Benchmark, *, quick: bool, rounds: int | None, without: list[str]) -> Results:
    """Measure a benchmark anew and keep what came out, beside what others keep meanwhile."""
    where = f"{describe()}, gateway {revision()}, {time.strftime('%Y-%m-%d')}"
    trials: list[Trial] = []
    for case, servers in benchmark.cases(quick).items():
        for number in range(rounds or (1 if quick else benchmark.rounds)):
            for server, measure in servers.items():
                if server in without:
                    continue
                trials.append(_trial(benchmark.name, case, server, number, measure))
                results = Results.load()
                results.replace(benchmark.name, where, trials)
                results.save()
                say(_line(trials[-1], benchmark.shown))
    return Results.load()


@contextmanager
def _alone() -> Iterator[None]:
    """Take turns with whoever else measures on this machine and locks the file `BENCH_LOCK`."""
    with Path(os.environ.get("BENCH_LOCK", __file__)).open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _trial(benchmark: str, case: str, server: str, number: int, measure: Measure) -> Trial:
    with _alone():
        wait_for_quiet()
        with Noise() as noise:
            found = measure()
    return Trial(benchmark, case, server, number, round(noise.processors, 3), found)


def _line(trial: Trial, shown: tuple[str, ...]) -> str:
    values = "  ".join(f"{name} {trial.measures[name]:,.6g}" for name in shown)
    unquiet = f"  (others used {trial.noise:.0%})" if trial.noise > QUIET else ""
    return (
        f"{trial.benchmark} | {trial.case} | {trial.round + 1} {trial.server:14} {values}{unquiet}"
    )


@dataclass(frozen=True)
class Spread:
    """The median with the least and the most."""

    middle: float
    least: float
    most: float

    @classmethod
    def of(cls, values: list[float]) -> "Spread":
        return cls(median(values), min(values), max(values))


def values(trials: list[Trial], measure: str) -> Spread:
    return Spread.of([trial.measures[measure] for trial in trials])


def ratio(ours: list[Trial], theirs: list[Trial], measure: str) -> Spread:
    """Ours to theirs, round by round."""
    pairs = zip(ours, theirs, strict=False)
    return Spread.of(
        [one.measures[measure] / max(other.measures[measure], 1e-9) for one, other in pairs]
    )
