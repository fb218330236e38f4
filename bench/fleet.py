"""The two gateways of a soak, on a real Redis and the simulated exchange."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families as families

from bench.faults import Exchange
from bench.machine import SLUICE, descriptors, free_port
from bench.memory import resident_mib
from bench.mix import MARKETS
from bench.servers import gateway_env
from tests.redis.servers import Server, server


@dataclass
class Gateway:
    """One of the two; ``killed`` if it was told to end."""

    name: str
    port: int
    environment: dict[str, str]
    log: Path
    http: httpx.AsyncClient
    process: asyncio.subprocess.Process | None = None
    killed: bool = False

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    async def start(self) -> None:
        with self.log.open("ab") as output:
            self.process = await asyncio.create_subprocess_exec(
                SLUICE, "serve", "--port", str(self.port),
                env=os.environ | self.environment, stdout=output, stderr=output,
            )  # fmt: skip
        self.killed = False
        while True:
            if self.process.returncode is not None:
                raise SystemExit(f"{self.name} ended at its start: {self.log.read_text()[-2000:]}")
            with suppress(httpx.HTTPError):
                if (await self.http.get("/readyz?for=traffic")).status_code == 200:
                    return
            await asyncio.sleep(0.1)

    def tell(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            os.kill(self.pid, number)

    async def end(self, number: signal.Signals = signal.SIGTERM) -> None:
        assert self.process is not None
        self.killed = True
        self.tell(number)
        async with asyncio.timeout(30):
            status = await self.process.wait()
        if status not in {0, -signal.SIGKILL}:
            raise SystemExit(f"{self.name} ended with {status}: {self.log.read_text()[-2000:]}")

    def abandon(self) -> None:
        """Leave nothing behind."""
        if self.process is not None:
            _kill(self.process)

    @property
    def crashed(self) -> bool:
        """Whether it ended without being told to, or says that something crashed in it."""
        gone = self.process is not None and self.process.returncode is not None and not self.killed
        text = self.log.read_text()
        return gone or any(word in text for word in ("Traceback", '"level": "critical"'))

    async def status(self) -> dict[str, Any]:
        told: dict[str, Any] = (await self.http.get("/v1/status")).raise_for_status().json()
        return told

    async def sample(self) -> dict[str, float]:
        """Resident MiB; descriptors and tasks beside the streams', by whether it leads."""
        text = (await self.http.get("/metrics")).raise_for_status().text
        told = {
            one.name: one.value
            for family in families(text)
            for one in family.samples
            if not one.labels
        }
        role = "leading" if told["sluice_lease_held"] else "following"
        return {
            "MiB": resident_mib(self.pid),
            f"descriptors, {role}": descriptors(self.pid) - told["sluice_streams_open"],
            f"tasks, {role}": told["sluice_tasks"],
        }


@dataclass
class Site:
    """``stays`` is the one that nobody ends."""

    exchange: Exchange
    redis: Server
    stays: Gateway
    dies: Gateway


@asynccontextmanager
async def site(folder: Path, rate: int) -> AsyncIterator[Site]:
    """So many events a second on all markets; the gateways' logs are in the folder."""
    async with AsyncExitStack() as stack:
        port = free_port()
        source = await asyncio.create_subprocess_exec(
            SLUICE, "simulate", "--port", str(port), "--rate", "0", "--load", f"{MARKETS}:{rate}",
            stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        stack.callback(_kill, source)
        redis = await stack.enter_async_context(server(folder, appendfsync="everysec"))
        environment = gateway_env(port) | {
            "SLUICE_BROKER_URL": redis.url,
            "SLUICE_LOG_FORMAT": "json",
            "SLUICE_MUTE_AFTER": "15",
        }

        async def gateway(name: str) -> Gateway:
            own = free_port()
            http = await stack.enter_async_context(
                httpx.AsyncClient(base_url=f"http://127.0.0.1:{own}", trust_env=False, timeout=10)
            )
            one = Gateway(name, own, environment, folder / f"{name}.log", http)
            stack.callback(one.abandon)
            await one.start()
            return one

        yield Site(Exchange(port), redis, await gateway("stays"), await gateway("dies"))


def _kill(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.kill()
