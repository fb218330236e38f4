"""REST: one ticker, asked for over 64 connections that stay open."""

import re
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from bench import servers
from bench.fanout import Opening
from bench.machine import OTHERS, cpu_seconds, on
from bench.servers import Server
from bench.trials import Benchmark, Goal, Measure, Measures

TICKER = "/v1/ticker/BTC_USDT"
NOT_MODIFIED = "sluice 304"


def asked(opening: Opening, path: str, seconds: int, *, again: bool = False) -> Measures:
    """Ask as fast as answers come; `again` with the ETag of the first answer."""
    with opening() as server:
        url = server.url(path)
        size, etag = _settled(url)
        header = ["-H", f"If-None-Match: {etag}"] if again else []
        before = cpu_seconds(server.pid)
        said = subprocess.run(
            on(OTHERS, "wrk", "-t1", "-c64", f"-d{seconds}s", *header, url),
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        ).stdout
        spent = cpu_seconds(server.pid) - before
        changed = _settled(url)[1] != etag
    if "Non-2xx" in said or changed:
        raise SystemExit(f"not what was to be measured:\n{said}")
    count, took = re.search(r"(\d+) requests in ([\d.]+)s", said).groups()  # type: ignore[union-attr] # wrk's line
    return {
        "requests_per_s": int(count) / float(took),
        "cpu_us": spent * 1e6 / int(count),
        "bytes": size,
    }


def _settled(url: str) -> tuple[int, str | None]:
    """The size and the validator of an answer that does not change any more."""
    seen: set[str | None] = set()
    while True:
        with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 -- our own URL
            size, etag = len(answer.read()), answer.headers.get("etag")
        if etag in seen:
            return size, etag
        seen.add(etag)
        time.sleep(0.3)


@contextmanager
def static() -> Iterator[Server]:
    """nginx with the gateway's answer as a file."""
    with servers.nchan(answer=b"x" * 340) as server:
        yield server


def cases(quick: bool) -> dict[str, dict[str, Measure]]:
    seconds = 2 if quick else 5
    ask: dict[str, Measure] = {
        "sluice": partial(asked, servers.sluice, TICKER, seconds),
        NOT_MODIFIED: partial(asked, servers.sluice, TICKER, seconds, again=True),
        "fastapi": partial(asked, servers.handwritten, "/ticker/BTC_USDT", seconds),
        "nginx": partial(asked, static, "/ticker", seconds),
    }
    return {"64 connections": ask}


REST = Benchmark(
    name="rest",
    title="REST: one ticker",
    about="A FastAPI route with a pydantic response model of the same shape; nginx with a file.",
    cases=cases,
    shown=("requests_per_s", "cpu_us", "bytes"),
    goals=(
        Goal("requests_per_s", 2, "fastapi", at_least=True),
        Goal("requests_per_s", 1, NOT_MODIFIED),
    ),
)
