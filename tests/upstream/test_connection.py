import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import count
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection, serve

from app.domain.channel import Channel
from app.domain.event import Event
from app.errors import ConnectionLost, HandshakeFailed
from app.telemetry import Metrics
from app.upstream.connection import Connection, SocketOptions, open_socket
from app.upstream.session import Session, SessionOptions
from tests.upstream.live import until

SECRET = "f00dfeed"
PRICE = Channel.parse("lastprice:BTC_USDT")

Peer = Callable[[ServerConnection], Awaitable[None]]


@asynccontextmanager
async def peer(behave: Peer) -> AsyncIterator[str]:
    """A WebSocket server that behaves as told; gives its URL."""
    async with serve(behave, "127.0.0.1", 0, compression=None) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        yield f"ws://127.0.0.1:{port}/ws?token={SECRET}"


@asynccontextmanager
async def raw(answer: bytes) -> AsyncIterator[str]:
    """A TCP server that answers any first request with some bytes and then stays silent."""
    hold = asyncio.Event()

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()
        await hold.wait()
        writer.close()

    server = await asyncio.start_server(behave, "127.0.0.1", 0)
    async with server:
        yield f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/ws?token={SECRET}"
        hold.set()


class Shell:
    """A connection and what it reported."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.changes = 0
        self.connection: Connection

    async def open(self, url: str, **options: Any) -> Connection:
        chosen = SocketOptions(close_timeout=0.2, **options)
        socket = await open_socket(url, chosen)
        session = Session(
            "x",
            asyncio.get_running_loop().time(),
            options=SessionOptions(),
            metrics=Metrics(),
            runs=count(1),
        )
        self.connection = Connection(
            socket, session, chosen, deliver=self._deliver, changed=self._changed
        )
        return self.connection

    def _deliver(self, connection: Connection, events: list[Event]) -> None:
        assert connection is self.connection
        self.events += events

    def _changed(self, connection: Connection) -> None:
        assert connection is self.connection
        self.changes += 1


async def faithful(socket: ServerConnection) -> None:
    """Answers everything with success, and sends a last price for each subscribe."""
    async for frame in socket:
        request = json.loads(frame)
        if request["method"] == "ping":
            answer: dict[str, Any] = {"id": request["id"], "method": "pong", "data": None}
            await socket.send(json.dumps(answer))
            continue
        await socket.send(json.dumps({"id": request["id"], "data": {"status": "success"}}))
        data = {"symbol": "BTC_USDT", "timestamp": 5, "price": "1"}
        await socket.send(json.dumps({"id": 0, "method": "lastprice_update", "data": data}))


async def ended_by(behave: Peer, **options: Any) -> str:
    """Why a connection with such a peer ended."""
    shell = Shell()
    async with peer(behave) as url:
        connection = await shell.open(url, **options)
        async with asyncio.timeout(5):
            await connection.run()
    assert isinstance(connection.session.fault, ConnectionLost)
    assert connection.over.is_set()
    return str(connection.session.fault)


async def test_frames_go_both_ways_and_changes_are_told() -> None:
    shell = Shell()
    async with peer(faithful) as url, asyncio.TaskGroup() as tasks:
        connection = await shell.open(url)
        running = tasks.create_task(connection.run())
        connection.want(frozenset({PRICE}))
        await until(lambda: bool(shell.events))
        assert shell.events[0].channel == PRICE
        assert connection.session.confirmed(PRICE)
        assert shell.changes > 0
        changes, run = shell.changes, connection.session.run(PRICE)
        connection.lose()
        assert connection.session.run(PRICE) != run
        assert shell.changes > changes
        running.cancel()
    assert connection.over.is_set()


async def test_a_retired_connection_says_goodbye() -> None:
    goodbyes: list[int | None] = []

    async def listening(socket: ServerConnection) -> None:
        await faithful(socket)
        goodbyes.append(socket.close_code)

    shell = Shell()
    async with peer(listening) as url, asyncio.TaskGroup() as tasks:
        connection = await shell.open(url)
        tasks.create_task(connection.run())
        connection.retire()
        await connection.over.wait()
        await until(lambda: goodbyes == [1000])
    connection.want(frozenset({PRICE}))
    connection.lose(PRICE)
    assert not connection.session.confirmed(PRICE)


async def test_a_peer_that_closes_is_told_apart() -> None:
    async def closing(socket: ServerConnection) -> None:
        await socket.close(4321, "whatever")

    assert await ended_by(closing) == "closed by the exchange"


async def test_a_peer_that_breaks_off_is_told_apart() -> None:
    async def breaking(socket: ServerConnection) -> None:
        socket.transport.abort()
        await socket.wait_closed()

    assert await ended_by(breaking) == "broken off"


async def test_a_frame_that_is_too_large_is_told_apart() -> None:
    async def shouting(socket: ServerConnection) -> None:
        await socket.send("x" * 2000)
        await socket.wait_closed()

    assert await ended_by(shouting, max_bytes=1000) == "frame too large"


async def test_a_broken_frame_is_told_apart() -> None:
    async def stammering(socket: ServerConnection) -> None:
        socket.transport.write(b"\xff\xff\xff\xff")
        await socket.wait_closed()

    assert await ended_by(stammering) == "broke the websocket protocol"


async def test_text_that_is_not_utf8_ends_nothing() -> None:
    async def mumbling(socket: ServerConnection) -> None:
        await socket.send(b"\xff\xfe", text=True)
        await faithful(socket)

    shell = Shell()
    async with peer(mumbling) as url, asyncio.TaskGroup() as tasks:
        connection = await shell.open(url)
        running = tasks.create_task(connection.run())
        connection.want(frozenset({PRICE}))
        await until(lambda: bool(shell.events))
        assert connection.session.fault is None
        running.cancel()


async def test_a_socket_that_closes_while_it_is_written_to_is_over() -> None:
    shell = Shell()
    async with peer(faithful) as url:
        connection = await shell.open(url)
        await connection._socket.close()
        async with asyncio.timeout(5):
            await connection.run()
    assert str(connection.session.fault) == "broke the websocket protocol"


async def test_a_socket_that_takes_nothing_is_given_up() -> None:
    hold = asyncio.Event()

    async def deaf(socket: ServerConnection) -> None:
        socket.transport.pause_reading()
        await hold.wait()
        socket.transport.abort()

    shell = Shell()
    async with peer(deaf) as url, asyncio.TaskGroup() as tasks:
        connection = await shell.open(url, send_timeout=0.1)
        tasks.create_task(connection.run())
        connection.session._outgoing += ["x" * 1_000_000] * 40
        connection.want(frozenset())
        try:
            async with asyncio.timeout(5):
                await connection.over.wait()
        finally:
            hold.set()
    assert str(connection.session.fault) == "socket takes nothing"


# Opening


async def failure(url: str, **options: Any) -> str:
    with pytest.raises(HandshakeFailed) as caught:
        await open_socket(url, SocketOptions(**options))
    error: BaseException | None = caught.value
    assert caught.value.__suppress_context__
    assert SECRET not in repr(error)
    return str(error)


async def test_a_refused_handshake_is_told_by_its_status() -> None:
    async with raw(b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n") as url:
        assert await failure(url) == "handshake refused with status 401"


async def test_a_peer_that_says_nothing_times_out() -> None:
    async with raw(b"") as url:
        assert await failure(url, open_timeout=0.1) == "handshake timed out"


@pytest.mark.parametrize("answer", [b"\x00\x01\x02\r\n\r\n", b"HTTP/1.1 101 x\r\n\r\n"])
async def test_a_peer_that_speaks_something_else_is_no_exchange(answer: bytes) -> None:
    async with raw(answer) as url:
        assert (await failure(url, open_timeout=0.2)).startswith("handshake ")


async def test_nobody_there_is_told() -> None:
    async with raw(b"") as url:
        pass
    assert (await failure(url)).startswith("handshake failed: ")


@pytest.mark.parametrize("url", [f"http://x/?token={SECRET}", f"ws://[/?token={SECRET}", SECRET])
async def test_a_url_that_is_none_is_told(url: str) -> None:
    assert (await failure(url)).startswith("handshake failed: ")
