"""Slow and stalled clients over real sockets, and the plain write path under uvicorn itself."""

import asyncio
import contextlib
import signal
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from app.simulator import Options, Simulator
from tests.e2e.clients import Chunks
from tests.e2e.gateway import Running, gateway
from tests.e2e.process import (
    EVENT_STREAM,
    Command,
    Stage,
    command,
    following,
    on_exchange,
    opened,
    server_side,
    soon,
)
from tests.e2e.reconstruct import Mirror, Parser, state_of

pytestmark = pytest.mark.e2e

BOOK, TRADES = "depth:BTC_USDT:0", "trade:ETH_USDT"
SMALL = 4096
"""A receive buffer that soon stands in the way."""


@dataclass
class Reader:
    """A client that reads when it is let, out of a small buffer; ``pace`` is bytes a second."""

    port: int
    mirror: Mirror = field(default_factory=Mirror)
    pace: int | None = None
    reading: asyncio.Event = field(default_factory=asyncio.Event)
    ended: bool = False
    """The stream came to its polite end."""
    cut: bool = False
    """The connection was reset, or closed in the middle."""
    lags: list[float] = field(default_factory=list)
    """Seconds from the exchange's sending to here, of each trade that carries its time."""

    async def run(self, reader: asyncio.StreamReader) -> None:
        parser, chunks = Parser(), Chunks()
        try:
            await reader.readuntil(b"\r\n\r\n")
            while not chunks.ended:
                await self.reading.wait()
                piece = await reader.read(64 * 1024 if self.pace is None else 1024)
                if not piece:
                    self.cut = True
                    return
                for block in parser.feed(chunks.feed(piece)):
                    self.mirror.take(block)
                    self._note(block.event)
                if self.pace is not None:
                    await asyncio.sleep(len(piece) / self.pace)
            self.ended = True
        except ConnectionError:
            self.cut = True

    def _note(self, event: str) -> None:
        if event == "trade" and self.mirror.tape.get(TRADES):
            self.lags.append(time.time() - float(self.mirror.tape[TRADES][-1]["quantity"]))


async def went_on(steady: Reader, channel: str) -> None:
    """Wait until the gateway has sent more on a channel than waits for one client anywhere."""
    began = steady.mirror.counts[f"update {channel}"]
    await soon(lambda: steady.mirror.counts[f"update {channel}"] > began + 60, "it goes on")


@asynccontextmanager
async def reading(
    url: str, *channels: str, mirror: Mirror | None = None, buffer: int | None = SMALL
) -> AsyncIterator[Reader]:
    """A client on its own socket; it reads from the start."""
    parts = urlsplit(url)
    sock = socket.socket()
    if buffer is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    sock.connect((parts.hostname, parts.port))
    sock.setblocking(False)
    client = Reader(sock.getsockname()[1], mirror or Mirror())
    client.reading.set()
    client.mirror.connected()
    again = "" if client.mirror.last_id is None else f"last-event-id: {client.mirror.last_id}\r\n"
    stream, writer = await asyncio.open_connection(sock=sock, limit=2048)
    try:
        head = f"GET {following(*channels)} HTTP/1.1\r\nhost: {parts.netloc}\r\n"
        writer.write(f"{head}accept: {EVENT_STREAM}\r\n{again}\r\n".encode())
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(client.run(stream))
            yield client
            task.cancel()
    finally:
        writer.transport.abort()


@dataclass
class Tape:
    """Trades and book changes at a steady pace, true on the exchange too."""

    stage: Stage
    turns: int = 0

    async def run(self) -> None:
        asks, _ = self.stage.exchange.exchange.truth.books["BTC_USDT:0"].best_first()
        prices = [level[0] for level in asks[5:]]
        while True:
            self.turns += 1
            self._change(prices)
            self._trade()
            await asyncio.sleep(0.02)

    def _change(self, prices: list[str]) -> None:
        """New values on many levels, none of them the best."""
        self.stage.emit(
            "depth",
            symbol="BTC_USDT",
            timestamp=int(time.time()),
            full_reload=False,
            scale_index=0,
            asks=[[price, f"{self.turns}.{'0' * 7}{n}"] for n in range(1, 4) for price in prices],
            bids=[],
        )

    def _trade(self) -> None:
        now = time.time()
        row = {"price": "1", "timestamp": int(now), "direction": "buy"}
        rows = [row | {"quantity": f"{now:.6f}"} for _ in range(60)]
        self.stage.emit("trade", symbol="ETH_USDT", timestamp=int(now), trades=rows)


def holds(pid: int, inode: str) -> bool:
    """Whether a process has a descriptor of a socket."""
    links = []
    for path in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            links.append(str(path.readlink()))
    return f"socket:[{inode}]" in links


async def test_slow_and_stalled_readers(tmp_path: Path) -> None:
    """All of them at the same time on one gateway, beside one that keeps up."""
    async with (
        Simulator(Options(port=0, rate=0, account=False)) as exchange,
        gateway(exchange.url, tmp_path, linger=1) as running,
    ):
        stage = Stage(exchange, running.url, running.http)
        await stage.upstream("live")
        async with (
            asyncio.TaskGroup() as tasks,
            reading(running.url, BOOK, TRADES, buffer=None) as steady,
        ):
            await soon(lambda: BOOK in steady.mirror.at, "the book is followed")
            tape = tasks.create_task(Tape(stage).run())
            await soon(lambda: TRADES in steady.mirror.at, "trades come")
            cases = (
                paused_on_a_book(running, steady),
                paused_on_trades(running, steady),
                paused_for_five_seconds(running),
                reads_slowly(running),
                stalled(running, BOOK),
                stalled_while_little_comes(stage, running),
            )
            async with asyncio.TaskGroup() as together:
                for case in cases:
                    together.create_task(case)
            tape.cancel()
            await keeps_up(stage, steady)
        assert exchange.control.report()["violations"] == []


async def keeps_up(stage: Stage, steady: Reader) -> None:
    """The one that reads has had every event, chained, and soon."""
    assert not steady.mirror.resets()
    assert steady.mirror.counts[f"snapshot {TRADES}"] == 1
    assert steady.mirror.counts[f"snapshot {BOOK}"] == 1

    async def same() -> bool:
        answer = (await stage.http.get("/v1/depth/BTC_USDT")).json()
        return bool(steady.mirror.state(BOOK) == state_of(answer))

    await soon(same, "it holds the current book")
    lags = sorted(steady.lags)
    print(f"steady reader: {len(lags)} trades, lag p50 {lags[len(lags) // 2]:.4f} s, "  # noqa: T201 - a figure to look at
          f"p99 {lags[int(len(lags) * 0.99)]:.4f} s, max {lags[-1]:.4f} s")  # fmt: skip
    assert lags[int(len(lags) * 0.99)] < 2, "others were slowed"


async def paused_on_a_book(running: Running, steady: Reader) -> None:
    async with reading(running.url, BOOK) as client:
        await soon(lambda: client.mirror.counts[f"update {BOOK}"] > 3)
        client.reading.clear()
        await went_on(steady, BOOK)
        assert (await running.get("/v1/status"))["streams"]["catching_up"] > 0
        first = client.mirror.counts[f"snapshot {BOOK}"]
        client.reading.set()
        await soon(
            lambda: client.mirror.counts[f"snapshot {BOOK}"] > first, "caught up by a snapshot"
        )
        seen = client.mirror.counts[f"update {BOOK}"]
        await soon(lambda: client.mirror.counts[f"update {BOOK}"] > seen + 3, "live again")
        assert not client.mirror.farewells()
        assert not client.mirror.resets()
        assert client.mirror.gaps[BOOK] == 0, "the exchange was heard all the time"


async def paused_on_trades(running: Running, steady: Reader) -> None:
    async with reading(running.url, TRADES) as client:
        await soon(lambda: client.mirror.counts[f"update {TRADES}"] > 3)
        client.reading.clear()
        await went_on(steady, TRADES)
        client.reading.set()
        await soon(lambda: client.ended, "its stream was ended")
        assert client.mirror.farewells() == ["slow"]
        held = client.mirror
    snapshots = held.counts[f"snapshot {TRADES}"]
    async with reading(running.url, TRADES, mirror=held, buffer=None) as again:
        seen = held.counts[f"update {TRADES}"]
        await soon(lambda: held.counts[f"update {TRADES}"] > seen + 50, "it has what it missed")
        assert not again.mirror.resets()
        assert held.counts[f"snapshot {TRADES}"] == snapshots, "resumed event by event"
        assert held.repeated == 0


async def paused_for_five_seconds(running: Running) -> None:
    async with reading(running.url, BOOK) as client:
        await soon(lambda: client.mirror.counts[f"update {BOOK}"] > 3)
        client.reading.clear()
        await asyncio.sleep(5)  # a pause is the case
        seen = client.mirror.counts[f"update {BOOK}"]
        client.reading.set()
        await soon(lambda: client.mirror.counts[f"update {BOOK}"] > seen + 20, "it goes on")
        assert not client.cut
        assert not client.mirror.farewells()


async def reads_slowly(running: Running) -> None:
    """It takes little, but all the time: nobody drops it, and it can still catch up."""
    async with reading(running.url, BOOK) as client:
        await soon(lambda: client.mirror.counts[f"update {BOOK}"] > 3)
        client.pace = 2000
        await asyncio.sleep(15)  # longer than one that takes nothing is kept
        client.pace = None
        seen = client.mirror.counts[f"update {BOOK}"]
        await soon(lambda: client.mirror.counts[f"update {BOOK}"] > seen + 20, "it goes on")
        assert not client.cut
        assert not client.mirror.farewells()
        assert not client.mirror.resets()


async def stalled(running: Running, channel: str) -> None:
    async with reading(running.url, channel) as client:
        await soon(lambda: client.mirror.counts[f"update {channel}"] > 3)
        client.reading.clear()
        await gone(running, client)


async def stalled_while_little_comes(stage: Stage, running: Running) -> None:
    """Less than the process may keep for it: only the kernel knows that it does not read."""
    async with reading(running.url, "lastprice:*") as client:
        stage.price("1")
        await soon(lambda: "lastprice:BTC_USDT" in client.mirror.at)
        client.reading.clear()
        for number in range(80):
            stage.price(f"{number}.5")
        await gone(running, client)


async def gone(running: Running, client: Reader) -> None:
    """The gateway drops a client that takes nothing: its socket, and what waits in the kernel."""
    port = urlsplit(running.url).port
    assert port is not None
    began = time.monotonic()
    queues = []
    found = server_side(port, client.port)
    assert found is not None
    assert holds(running.pid, found[0])

    def dropped() -> bool:
        now = server_side(port, client.port)
        if now is not None:
            queues.append(now[1])
        return now is None

    await soon(dropped, "the socket is gone from the kernel", limit=18)
    took = time.monotonic() - began
    assert not holds(running.pid, found[0])
    print(f"a stalled reader was gone after {took:.1f} s, at most {max(queues)} bytes queued")  # noqa: T201 -- a figure to look at
    assert took < 16.5, "aborted by 15 s, after what its own kernel took"
    assert took > 8, "a shorter pause is survived"
    assert max(queues) < 128 * 1024, "the kernel keeps little for one client"


# The plain write path


@asynccontextmanager
async def plain(folder: Path, exchange: Simulator, *more: str) -> AsyncIterator[Command]:
    """The application under uvicorn's own command."""
    arguments = ("-m", "uvicorn", "app.main:create_app", "--factory", *more)
    environment = on_exchange(exchange.url, heartbeat=0.5)
    async with command(folder, *arguments, environment=environment) as server:
        await server.up("/readyz?for=traffic")
        yield server


async def test_under_uvicorn_itself(tmp_path: Path) -> None:
    async with (
        Simulator(Options(port=0, rate=40, account=False)) as exchange,
        plain(tmp_path, exchange, "--timeout-graceful-shutdown", "2") as server,
    ):
        async with opened(server.url, following("depth:BTC_USDT:0", "ticker:*")) as stream:
            await stream.gateway("status")
            kinds = {(await stream.data())["type"] for _ in range(20)}
            assert kinds == {"snapshot", "update"}
        async with opened(server.url, "/v1/ticker/BTC_USDT", accept="*/*") as answer:
            await answer.rest()
            assert answer.status == 200
        async with opened(server.url, following("lastprice:LTC_USDT")) as quiet:
            await quiet.gateway("status")
            exchange.control.set(mute=True)
            seen = len(quiet.events.comments)
            while len(quiet.events.comments) < seen + 2:
                assert await quiet.more()
            exchange.control.set(mute=False)

        async def streams() -> int:
            async with opened(server.url, "/v1/status", accept="*/*") as answer:
                await answer.rest()
                return int(answer.json()["streams"]["open"])

        async def none_left() -> bool:
            return await streams() == 0

        await soon(none_left, "hang-ups are noticed")
        async with opened(server.url, following("ticker:*")) as stream:
            await stream.data()
            took = await server.stop(signal.SIGTERM)
            print(f"plain uvicorn with a stream ended {took:.1f} s after SIGTERM")  # noqa: T201 - a figure to look at
            async with asyncio.timeout(5):
                while await stream.more():
                    pass
            assert took < 8
        assert server.output.count("Traceback") <= 1, "uvicorn tells of the one that it cancelled"
        assert "CancelledError" in server.output


async def test_a_paused_reader_of_trades_under_uvicorn_itself_resumes(tmp_path: Path) -> None:
    """There the kernel keeps megabytes for it: what does not fit any more is not kept."""
    async with (
        Simulator(Options(port=0, rate=0, account=False)) as exchange,
        plain(tmp_path, exchange) as server,
        httpx.AsyncClient(base_url=server.url, trust_env=False) as http,
    ):
        stage = Stage(exchange, server.url, http)
        await stage.upstream("live")
        sent = lagging_for = 0
        async with reading(server.url, TRADES, buffer=64 * 1024) as client:
            await soon(lambda: client.mirror.controls)
            client.reading.clear()

            async def too_much() -> bool:
                nonlocal sent, lagging_for
                sent += 1
                stage.trade(f"{sent}.1", "ETH_USDT", rows=2000)
                status = (await http.get("/v1/status")).json()
                lagging_for = lagging_for + 1 if status["streams"]["catching_up"] else 0
                return lagging_for == 5

            await soon(too_much, "it lags for good")
            stage.trade("0.1", "ETH_USDT")
            client.reading.set()
            await soon(lambda: client.ended, "its stream was ended")
            assert client.mirror.farewells() == ["slow"]
            held = client.mirror
        async with reading(server.url, TRADES, mirror=held, buffer=None) as again:
            await soon(lambda: held.trades[TRADES][0]["price"] == "0.1", "it has what it missed")
            assert held.counts[f"snapshot {TRADES}"] == 1
            assert len(held.tape[TRADES]) == 2000 * (sent - 1) + 1
            assert not again.mirror.resets()
