"""Real processes, sockets and signals; the workers are small stand-ins but where it says so."""

import asyncio
import itertools
import json
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from app.workers import restarts
from tests.e2e.gateway import ROOT, free_port
from tests.e2e.process import Command, clean_environment, command, on_exchange, run, soon

FULL = """
import resource, runpy
resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
runpy.run_module("app", run_name="__main__")
"""
"""The product, where not a byte can be written to a file."""

SUPERVISOR = """
import itertools
import os
import sys
import uvloop
from app import workers
from app.sockets import reserve
from app.logs import configure_logging

configure_logging("json")
if "BACKOFF" in os.environ:
    workers.backoff = lambda chance: itertools.repeat(float(os.environ["BACKOFF"]))
with reserve("127.0.0.1", 0) as sock:
    port = str(sock.getsockname()[1])
    print("port", port, flush=True)
    def worker(number):
        parts = [part.replace("PORT", port) for part in sys.argv[1:-2]]
        return [part.replace("NUMBER", str(number)) for part in parts]
    raise SystemExit(uvloop.run(workers.Supervisor(worker, 2).run()))
"""

WORKER = """
import os
import pathlib
import select
import signal
import socket
import sys

port, folder = int(sys.argv[1]), pathlib.Path(sys.argv[2])
if (folder / "broken").exists():
    sys.exit(2)
stubborn = (folder / "stubborn").exists()

def stop(number, frame):
    if not stubborn:
        sys.exit(0)
    os.write(1, f"{os.getpid()} was told\\n".encode())

signal.signal(signal.SIGTERM, stop)
sock = socket.socket()
sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
sock.bind(("127.0.0.1", port))
sock.listen()
os.write(0, b"1")
while 0 not in select.select([0, sock], [], [])[0]:
    client, _ = sock.accept()
    client.sendall(str(os.getpid()).encode())
    client.close()
"""


@dataclass
class Site:
    """A supervisor, and what can be seen of its two workers."""

    supervisor: Command
    folder: Path

    @property
    def log(self) -> list[dict[str, Any]]:
        lines = self.supervisor.output.splitlines()
        return [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]

    def told(self, event: str) -> list[dict[str, Any]]:
        return [line for line in self.log if line["event"] == event]

    @property
    def running(self) -> set[int]:
        """The processes started that are not over."""
        return {pid for pid in (line["pid"] for line in self.told("worker started")) if alive(pid)}

    async def port(self) -> int:
        found = await soon(lambda: re.search(r"port (\d+)\n", self.supervisor.output))
        return int(found[1])

    async def answer(self) -> int:
        """The process that takes a connection."""
        reader, writer = await asyncio.open_connection("127.0.0.1", await self.port())
        try:
            return int(await reader.read())
        finally:
            writer.close()

    async def up(self) -> set[int]:
        """Wait until two workers answer; their processes."""
        seen = set[int]()

        async def both() -> set[int]:
            with suppress(OSError, ValueError):  # nobody listens, or who did is just gone
                seen.add(await self.answer())
            seen.intersection_update(self.running)
            return seen if len(seen) == 2 else set()

        return set(await soon(both, "two workers answer"))


def alive(pid: int) -> bool:
    """Whether a process runs; one that is over and not yet waited for does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] not in {"Z", "X"}


@asynccontextmanager
async def site(folder: Path, *worker: str, **environment: str) -> AsyncIterator[Site]:
    """A supervisor of stand-ins, or of the command given; PORT in it is the port."""
    script, stand_in = folder / "supervisor.py", folder / "worker.py"
    script.write_text(SUPERVISOR)
    stand_in.write_text(WORKER)
    worker = worker or (sys.executable, str(stand_in), "PORT", str(folder))
    async with command(folder, str(script), *worker, port=0, environment=environment) as supervisor:
        yield Site(supervisor, folder)


async def test_connections_are_spread_over_the_workers(tmp_path: Path) -> None:
    async with site(tmp_path) as two:
        pids = await two.up()
        taken = Counter([await two.answer() for _ in range(200)])
        assert taken.keys() == pids
        assert min(taken.values()) > 50, taken


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_all(tmp_path: Path, number: signal.Signals) -> None:
    async with site(tmp_path) as two:
        pids = await two.up()
        assert await two.supervisor.stop(number) < 5
        assert two.supervisor.process.returncode == 0
        assert {(line["pid"], line["status"]) for line in two.told("worker ended")} == {
            (pid, 0) for pid in pids
        }
        assert not two.running


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
async def test_a_second_signal_kills(tmp_path: Path, second: signal.Signals) -> None:
    (tmp_path / "stubborn").touch()
    async with site(tmp_path) as two:
        pids = await two.up()
        two.supervisor.process.send_signal(signal.SIGTERM)
        await soon(
            lambda: all(f"{pid} was told" in two.supervisor.output for pid in pids), "they are told"
        )
        assert two.running == pids
        assert await two.supervisor.stop(second) < 5
        assert two.supervisor.process.returncode == 1
        assert not two.running


async def test_a_worker_that_was_killed_is_replaced(tmp_path: Path) -> None:
    async with site(tmp_path) as two:
        before = await two.up()
        killed = min(before)
        os.kill(killed, signal.SIGKILL)
        after = await two.up()
        assert after & before == before - {killed}
        ended = two.told("worker ended")
        assert [(line["pid"], line["status"]) for line in ended] == [(killed, -signal.SIGKILL)]
        await two.supervisor.stop()
        assert two.supervisor.process.returncode == 0, "what ended before the stop does not count"


async def test_a_worker_that_fails_beside_one_that_served_is_tried_again(tmp_path: Path) -> None:
    async with site(tmp_path) as two:
        before = await two.up()
        (tmp_path / "broken").touch()
        os.kill(min(before), signal.SIGKILL)
        await soon(lambda: [line["status"] for line in two.told("worker ended")][1:3] == [2, 2])
        assert max(before) in two.running
        (tmp_path / "broken").unlink()
        assert max(before) in await two.up()


async def test_a_stop_does_not_wait_for_the_next_try(tmp_path: Path) -> None:
    async with site(tmp_path, BACKOFF="3600") as two:
        before = await two.up()
        (tmp_path / "broken").touch()
        os.kill(min(before), signal.SIGKILL)
        await soon(lambda: len(two.told("worker ended")) == 2, "the next try is an hour away")
        await two.supervisor.stop()
        assert two.supervisor.process.returncode == 0


async def test_a_configuration_that_never_worked_ends_all_with_its_status(tmp_path: Path) -> None:
    (tmp_path / "broken").touch()
    async with site(tmp_path) as two:
        assert await two.supervisor.ended() == 2
        assert two.told("no worker has ever served")
        assert len(two.told("worker started")) <= 2
        assert not two.running


async def test_a_command_that_cannot_be_started_ends_all(tmp_path: Path) -> None:
    async with site(tmp_path, str(tmp_path / "no-such-program")) as two:
        assert await two.supervisor.ended() == 1
        assert two.told("worker not started")


async def test_workers_do_not_outlive_their_supervisor(tmp_path: Path) -> None:
    async with site(tmp_path) as two:
        await two.up()
        two.supervisor.process.kill()
        await two.supervisor.ended()
        await soon(lambda: not two.running, "they end")


def test_the_first_replacement_is_at_once_and_the_others_are_ever_later() -> None:
    delays = list(itertools.islice(restarts(lambda: 0.5), 8))
    assert delays[0] == 0
    assert delays == sorted(delays)
    assert 15 < delays[-1] <= 30


# The product itself


async def test_the_product_as_a_worker(tmp_path: Path) -> None:
    """It says when it serves, and ends politely when its supervisor is gone."""
    nowhere = on_exchange(f"http://127.0.0.1:{free_port()}")
    (tmp_path / "sockets").mkdir()
    own = str(tmp_path / "sockets" / "NUMBER")
    worker = (sys.executable, "-m", "app", "serve", "--port", "PORT", "--worker", own)
    async with site(tmp_path, *worker, **nowhere) as two:
        await soon(lambda: len(two.told("serving")) == 2, "both serve")
        assert {line["port"] for line in two.told("serving")} == {await two.port()}
        (first, _) = pids = sorted(two.running)
        os.kill(first, signal.SIGKILL)
        await soon(lambda: len(two.told("serving")) == 3, "it is replaced, as they had served")
        assert len(two.running | set(pids)) == 3
        two.supervisor.process.kill()
        await soon(lambda: not two.running, "they end")
        assert len(two.told("stopping")) == 2


WITHOUT_REDIS = """
from app import server
from app.__main__ import main
from app.settings import read_settings

def serve(_settings, *more, serve=server.serve, **named):
    return serve(read_settings(broker_url="memory://"), *more, **named)

server.serve = serve
main()
"""


@asynccontextmanager
async def both_serving(folder: Path) -> AsyncIterator[Site]:
    """The product's own supervisor, whose workers need no Redis."""
    script = folder / "without_redis.py"
    script.write_text(WITHOUT_REDIS)
    nowhere = on_exchange(
        f"http://127.0.0.1:{free_port()}", broker_url=f"redis://127.0.0.1:{free_port()}/0"
    )
    serve = (str(script), "serve", "--workers", "2")
    async with command(folder, *serve, port=0, environment=nowhere) as supervisor:
        two = Site(supervisor, folder)
        await soon(lambda: len(two.told("serving")) == 2, "both serve")
        yield two


async def test_serve_runs_its_own_command_line_as_workers(tmp_path: Path) -> None:
    """The program of workers is the one that was called, on one port that was free."""
    async with both_serving(tmp_path) as two:
        (port,) = {line["port"] for line in two.told("serving")}
        assert port > 0
        assert await two.supervisor.stop() < 5
        assert two.supervisor.process.returncode == 0
        assert len(two.told("stopping")) == 2


async def test_a_scrape_tells_of_all_workers(tmp_path: Path) -> None:
    """Whichever worker answers."""
    async with both_serving(tmp_path) as two:
        port = two.told("serving")[0]["port"]
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=5) as client:

            async def scraped(name: str) -> dict[str, float]:
                answer = await client.get("/metrics", headers={"Connection": "close"})
                return {
                    sample.labels["worker"]: sample.value
                    for family in text_string_to_metric_families(answer.text)
                    for sample in family.samples
                    if sample.name == name
                }

            for _ in range(4):
                assert await scraped("sluice_worker_up") == {"0": 1, "1": 1}
                cpu = await scraped("process_cpu_seconds_total")
                assert cpu.keys() == {"0", "1"}
                assert min(cpu.values()) > 0
            async with client.stream("GET", "/v1/stream?channels=ticker:*") as stream:
                assert stream.status_code == 200
                assert sum((await scraped("sluice_streams_open")).values()) == 1


def test_workers_need_a_place_for_their_sockets() -> None:
    """Where no file can be written, as in a container with nothing but a read-only root."""
    refused = subprocess.run(
        [sys.executable, "-c", FULL, "serve", "--workers", "2", "--port", "0"],
        cwd=ROOT,
        env=clean_environment({"SLUICE_BROKER_URL": "redis://127.0.0.1:1/0"}),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert refused.returncode == 2
    (line,) = refused.stderr.splitlines()
    assert line.startswith("--workers above 1 needs a temporary directory for their sockets (No")
    assert "TMPDIR" in line


def test_workers_need_a_broker_of_their_own() -> None:
    refused = run("serve", "--workers", "2", "--port", str(free_port()))
    assert refused.returncode == 2
    assert refused.stderr == (
        "--workers above 1 needs a Redis broker, and SLUICE_BROKER_URL is memory://\n"
    )
