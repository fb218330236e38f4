"""The server: its descriptors, its end, and any bytes that may come in."""

import asyncio
import gc
import json
import os
import resource
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn
from fastapi import FastAPI
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from app.api.protocol import StreamProtocol
from app.domain.channel import Channel
from app.domain.store import Store
from app.hub.hub import Hub, HubOptions
from app.server import Server
from app.sockets import BACKLOG, listen
from app.telemetry import Metrics
from tests.e2e import process
from tests.e2e.gateway import free_port
from tests.e2e.process import ROOT, Stage, clean_environment, opened, soon, staged
from tests.fakes.outlet import FakeOutlet
from tests.oracle.sse import Dechunker, Reader


async def test_what_the_system_gives_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[socket.socket] = []

    def keeping(host: str, port: int) -> socket.socket:
        kept.append(listen(host, port))
        return kept[-1]

    monkeypatch.setattr(process, "listen", keeping)
    before, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    less = 4096 if hard == resource.RLIM_INFINITY else hard - 1
    resource.setrlimit(resource.RLIMIT_NOFILE, (less, hard))
    try:
        async with staged():
            assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)
            (sock,) = kept
            told = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 32)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (before, hard))
    # of a listening socket tcpi_sacked is the length of its queue
    assert struct.unpack_from("=I", told, 28) == (min(BACKLOG, _longest_queue()),)


def _longest_queue() -> int:
    return int(Path("/proc/sys/net/core/somaxconn").read_text())


def serving(hub: Hub) -> tuple[Server, FastAPI]:
    """A server with an empty application, as it is once it has started."""
    app = FastAPI()
    app.state.hub, app.state.hand_over, app.state.failed = hub, (lambda: None), False
    config = uvicorn.Config(app, lifespan="off", log_config=None)
    config.load()
    server = Server(app, config, drain=0, ready=lambda: None)
    server.started, server.servers, server.lifespan = True, [], config.lifespan_class(config)
    return server, app


async def test_streams_are_ended_and_who_does_not_read_is_dropped_before_it_closes() -> None:
    hub = Hub(Store(), HubOptions(), Metrics())
    outlet = FakeOutlet()
    hub.join(frozenset({Channel.parse("lastprice:*")}), outlet, None)
    server, _app = serving(hub)
    await server.shutdown([])
    assert outlet.closed
    assert outlet.aborts == 1


async def test_the_lease_is_handed_over_at_the_signal_and_once() -> None:
    """A later look finds that a sibling, told to stop as well, has taken it for nothing."""
    server, app = serving(Hub(Store(), HubOptions(), Metrics()))
    handed_over: list[str] = []
    app.state.hand_over = lambda: handed_over.append("now")
    for _ in range(2):
        server.handle_exit(signal.SIGTERM, None)
        await asyncio.sleep(0)  # one turn of the loop
        assert handed_over == ["now"]
    await server.shutdown([])
    assert handed_over == ["now"], "a second cancellation would cut off the release"


async def test_who_is_told_to_stop_while_it_starts_hands_over_when_it_has_started() -> None:
    server, app = serving(Hub(Store(), HubOptions(), Metrics()))
    server.handle_exit(signal.SIGTERM, None)
    await asyncio.sleep(0)  # one turn of the loop
    handed_over: list[str] = []
    app.state.hand_over = lambda: handed_over.append("now")
    await server.shutdown([])
    assert handed_over == ["now"]


async def test_an_open_stream_keeps_nothing_of_its_request() -> None:
    """Fails where uvicorn lets go of a connection in another way than ``take`` believes."""
    gc.disable()
    try:
        async with staged() as stage, stage.stream("lastprice:*") as stream:
            await stream.gateway("status")
            stage.price("1")
            await stream.data()
            assert stream.headers["connection"] == "close"
            cycles = [one for one in gc.get_objects() if isinstance(one, RequestResponseCycle)]
            paths = {cycle.scope["path"] for cycle in cycles}
            assert "/v1/status" in paths, "what is kept is found"
            assert "/v1/stream" not in paths
    finally:
        gc.enable()


async def test_what_has_ended_leaves_nothing_to_the_garbage_collector() -> None:
    """It is made to come seldom, so what waits for it is as good as lost."""
    gc.disable()
    try:
        async with staged() as stage:
            await stage.priced("1")
            for path in ("/v1/lastprice/BTC_USDT", "/v1/nowhere", "/v1/ticker/BTC_USDT"):
                async with opened(stage.url, path, accept="*/*") as answer:
                    await answer.rest()
            gc.collect()
            async with stage.stream("lastprice:*") as stream:
                await stream.data()
            latest = "/v1/lastprice/BTC_USDT"
            for query in ("", "?after=9999999999999-0&wait=0.1"):
                async with opened(stage.url, latest + query, accept="*/*") as answer:
                    await answer.rest()
                del answer
            del stream
            await soon(lambda: alone(stage), "both are gone")
            gc.set_debug(gc.DEBUG_SAVEALL)
            gc.collect()
            left = [one for one in gc.garbage if type(one).__module__.startswith(PARTS)]
            assert not left, {type(one) for one in left}
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()


PARTS = ("app.api", "app.hub", "uvicorn", "starlette")


async def alone(stage: Stage) -> bool:
    """Whether the gateway has no stream, and no connection but the one that is asked over."""
    status = (await stage.http.get("/v1/status")).json()
    known = [one for one in gc.get_objects() if isinstance(one, StreamProtocol)]
    return status["streams"]["open"] == 0 and sum(one in one.connections for one in known) == 1


async def test_a_stream_over_http_1_0_ends_with_its_connection() -> None:
    async with (
        staged(stream_lifetime=1) as stage,
        opened(stage.url, "/v1/stream?channels=lastprice:*", version="1.0") as stream,
    ):
        assert stream.status == 200
        assert stream.headers["connection"] == "close"
        stage.price("1")
        assert (await stream.data())["data"]["price"] == "1"
        assert (await stream.rest())[-1].json()["reason"] == "lifetime"
        await soon(lambda: stream.ended)


# Any bytes


@pytest.fixture(name="port", scope="module")
def _port() -> Iterator[int]:
    """A gateway on a lifelike market, for the whole module."""
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "app", "demo", "--port", str(port)],
        cwd=ROOT,
        env=clean_environment({"SLUICE_RATE_LIMIT": "100000/second"}),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    try:
        _wait_for(port)
        yield port
        status, _ = ask(port, b"GET /readyz HTTP/1.1\r\nhost: localhost\r\n\r\n")
        assert status == 200, "it is well after all of this"
    finally:
        process.send_signal(signal.SIGTERM)
        _, told = process.communicate(timeout=20)
    assert process.returncode == 0
    assert b"Traceback" not in told, told.decode()
    assert b"critical" not in told, told.decode()
    unprintable = set(told) - set(range(0x20, 0x7F)) - set(b"\n")
    assert not unprintable, "control characters in the log"


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            if ask(port, b"GET /v1/ticker/BTC_USDT HTTP/1.1\r\nhost: localhost\r\n\r\n")[0] == 200:
                return
        except ConnectionRefusedError:
            os.sched_yield()
    raise AssertionError("the gateway does not answer within 20 s")


def ask(port: int, request: bytes) -> tuple[int, bytes]:
    """Send bytes; the status, and the body or what a stream begins with. 0: no answer."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as sock:
        sock.sendall(request)
        raw = b""
        while not _complete(raw):
            try:
                piece = sock.recv(65536)
            except ConnectionResetError:
                piece = b""
            if not piece:
                break
            raw += piece
    if not raw:
        return 0, b""
    head, _, body = raw.partition(b"\r\n\r\n")
    return int(head.split()[1]), body


def _complete(raw: bytes) -> bool:
    head, found, body = raw.partition(b"\r\n\r\n")
    lines = head.lower().split(b"\r\n")
    lengths = [int(line.split(b":")[1]) for line in lines if line.startswith(b"content-length")]
    if not found or not lengths:
        return bool(found) and body.endswith(b"\n\n\r\n")  # a stream: its first chunk
    return len(body) >= lengths[0]


def request(target: bytes, *headers: bytes, host: bytes = b"localhost") -> bytes:
    lines = [b"GET " + target + b" HTTP/1.1", b"host: " + host, b"connection: close", *headers]
    return b"\r\n".join(lines) + b"\r\n\r\n"


def judge(status: int, body: bytes, *allowed: int) -> None:
    """A refusal that repeats no control character."""
    assert 400 <= status < 500 or status in allowed, (status, body)
    if body.startswith(b"{"):
        told = json.loads(body)
        assert str(told.get("detail", "")).isprintable()
        assert body.isascii() or body.decode().isprintable()
    assert not set(body) & (set(range(0x20)) - {0x0A, 0x0D}), body


BYTES = st.binary(max_size=60).map(lambda raw: raw.replace(b"\r", b"").replace(b"\n", b""))
ESCAPED = st.binary(max_size=40).map(lambda raw: b"".join(b"%%%02x" % byte for byte in raw))
NO_SPACE = BYTES.map(lambda raw: raw.replace(b" ", b""))
FEW = settings(
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@FEW
@given(path=NO_SPACE | ESCAPED)
@example(path=b"..%2f..%2fetc%2fpasswd")
@example(path=b"%00")
@example(path=b"\x1b[31m")
@example(path=b"v1/ticker/%1b%5b31m%0d%0aset-cookie:%20x=1")
@example(path=b"v1/ticker/" + b"A" * 60_000)
def test_any_path(port: int, path: bytes) -> None:
    status, body = ask(port, request(b"/" + path))
    judge(status, body)


@FEW
@given(query=NO_SPACE | ESCAPED)
@example(query=b"%0d%0adata:%20x")
@example(query=b"ticker:BTC_USDT%00")
@example(query=b"%e2%80%a8")
@example(query=b"ticker:" + b"9" * 5000)
@example(query=b"," * 3000)
def test_any_channels_on_a_stream(port: int, query: bytes) -> None:
    target = b"/v1/stream?channels=" + query.replace(b"&", b"").replace(b"#", b"")
    status, body = ask(port, request(target))
    judge(status, body)


@FEW
@given(query=ESCAPED)
@example(query=b"nan")
@example(query=b"-1")
@example(query=b"1e999")
@example(query=b"9" * 400)
@example(query=b"%d9%a3")  # an Arabic digit
def test_any_parameter_of_a_state(port: int, query: bytes) -> None:
    for name in (b"limit", b"scale", b"wait", b"max_age", b"after"):
        target = b"/v1/depth/BTC_USDT?" + name + b"=" + query
        status, body = ask(port, request(target))
        judge(status, body, 200, 304, 503)


@FEW
@given(value=BYTES, name=st.sampled_from([b"last-event-id", b"accept", b"if-none-match", b"x-y"]))
@example(value=b"1" * 70_000, name=b"last-event-id")
@example(value=b"\x00", name=b"last-event-id")
@example(value=b"\x1b[2J", name=b"if-none-match")
def test_any_header(port: int, value: bytes, name: bytes) -> None:
    status, body = ask(port, request(b"/v1/stream?channels=ticker:*", name + b": " + value))
    judge(status, body, 0, 200)
    if status == 200:
        reader = Reader()
        reader.feed(Dechunker().feed(body))
        assert reader.blocks[0].json()["type"] == "status"
    status, body = ask(port, request(b"/v1/ticker/BTC_USDT", name + b": " + value))
    judge(status, body, 0, 200, 304)


@FEW
@given(host=BYTES)
@example(host=b"localhost:8000:9")
@example(host=b"localhost@evil.example")
@example(host=b"127.0.0.1.evil.example")
def test_any_host(port: int, host: bytes) -> None:
    status, body = ask(port, request(b"/v1/status", host=host))
    good = {b"localhost", b"127.0.0.1"}
    if host.strip().partition(b":")[0].lower() not in good:
        judge(status, body, 0)


@FEW
@given(raw=st.binary(min_size=1, max_size=200))
@example(raw=b"GET / HTTP/9.9\r\n\r\n")
@example(raw=b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
@example(raw=b"GET / HTTP/1.1\r\nhost: localhost\r\ncontent-length: -1\r\n\r\n")
@example(raw=b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
def test_any_bytes_at_all(port: int, raw: bytes) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as sock:
        sock.sendall(raw + b"\r\n\r\n")
        sock.shutdown(socket.SHUT_WR)
        answer = b""
        try:
            while piece := sock.recv(65536):
                answer += piece
        except ConnectionResetError:
            pass
    if answer:
        assert 400 <= int(answer.split()[1]) < 500, answer


def test_more_than_a_body(port: int) -> None:
    for method in (b"POST", b"PUT", b"DELETE", b"PATCH", b"TRACE", b"BREW"):
        lines = (method + b" /v1/stream?channels=ticker:* HTTP/1.1", b"host: localhost")
        raw = b"\r\n".join((*lines, b"content-length: 3", b"connection: close", b"", b"abc"))
        status, body = ask(port, raw)
        judge(status, body)
