"""Memory over a day's worth of events, replayed as fast as the gateway takes them.

    python -m bench.memory --recording ../shared/recordings/market.jsonl.gz [--events 2750000]

Prints the gateway's resident memory after each tenth of the way: after the first fill of the
history (SLUICE_HISTORY, 100,000 events) it is to stay where it is.
"""

import argparse
import json
import time
import urllib.request
from pathlib import Path

from bench.machine import SLUICE, free_port, running, wait_for
from bench.servers import gateway_env

BOOKS = "depth:BTC_USDT:0,depth:BTC_USDT:1,depth:ETH_USDT:0,depth:TRX_USDT:0"


def resident_mib(pid: int) -> float:
    """Resident memory of a process."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise SystemExit(f"process {pid} is gone")


def published(port: int) -> int:
    """Events the gateway has numbered."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/v1/status", timeout=10) as answer:
        return int(json.load(answer)["position"].partition("-")[2])


def main() -> None:
    """Replay and watch."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recording", type=Path, required=True)
    parser.add_argument("--events", type=int, default=2_750_000)
    parser.add_argument("--speed", default="300")
    arguments = parser.parse_args()
    exchange, port = free_port(), free_port()
    source = [
        str(SLUICE), "simulate", "--port", str(exchange), "--recording", str(arguments.recording),
        "--speed", arguments.speed, "--loop",
    ]  # fmt: skip
    env = {
        **gateway_env(exchange),
        "SLUICE_CHANNELS": f"lastprice:*,ticker:*,trade:*,{BOOKS}",
    }
    with (
        running(source, 1),
        running([str(SLUICE), "serve", "--port", str(port)], 0, env) as gateway,
    ):
        wait_for(f"http://127.0.0.1:{port}/v1/ticker/BTC_USDT")
        started = time.monotonic()
        for tenth in range(1, 11):
            while published(port) < arguments.events * tenth / 10:
                time.sleep(1)
            count, seconds = published(port), time.monotonic() - started
            print(
                f"{count:9,} events {count / seconds:7,.0f}/s {resident_mib(gateway.pid):6.0f} MiB",
                flush=True,
            )


if __name__ == "__main__":
    main()
