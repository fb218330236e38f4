"""The realistic mix for hours, while things go wrong: nothing is lost, and nothing grows.

    python -m bench.soak --minutes 60 [--clients 200] [--rate 200] [--pause 20] [--out FILE]
    python -m bench.soak --report [--out FILE]

Two gateways over a real Redis, the simulated exchange with 50 markets, clients by Zipf's law that
are cut and come back by their id, a few that read slowly, and REST. Faults come one at a time. One
gateway is killed and restarted, the other lives all along. Ends with status 1 if a chain is broken,
an answer is wrong, a process crashes, or something does not come back.
"""

import argparse
import asyncio
import json
import os
import random
import signal
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx

from bench import document
from bench.drift import Drift, drift, quantile
from bench.faults import Faults
from bench.fleet import Site, site
from bench.followers import Follower, Poller, Tally, place
from bench.machine import HERE, busy, cpu_seconds, describe, revision, say
from bench.mix import MARKETS, wishes

RESULT = HERE / "soak.json"
SAMPLE = 5.0
"""Seconds between two looks at the processes."""
WARM = 0.5
"""The part of the time that is left out of drift: the history and the caches fill."""
SLOW = 5
MANY = 40
"""Clients that read slowly, and of how many channels."""
POLLERS = 5
CUT = 0.5
"""Seconds between two clients that are cut, on the average."""
LEVEL = 60.0
"""Seconds that all clients have in the end to hold what the gateways hold."""


class Soak:
    """What is seen of it: samples by figure, as (seconds since the start, value)."""

    def __init__(self, given: argparse.Namespace, where: Site) -> None:
        chance = random.Random(given.seed)
        self.given = given
        self.site = where
        self.tally = Tally()
        self.samples: dict[str, list[tuple[float, float]]] = {}
        self.began = time.monotonic()
        ports = (where.stays.port, where.dies.port)
        drawn = [path.partition("=")[2].split(",") for path in wishes(given.clients)]
        many = sorted({one for channels in drawn for one in channels})
        self.followers = [Follower(ports, one, self.tally, chance) for one in drawn] + [
            Follower(ports, chance.sample(many, MANY), self.tally, chance, pace=2000 * (number + 1))
            for number in range(SLOW)
        ]
        self.pollers = [Poller(ports, many, self.tally, chance) for _ in range(POLLERS)]
        self.faults = Faults(
            where.exchange, where.redis, where.stays, where.dies, self.followers, self.tally, chance
        )
        self._chance = chance

    @property
    def now(self) -> float:
        return time.monotonic() - self.began

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            await self.faults.well()
            running = [one.run() for one in self.followers] + [one.run() for one in self.pollers]
            clients = [tasks.create_task(one) for one in running]
            await asyncio.sleep(min(10, self.given.minutes * 6))
            others = [
                tasks.create_task(one)
                for one in (
                    self.faults.run(self.given.pause), self._cut(), self._watch(), self._tell()
                )
            ]  # fmt: skip
            await asyncio.sleep(self.given.minutes * 60)
            for task in others:
                task.cancel()
            await asyncio.wait(others)
            await self._finish()
            for task in clients:
                task.cancel()

    async def _cut(self) -> None:
        """Clients come and go all the time."""
        while True:
            await asyncio.sleep(self._chance.expovariate(1 / CUT))
            self._chance.choice(self.followers).cut()

    async def _watch(self) -> None:
        while True:
            for one in (self.site.stays, self.site.dies):
                with suppress(httpx.HTTPError, OSError, KeyError, SystemExit):
                    for name, value in (await one.sample()).items():
                        self._note(f"{one.name} {name}", value)
                if one.crashed:
                    self.tally.violate(f"{one.name} crashed: {one.log.read_text()[-2000:]}")
            await asyncio.sleep(SAMPLE)

    async def _tell(self) -> None:
        """A line a minute."""
        used, all_used, at = cpu_seconds(os.getpid()), busy(), self.now
        while True:
            await asyncio.sleep(min(60, self.given.minutes * 60 / 4))
            ages = self.tally.take_ages()
            self._note("p50 ms", quantile(ages, 0.5))
            self._note("p99 ms", quantile(ages, 0.99))
            used, before, at, since = cpu_seconds(os.getpid()), used, self.now, at
            all_used, all_before = busy(), all_used
            if used > before:  # of a process that was killed nothing is left
                self._note("processors", (used - before) / (at - since))
                others = all_used - all_before - (used - before)
                self._note("processors, of others", others / (at - since))
            latest = {name: values[-1][1] for name, values in self.samples.items()}
            shown = "  ".join(f"{name} {value:.2f}" for name, value in sorted(latest.items()))
            say(
                f"{at / 60:5.1f} min  events {self.tally.events:,}  {shown}"
                f"  violations {self.tally.violations}"
            )
            save(self)

    def _note(self, name: str, value: float) -> None:
        self.samples.setdefault(name, []).append((round(self.now, 1), round(value, 2)))

    async def _finish(self) -> None:
        """The market stands still: everyone must come to hold the same, and the gateways end."""
        await self.site.exchange.set(
            stall=False, pong=True, away=False, mute=False, rest="ok", token="ok"
        )
        self.site.redis.resume()
        self.site.stays.tell(signal.SIGCONT)
        if not self.site.redis.running:
            await self.site.redis.start()
        if self.site.dies.process is None or self.site.dies.process.returncode is not None:
            await self.site.dies.start()
        await self.faults.well()
        await self.site.exchange.set(load="")
        for follower in self.followers:
            follower.pace = None
        end, behind = time.monotonic() + LEVEL, ["?"]
        while behind and time.monotonic() < end:
            await asyncio.sleep(0.5)
            with suppress(httpx.HTTPError):
                behind = await self._behind()
        for one in behind:
            self.tally.violate(f"not level in the end: {one}")
        for broken in (await self.site.exchange.report())["violations"]:
            self.tally.violate(f"the exchange complains: {broken}")

    async def _behind(self) -> list[str]:
        """Clients and channels that do not hold what both gateways hold."""
        found = []
        channels = sorted({one for follower in self.followers for one in follower.channels})
        for gateway in (self.site.stays, self.site.dies):
            held = {}
            for start in range(0, len(channels), 50):
                names = ",".join(channels[start : start + 50])
                answer = await gateway.http.get("/v1/state", params={"channels": names})
                if answer.status_code != 200:
                    return [f"{gateway.name}: {answer.status_code} {answer.text[:200]}"]
                for one in answer.json()["data"]:
                    held[one["channel"]] = place(one["position"])
            found += [
                f"client {number}: {channel} {follower.held.get(channel)}, not {held[channel]}"
                for number, follower in enumerate(self.followers)
                for channel in follower.channels
                if follower.held.get(channel) != held[channel]
            ]
        return found


# What comes out


def save(soak: Soak) -> None:
    tally = soak.tally
    told = {
        "where": f"{describe()}, gateway {revision()}, {time.strftime('%Y-%m-%d')}",
        "minutes": soak.given.minutes,
        "clients": soak.given.clients,
        "rate": soak.given.rate,
        "seconds": soak.now,
        "events": tally.events,
        "connections": tally.connections,
        "resumed": tally.resumed,
        "repeated": tally.repeated,
        "gaps": tally.gaps,
        "ends": tally.ends,
        "resets": tally.resets,
        "answers": {str(status): count for status, count in sorted(tally.answers.items())},
        "violations": tally.violations,
        "told": tally.told,
        "back": soak.faults.back,
        "samples": soak.samples,
    }
    soak.given.out.write_text(json.dumps(told, indent=1))


def section(told: dict[str, Any]) -> str:
    """The tables of the document."""
    begin = told["seconds"] * WARM
    about = (
        f"{told['minutes']:g} minutes, {told['clients']} clients of {MARKETS} markets at "
        f"{told['rate']} events/s, {SLOW} that read slowly, {POLLERS} that ask over REST. "
        f"Measured on {told['where']}."
    )
    lines = [
        about,
        "",
        "| | |",
        "|---|---|",
        f"| events delivered | {told['events']:,} |",
        f"| streams opened, resumed by an id | {told['connections']:,}, {told['resumed']:,} |",
        f"| streams ended | {_counts(told['ends'])} |",
        f"| resets | {_counts(told['resets'])} |",
        f"| snapshots that say `gap`, over all clients | {told['gaps']:,} |",
        f"| REST answers (0: no answer, the process hung or died) | {_counts(told['answers'])} |",
        f"| **violations** of a chain, an order or an answer | **{told['violations']}** |",
        "",
        f"| after the first {begin / 60:.0f} minutes | from | to | drift an hour | |",
        "|---|---|---|---|---|",
    ]
    for name, values in told["samples"].items():
        found = drift([(at, value) for at, value in values if at >= begin])
        if found is not None and not name.startswith("dies"):
            lines.append(f"| {name} | {_line(found)} |")
    lines += ["", "| fault | times | live again after s: median, longest |", "|---|---|---|"]
    for name, seconds in sorted(told["back"].items()):
        lines.append(
            f"| {name} | {len(seconds)} | {quantile(seconds, 0.5):.1f}, {max(seconds):.1f} |"
        )
    return "\n".join(lines) + "\n"


def _counts(counts: dict[str, int]) -> str:
    found = sorted(counts.items(), key=lambda one: -one[1])
    return ", ".join(f"{name} {count:,}" for name, count in found) or "none"


def _line(found: Drift) -> str:
    verdict = "stands" if found.stands else "drifts"
    return (
        f"{found.first:.2f} | {found.last:.2f} | {found.slope:+.2f} ± {found.spread:.2f}"
        f" | {verdict}"
    )


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--rate", type=int, default=200, help="events a second")
    parser.add_argument("--pause", type=float, default=20, help="seconds between faults")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=RESULT)
    parser.add_argument("--report", action="store_true", help="only write the document's section")
    given = parser.parse_args()
    if not given.report:
        asyncio.run(_soak(given))
    told = json.loads(given.out.read_text())
    say("\n" + section(told))
    if given.report:
        document.put("soak", section(told))
    for one in told["told"]:
        say(f"violation: {one}")
    return 1 if told["violations"] else 0


async def _soak(given: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        async with site(Path(folder), given.rate) as where:
            soak = Soak(given, where)
            await soak.run()
            for one in (where.stays, where.dies):
                await one.end()
                if one.crashed:
                    soak.tally.violate(f"{one.name} crashed: {one.log.read_text()[-2000:]}")
            save(soak)


if __name__ == "__main__":
    sys.exit(main())
