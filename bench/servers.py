"""The gateway and its peers, each started, fed and ended with a block.

The gateway is fed end to end, by the simulated exchange over its WebSocket; the peers get ready
bytes by POST, or by lines over TCP.
"""

import contextlib
import json
import os
import shutil
import string
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from bench.machine import (
    BIN,
    HERE,
    OTHERS,
    OWN,
    SERVER,
    SLUICE,
    beside,
    cpu_seconds,
    free_port,
    running,
    wait_for,
    wait_for_port,
)

FIRST = 2000
"""Events a second until the gateway has a ticker."""
PAYLOAD = 150
"""Bytes of an event's data, whoever makes it."""
NCHAN = Path("/usr/lib/nginx/modules/ngx_nchan_module.so")

Feed = Callable[[float, float], AbstractContextManager[None]]


@dataclass(frozen=True)
class Marks:
    """What stands before an event's send time and its sequence number, and in each event."""

    times: tuple[str, ...]
    sequence: str | None
    event: str


ENVELOPE = Marks(('"price":',), '"volume":', '"type":"update"')
PLAIN = Marks(('"t":',), '"s":', '"s":')


@dataclass(frozen=True)
class Server:
    """A running one: `feed(rate, seconds)` sends it events while its block runs."""

    pid: int
    port: int
    path: str
    marks: Marks
    feed: Feed
    source: Callable[[], float] = lambda: 0.0
    """CPU seconds of what makes the events."""

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"


def gateway_env(exchange: int) -> dict[str, str]:
    """The settings of a gateway on a simulator's port."""
    upstream = f"http://127.0.0.1:{exchange}"
    return {
        "SLUICE_UPSTREAM_WS_URL": f"ws://127.0.0.1:{exchange}/ws",
        "SLUICE_UPSTREAM_API_URL": upstream,
        "SLUICE_UPSTREAM_MARKETS_URL": upstream,
        "SLUICE_UPSTREAM_SCALES_URL": upstream,
        "SLUICE_UPSTREAM_USER_ID": "demo-user",
        "SLUICE_UPSTREAM_API_KEY": "demo-key",
        "SLUICE_MAX_STREAMS_PER_CLIENT": "1000000",
        "SLUICE_RATE_LIMIT": "100000000/second",
    }


def set_load(exchange: int, load: str) -> None:
    """Set the simulator's switch."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{exchange}/control",
        json.dumps({"load": load}).encode(),
        {"content-type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=10):  # noqa: S310 -- our own URL
        pass


@contextlib.contextmanager
def sluice(
    *,
    load: str = "BTC_USDT",
    marks: Marks = ENVELOPE,
    env: Mapping[str, str] | None = None,
    command: tuple[str, ...] = (str(SLUICE), "serve"),
) -> Iterator[Server]:
    """The simulated exchange and the gateway, which has heard a ticker and hears no more of it."""
    exchange, port = free_port(), free_port()
    source = [beside(OWN, "sluice"), "simulate", "--port", str(exchange), "--rate", "0"]

    @contextlib.contextmanager
    def feed(rate: float, seconds: float) -> Iterator[None]:
        set_load(exchange, f"{load}:{rate:.0f}")
        began = time.monotonic()
        try:
            yield
            time.sleep(max(0.0, began + seconds - time.monotonic()))
        finally:
            set_load(exchange, "")

    with running([*source, "--load", f"{load}:{FIRST}"], OTHERS) as simulator:
        wait_for(f"http://127.0.0.1:{exchange}/control")
        settings = {**gateway_env(exchange), **(env or {})}
        with running([*command, "--port", str(port)], SERVER, settings) as gateway:
            symbol = load if not load.isdigit() else "M0_USDT"
            wait_for(f"http://127.0.0.1:{port}/v1/ticker/{symbol}")
            set_load(exchange, "")
            path = f"/v1/stream?channels=ticker:{symbol}"
            yield Server(gateway.pid, port, path, marks, feed, lambda: cpu_seconds(simulator.pid))


def published(mode: str, port: int, path: str = "/") -> Feed:
    """A feed of plain events by the paced publisher."""

    @contextlib.contextmanager
    def feed(rate: float, seconds: float) -> Iterator[None]:
        command = [
            str(BIN / "ssepub"), "-m", mode, "-p", str(port), "-P", path, "-r", str(rate),
            "-t", str(seconds), "-n", str(PAYLOAD),
        ]  # fmt: skip
        with running(command, OTHERS) as publisher:
            yield
            with contextlib.suppress(subprocess.TimeoutExpired):
                publisher.wait(seconds + 1)

    return feed


@contextlib.contextmanager
def nchan(redis: int | None = None, answer: bytes = b"") -> Iterator[Server]:
    """nginx with Nchan; `answer` is what its /ticker gives."""
    port = free_port()
    folder = Path(tempfile.mkdtemp(prefix="bench-nchan-"))
    template = string.Template((HERE / "peers" / "nchan.conf").read_text())
    upstream = f"upstream redis {{ nchan_redis_server 127.0.0.1:{redis}; }}" if redis else ""
    config = template.substitute(
        folder=folder,
        port=port,
        redis_upstream=upstream,
        redis_pass="nchan_redis_pass redis;" if redis else "",
    )
    (folder / "nginx.conf").write_text(config)
    (folder / "ticker").write_bytes(answer)
    folder.chmod(0o755)  # nginx's worker is another user
    try:
        with running(["nginx", "-c", str(folder / "nginx.conf"), "-p", str(folder)], SERVER) as one:
            wait_for_port(port)
            yield Server(one.pid, port, "/sub", PLAIN, published("post", port, "/pub"))
    finally:
        shutil.rmtree(folder)


@contextlib.contextmanager
def redis_server() -> Iterator[int]:
    """Debian's Redis, beside the load: its port."""
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        command = ["redis-server", "--port", str(port), "--save", "", "--dir", folder]
        with running(command, OTHERS):
            wait_for_port(port)
            yield port


@contextlib.contextmanager
def nchan_redis() -> Iterator[Server]:
    """Nchan with its messages in Redis, whose own work is not counted."""
    with redis_server() as port, nchan(port) as server:
        yield server


@contextlib.contextmanager
def climit(tick_ms: float = 0) -> Iterator[Server]:
    """The C server that only sends; all events of a tick in one write."""
    port, ingest = free_port(), free_port()
    command = [str(BIN / "climit"), str(port), str(ingest), str(tick_ms)]
    with running(command, SERVER) as one:
        wait_for_port(port)
        yield Server(one.pid, port, "/", PLAIN, published("tcp", ingest))


@contextlib.contextmanager
def handwritten() -> Iterator[Server]:
    """FastAPI and sse-starlette, as a user would write it by hand."""
    port = free_port()
    command = [str(OWN), str(HERE / "peers" / "handwritten.py"), str(port)]
    with running(command, SERVER) as one:
        wait_for(f"http://127.0.0.1:{port}/ticker/BTC_USDT")
        yield Server(one.pid, port, "/stream", PLAIN, published("post", port, "/publish"))


def missing() -> list[str]:
    """The peers and benchmarks that cannot be measured here, for want of a program."""
    programs = {"nchan": "nginx", "nchan+redis": "redis-server", "rest": "wrk"}
    found = [name for name, program in programs.items() if not shutil.which(program, path=PATH)]
    return found if NCHAN.exists() else sorted({*found, "nchan", "nchan+redis"})


PATH = os.environ.get("PATH", "") + ":/usr/sbin"
