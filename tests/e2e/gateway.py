"""The product's own processes, started as a user would, on free ports of the loopback."""

import asyncio
import hashlib
import os
import re
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.e2e.nursery import Child, start
from tests.e2e.reconstruct import loads
from tests.e2e.waiting import LIMIT, until

ROOT = Path(__file__).parents[2]
USER, KEY = "demo-user", "demo-key"
TOKEN = re.compile(r"[0-9a-f]{64}")
SECRETS = (KEY, hashlib.md5(KEY.encode(), usedforsecurity=False).hexdigest(), "token=")


def free_port() -> int:
    """A port that is free just now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


@dataclass
class Running:
    """A process of ours that serves HTTP."""

    url: str
    process: Child
    log_path: Path
    http: httpx.AsyncClient
    status_wanted: int | None = None
    """How it must have ended by the end of its block; None: not by itself."""

    @property
    def log(self) -> str:
        return self.log_path.read_text()

    @property
    def pid(self) -> int:
        return self.process.pid

    async def get(self, path: str, **query: Any) -> Any:
        """A JSON answer that must be 200; fractions keep their digits."""
        answer = await self.http.get(path, params=query)
        assert answer.status_code == 200, f"{path}: {answer.status_code} {answer.text[:300]}"
        return loads(answer.content)

    async def post(self, path: str, **body: Any) -> Any:
        answer = await self.http.post(path, json=body)
        assert answer.status_code == 200, f"{path}: {answer.status_code} {answer.text[:300]}"
        return answer.json()

    async def status(self, path: str) -> int:
        """The status code of a path; 0 while nobody answers."""
        try:
            return (await self.http.get(path)).status_code
        except httpx.TransportError:
            return 0

    def tell(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    async def end(self, number: signal.Signals = signal.SIGTERM) -> None:
        """End it before its block does; at SIGTERM it must end well."""
        self.status_wanted = -number if number == signal.SIGKILL else 0
        self.tell(number)
        async with asyncio.timeout(LIMIT):
            await self.process.wait()


@asynccontextmanager
async def _running(
    arguments: list[str], environment: dict[str, str], log: Path, probe: str
) -> AsyncIterator[Running]:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    inherited = {name: text for name, text in os.environ.items() if not name.startswith("SLUICE_")}
    process = start([*arguments, "--port", str(port)], inherited | environment, ROOT, log)
    try:
        async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=10) as http:
            running = Running(url, process, log, http)

            async def up() -> bool:
                assert process.returncode is None, f"ended at its start: {running.log}"
                return await running.status(probe) == 200

            await until(up, f"{arguments[0]} answers")
            yield running
            assert process.returncode == running.status_wanted, (
                f"{arguments[0]} ended with {process.returncode}: {running.log}"
            )
    finally:
        await _stop(process)


async def _stop(process: Child) -> None:
    if process.returncode is not None:
        return
    process.send_signal(signal.SIGTERM)
    try:
        async with asyncio.timeout(10):
            await process.wait()
    except TimeoutError:
        process.send_signal(signal.SIGKILL)
        await process.wait()
        raise AssertionError("a process did not end at SIGTERM within 10 s") from None


@asynccontextmanager
async def gateway(
    exchange: str, folder: Path, *, name: str = "gateway", **settings: object
) -> AsyncIterator[Running]:
    """``sluice serve`` on an exchange; ``settings`` are the SLUICE_ ones, in lower case.

    None leaves one unset. At the end its log must hold neither a crash nor a secret.
    """
    environment: dict[str, object] = {
        "SLUICE_UPSTREAM_WS_URL": exchange.replace("http", "ws") + "/ws",
        "SLUICE_UPSTREAM_API_URL": exchange,
        "SLUICE_UPSTREAM_MARKETS_URL": exchange,
        "SLUICE_UPSTREAM_SCALES_URL": exchange,
        "SLUICE_UPSTREAM_USER_ID": USER,
        "SLUICE_UPSTREAM_API_KEY": KEY,
        "SLUICE_RATE_LIMIT": "10000/second",
        "SLUICE_DRAIN": "0",
        "SLUICE_LOG_FORMAT": "json",
    }
    environment |= {f"SLUICE_{setting.upper()}": value for setting, value in settings.items()}
    texts = {name: str(value) for name, value in environment.items() if value is not None}
    log = folder / f"{name}.log"
    async with _running(["serve"], texts, log, "/readyz?for=traffic") as running:
        yield running
    assert running.process.returncode == (running.status_wanted or 0), running.log
    check_log(running.log)


def check_log(log: str) -> None:
    """Neither a crash nor a secret stands in a log."""
    for word in ("Traceback", '"level": "critical"', '"level":"critical"'):
        assert word not in log, log
    for secret in SECRETS:
        assert secret not in log, "a secret is in the log"
    assert not TOKEN.search(log), "a token is in the log"


@asynccontextmanager
async def exchange(folder: Path, **options: object) -> AsyncIterator[Running]:
    """``sluice simulate`` with its options; ``True`` is a bare flag."""
    arguments = ["simulate"]
    for name, value in options.items():
        flag = f"--{name.replace('_', '-')}"
        arguments += [flag] if value is True else [flag, str(value)]
    log = folder / "exchange.log"
    async with _running(arguments, {}, log, "/control") as running:
        yield running


def memory(pid: int) -> int:
    """The resident memory of a process in bytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise AssertionError(f"no VmRSS for {pid}")
