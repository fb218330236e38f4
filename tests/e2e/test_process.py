"""How the processes start, stop, crash and refuse; and that they keep their secrets."""

import asyncio
import hashlib
import json
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.simulator import Options, Simulator
from tests.e2e.gateway import free_port
from tests.e2e.process import (
    ROOT,
    Command,
    Stream,
    at_once,
    command,
    following,
    on_exchange,
    opened,
    run,
    server_side,
    soon,
)

pytestmark = pytest.mark.e2e

STREAMS = 100


@asynccontextmanager
async def served(
    folder: Path, exchange: Simulator, *start: str, **settings: object
) -> AsyncIterator[Command]:
    """``sluice serve`` on an exchange, ready."""
    start = start or ("-m", "app")
    environment = on_exchange(
        exchange.url, max_streams_per_client=STREAMS * 2, allowed_hosts="*", **settings
    )
    async with command(folder, *start, "serve", environment=environment) as gateway:
        await gateway.up("/readyz?for=traffic")
        yield gateway


# How it stops


@pytest.mark.parametrize(
    ("how", "stalled"), [(signal.SIGTERM, False), (signal.SIGTERM, True), (signal.SIGINT, False)]
)
async def test_it_stops_soon_and_says_so_on_every_stream(
    tmp_path: Path, how: signal.Signals, stalled: bool
) -> None:
    async with (
        Simulator(Options(port=0, rate=100, account=False)) as exchange,
        served(tmp_path, exchange, drain=1) as gateway,
        AsyncExitStack() as stack,
    ):
        if stalled:
            await stack.enter_async_context(_one_that_does_not_read(gateway))
        streams = [
            await stack.enter_async_context(opened(gateway.url, following("ticker:*", "trade:*")))
            for _ in range(STREAMS)
        ]
        for stream in streams:
            await stream.gateway("status")
        async with asyncio.TaskGroup() as tasks:
            polls = [tasks.create_task(_long_poll(gateway)) for _ in range(3)]
            late = tasks.create_task(_come_late(gateway, streams[0]))
            ends = [tasks.create_task(stream.rest()) for stream in streams[1:]]
            await soon(lambda: _polling(gateway, 3), "long polls wait")
            took = await gateway.stop(how)
        print(f"{STREAMS} streams{', one stalled,' * stalled} ended {took:.2f} s after {how.name}")  # noqa: T201 - a figure to look at
        assert took < 5
        assert gateway.process.returncode == 0
        for task, stream in zip(ends, streams[1:], strict=True):
            last = task.result()[-1]
            assert last.event == "gateway"
            assert last.json()["type"] == "bye"
            assert last.json()["reason"] == "drain"
            assert last.retry == last.json()["retry"]
            assert stream.ended, "cut off"
        assert len({task.result()[-1].retry for task in ends}) > STREAMS // 2, "they are spread"
        assert {poll.result() for poll in polls} <= {304, 503}
        assert late.result() == [("bye", "drain"), ("status", 503)]
        assert "Traceback" not in gateway.output, gateway.output
        assert "exceeded" not in gateway.output, "it was waited for somebody"


@asynccontextmanager
async def _one_that_does_not_read(gateway: Command) -> AsyncIterator[None]:
    """A client with a full buffer: what is written to it goes nowhere."""
    host, port = "127.0.0.1", int(gateway.url.rsplit(":", 1)[1])
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.connect((host, port))
        target = following("ticker:*", "trade:*", "lastprice:*")
        sock.sendall(f"GET {target} HTTP/1.1\r\nhost: {host}\r\n\r\n".encode())
        mine = sock.getsockname()[1]
        await soon(lambda: (server_side(port, mine) or ("", 0))[1] > 14_000, "its way is blocked")
        yield


async def _long_poll(gateway: Command) -> int:
    """Wait for a state that will not come."""
    path = "/v1/lastprice/BTC_USDT?after=9000000000000000-1&wait=30"
    async with opened(gateway.url, path, accept="*/*") as answer:
        await answer.rest()
        return answer.status


def _polling(gateway: Command, count: int) -> bool:
    """That many connections beside the streams have been taken and not answered."""
    port = int(gateway.url.rsplit(":", 1)[1])
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    rows = (line.split() for line in lines)
    taken = sum(row[1].endswith(f":{port:04X}") and row[3] == "01" for row in rows)
    return taken >= STREAMS + count


async def _come_late(gateway: Command, first: Stream) -> list[tuple[str, Any]]:
    """Come as soon as the streams are being ended: a browser and another client."""
    await first.until(lambda block: block.json()["type"] == "bye")
    async with opened(gateway.url, following("ticker:*")) as stream:
        (only,) = await stream.rest()
        browser = only.json()
    async with opened(gateway.url, following("ticker:*"), accept="*/*") as answer:
        await answer.rest()
        assert int(answer.headers["retry-after"]) > 0
        return [(browser["type"], browser["reason"]), ("status", answer.status)]


async def test_a_second_ctrl_c_does_not_wait(tmp_path: Path) -> None:
    async with (
        Simulator(Options(port=0, rate=0, account=False)) as exchange,
        served(tmp_path, exchange, drain=30) as gateway,
        opened(gateway.url, following("ticker:*")) as one,
        opened(gateway.url, following("ticker:*")) as other,
    ):
        await one.gateway("status")
        await other.gateway("status")
        gateway.process.send_signal(signal.SIGINT)
        await soon(one.more, "the first stream is being ended")
        took = await gateway.stop(signal.SIGINT)
        assert took < 5


# How it crashes

CRASHING = """
import sys
from app import main
from app.bus.memory import MemoryBroker

class Crashing(MemoryBroker):
    async def append(self, entry):
        if entry.envelopes or {at_once}:
            raise RuntimeError("the broker broke")
        await super().append(entry)

main.MemoryBroker = Crashing
from app.__main__ import main
main()
"""


def crashing(folder: Path, *, at_once: bool) -> str:
    """The product with a bug in it."""
    script = folder / "crashing.py"
    script.write_text(CRASHING.format(at_once=at_once))
    return str(script)


async def test_a_crash_of_a_background_task_ends_the_process(tmp_path: Path) -> None:
    script = crashing(tmp_path, at_once=False)
    async with (
        Simulator(Options(port=0, rate=0, account=False)) as exchange,
        served(tmp_path, exchange, script) as gateway,
        opened(gateway.url, following("lastprice:*")) as stream,
    ):
        await stream.until(lambda block: block.json().get("upstream") == "live")
        data = {"symbol": "BTC_USDT", "timestamp": 1, "price": "1"}
        message = {"id": 0, "method": "lastprice_update", "data": data, "error": None}
        exchange.control.act("emit", message=message, publish=True)
        last = (await stream.rest())[-1]
        assert last.json()["reason"] == "drain"
        assert await gateway.ended() == 1
        (line,) = (line for line in gateway.output.splitlines() if "critical" in line)
        told = json.loads(line)
        assert told["event"] == "a background task crashed"
        assert "RuntimeError: the broker broke" in line


async def test_a_crash_at_the_start_ends_the_process(tmp_path: Path) -> None:
    script = crashing(tmp_path, at_once=True)
    async with (
        Simulator(Options(port=0, rate=0, account=False)) as exchange,
        command(tmp_path, script, "serve", environment=on_exchange(exchange.url)) as gateway,
    ):
        assert await gateway.ended() == 1
        assert "a background task crashed" in gateway.output


# What it refuses


def test_a_port_that_is_taken() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        for name in ("serve", "demo", "simulate"):
            refused = run(name, "--port", port)
            assert refused.returncode == 2, name
            assert port in refused.stderr
            assert "in use" in refused.stderr
            assert "Traceback" not in refused.stderr


@pytest.mark.parametrize("name", ["serve", "simulate"])
def test_a_host_that_is_none(name: str) -> None:
    refused = run(name, "--host", "x..y", "--port", str(free_port()))
    assert refused.returncode == 2, refused.stderr
    assert "x..y" in refused.stderr
    assert "Traceback" not in refused.stderr


BAD = {
    "SLUICE_HISTORY": "many",
    "SLUICE_CHANNELS": "ticker:btc_usdt",
    "SLUICE_UPSTREAM_API_URL": "ftp://user:hush-hush@example.org",
    "SLUICE_BROKER_URL": "kafka://:hush-hush@example.org/0",
    "SLUICE_UPSTREAM_API_KEY": "hush-hush",
    "SLUICE_UPSTREAM_PING_INTERVAL": "45",
    "SLUICE_UPSTREAM_PONG_TIMEOUT": "20",
}


@pytest.mark.parametrize("name", ["serve", "record", "demo"])
def test_all_contradictions_are_told_at_once(name: str, tmp_path: Path) -> None:
    more = ("--out", str(tmp_path / "x.gz")) if name == "record" else ("--port", str(free_port()))
    refused = run(name, *more, environment=BAD)
    assert refused.returncode == 2, refused.stderr
    for variable in (
        "SLUICE_HISTORY",
        "SLUICE_CHANNELS",
        "SLUICE_UPSTREAM_API_URL",
        "SLUICE_BROKER_URL",
        "SLUICE_UPSTREAM_USER_ID",
        "SLUICE_UPSTREAM_PONG_TIMEOUT",
    ):
        assert variable in refused.stderr or name == "demo"
    assert "hush-hush" not in refused.stderr + refused.stdout
    assert "Traceback" not in refused.stderr


def test_workers_need_redis() -> None:
    refused = run("serve", "--workers", "2", "--port", str(free_port()))
    assert refused.returncode == 2
    assert "redis" in refused.stderr.lower()
    assert "--workers" in refused.stderr


# The commands that end by themselves


def test_the_openapi_document_is_the_committed_one() -> None:
    printed = run("openapi", environment=BAD)  # it does not depend on how a machine is set up
    assert printed.returncode == 0
    document = json.loads(printed.stdout)
    assert document["openapi"].startswith("3.")
    committed = ROOT / "openapi.json"
    assert committed.read_text() == printed.stdout


async def test_check_says_what_is_wrong_in_a_line_each(tmp_path: Path) -> None:
    async with Simulator(Options(port=0, rate=0, account=False)) as exchange:
        good = on_exchange(exchange.url)
        cases: list[tuple[dict[str, str], int, list[str]]] = [
            (good, 0, []),
            (good | {"SLUICE_UPSTREAM_API_KEY": "hush-hush"}, 1, ["SLUICE_UPSTREAM_API_KEY"]),
            (BAD, 1, ["SLUICE_HISTORY", "SLUICE_BROKER_URL"]),
        ]
        found = await at_once(
            *(asyncio.to_thread(run, "check", environment=settings) for settings, *_ in cases)
        )
        for (_, status, named), result in zip(cases, found, strict=True):
            assert result.returncode == status, result.stdout + result.stderr
            lines = result.stdout.splitlines()
            assert len(lines) >= max(1, len(named))
            for variable in named:
                assert any(variable in line for line in lines), result.stdout
            assert "hush-hush" not in result.stdout + result.stderr
            assert "Traceback" not in result.stderr


async def test_the_demo_shows_something_within_seconds(tmp_path: Path) -> None:
    async with command(tmp_path, "-m", "app", "demo") as demo:
        await soon(lambda: _accepts(demo), "it listens")
        async with opened(demo.url, following("ticker:*", "lastprice:*", "trade:*")) as stream:
            first = await stream.data()
            took = time.monotonic() - demo.started
            print(f"the demo's first event came {took:.2f} s after its start")  # noqa: T201 - a figure to look at
            assert first["type"] == "snapshot"
            assert took < 10
            assert demo.url in demo.output
            stopped = await demo.stop(signal.SIGINT)
            last = (await stream.rest())[-1]
            assert last.json()["reason"] == "drain"
        print(f"the demo ended {stopped:.2f} s after Ctrl-C")  # noqa: T201 - a figure to look at
        assert demo.process.returncode in {0, 130}
        assert "Traceback" not in demo.output


async def _accepts(demo: Command) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", int(demo.url.rsplit(":", 1)[1]))):
            return True
    except ConnectionRefusedError:
        return False


# Secrets

SECRET = "the-account-s-own-key-7f3a"


async def test_no_secret_is_told_anywhere(tmp_path: Path) -> None:
    """Neither in a log line nor in an answer, whatever goes wrong with the exchange."""
    async with (
        Simulator(Options(port=0, rate=50, api_key=SECRET)) as exchange,
        served(
            tmp_path, exchange, upstream_connections=1, upstream_api_key=SECRET, linger=1
        ) as gateway,
        httpx.AsyncClient(base_url=gateway.url, trust_env=False) as http,
    ):
        control, heard = exchange.control, list[str]()

        async def hear(path: str) -> str:
            answer = await http.get(path)
            heard.append(f"{answer.text} {answer.headers}")
            return answer.text

        async def upstream(wanted: str) -> None:
            async def so() -> bool:
                return f'"status":"{wanted}"' in await hear("/v1/status")

            await soon(so, f"upstream {wanted}", limit=40)

        def issued() -> set[str]:
            return set(exchange.exchange.tokens._tokens)

        await upstream("live")
        control.set(accept="http401")
        control.act("cut")
        await soon(lambda: gateway.output.count("upstream lost") == 2, "a handshake was refused")
        control.set(accept="ok", token="401")
        await hear("/readyz")
        await soon(lambda: gateway.output.count("upstream lost") == 3, "a token was refused")
        control.set(token="ok")
        await upstream("live")
        for kind in ("json", "utf8", "array", "event_bad_number"):
            control.act("garbage", kind=kind)
        first = next(iter(issued()))
        control.act("emit", text=json.dumps({"id": 0, "method": f"token={first}", "data": {}}))
        control.act("emit", text=json.dumps({"id": "1", "error": {"code": 2, "message": first}}))
        control.act("close", code=4001, reason=f"token={first}")
        await upstream("down")
        for path in ("/v1/ticker/NOPE_USDT", "/v1/orders", "/v1/stream?channels=x", "/nowhere"):
            await hear(path)
        await hear("/metrics")
        await hear("/openapi.json")
        await gateway.stop()
        said = gateway.output + "".join(heard)
        sign = hashlib.md5(SECRET.encode(), usedforsecurity=False).hexdigest()
        assert len(issued()) >= 3
        for secret in (SECRET, sign, *issued()):
            assert secret not in said, "a secret was told"
        assert not re.search(r"token=(?!\*)", said)


def test_the_gateway_is_loaded_only_by_commands_that_run_it() -> None:
    words = [sys.executable, "-c", "import app.__main__, sys; print(*sys.modules)"]
    told = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    gateway = {"app.main", "app.server", "fastapi", "uvicorn"}
    assert {"app.settings", *gateway} & set(told.split()) == {"app.settings"}
