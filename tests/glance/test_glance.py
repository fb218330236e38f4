"""``sluice status`` as a user calls it, against real gateways."""

import asyncio
import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from app.glance import status
from app.simulator import Options, Simulator
from tests.e2e.gateway import ROOT, free_port
from tests.e2e.process import Stage, clean_environment, run, settings_for, staged
from tests.e2e.process import serving as gateway_in_loop
from tests.e2e.terminal import read_until
from tests.tail.gateway import Answer, serving

pytestmark = pytest.mark.e2e


@asynccontextmanager
async def started(
    *arguments: str, stdout: int = subprocess.PIPE
) -> AsyncIterator[asyncio.subprocess.Process]:
    environment = {"TERM": "xterm-256color", "COLUMNS": "100", "LINES": "40"}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "app", "status", *arguments),
        cwd=ROOT,
        stdout=stdout,
        stderr=subprocess.PIPE,
        env=clean_environment(environment),
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def told(*arguments: str) -> tuple[int | None, str, str]:
    """Exit status, output and errors of one that ends by itself."""
    async with asyncio.timeout(30), started(*arguments) as process:
        out, errors = await process.communicate()
        return process.returncode, out.decode(), errors.decode()


Capture = pytest.CaptureFixture[str]


async def said(capsys: Capture, url: str, key: str | None = None) -> tuple[int, str, str]:
    """The same without a process of its own."""
    ended = await status(url, once=True, key=key)
    return ended, *capsys.readouterr()


async def test_a_pipe_gets_one_plain_snapshot() -> None:
    async with staged() as stage, stage.stream("depth:BTC_USDT:0") as stream:
        await stream.gateway("status")
        await stage.priced("1")
        ended, out, errors = await told("--url", stage.url)
        assert (ended, errors) == (0, "")
        assert "\x1b" not in out
        for word in ("● live for", "this process leads", "1 open, of 20,000", "upstream-2"):
            assert word in out, out
        assert "1 channels followed, of 1,000" in out
        assert "deliveries" in out


async def test_json_is_the_status_with_readiness_and_rates() -> None:
    async with staged() as stage:
        await stage.priced("1")
        ended, out, _ = await told("--url", stage.url, "--json")
        assert ended == 0
        found = json.loads(out)
        now = (await stage.http.get("/v1/status")).json()
        assert found.keys() == now.keys() | {"ready", "ready_for_traffic", "rates"}
        assert (found["process"], found["limits"]) == (now["process"], now["limits"])
        assert found["ready_for_traffic"] is True
        assert found["rates"]["events"] == 0


async def test_a_terminal_is_drawn_anew_until_it_is_left() -> None:
    async with asyncio.timeout(40), staged() as stage:
        ours, theirs = pty.openpty()
        async with started("--url", stage.url, stdout=theirs) as process:
            os.close(theirs)
            seen = await asyncio.to_thread(read_until, ours, has(b"not live", b"0 open"))
            seen = await open_one(stage, ours)
            process.send_signal(signal.SIGINT)
            seen += await asyncio.to_thread(read_until, ours, lambda _: False)
            await process.communicate()
            os.close(ours)
        assert process.returncode == 0
        assert b"\x1b[?1049l" in seen, "the screen of before is back"


async def open_one(stage: Stage, terminal: int) -> bytes:
    async with stage.stream("ticker:*") as stream:
        await stream.gateway("status")
        return await asyncio.to_thread(read_until, terminal, has(b"1 open"))


def has(*any_of: bytes) -> Callable[[bytes], bool]:
    return lambda screen: any(one in screen for one in any_of)


async def test_one_that_is_away_comes_back_on_the_terminal() -> None:
    ours, theirs = pty.openpty()
    port = free_port()
    async with (
        asyncio.timeout(40),
        started("--url", f"http://127.0.0.1:{port}", stdout=theirs) as process,
    ):
        os.close(theirs)
        await asyncio.to_thread(read_until, ours, has(b"no gateway answers"))
        process.terminate()
        await asyncio.to_thread(read_until, ours, lambda _: False)
        await process.communicate()
        os.close(ours)
        assert process.returncode == 0


async def test_nobody_there_is_said() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    ended, out, errors = await told("--url", url, "--once")
    assert (ended, out) == (1, "")
    assert errors.startswith(f"sluice status: no gateway answers at {url}")


@pytest.mark.parametrize(
    "url", ["here", "ftp://127.0.0.1/", "http://a:b:c", "http://[::1", "http://xn--/"]
)
async def test_no_address(url: str, capsys: Capture) -> None:
    ended, _, errors = await said(capsys, url)
    assert ended == 1
    assert "is no http:// or https:// address" in errors


async def test_what_is_no_gateway(capsys: Capture) -> None:
    page = Answer(kind="text/html", body=b"hello")
    async with serving(page) as other:
        ended, _, errors = await said(capsys, other.url)
    assert ended == 1
    assert "is no status of a gateway like this one" in errors
    async with serving(Answer(status="404 Not Found", kind="text/html", body=b"")) as other:
        _, _, errors = await said(capsys, other.url)
    assert "answered 404, expected 200 of a gateway" in errors


async def test_a_closed_gateway_wants_a_key_of_the_right_scope(
    tmp_path: Path, capsys: Capture
) -> None:
    file = tmp_path / "keys.json"
    reader, operator = made_key(file, "market"), made_key(file, "metrics")
    async with closed(file) as url:
        ended, out, errors = await said(capsys, url)
        assert (ended, "leads" in out) == (1, False)
        assert "answered 401" in errors
        assert "SLUICE_CLIENT_KEY" in errors
        ended, _, errors = await said(capsys, url, reader)
        assert (ended, "answered 403" in errors) == (1, True)
        assert reader not in errors
        ended, out, _ = await said(capsys, url, operator)
        assert (ended, "this process leads" in out) == (0, True)


def made_key(file: Path, scope: str) -> str:
    done = run("keys", "create", "--name", scope, "--scopes", scope, "--file", str(file))
    assert done.returncode == 0, done.stderr
    return done.stdout.split()[-1]


@asynccontextmanager
async def closed(keys: Path) -> AsyncIterator[str]:
    """A gateway that tells anonymous callers nothing."""
    options = Options(port=0, rate=0, account=False)
    async with Simulator(options) as exchange:
        settings = settings_for(exchange, anonymous="none", api_keys_file=keys)
        async with gateway_in_loop(settings) as url:
            yield url
