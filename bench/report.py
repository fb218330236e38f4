"""Tables of what was measured: the median with the least and the most, and the goals beside it."""

from bench import charts, document
from bench.machine import HERE, QUIET
from bench.trials import Benchmark, Goal, Results, Spread, Trial, ratio, values

CHARTS = HERE.parent / "docs" / "charts"

LABELS = {
    "cpu_us": "CPU µs each",
    "per_cpu_s": "per CPU second",
    "deliveries_per_s": "deliveries/s",
    "requests_per_s": "requests/s",
    "bytes_per_s": "bytes/s",
    "p50_ms": "p50 ms",
    "p99_ms": "p99 ms",
    "max_ms": "longest ms",
    "bytes": "bytes each",
    "rate": "events/s",
    "server_cpu": "CPU server",
    "source_cpu": "CPU source",
    "client_cpu": "CPU client",
    "event_us": "CPU µs an event",
    "gone_s": "gone after s",
    "pause_ms": "longest collection ms",
    "kib": "KiB each",
    "connects_per_s": "streams/s opened",
    "base_mib": "MiB without streams",
}


def section(benchmark: Benchmark, results: Results) -> str:
    """A benchmark's tables, case by case, with its goals."""
    parts = [f"{benchmark.about} Measured on {results.machines.get(benchmark.name, '?')}."]
    for case, servers in results.of(benchmark.name).items():
        parts.append(_table(case, benchmark, servers))
        goals = [
            line for goal in benchmark.goals if (line := _goal(goal, case, servers)) is not None
        ]
        if goals:
            parts.append("\n".join(["| | measured | goal | |", "|---|---|---|---|", *goals]))
        parts.extend(_unquiet(servers))
    return "\n\n".join(parts) + "\n"


def _table(case: str, benchmark: Benchmark, servers: dict[str, list[Trial]]) -> str:
    heads = [LABELS.get(name, name) for name in benchmark.shown]
    lines = [f"| {case} | {' | '.join(heads)} |", "|---" * (len(heads) + 1) + "|"]
    for server, trials in servers.items():
        cells = [_spread(values(trials, name)) for name in benchmark.shown]
        lines.append(f"| {server} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _goal(goal: Goal, case: str, servers: dict[str, list[Trial]]) -> str | None:
    """One line of the goals' table; None where it was not measured."""
    if goal.cases and case not in goal.cases:
        return None
    ours = next(iter(servers))
    label = LABELS.get(goal.measure, goal.measure)
    if goal.peer is None:
        found = values(servers[ours], goal.measure)
        what = f"{ours}: {label}"
    elif goal.peer in servers:
        found = ratio(servers[ours], servers[goal.peer], goal.measure)
        what = f"{ours} / {goal.peer}: {label}"
    else:
        return None
    sign = "≥" if goal.at_least else "≤"
    verdict = "reached" if goal.reached(found.middle) else "**missed**"
    return f"| {what} | {_spread(found)} | {sign} {_number(goal.limit)} | {verdict} |"


def _unquiet(servers: dict[str, list[Trial]]) -> list[str]:
    noises = [trial.noise for trials in servers.values() for trial in trials]
    loud = [noise for noise in noises if noise > QUIET]
    if not loud:
        return []
    count = f"{len(loud)} of {len(noises)}"
    return [f"In {count} trials other work used up to {max(loud):.0%} of a processor."]


def _spread(spread: Spread) -> str:
    middle = _number(spread.middle)
    if spread.least == spread.most:
        return middle
    return f"{middle} [{_number(spread.least)}\N{EN DASH}{_number(spread.most)}]"


def _number(value: float) -> str:
    """Three figures."""
    if value == 0 or abs(value) >= 100:
        return f"{float(f'{value:.3g}'):,.0f}"
    return f"{value:#.3g}".rstrip(".")


def write(benchmarks: list[Benchmark], results: Results) -> None:
    """Put the tables between their marks in the document, and draw the charts."""
    for benchmark in benchmarks:
        if not results.of(benchmark.name):
            continue
        tables = section(benchmark, results)
        if benchmark.chart:
            charts.draw(benchmark, LABELS[benchmark.chart], results, CHARTS)
            tables += f"\n![{benchmark.title}](charts/{benchmark.name}.svg)\n"
        document.put(benchmark.name, tables)
