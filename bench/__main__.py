"""Every benchmark beside its peers, in alternation.

    python -m bench [NAME...] [--quick] [--rounds N]
    python -m bench --report

What comes out is kept in bench/results.json; the tables of docs/performance.md and the charts of
docs/charts/ are made from it. `BENCH_SLUICE` names the `sluice` of another tree to be measured;
`BENCH_LOCK` a file to lock during each trial, where others measure too.
"""

import argparse
import signal
import sys

from bench import fanout, growth, idle, inner, mix, report, rest, slow, workers
from bench.machine import build, say, take_descriptors
from bench.servers import missing
from bench.trials import Results, run

ALL = (
    fanout.FANOUT,
    fanout.MOST,
    idle.IDLE,
    mix.MIX,
    workers.WORKERS,
    rest.REST,
    slow.SLOW,
    growth.GROWTH,
    growth.UNFOLLOWED,
    inner.INGEST,
    inner.COLLECTOR,
    inner.WRITING,
)
BENCHMARKS = {one.name: one for one in ALL}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(BENCHMARKS))
    parser.add_argument("--quick", action="store_true", help="short trials, one round")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--report", action="store_true", help="only write tables and charts")
    given = parser.parse_args()
    unknown = set(given.names) - set(BENCHMARKS)
    if unknown:
        parser.error(f"no such benchmark: {', '.join(sorted(unknown))}")
    results = Results.load()
    if given.report:
        report.write(list(BENCHMARKS.values()), results)
        return
    build()
    take_descriptors()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that what was started is ended
    without = missing()
    if without:
        say(f"measuring without {', '.join(without)}: not installed")
    wanted = set(given.names or BENCHMARKS) - set(without)
    chosen = [one for one in BENCHMARKS.values() if one.name in wanted]
    for benchmark in chosen:
        results = run(benchmark, quick=given.quick, rounds=given.rounds, without=without)
        say("\n" + report.section(benchmark, results))
    if not given.names:
        report.write(list(BENCHMARKS.values()), results)


if __name__ == "__main__":
    main()
