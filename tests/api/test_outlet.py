"""Where a stream's bytes go: through plain ASGI, or straight into the connection."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from starlette.types import Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from app.api import outlet as room
from app.api.outlet import (
    EXTENSION,
    HIGH_WATER,
    LONGEST_HEAD,
    ConnectionOutlet,
    SendOutlet,
    StreamProtocol,
    body,
    connection,
)
from app.server import listen
from tests.e2e.process import Stage, opened, soon, staged
from tests.e2e.waiting import LIMIT
from tests.fakes.outlet import Told


class Server:
    """The other end of an ASGI application: takes what it sends when it is let."""

    def __init__(self) -> None:
        self.sent: list[Message] = []
        self.taking = asyncio.Event()
        self.taking.set()
        self.gone = asyncio.Event()
        self.waiting = False

    async def send(self, message: Message) -> None:
        self.waiting = True
        await self.taking.wait()
        self.waiting = False
        self.sent.append(message)

    async def receive(self) -> Message:
        await self.gone.wait()
        return {"type": "http.disconnect"}

    @property
    def body(self) -> bytes:
        return b"".join(message["body"] for message in self.sent)

    @property
    def complete(self) -> bool:
        return bool(self.sent) and not self.sent[-1]["more_body"]


@asynccontextmanager
async def served(outlet: SendOutlet) -> AsyncIterator[Server]:
    """The outlet at work; it must have ended by itself at the end of the block."""
    server = Server()
    async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
        tasks.create_task(outlet.serve(server.receive, server.send))
        yield server


async def test_what_was_written_goes_out_in_order_and_the_response_ends() -> None:
    outlet = SendOutlet()
    outlet.write(b"one ")
    async with served(outlet) as server:
        await soon(lambda: server.body == b"one ")
        outlet.write(b"two ")
        outlet.write(b"three")
        await soon(lambda: server.body == b"one two three")
        assert outlet.backlog() == 0
        outlet.write(b"!")
        outlet.close()
    assert server.body == b"one two three!"
    assert server.complete


async def test_beyond_the_high_water_mark_it_is_full_once_and_says_when_it_has_drained() -> None:
    outlet = SendOutlet()
    outlet.owner = Told()
    said = outlet.owner.heard
    async with served(outlet) as server:
        server.taking.clear()
        outlet.write(b"x")
        await soon(lambda: server.waiting)
        outlet.write(b"y" * HIGH_WATER)
        assert said == []
        outlet.write(b"z")
        outlet.write(b"z")
        assert said == ["full"]
        assert outlet.backlog() == HIGH_WATER + 2
        server.taking.set()
        await soon(lambda: said == ["full", "drained"])
        assert outlet.backlog() == 0
        outlet.close()
    assert len(server.body) == HIGH_WATER + 3


async def test_a_client_that_hangs_up_ends_it_and_what_was_kept_is_dropped() -> None:
    outlet = SendOutlet()
    async with served(outlet) as server:
        server.taking.clear()
        outlet.write(b"x")
        await soon(lambda: server.waiting)
        outlet.write(b"never read")
        server.gone.set()
        await soon(outlet.closed.is_set)
        server.taking.set()
    assert b"never read" not in server.body


async def test_to_abort_gives_up_on_a_send_that_does_not_return() -> None:
    outlet = SendOutlet()
    outlet.abort()  # nothing to give up on yet
    async with served(outlet) as server:
        server.taking.clear()
        outlet.write(b"x")
        await soon(lambda: server.waiting)
        outlet.abort()
    assert server.sent == []


class Transport(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.aborted = self.closed = False

    def write(self, data: Any) -> None:
        self.written += data

    def get_write_buffer_size(self) -> int:
        return len(self.written)

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.aborted = True


def test_a_connection_is_written_to_as_it_is() -> None:
    transport = Transport()
    outlet = ConnectionOutlet(transport)
    assert outlet.framed
    outlet.write(b"5\r\nhello\r\n")
    assert transport.written == b"5\r\nhello\r\n"
    assert outlet.backlog() == 10
    outlet.close()
    assert transport.written.endswith(b"0\r\n\r\n")
    assert transport.closed
    outlet.abort()
    assert transport.aborted


def test_a_connection_tells_its_owner_how_it_is() -> None:
    outlet = ConnectionOutlet(Transport())
    outlet.owner = told = Told()
    outlet.pause_writing()
    outlet.resume_writing()
    outlet.connection_lost(None)
    assert told.heard == ["full", "drained", "gone"]


@pytest.mark.parametrize(
    "scope", [{}, {"extensions": {}}, {"extensions": {EXTENSION: {"protocol": HttpToolsProtocol}}}]
)
def test_under_another_server_there_is_no_connection_to_write_to(scope: Scope) -> None:
    assert connection(scope) is None


def test_body() -> None:
    assert body(b"x", more=True) == {"type": "http.response.body", "body": b"x", "more_body": True}
    assert body(more=False) == {"type": "http.response.body", "body": b"", "more_body": False}


async def test_a_request_that_comes_behind_a_stream_is_not_answered() -> None:
    async with staged(stream_lifetime=1) as stage:
        target = "/v1/stream?channels=lastprice:BTC_USDT"
        async with opened(stage.url, target) as stream:
            await stream.gateway("status")
            host = stage.url.removeprefix("http://")
            stream.write(f"GET /livez HTTP/1.1\r\nhost: {host}\r\n\r\n".encode())
            stage.price("1")
            assert (await stream.data())["data"]["price"] == "1"
            (farewell,) = await stream.rest()
            assert farewell.json()["reason"] == "lifetime"


@pytest.mark.parametrize("secured", [False, True], ids=["plain", "tls"])
async def test_only_a_connection_without_tls_can_be_had(
    certificate: tuple[Path, Path], *, secured: bool
) -> None:
    async def app(scope: Scope, _receive: Receive, send: Send) -> None:
        had = b"" if connection(scope) is None else b"had"
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send(body(had, more=False))

    own, key = map(str, certificate) if secured else (None, None)
    with listen("127.0.0.1", 0) as sock:
        config = uvicorn.Config(
            app,
            http=StreamProtocol,
            lifespan="off",
            log_config=None,
            ssl_certfile=own,
            ssl_keyfile=key,
        )
        server = uvicorn.Server(config)
        async with asyncio.TaskGroup() as tasks:
            serving = tasks.create_task(server._serve([sock]))
            scheme = "https" if secured else "http"
            trusted = ssl.create_default_context(cafile=own)
            async with httpx.AsyncClient(verify=trusted, trust_env=False) as http:
                answer = await http.get(f"{scheme}://127.0.0.1:{sock.getsockname()[1]}/")
            assert answer.text == ("" if secured else "had")
            server.should_exit = True
            await serving


async def test_a_stream_among_requests_sent_at_once_is_served() -> None:
    async with staged(stream_lifetime=1) as stage, wired(stage) as wire:
        host = stage.url.removeprefix("http://")
        paths = ("/livez", "/v1/stream?channels=lastprice:*", "/livez")
        requests = (f"GET {path} HTTP/1.1\r\nhost: {host}\r\n\r\n" for path in paths)
        await wire.send("".join(requests).encode())
        assert await wire.status() == 200
        told = b""
        while b"lifetime" not in told:
            told += await wire.some()
        assert b"text/event-stream" in told
        assert b'"status"' in told


# What a client may send

HEAD = b"GET /livez HTTP/1.1\r\nhost: x\r\n"
TRAILER = b"POST /livez HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n0\r\nx-y: "
SHORT = 0.4
"""Seconds for a request, where a test waits for their end."""


class Wire:
    """A client's bare connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def flood(self, most: int) -> int:
        """Send without end; how much was sent when the other side had enough."""
        sent = 0
        try:
            while sent < most and not self._reader.at_eof():
                await self.send(b"a" * 64 * 1024)
                await asyncio.sleep(0)
                sent += 64 * 1024
        except ConnectionError:
            pass
        return sent

    async def status(self) -> int:
        """The status of the next answer, which has a length."""
        async with asyncio.timeout(LIMIT):
            head = (await self._reader.readuntil(b"\r\n\r\n")).lower()
            (length,) = (
                line for line in head.split(b"\r\n") if line.startswith(b"content-length:")
            )
            await self._reader.readexactly(int(length.split(b":")[1]))
        return int(head.split()[1])

    async def some(self) -> bytes:
        """What comes next; raises EOFError at the end of the connection."""
        async with asyncio.timeout(LIMIT):
            data = await self._reader.read(65536)
        if not data:
            raise EOFError
        return data

    async def rest(self) -> bytes:
        """What comes up to the end of the connection."""
        async with asyncio.timeout(LIMIT):
            try:
                return await self._reader.read()
            except ConnectionError:
                return b""


@asynccontextmanager
async def wired(stage: Stage) -> AsyncIterator[Wire]:
    host, port = stage.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        yield Wire(reader, writer)
    finally:
        writer.transport.abort()


def padded(size: int) -> bytes:
    """A request with a head of so many bytes."""
    return HEAD + b"x-y: " + b"a" * (size - len(HEAD) - 9) + b"\r\n\r\n"


async def test_a_head_of_more_than_64_kib_is_refused_and_the_connection_closed() -> None:
    async with staged() as stage:
        for start in (HEAD + b"x-y: ", b"GET /"):
            async with wired(stage) as wire:
                await wire.send(start + b"a" * (LONGEST_HEAD + 1 - len(start)))
                assert await wire.status() == 431
                assert await wire.rest() == b""
        async with wired(stage) as wire:
            await wire.send(padded(LONGEST_HEAD))
            assert await wire.status() == 200


@pytest.mark.parametrize("start", [HEAD + b"x-y: ", b"GET /", TRAILER])
async def test_what_has_no_end_is_not_kept(start: bytes) -> None:
    most = 32 * 1024 * 1024
    async with staged() as stage, wired(stage) as wire:
        await wire.send(start)
        if start is TRAILER:
            assert await wire.status() == 405
        assert await wire.flood(most) < most
        assert (await stage.http.get("/livez")).status_code == 200


async def test_each_request_of_a_connection_may_be_as_long() -> None:
    async with staged() as stage, wired(stage) as wire:
        for _ in range(3):
            await wire.send(padded(LONGEST_HEAD - 100))
            assert await wire.status() == 200
        await wire.send(padded(LONGEST_HEAD + 1))
        assert await wire.status() == 431
        assert await wire.rest() == b""


@pytest.mark.parametrize("begun", [b"", HEAD, b"GET /live"])
async def test_a_request_that_does_not_come_in_time_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch, begun: bytes
) -> None:
    async with staged() as stage:
        monkeypatch.setattr(room, "HEAD_TIME", SHORT)
        async with wired(stage) as wire:
            await wire.send(begun)
            assert await wire.rest() == b""


async def test_neither_is_the_rest_of_one_that_was_answered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with staged() as stage:
        monkeypatch.setattr(room, "HEAD_TIME", SHORT)
        async with wired(stage) as wire:
            await wire.send(b"POST /livez HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n")
            assert await wire.status() == 405
            await wire.send(b"a")
            assert await wire.rest() == b""


async def test_a_stream_is_not_ended_by_the_rest_of_its_request(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    target = "/v1/stream?channels=lastprice:*"
    async with staged(heartbeat=2 * SHORT) as stage:
        monkeypatch.setattr(room, "HEAD_TIME", SHORT)
        async with opened(stage.url, target, headers={"content-length": "9"}) as stream:
            while not stream.events.comments:
                assert await stream.more(), "it is still open after the time for a request"


async def test_one_that_comes_byte_by_byte_is_answered() -> None:
    async with staged() as stage, wired(stage) as wire:
        for byte in HEAD + b"\r\n":
            await wire.send(bytes([byte]))
            await asyncio.sleep(0)
        assert await wire.status() == 200


async def test_the_next_request_of_a_connection_has_its_own_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with staged() as stage:
        monkeypatch.setattr(room, "HEAD_TIME", SHORT)
        async with wired(stage) as wire, wired(stage) as silent, wired(stage) as empty:
            for one in (wire, empty):
                await one.send(HEAD + b"\r\n")
                assert await one.status() == 200
            assert await silent.rest() == b""  # the time of the first one is over
            await wire.send(HEAD)
            await empty.send(b"\r\n")  # an empty line begins no request
            await wire.send(b"\r\n")
            assert await wire.status() == 200
            await wire.send(HEAD)
            assert await wire.rest() == b""
            assert await empty.rest() == b""


async def test_a_stream_outlives_the_time_for_its_request(monkeypatch: pytest.MonkeyPatch) -> None:
    async with staged() as stage:
        monkeypatch.setattr(room, "HEAD_TIME", SHORT)
        async with stage.stream("lastprice:BTC_USDT") as stream, wired(stage) as silent:
            await stream.gateway("status")
            stream.write(b"\r\n")
            assert await silent.rest() == b""
            stage.price("1")
            assert (await stream.data())["data"]["price"] == "1"


async def test_no_refusal_stands_in_the_middle_of_a_stream() -> None:
    async with staged() as stage, stage.stream("lastprice:BTC_USDT") as stream:
        await stream.gateway("status")
        stream.write(padded(LONGEST_HEAD + 1))
        assert await stream.rest() == []
        assert stream.cut
        await soon(lambda: _nobody(stage), "the stream is forgotten")


async def _nobody(stage: Stage) -> bool:
    return bool((await stage.http.get("/v1/status")).json()["streams"]["open"] == 0)
