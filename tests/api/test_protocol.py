"""What a request may take in bytes and in time, and connections that streams can have."""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import httpx
import pytest
import uvicorn
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from app.api import protocol as room
from app.api.outlet import body
from app.api.protocol import (
    EXTENSION,
    LINGER_BYTES,
    LONGEST_BODY,
    LONGEST_HEAD,
    LONGEST_LINE,
    StreamProtocol,
    connection,
)
from app.sockets import listen
from tests.e2e.process import Stage, opened, soon, staged
from tests.e2e.waiting import LIMIT


@pytest.mark.parametrize(
    "scope", [{}, {"extensions": {}}, {"extensions": {EXTENSION: {"protocol": HttpToolsProtocol}}}]
)
def test_under_another_server_there_is_no_connection_to_write_to(scope: Scope) -> None:
    assert connection(scope) is None


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


async def test_a_connection_that_is_lost_is_not_had() -> None:
    taken = asyncio.get_running_loop().create_future()

    async def app(scope: Scope, receive: Receive, _send: Send) -> None:
        held = connection(scope)
        assert held is not None
        await receive()
        writer.close()
        while (await receive())["type"] != "http.disconnect":
            pass
        taken.set_result(held.take())

    with listen("127.0.0.1", 0) as sock:
        config = uvicorn.Config(app, http=StreamProtocol, lifespan="off", log_config=None)
        server = uvicorn.Server(config)
        async with asyncio.timeout(LIMIT), asyncio.TaskGroup() as tasks:
            serving = tasks.create_task(server._serve([sock]))
            _, writer = await asyncio.open_connection(*sock.getsockname())
            writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
            assert await taken is None
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

    async def drip(self) -> None:
        """Send byte by byte; raises ConnectionError when the other side has enough."""
        async with asyncio.timeout(LIMIT):
            while True:
                await self.send(b"a")
                await asyncio.sleep(0)

    async def status(self) -> int:
        """The status of the next answer, which has a length."""
        async with asyncio.timeout(LIMIT):
            head = (await self._reader.readuntil(b"\r\n\r\n")).lower()
            (length,) = (
                line for line in head.split(b"\r\n") if line.startswith(b"content-length:")
            )
            await self._reader.readexactly(int(length.split(b":")[1]))
        return int(head.split()[1])

    async def refusal(self) -> int:
        """The status of a refusal, the last thing that comes, in the shape of every error."""
        head, _, told = (await self.rest()).partition(b"\r\n\r\n")
        fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
        assert fields[b"content-type"] == b"application/problem+json"
        assert fields[b"connection"] == b"close"
        assert fields[b"x-content-type-options"] == b"nosniff"
        assert int(fields[b"content-length"]) == len(told)
        found = json.loads(told)
        assert found["title"] == "request refused"
        assert head.startswith(b"HTTP/1.1 %d " % found["status"])
        return int(found["status"])

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


async def refused(stage: Stage) -> dict[str, int]:
    """What the metric says, by reason."""
    told = (await stage.http.get("/metrics")).text.splitlines()
    start = 'sluice_http_refused_total{reason="'
    rows = [line.removeprefix(start).split('"} ') for line in told if line.startswith(start)]
    return {reason: int(float(count)) for reason, count in rows}


class Waiting:
    """An application that reads bodies, which no route of ours does yet."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.asked = self.gone = False
        self.over = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.asked = True
        await asyncio.sleep(0)
        while (message := await receive())["type"] == "http.request":
            if scope["path"] == "/held":
                await self.over.wait()
            if not message["more_body"]:
                await send({"type": "http.response.start", "status": 200, "headers": []})
                await send(body(b"", more=False))
                return
        self.gone = True

    @asynccontextmanager
    async def wired(self) -> AsyncIterator[Wire]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            yield Wire(reader, writer)
        finally:
            writer.transport.abort()


@pytest.fixture(name="waiting")
async def _waiting() -> AsyncIterator[Waiting]:
    with listen("127.0.0.1", 0) as sock:
        app = Waiting(sock.getsockname()[1])
        config = uvicorn.Config(app, http=StreamProtocol, lifespan="off", log_config=None)
        server = uvicorn.Server(config)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(server._serve([sock]))
            await soon(lambda: server.started)
            yield app
            app.over.set()
            server.should_exit = True


def padded(size: int) -> bytes:
    """A request with a head of so many bytes."""
    return HEAD + b"x-y: " + b"a" * (size - len(HEAD) - 9) + b"\r\n\r\n"


async def test_a_head_of_more_than_64_kib_is_refused_and_the_connection_closed() -> None:
    async with staged() as stage:
        async with wired(stage) as wire:
            start = HEAD + b"x-y: "
            await wire.send(start + b"a" * (LONGEST_HEAD + 1 - len(start)))
            assert await wire.refusal() == 431
        assert await refused(stage) == {"head": 1}
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
        assert await wire.refusal() == 431


@pytest.mark.parametrize("start", [b"GET /", b"GET /livez?"])
async def test_a_target_of_more_than_16_kib_is_refused(start: bytes) -> None:
    async with staged() as stage:
        async with wired(stage) as wire:
            await wire.send(start.ljust(len(b"GET ") + LONGEST_LINE + 1, b"a"))
            assert await wire.refusal() == 414
        assert await refused(stage) == {"line": 1}
        async with wired(stage) as wire:
            target = b"/livez?".ljust(LONGEST_LINE, b"a")
            await wire.send(b"GET %b HTTP/1.1\r\nhost: x\r\n\r\n" % target)
            assert await wire.status() == 200


POST = b"POST /livez HTTP/1.1\r\nhost: x\r\n"
CHUNKED = POST + b"transfer-encoding: chunked\r\n\r\n"


def announced(size: int) -> bytes:
    return POST + b"content-length: %d\r\n\r\n" % size


async def test_a_body_that_is_announced_too_long_is_refused_before_it_comes() -> None:
    async with staged() as stage:
        async with wired(stage) as wire:
            await wire.send(announced(LONGEST_BODY + 1))
            assert await wire.refusal() == 413
        assert await refused(stage) == {"body": 1}
        async with wired(stage) as wire:
            await wire.send(announced(LONGEST_BODY) + b"a" * LONGEST_BODY)
            assert await wire.status() == 405
            await wire.send(HEAD + b"\r\n")
            assert await wire.status() == 200


async def test_so_is_one_that_becomes_too_long(waiting: Waiting) -> None:
    async with waiting.wired() as wire:
        await wire.send(CHUNKED)
        await soon(lambda: waiting.asked)
        for _ in range(3):
            await wire.send(b"1800\r\n" + b"a" * 0x1800 + b"\r\n")
        assert await wire.refusal() == 413
        await soon(lambda: waiting.gone)


async def test_one_that_comes_too_slowly_is_refused_too(
    waiting: Waiting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "HEAD_TIME", SHORT)
    async with waiting.wired() as wire:
        await wire.send(CHUNKED + b"1\r\na\r\n")
        assert await wire.refusal() == 408
        await soon(lambda: waiting.gone)


async def test_the_refusal_arrives_though_the_client_reads_only_when_all_is_sent() -> None:
    """A connection closed with bytes unread is reset, and what was written may be lost."""
    size = LINGER_BYTES // 2
    async with staged() as stage, wired(stage) as wire:
        await wire.send(announced(size))
        for _ in range(size // 65536):
            await wire.send(b"a" * 65536)
        assert await wire.refusal() == 413


async def test_but_the_rest_is_not_read_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "LINGER", SHORT)
    async with staged() as stage, wired(stage) as wire:
        await wire.send(announced(LONGEST_BODY + 1))
        with pytest.raises(ConnectionError):
            await wire.drip()


async def test_what_is_no_http_is_refused_as_a_problem() -> None:
    async with staged() as stage:
        async with wired(stage) as wire:
            await wire.send(b"\x16\x03\x01\x02 secret \r\n\r\n")
            assert await wire.refusal() == 400
        assert await refused(stage) == {"malformed": 1}


async def test_no_refusal_is_taken_for_the_answer_to_another_request(
    waiting: Waiting,
) -> None:
    async with waiting.wired() as wire:
        await wire.send(b"GET /held HTTP/1.1\r\n\r\n" + HEAD + b"\r\n")
        await soon(lambda: waiting.asked)
        await wire.send(b"?")
        assert await wire.rest() == b""


@pytest.mark.parametrize("begun", [HEAD, b"GET /live", b"\r\n"])
async def test_a_request_that_does_not_come_in_time_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch, begun: bytes
) -> None:
    async with staged() as stage:
        monkeypatch.setattr(room, "HEAD_TIME", SHORT)
        async with wired(stage) as wire:
            await wire.send(begun)
            assert await wire.refusal() == 408
        assert await refused(stage) == {"slow": 1}


async def test_who_says_nothing_at_all_is_told_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A browser may open a connection before it knows what to ask."""
    async with staged() as stage:
        monkeypatch.setattr(room, "HEAD_TIME", SHORT)
        async with wired(stage) as wire:
            assert await wire.rest() == b""
        assert await refused(stage) == {"idle": 1}


async def test_of_too_many_that_wait_the_one_that_has_waited_longest_goes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("app.server.MOST_WAITING", 3)
    async with staged() as stage, AsyncExitStack() as held:
        asking = await held.enter_async_context(wired(stage))
        await asking.send(HEAD + b"\r\n")
        assert await asking.status() == 200
        first, second = [await held.enter_async_context(wired(stage)) for _ in range(2)]
        await first.send(HEAD)
        await held.enter_async_context(wired(stage))
        last = await held.enter_async_context(wired(stage))
        assert await first.rest() == b""
        for one in (second, last, asking):
            await one.send(HEAD + b"\r\n")
            assert await one.status() == 200
        assert await refused(stage) == {"crowd": 1}


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
            assert await wire.refusal() == 408
            assert await empty.refusal() == 408


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
