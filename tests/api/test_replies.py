"""Answers as they are written, beside what uvicorn itself would write."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvicorn
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from app.api.outlet import body
from app.api.protocol import StreamProtocol
from app.api.replies import Outbox
from app.sockets import listen
from tests.e2e.waiting import LIMIT

LENGTH = (b"content-length", b"5")
ANSWERS: dict[str, tuple[int, list[tuple[bytes, bytes]], bytes]] = {
    "whole": (200, [LENGTH, (b"etag", b'"1-0"')], b"hello"),
    "not-modified": (304, [(b"etag", b'"1-0"')], b""),
    "not-modified-yet-told": (304, [(b"etag", b'"1-0"')], b"hello"),
    "empty": (204, [], b""),
    "chunked": (200, [], b"hello"),
    "last": (200, [LENGTH, (b"connection", b"close")], b"hello"),
    "too-short": (200, [LENGTH], b"hell"),
    "too-long": (200, [LENGTH], b"hello!"),
    "value-in-two-lines": (200, [LENGTH, (b"x", b"1\r\nset-cookie: y")], b"hello"),
    "value-with-a-line-end": (200, [LENGTH, (b"x", b"1\n")], b"hello"),
    "value-with-a-null": (200, [LENGTH, (b"x", b"1\0")], b"hello"),
}
REQUESTS = {
    "get": b"GET / HTTP/1.1\r\nhost: x\r\n\r\n",
    "head": b"HEAD / HTTP/1.1\r\nhost: x\r\n\r\n",
    "old": b"GET / HTTP/1.0\r\n\r\n",
    "last": b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
    "continue": b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\nexpect: 100-continue\r\n\r\n.",
}


class Server:
    """An application under uvicorn."""

    def __init__(self, server: uvicorn.Server, address: tuple[str, int]) -> None:
        self._server = server
        self._address = address

    async def ask(self, request: bytes) -> bytes:
        """All that comes until the connection is closed."""
        reader, writer = await asyncio.open_connection(*self._address)
        writer.write(request)
        try:
            return await reader.read()
        finally:
            writer.close()

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(*self._address)

    def shut_down_connections(self) -> None:
        for one in list(self._server.server_state.connections):
            one.shutdown()


@asynccontextmanager
async def served(app: ASGIApp, protocol: type[HttpToolsProtocol]) -> AsyncIterator[Server]:
    with listen("127.0.0.1", 0) as sock:
        config = uvicorn.Config(
            app,
            http=protocol,
            lifespan="off",
            log_config=None,
            access_log=False,
            date_header=False,
        )
        server = uvicorn.Server(config)
        async with asyncio.timeout(LIMIT), asyncio.TaskGroup() as tasks:
            serving = tasks.create_task(server._serve([sock]))
            yield Server(server, sock.getsockname())
            server.should_exit = True
            await serving


class Spied:
    """A transport, and what was written to it."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self.written: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.written.append(data)
        self._transport.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


@pytest.mark.parametrize("slow", [False, True], ids=["at once", "slow"])
async def test_a_head_is_written_with_its_body_if_that_comes_at_once(*, slow: bool) -> None:
    spied: list[Spied] = []
    going_on = asyncio.Semaphore(0)

    class Spying(StreamProtocol):
        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn's
            spied.append(Spied(transport))
            super().connection_made(spied[0])  # type: ignore[arg-type] # all that is used

    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [LENGTH]})
        if slow:
            await send(body(more=True))
            await going_on.acquire()
        await send(body(b"hello", more=False))

    async with served(app, Spying) as server:
        reader, writer = await server.connect()
        writer.write(REQUESTS["get"] * 2)
        for _ in range(2):
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
            going_on.release()
            assert await reader.readexactly(5) == b"hello"
        writer.close()
    assert len([one for one in spied[0].written if one]) == (4 if slow else 2)


async def _answers(protocol: type[HttpToolsProtocol], request: bytes) -> dict[str, bytes]:
    """What follows a request for each answer, and one for another behind it."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        name = scope["path"].removeprefix("/")
        if name in ANSWERS:
            status, fields, content = ANSWERS[name]
            await send({"type": "http.response.start", "status": status, "headers": fields})
            await send(body(content, more=False))
            await receive()
        elif scope["path"] == "/bug":
            await PlainTextResponse("sorry", 500)(scope, receive, send)
            raise OSError
        else:
            await PlainTextResponse("bye")(scope, receive, send)

    goodbye = b"GET /bye HTTP/1.1\r\nconnection: close\r\n\r\n"
    async with served(app, protocol) as server:
        return {
            name: await server.ask(request.replace(b"/", b"/" + name.encode(), 1) + goodbye)
            for name in (*ANSWERS, "bug")
        }


@pytest.mark.parametrize("request_", REQUESTS.values(), ids=REQUESTS)
async def test_what_is_written_is_what_uvicorn_would_write(request_: bytes) -> None:
    expected = await _answers(HttpToolsProtocol, request_)
    assert expected["whole"].startswith(b"HTTP/1.1 ")
    assert await _answers(StreamProtocol, request_) == expected


@pytest.mark.parametrize("count", [1, 3])
async def test_who_says_that_it_asks_no_more_is_answered(count: int) -> None:
    async with served(PlainTextResponse("hello"), StreamProtocol) as server:
        reader, writer = await server.connect()
        writer.write(REQUESTS["get"] * count)
        writer.write_eof()
        assert (await reader.read()).endswith(b"\r\n\r\nhello")
        writer.close()


async def test_a_server_that_stops_sends_what_it_has_answered() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await PlainTextResponse("bye")(scope, receive, send)
        server.shut_down_connections()

    async with served(app, StreamProtocol) as server:
        assert (await server.ask(REQUESTS["get"])).endswith(b"\r\n\r\nbye")


class Wire(asyncio.Transport):
    """A connection that writes down what happens to it."""

    def __init__(self, name: str, told: list[str]) -> None:
        super().__init__({"peername": ("127.0.0.1", 1), "sockname": ("127.0.0.1", 2)})
        self._name = name
        self._told = told
        self.closing = False

    def is_closing(self) -> bool:
        return self.closing

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._told.append(f"{self._name} {bytes(data)[:12].decode()}")

    def can_write_eof(self) -> bool:
        return False

    def abort(self) -> None:
        self._told.append(f"{self._name} aborted")

    def close(self) -> None:
        self.closing = True

    def resume_reading(self) -> None:
        pass


async def test_the_answers_of_one_turn_go_out_together() -> None:
    told: list[str] = []
    outbox, gone = Outbox(), Wire("b", told)
    gone.closing = True
    outbox.put(Wire("a", told), b"1")
    outbox.put(gone, b"2")
    outbox.put(Wire("c", told), b"3")
    assert told == []
    await asyncio.sleep(0)
    assert told == ["a 1", "c 3"]
    outbox.put(Wire("d", told), b"4")
    outbox.flush()
    await asyncio.sleep(0)
    assert told == ["a 1", "c 3", "d 4"]


@pytest.mark.parametrize(
    ("then", "last"),
    [
        (lambda protocol: protocol.data_received(b"no request\r\n\r\n"), "a HTTP/1.1 400"),
        (lambda protocol: protocol.give_up("idle"), "a aborted"),
    ],
    ids=["refused", "given up"],
)
async def test_what_ends_a_connection_in_that_turn_comes_behind_the_answer(
    then: Callable[[StreamProtocol], None], last: str
) -> None:
    told: list[str] = []
    config = uvicorn.Config(PlainTextResponse("hello"), log_config=None, access_log=False)
    config.load()
    protocol = StreamProtocol(config=config, server_state=ServerState(), app_state={})
    protocol.connection_made(Wire("a", told))
    protocol.data_received(REQUESTS["get"])
    await asyncio.sleep(0)  # answered, in this turn of the loop
    assert told == []
    then(protocol)
    assert told == ["a HTTP/1.1 200", last]
    protocol.connection_lost(None)


async def test_an_answer_that_fails_behind_its_head_is_an_error() -> None:
    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [LENGTH]})
        raise OSError

    async with served(app, StreamProtocol) as server:
        assert (await server.ask(REQUESTS["get"])).startswith(b"HTTP/1.1 500 ")
