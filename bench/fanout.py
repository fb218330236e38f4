"""Fan-out of one channel, beside nginx with Nchan: CPU of the server per delivery, and latency.

    python -m bench.fanout [--clients 1000] [--rate 40] [--seconds 10] [--rounds 3]

The servers run in turn on one processor, the load client and the source of events on the other.
Sluice is measured end to end: the simulator makes an event, the gateway reads it off its
WebSocket, sequences, encodes and delivers it; Nchan gets ready bytes by POST. Latency is from the
making of the event to its reading by the client. Only the ratios mean anything.
"""

import argparse
import contextlib
import json
import os
import platform
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median

TOOLS = Path(__file__).parents[2] / "shared" / "bench"
BIN = Path(__file__).parent / "bin"
SLUICE = [str(Path(sys.executable).with_name("sluice"))]
EVENT_BYTES = 330
"""What an envelope of the load takes: the peer is given as many."""
TICK = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Trial:
    """One run against one server."""

    deliveries: int
    cpu_seconds: float
    p50_ms: float
    p99_ms: float
    lost: int

    @property
    def cpu_us(self) -> float:
        """Microseconds of the server's CPU per delivery."""
        return self.cpu_seconds * 1e6 / self.deliveries


def build() -> None:
    """Compile the load client and the publisher."""
    BIN.mkdir(exist_ok=True)
    for name in ("sseload", "ssepub"):
        subprocess.run(["gcc", "-O2", "-o", str(BIN / name), str(TOOLS / f"{name}.c")], check=True)


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


@contextlib.contextmanager
def running(
    command: list[str], cpu: int, env: dict[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """A process on one processor, ended with the block."""
    process = subprocess.Popen(
        ["taskset", "-c", str(cpu), *command],
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
        except (urllib.error.URLError, ConnectionError):
            pass
        time.sleep(0.1)
    raise SystemExit(f"nothing answered on {url} for {seconds} s")


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
    }


def cpu_seconds(pid: int) -> float:
    """CPU time of a process and its children, user and system."""
    total = 0.0
    pids = [pid]
    while pids:
        one = pids.pop()
        fields = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
        total += (int(fields[11]) + int(fields[12])) / TICK
        children = Path(f"/proc/{one}/task/{one}/children").read_text().split()
        pids.extend(map(int, children))
    return total


def load(
    port: int, path: str, marks: tuple[str, str], pid: int, arguments: argparse.Namespace
) -> Trial:
    """Open the streams, measure for a while."""
    client = subprocess.Popen(
        [
            "taskset", "-c", "1", str(BIN / "sseload"), "-p", str(port), "-P", path,
            "-c", str(arguments.clients), "-t", str(arguments.seconds),
            "-l", marks[0], "-q", marks[1], "-m", marks[1],
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    assert client.stderr is not None
    for line in client.stderr:
        if line.startswith("READY"):
            break
    before = cpu_seconds(pid)
    output, _ = client.communicate(timeout=arguments.seconds + 60)
    spent = cpu_seconds(pid) - before
    result = json.loads(output)
    if result["failed"]:
        raise SystemExit(f"{result['failed']} streams did not open")
    return Trial(result["matched"], spent, result["p50_ms"], result["p99_ms"], result["seq_gaps"])


def sluice(arguments: argparse.Namespace) -> Trial:
    """Simulator, gateway, load client."""
    exchange, port = free_port(), free_port()
    env = {**gateway_env(exchange), "SLUICE_MAX_STREAMS_PER_CLIENT": "1000000"}
    source = [
        *SLUICE, "simulate", "--port", str(exchange), "--rate", "0",
        "--load", f"BTC_USDT:{arguments.rate}",
    ]  # fmt: skip
    with (
        running(source, 1),
        running([*SLUICE, "serve", "--port", str(port)], 0, env) as server,
    ):
        wait_for(f"http://127.0.0.1:{port}/v1/ticker/BTC_USDT")
        path = "/v1/stream?channels=ticker:BTC_USDT"
        return load(port, path, ('"price":"', '"volume":"'), server.pid, arguments)


def nchan(arguments: argparse.Namespace) -> Trial:
    """Publisher, nginx with Nchan, load client."""
    port = free_port()
    folder = Path(tempfile.mkdtemp(prefix="bench-nchan-"))
    config = (TOOLS / "nchan.conf").read_text()
    config = config.replace("/tmp/sluice-bench", str(folder)).replace("8010", str(port))  # noqa: S108 -- the peer's file names it
    (folder / "nginx.conf").write_text(config)
    publisher = [
        str(BIN / "ssepub"), "-m", "post", "-p", str(port), "-r", str(arguments.rate),
        "-t", str(arguments.seconds + 15), "-n", str(EVENT_BYTES),
    ]  # fmt: skip
    try:
        with running(["nginx", "-c", str(folder / "nginx.conf"), "-p", str(folder)], 0) as server:
            end = time.monotonic() + 10
            while time.monotonic() < end:
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                    break
            with running(publisher, 1):
                return load(port, "/sub", ('"t":', '"s":'), server.pid, arguments)
    finally:
        shutil.rmtree(folder)


def main() -> None:
    """Run the trials in turn and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=1000)
    parser.add_argument("--rate", type=int, default=40)
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    if not TOOLS.is_dir():
        raise SystemExit(f"the load client is not there: expected its source in {TOOLS.name}")
    build()
    servers = {"sluice": sluice}
    if shutil.which("nginx"):
        servers["nchan"] = nchan
    else:
        print("nginx with Nchan is not installed: measuring without it")
    trials: dict[str, list[Trial]] = {name: [] for name in servers}
    for number in range(arguments.rounds):
        for name, measure in servers.items():
            trial = measure(arguments)
            trials[name].append(trial)
            print(
                f"round {number + 1} {name:7}"
                f" {trial.deliveries:9,} deliveries {trial.cpu_us:6.2f} us CPU each"
                f" p50 {trial.p50_ms:6.1f} ms p99 {trial.p99_ms:6.1f} ms lost {trial.lost}",
                flush=True,
            )
    print(f"\n{arguments.clients} clients, {arguments.rate} events/s, {arguments.seconds} s,")
    print(f"{arguments.rounds} rounds in turn; {platform.platform()}, {os.cpu_count()} processors")
    for name, found in trials.items():
        costs = sorted(trial.cpu_us for trial in found)
        print(
            f"{name:7} CPU/delivery median {median(costs):6.2f} us"
            f" [{costs[0]:.2f}-{costs[-1]:.2f}]"
            f"  p99 median {median(trial.p99_ms for trial in found):.1f} ms"
        )
    if len(trials) > 1:
        pairs = zip(trials["sluice"], trials["nchan"], strict=True)
        ratios = sorted(ours.cpu_us / theirs.cpu_us for ours, theirs in pairs)
        print(
            f"sluice / nchan, CPU per delivery: median {median(ratios):.2f}"
            f" [{ratios[0]:.2f}-{ratios[-1]:.2f}]"
        )


if __name__ == "__main__":
    main()
