"""The product's processes out of one that has imported it: most of a start is importing.

Each is a process of its own, with signals and descriptors of its own; that the commands start from
nothing is tried in ``test_process.py``. What was drawn at random while it was imported is the same
in all: the first part of the request ids made here.
"""

import asyncio
import gc
import multiprocessing
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from multiprocessing.context import ForkServerProcess
from pathlib import Path

_CONTEXT = multiprocessing.get_context("forkserver")
_LOADED = ("app.__main__", "app.demo", "app.server", "httpcore", "anyio._backends._asyncio")
_CONTEXT.set_forkserver_preload([*_LOADED, __name__])


class Child:
    """A command of the product that runs, as ``asyncio.subprocess.Process`` would show it."""

    def __init__(self, process: ForkServerProcess) -> None:
        assert process.pid is not None
        self.pid = process.pid
        self._process = process

    @property
    def returncode(self) -> int | None:
        """The exit status, negative for a signal; None while it runs."""
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        with suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    async def wait(self) -> int:
        """Wait for its end; the exit status."""
        loop, ended = asyncio.get_running_loop(), asyncio.Event()
        sentinel = self._process.sentinel
        loop.add_reader(sentinel, ended.set)
        try:
            await ended.wait()
        finally:
            loop.remove_reader(sentinel)
        self._process.join()
        assert self.returncode is not None
        return self.returncode


def start(
    arguments: Sequence[str], environment: Mapping[str, str], folder: Path, log: Path
) -> Child:
    """Run ``sluice`` with arguments, in a folder; what it writes goes to a file."""
    log.write_bytes(b"")
    given = (arguments, dict(environment), folder, log)
    process = _CONTEXT.Process(target=_run, args=given, daemon=True)  # ends with the tests
    process.start()
    return Child(process)


def _run(arguments: Sequence[str], environment: Mapping[str, str], folder: Path, log: Path) -> None:
    """In the new process: what a shell would do, and the command."""
    gc.freeze()  # what was loaded before the fork stays shared
    from app.__main__ import main  # noqa: PLC0415 -- only the process that is to run it needs it

    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    output = os.open(log, os.O_WRONLY | os.O_APPEND)
    for number in (1, 2):
        os.dup2(output, number)
    os.close(output)
    sys.argv = ["sluice", *arguments]
    sys.orig_argv = [sys.executable, "-m", "app", *arguments]
    main()
