"""A container's first process can be told to stop while it starts."""

import asyncio
import os
import shutil
import signal
import sys
from pathlib import Path

import pytest

from tests.e2e.process import clean_environment
from tests.e2e.waiting import LIMIT, until

ROOT = Path(__file__).parents[1]


@pytest.mark.e2e
@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("unshare") is None, reason="wants root")
async def test_the_first_process_hears_a_signal_before_it_serves() -> None:
    command = "from app.start import main; main()"
    words = ["unshare", "--pid", "--fork", "--kill-child", sys.executable, "-c", command]
    process = await asyncio.create_subprocess_exec(
        *words,
        *("serve", "--port", "0"),
        cwd=ROOT,
        env=clean_environment(),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        first = int(await until(children.read_text, "it is started"))
        await until(lambda: _catches(first, signal.SIGTERM), "it can hear")
        os.kill(first, signal.SIGTERM)
        async with asyncio.timeout(LIMIT):
            output, _ = await process.communicate()
        assert (process.returncode, output) == (0, b"")  # not even begun
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def _catches(pid: int, number: signal.Signals) -> bool:
    status = Path(f"/proc/{pid}/status").read_text()
    caught = next(line for line in status.splitlines() if line.startswith("SigCgt"))
    return bool(int(caught.split()[1], 16) >> (number - 1) & 1)
