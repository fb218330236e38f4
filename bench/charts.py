"""Charts of what was measured, as SVG: bars of servers side by side, or a line over the cases."""

from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from bench.trials import Benchmark, Results, Spread, Trial, values

mpl.rcParams["svg.hashsalt"] = "sluice"
Cases = dict[str, dict[str, list[Trial]]]


def draw(benchmark: Benchmark, label: str, results: Results, folder: Path) -> None:
    """One benchmark's chart, named as it is."""
    measure, cases = benchmark.chart, results.of(benchmark.name)
    if measure is None or not cases:
        return
    folder.mkdir(exist_ok=True)
    figure = Figure(figsize=(7, 3.5), layout="constrained")
    axes = figure.add_subplot()
    if all(len(servers) == 1 for servers in cases.values()):
        _line(axes, cases, measure)
    else:
        _bars(axes, cases, measure)
    axes.set_ylabel(label)
    axes.set_title(benchmark.title)
    figure.savefig(folder / f"{benchmark.name}.svg", metadata={"Date": None})


def _line(axes: Any, cases: Cases, measure: str) -> None:
    """Over cases that are numbers."""
    places = [float(case.replace(",", "")) for case in cases]
    spreads = [values(next(iter(servers.values())), measure) for servers in cases.values()]
    axes.errorbar(places, [one.middle for one in spreads], yerr=_errors(spreads), marker="o")
    axes.set_xscale("log")
    if max(one.middle for one in spreads) > 10 * min(one.middle for one in spreads):
        axes.set_yscale("log")
    else:
        axes.set_ylim(bottom=0)


def _bars(axes: Any, cases: Cases, measure: str) -> None:
    names = list(dict.fromkeys(name for servers in cases.values() for name in servers))
    width = 0.8 / len(names)
    for number, name in enumerate(names):
        found = {
            place: values(servers[name], measure)
            for place, servers in enumerate(cases.values())
            if name in servers
        }
        axes.bar(
            [place + number * width for place in found],
            [one.middle for one in found.values()],
            width,
            yerr=_errors(list(found.values())),
            label=name,
        )
    middle = (len(names) - 1) * width / 2
    axes.set_xticks([place + middle for place in range(len(cases))], list(cases))
    axes.legend()


def _errors(spreads: list[Spread]) -> list[list[float]]:
    return [
        [one.middle - one.least for one in spreads],
        [one.most - one.middle for one in spreads],
    ]
