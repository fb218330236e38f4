"""The product as a whole: served in the test's own loop, or as processes; and raw clients of it."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from app.server import serve
from app.settings import Settings
from app.simulator import Options, Simulator
from app.sockets import listen
from tests.e2e.gateway import KEY, USER, free_port
from tests.e2e.nursery import Child, start
from tests.e2e.waiting import LIMIT, until
from tests.oracle.sse import Block, Dechunker, Reader

ROOT = Path(__file__).parents[2]
EVENT_STREAM = "text/event-stream"


async def soon(condition: Callable[[], Any], what: str = "", *, limit: float = LIMIT) -> Any:
    """Wait for a condition, plain or a coroutine function; its first true value."""
    return await until(condition, what, limit=limit)


# A client that sees every byte


class Stream:
    """An open answer of the gateway, read as Server-Sent Events."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        status: int,
        headers: dict[str, str],
    ) -> None:
        self.status = status
        self.headers = headers
        self.text = b""
        self.events = Reader()
        self.cut = False
        self.write = writer.write
        self._reader = reader
        self._chunks = Dechunker() if headers.get("transfer-encoding") == "chunked" else None
        self._left = int(headers.get("content-length", -1))
        self._shown = 0

    async def more(self) -> bool:
        """Read a piece; False at the end of the body."""
        if self.ended:
            return False
        try:
            data = await self._reader.read(64 * 1024)
        except ConnectionError:
            data = b""
        if not data:
            self.cut = not self.ended
            return False
        body = data if self._chunks is None else self._chunks.feed(data)
        self._left -= len(body)
        self.text += body
        self.events.feed(body)
        return True

    @property
    def ended(self) -> bool:
        """Whether the body is complete."""
        return self._left == 0 if self._chunks is None else self._chunks.ended

    async def block(self) -> Block:
        """The next event."""
        async with asyncio.timeout(LIMIT):
            while self._shown == len(self.events.blocks):
                if not await self.more():
                    raise EOFError(f"the stream ended after {self._shown} events")
        self._shown += 1
        return self.events.blocks[self._shown - 1]

    async def until(self, wanted: Callable[[Block], bool]) -> Block:
        """The next event for which something holds; those before it are passed over."""
        while True:
            block = await self.block()
            if wanted(block):
                return block

    async def data(self) -> dict[str, Any]:
        """The next envelope; the gateway's own events are passed over."""
        block = await self.until(lambda block: block.event != "gateway")
        envelope: dict[str, Any] = block.json()
        return envelope

    async def gateway(self, kind: str) -> Block:
        """The next event of the gateway's own, of one type; nothing else may come before it."""
        block = await self.block()
        assert block.event == "gateway", block
        assert block.json()["type"] == kind, block
        return block

    def json(self) -> Any:
        """The whole body, if it is JSON."""
        return json.loads(self.text)

    async def rest(self) -> list[Block]:
        """Every event up to the end."""
        async with asyncio.timeout(LIMIT):
            while await self.more():
                pass
        found = self.events.blocks[self._shown :]
        self._shown += len(found)
        return found


@asynccontextmanager
async def opened(
    url: str,
    target: str,
    *,
    headers: Mapping[str, str] | None = None,
    version: str = "1.1",
    accept: str = EVENT_STREAM,
) -> AsyncIterator[Stream]:
    """A GET over its own socket."""
    parts = urlsplit(url)
    given = {"host": parts.netloc, "accept": accept, **(headers or {})}
    lines = [f"GET {target} HTTP/{version}", *(f"{name}: {text}" for name, text in given.items())]
    async with asyncio.timeout(LIMIT):
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    try:
        writer.write(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"))
        async with asyncio.timeout(LIMIT):
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        yield Stream(
            reader,
            writer,
            int(head[0].split()[1]),
            dict(line.lower().split(": ", 1) for line in head[1:] if line),
        )
    finally:
        writer.transport.abort()


def following(*channels: str, **query: str) -> str:
    """The target of a stream."""
    more = "".join(f"&{name}={text}" for name, text in query.items())
    return f"/v1/stream?channels={','.join(channels)}{more}"


# The gateway in the test's own loop, on real sockets


@dataclass
class Stage:
    """A simulated exchange and the gateway that serves it."""

    exchange: Simulator
    url: str
    http: httpx.AsyncClient

    def emit(self, method: str, **data: Any) -> None:
        """Something happens on the exchange."""
        message = {"id": 0, "method": f"{method}_update", "data": data, "error": None}
        self.exchange.control.act("emit", message=message, publish=True)

    def price(self, text: str, market: str = "BTC_USDT") -> None:
        self.emit("lastprice", symbol=market, timestamp=int(time.time()), price=text)

    def trade(self, price: str, market: str = "BTC_USDT", rows: int = 1) -> None:
        now = int(time.time())
        row = {"price": price, "quantity": "0.5", "timestamp": now, "direction": "buy"}
        self.emit("trade", symbol=market, timestamp=now, trades=[row] * rows)

    def stream(self, *channels: str, headers: Any = None, **query: str) -> Any:
        return opened(self.url, following(*channels, **query), headers=headers)

    async def upstream(self, wanted: str) -> None:
        """Wait until the gateway says that the upstream is so."""

        async def so() -> bool:
            status = (await self.http.get("/v1/status")).json()
            return bool(status["upstream"]["status"] == wanted)

        await soon(so, f"upstream {wanted}")

    async def known(self, channel: str) -> str:
        """Wait until a channel has a state; its position."""

        async def state() -> str:
            answer = await self.http.get("/v1/state", params={"channels": channel})
            rows = answer.json().get("data", [])
            return str(rows[0]["position"]) if rows else ""

        return str(await soon(state, channel))

    async def priced(self, text: str, market: str = "BTC_USDT") -> str:
        """A last price, and the position it has got."""
        self.price(text, market)

        async def there() -> str:
            answer = await self.http.get(f"/v1/lastprice/{market}")
            if answer.status_code != 200:
                return ""
            state = answer.json()
            return str(state["position"]) if state["data"]["price"] == text else ""

        return str(await soon(there, f"{market} at {text}"))


def settings_for(exchange: Simulator, **given: Any) -> Settings:
    """The settings of a gateway on a simulated exchange."""
    known: dict[str, Any] = {
        "upstream_ws_url": exchange.ws_url,
        "upstream_api_url": exchange.url,
        "upstream_markets_url": exchange.url,
        "upstream_scales_url": exchange.url,
        "upstream_user_id": exchange.options.user_id,
        "upstream_api_key": exchange.options.api_key,
        "rate_limit": "10000/second",
        "drain": 0,
    }
    return Settings(_env_file=None, **(known | given))  # type: ignore[call-arg] # of BaseSettings


@asynccontextmanager
async def serving(settings: Settings) -> AsyncIterator[str]:
    """What ``sluice serve`` runs, here; ended by a signal, as there."""
    with listen("127.0.0.1", 0) as sock:
        url = f"http://127.0.0.1:{sock.getsockname()[1]}"
        async with asyncio.TaskGroup() as tasks:
            served = tasks.create_task(serve(settings, sock))
            async with httpx.AsyncClient(base_url=url, trust_env=False) as http:
                await soon(lambda: _answers(http), "the gateway answers")
            try:
                yield url
            finally:
                if not served.done():
                    signal.raise_signal(signal.SIGTERM)
        assert served.result() == 0


@asynccontextmanager
async def staged(
    options: Mapping[str, Any] | None = None, *, upstream: str = "live", **settings: Any
) -> AsyncIterator[Stage]:
    """An exchange that stands still until something is emitted, and the gateway on it."""
    with_defaults = {"port": 0, "rate": 0, "account": False, **(options or {})}
    async with (
        Simulator(Options(**with_defaults)) as exchange,
        serving(settings_for(exchange, **settings)) as url,
        httpx.AsyncClient(base_url=url, trust_env=False, timeout=10) as http,
    ):
        stage = Stage(exchange, url, http)
        await stage.upstream(upstream)
        yield stage
        assert exchange.control.report()["violations"] == []


async def _answers(http: httpx.AsyncClient) -> bool:
    try:
        return (await http.get("/livez")).status_code == 200
    except httpx.TransportError:
        return False


# Processes


@dataclass
class Command:
    """A process of the product; both of its outputs go to one file."""

    process: asyncio.subprocess.Process | Child
    path: Path
    url: str
    started: float

    @property
    def output(self) -> str:
        return self.path.read_text()

    async def up(self, path: str = "/livez") -> None:
        async with httpx.AsyncClient(base_url=self.url, trust_env=False) as http:

            async def answers() -> bool:
                assert self.process.returncode is None, self.output
                try:
                    return (await http.get(path)).status_code == 200
                except httpx.TransportError:
                    return False

            await soon(answers, f"{path}: {self.output}")

    async def said(self, text: str) -> None:
        await soon(lambda: text in self.output, f"the process says {text!r}: {self.output}")

    async def stop(self, number: signal.Signals = signal.SIGTERM) -> float:
        """Send a signal and wait for the end; the seconds that took."""
        asked = time.monotonic()
        self.process.send_signal(number)
        async with asyncio.timeout(LIMIT):
            await self.process.wait()
        return time.monotonic() - asked

    async def ended(self) -> int:
        """Wait for the end; the exit status."""
        async with asyncio.timeout(LIMIT):
            return await self.process.wait()


@asynccontextmanager
async def command(
    folder: Path,
    *arguments: str,
    port: int | None = None,
    environment: Mapping[str, str] | None = None,
    nursed: bool = False,
) -> AsyncIterator[Command]:
    """A Python process that starts from nothing: ``-m app serve``; ``--port`` is added."""
    port = free_port() if port is None else port
    path, words = folder / f"{port}.log", [*arguments, "--port", str(port)]
    environment = clean_environment(environment)
    process: asyncio.subprocess.Process | Child
    if nursed:
        process = start(words, environment, ROOT, path)
    else:
        with path.open("wb") as output:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, *words), cwd=ROOT, env=environment, stdout=output, stderr=output
            )
    try:
        yield Command(process, path, f"http://127.0.0.1:{port}", time.monotonic())
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


product = partial(command, nursed=True)
"""The same of ``serve`` and the like, out of the nursery."""


def run(
    *arguments: str, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """A command of the product that ends by itself."""
    return subprocess.run(
        [sys.executable, "-m", "app", *arguments],
        cwd=ROOT,
        env=clean_environment(environment),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def clean_environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's environment without settings, and with those given."""
    kept = {name: text for name, text in os.environ.items() if not name.startswith("SLUICE_")}
    return kept | {"PYTHONUNBUFFERED": "1", "SLUICE_LOG_FORMAT": "json", **(more or {})}


def on_exchange(url: str, **settings: object) -> dict[str, str]:
    """The environment of a gateway on an exchange."""
    return {
        "SLUICE_UPSTREAM_WS_URL": url.replace("http", "ws") + "/ws",
        "SLUICE_UPSTREAM_API_URL": url,
        "SLUICE_UPSTREAM_MARKETS_URL": url,
        "SLUICE_UPSTREAM_SCALES_URL": url,
        "SLUICE_UPSTREAM_USER_ID": USER,
        "SLUICE_UPSTREAM_API_KEY": KEY,
        "SLUICE_RATE_LIMIT": "10000/second",
        "SLUICE_DRAIN": "0",
    } | {f"SLUICE_{name.upper()}": str(value) for name, value in settings.items()}


async def at_once(*work: Any) -> list[Any]:
    """Several coroutines at the same time; their results in order."""
    async with asyncio.TaskGroup() as tasks:
        started = [tasks.create_task(one) for one in work]
    return [task.result() for task in started]


def positions(blocks: Iterable[Block]) -> list[str]:
    """The positions of the envelopes among events."""
    return [block.json()["position"] for block in blocks if block.event != "gateway"]


def server_side(gateway_port: int, client_port: int) -> tuple[str, int] | None:
    """The gateway's socket to a client: its inode, and the bytes in its send queue."""
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, remote, _, queues, _, _, _, _, inode, *_ = line.split()
        if _port(local) == gateway_port and _port(remote) == client_port:
            return inode, int(queues.split(":")[0], 16)
    return None


def _port(address: str) -> int:
    return int(address.split(":")[1], 16)
