"""``sluice serve --workers N``: the processes that share an address, and the one that keeps them.

A worker's standard input is a socket to its supervisor: a byte on it says that the worker serves,
and its end says that the supervisor is gone, in whatever way.
"""

import asyncio
import itertools
import os
import random
import signal
import socket
import sys
import time
from asyncio.subprocess import Process
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

from app.logs import logger
from app.upstream.backoff import backoff

log = logger("workers")

HEALTHY = 60.0
"""Seconds of life after which a worker's end is the first of a row again."""
TOLD = (0, -signal.SIGTERM)
"""How a worker ends that was told to: by the signal itself, if it had no handler for it yet."""


def restarts(chance: Callable[[], float] = random.random) -> Iterator[float]:
    """Seconds to wait before each replacement in a row: none, then as ``backoff`` has it."""
    return itertools.chain((0.0,), backoff(chance))


class Supervisor:
    """Keeps ``count`` processes running, each by its number's command, until a signal to it.

    SIGTERM and SIGINT stop them; a second one kills them.
    """

    def __init__(self, command: Callable[[int], Sequence[str]], count: int) -> None:
        self._command = command
        self._count = count
        self._processes: set[Process] = set()
        self._stopping = asyncio.Event()
        self._served = False
        self._status = 0

    async def run(self) -> int:
        """Run until told to stop. The exit status: 0 if all workers then ended well, else 1.

        If one ends before any has ever served, all are stopped and the status is that one's.
        """
        loop = asyncio.get_running_loop()
        for one in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(one, self._signalled)
        async with asyncio.TaskGroup() as tasks:
            for number in range(self._count):
                tasks.create_task(self._keep(number), name=f"worker {number}")
        return self._status

    def _stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        self._stopping.set()
        for process in self._processes:
            with suppress(ProcessLookupError):
                process.send_signal(number)

    def _signalled(self) -> None:
        self._stop(signal.SIGKILL if self._stopping.is_set() else signal.SIGTERM)

    async def _keep(self, number: int) -> None:
        """Run a worker, and another one whenever it ends by itself."""
        delays = restarts()
        while not self._stopping.is_set():
            started = time.monotonic()
            status = await self._run_worker(number)
            if self._stopping.is_set():
                if status not in TOLD:
                    self._status = self._status or 1
            elif not self._served:
                log.error("no worker has ever served")
                self._status = max(status, 1)
                self._stop()
            else:
                if time.monotonic() - started >= HEALTHY:
                    delays = restarts()
                with suppress(TimeoutError):
                    async with asyncio.timeout(next(delays)):
                        await self._stopping.wait()

    async def _run_worker(self, number: int) -> int:
        """Run one to its end; its exit status, negative for a signal."""
        link, end = socket.socketpair()
        with link:
            with end:
                try:
                    process = await asyncio.create_subprocess_exec(
                        *self._command(number),
                        stdin=end.fileno(),
                        start_new_session=True,  # Ctrl-C in a terminal is for the supervisor alone
                    )
                except OSError:  # out of processes or memory, which may pass
                    log.exception("worker not started")
                    return 1
            self._processes.add(process)
            log.info("worker started", pid=process.pid)
            if self._stopping.is_set():  # since before it could be told
                self._stop()
            link.setblocking(False)
            if await asyncio.get_running_loop().sock_recv(link, 1):
                self._served = True
            status = await process.wait()
            self._processes.remove(process)
            log.info("worker ended", pid=process.pid, status=status)
            return status


@contextmanager
def supervised() -> Iterator[Callable[[], None]]:
    """In a worker's loop: what to call once it serves. SIGTERM strikes if the supervisor goes."""
    loop, link = asyncio.get_running_loop(), sys.stdin.fileno()

    def gone() -> None:
        loop.remove_reader(link)
        signal.raise_signal(signal.SIGTERM)

    def serving() -> None:
        with suppress(BrokenPipeError):  # SIGTERM is about to strike
            os.write(link, b"\n")

    loop.add_reader(link, gone)  # nothing is ever sent to a worker, so only the end can be read
    try:
        yield serving
    finally:
        loop.remove_reader(link)
