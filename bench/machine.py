"""The machine and the processes on it: who runs where, what it used, whether others were quiet."""

import contextlib
import os
import platform
import resource
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Self

HERE = Path(__file__).parent
BIN = HERE / "bin"
SOURCES = ("load/sseload.c", "load/ssepub.c", "peers/climit.c")
SERVER, OTHERS = 0, 1
"""The processor of what is measured, and that of everything else."""
TICK = os.sysconf("SC_CLK_TCK")
QUIET = 0.08
"""Of a processor, used by processes of no concern: less is quiet."""
PATIENCE = 20.0
"""Seconds to wait for quiet."""


def build() -> None:
    """Compile the load client, the publisher and the C server."""
    BIN.mkdir(exist_ok=True)
    for source in SOURCES:
        target = BIN / Path(source).stem
        subprocess.run(["gcc", "-O2", "-o", str(target), str(HERE / source)], check=True)


def take_descriptors() -> None:
    """Ten thousand streams have two ends."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def describe() -> str:
    """What the machine is, in one line."""
    model = ""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
    gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    system = f"{platform.system()} {platform.release()}, CPython {platform.python_version()}"
    return f"{os.cpu_count()} x {model}, {gib:.0f} GiB, {system}"


def revision() -> str:
    """The commit of the tree whose gateway is measured; `+` if something in it was changed."""
    command = ["git", "-C", str(SLUICE.parent), "describe", "--always", "--dirty=+", "--exclude=*"]
    told = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    return told.stdout.strip() or "unknown"


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def on(processor: int, *command: str | Path) -> list[str]:
    """A command line that stays on one processor."""
    return ["taskset", "-c", str(processor), *map(str, command)]


@contextlib.contextmanager
def running(
    command: list[str], processor: int, env: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """A process on one processor, ended with the block."""
    process = subprocess.Popen(
        on(processor, *command),
        env={**os.environ, **(env or {})},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_for(url: str, seconds: float = 20) -> None:
    """Wait until a URL answers 200."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            with urllib.request.urlopen(url, timeout=2):  # noqa: S310 -- our own URL
                return
        except OSError:
            pass
        time.sleep(0.1)
    raise SystemExit(f"nothing answered on {url} for {seconds} s")


def wait_for_port(port: int, seconds: float = 20) -> None:
    """Wait until connections are taken."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return
        time.sleep(0.1)
    raise SystemExit(f"nothing listened on port {port} for {seconds} s")


def family(pid: int) -> list[int]:
    """A process and all that descend from it."""
    found = [pid]
    for one in found:
        children = Path(f"/proc/{one}/task/{one}/children").read_text().split()
        found.extend(map(int, children))
    return found


def cpu_seconds(pid: int) -> float:
    """CPU time of a process and its descendants, user and system."""
    total = 0
    for one in family(pid):
        fields = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / TICK


def memory_kib(pid: int) -> int:
    """Proportional resident memory of a process and its descendants."""
    total = 0
    for one in family(pid):
        for line in Path(f"/proc/{one}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1])
    return total


def descriptors(pid: int) -> int:
    """Open ones of a process."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def busy() -> float:
    """CPU seconds of all processes of the machine since it started."""
    user, nice, system = Path("/proc/stat").read_text().split()[1:4]
    return (int(user) + int(nice) + int(system)) / TICK


def _ours() -> float:
    """CPU seconds of this process and of its descendants that have ended."""
    return sum(os.times()[:4])


class Noise:
    """What other processes took while the block ran; its own have all ended with the block."""

    processors = 0.0

    def __enter__(self) -> Self:
        self._began, self._before = time.monotonic(), busy() - _ours()
        return self

    def __exit__(self, *_: object) -> None:
        passed = time.monotonic() - self._began
        self.processors = max(0.0, (busy() - _ours() - self._before) / passed)


def wait_for_quiet() -> None:
    """Wait until nobody else uses the processors, but not for ever."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        with Noise() as noise:
            time.sleep(0.5)
        if noise.processors < QUIET:
            return


def say(text: str) -> None:
    print(text, flush=True)


def beside(executable: Path, name: str) -> str:
    """A command of the same environment."""
    return str(executable.with_name(name))


OWN = Path(sys.executable)
SLUICE = Path(os.environ.get("BENCH_SLUICE", OWN.with_name("sluice")))
"""The gateway that is measured: `BENCH_SLUICE` names another tree's."""
