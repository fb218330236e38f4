"""Answers as they are written, beside what uvicorn itself would write."""

import asyncio
from typing import Any

import httpx
import pytest
import uvicorn
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from app.api.outlet import body
from app.api.protocol import StreamProtocol
from app.api.replies import Outbox
from app.server import listen
from tests.e2e.waiting import LIMIT


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
        length = [(b"content-length", b"5")]
        await send({"type": "http.response.start", "status": 200, "headers": length})
        if slow:
            await send(body(more=True))
            await going_on.acquire()
        await send(body(b"hello", more=False))

    with listen("127.0.0.1", 0) as sock:
        config = uvicorn.Config(app, http=Spying, lifespan="off", log_config=None, access_log=False)
        server = uvicorn.Server(config)
        async with asyncio.timeout(LIMIT), asyncio.TaskGroup() as tasks:
            serving = tasks.create_task(server._serve([sock]))
            reader, writer = await asyncio.open_connection(*sock.getsockname())
            writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\nGET / HTTP/1.1\r\nhost: x\r\n\r\n")
            for _ in range(2):
                assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
                going_on.release()
                assert await reader.readexactly(5) == b"hello"
            writer.close()
            server.should_exit = True
            await serving
    assert len([one for one in spied[0].written if one]) == (4 if slow else 2)


LENGTH = (b"content-length", b"5")
ANSWERS: dict[str, tuple[int, list[tuple[bytes, bytes]], bytes]] = {
    "whole": (200, [LENGTH, (b"etag", b'"1-0"')], b"hello"),
    "not modified": (304, [(b"etag", b'"1-0"')], b""),
    "not modified, yet told": (304, [(b"etag", b'"1-0"')], b"hello"),
    "empty": (204, [], b""),
    "chunked": (200, [], b"hello"),
    "last": (200, [LENGTH, (b"connection", b"close")], b"hello"),
    "too short": (200, [LENGTH], b"hell"),
    "too long": (200, [LENGTH], b"hello!"),
    "value in two lines": (200, [LENGTH, (b"x", b"1\r\nset-cookie: y")], b"hello"),
    "value with a line's end": (200, [LENGTH, (b"x", b"1\n")], b"hello"),
    "value with a null": (200, [LENGTH, (b"x", b"1\0")], b"hello"),
}
REQUESTS = {
    "get": b"GET / HTTP/1.1\r\nhost: x\r\n\r\n",
    "head": b"HEAD / HTTP/1.1\r\nhost: x\r\n\r\n",
    "old": b"GET / HTTP/1.0\r\n\r\n",
    "last": b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
    "continue": b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\nexpect: 100-continue\r\n\r\n.",
}


async def _answers(protocol: type[HttpToolsProtocol], request: bytes) -> dict[str, bytes]:
    """What follows a request for each answer, and one for another behind it."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        name = scope["path"].removeprefix("/").replace("-", " ")
        if name in ANSWERS:
            status, fields, content = ANSWERS[name]
            await send({"type": "http.response.start", "status": status, "headers": fields})
            await send(body(content, more=False))
            await receive()
        else:
            await PlainTextResponse("bye")(scope, receive, send)

    said = {}
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
            for name in ANSWERS:
                reader, writer = await asyncio.open_connection(*sock.getsockname())
                path = name.replace(" ", "-").encode()
                writer.write(request.replace(b"/", b"/" + path, 1))
                writer.write(b"GET /bye HTTP/1.1\r\nconnection: close\r\n\r\n")
                said[name] = await reader.read()
                writer.close()
            server.should_exit = True
            await serving
    return said


@pytest.mark.parametrize("request_", REQUESTS.values(), ids=REQUESTS)
async def test_what_is_written_is_what_uvicorn_would_write(request_: bytes) -> None:
    expected = await _answers(HttpToolsProtocol, request_)
    assert expected["whole"].startswith(b"HTTP/1.1 ")
    assert await _answers(StreamProtocol, request_) == expected


async def test_a_server_that_stops_sends_what_it_has_answered() -> None:
    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        await PlainTextResponse("bye")(_scope, _receive, send)
        for one in list(server.server_state.connections):
            one.shutdown()

    with listen("127.0.0.1", 0) as sock:
        config = uvicorn.Config(
            app, http=StreamProtocol, lifespan="off", log_config=None, access_log=False
        )
        server = uvicorn.Server(config)
        async with asyncio.timeout(LIMIT), asyncio.TaskGroup() as tasks:
            serving = tasks.create_task(server._serve([sock]))
            reader, writer = await asyncio.open_connection(*sock.getsockname())
            writer.write(REQUESTS["get"])
            assert (await reader.read()).endswith(b"\r\n\r\nbye")
            writer.close()
            server.should_exit = True
            await serving


async def test_the_answers_of_one_turn_go_out_together() -> None:
    written: list[str] = []

    class Transport(asyncio.Transport):
        def __init__(self, name: str, *, gone: bool = False) -> None:
            super().__init__()
            self._name = name
            self._gone = gone

        def is_closing(self) -> bool:
            return self._gone

        def write(self, data: bytes | bytearray | memoryview) -> None:
            written.append(f"{self._name} {bytes(data).decode()}")

    outbox = Outbox()
    outbox.put(Transport("a"), b"1")
    outbox.put(Transport("b", gone=True), b"2")
    outbox.put(Transport("c"), b"3")
    assert written == []
    await asyncio.sleep(0)
    assert written == ["a 1", "c 3"]
    outbox.put(Transport("d"), b"4")
    outbox.flush()
    await asyncio.sleep(0)
    assert written == ["a 1", "c 3", "d 4"]


async def test_an_answer_that_fails_behind_its_head_is_an_error() -> None:
    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [LENGTH]})
        raise OSError

    with listen("127.0.0.1", 0) as sock:
        config = uvicorn.Config(app, http=StreamProtocol, lifespan="off", log_config=None)
        server = uvicorn.Server(config)
        async with asyncio.timeout(LIMIT), asyncio.TaskGroup() as tasks:
            serving = tasks.create_task(server._serve([sock]))
            async with httpx.AsyncClient(trust_env=False) as http:
                answer = await http.get(f"http://127.0.0.1:{sock.getsockname()[1]}/")
            assert answer.status_code == 500
            server.should_exit = True
            await serving
