"""A small HTTP server that answers each request by the next script: bytes of a stream, cuts."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

CUT = object()
"""Reset the connection."""
HOLD = object()
"""Keep the stream open, silent, until the client goes."""


@dataclass
class Answer:
    """What one request gets; ``blocks`` end with CUT, HOLD or politely."""

    blocks: Sequence[bytes | object] = ()
    status: str = "200 OK"
    kind: str = "text/event-stream; charset=utf-8"
    headers: Sequence[str] = ()
    body: bytes | None = None


@dataclass
class Asked:
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]


@dataclass
class Gateway:
    url: str = ""
    asked: list[Asked] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    released: asyncio.Event = field(default_factory=asyncio.Event)


def block(event: str, data: Any, *, id_: str | None = None, retry: int | None = None) -> bytes:
    lines = [] if retry is None else [f"retry: {retry}"]
    lines.append(f"event: {event}")
    if id_ is not None:
        lines.append(f"id: {id_}")
    lines.append(f"data: {json.dumps(data)}")
    return ("\n".join(lines) + "\n\n").encode()


def status(upstream: str = "live", *, retry: int = 20) -> bytes:
    fields = {"type": "status", "upstream": upstream, "since": 1750952900.0}
    return block("gateway", fields, retry=retry)


def price(
    position: str, text: str, *, previous: str | None = None, market: str = "BTC_USDT"
) -> bytes:
    envelope = {
        "channel": f"lastprice:{market}",
        "type": "snapshot" if previous is None else "update",
        "position": position,
        "previous": previous,
        "time": 1750952911,
        "received": 1750952911.482,
        "data": {"symbol": market, "timestamp": 1750952911, "price": text},
    }
    return block("lastprice", envelope, id_=position)


def problem(code: int, detail: str, *headers: str) -> Answer:
    body = json.dumps({"type": "about:blank", "title": "no", "status": code, "detail": detail})
    return Answer(
        status=f"{code} No",
        kind="application/problem+json",
        headers=headers,
        body=body.encode(),
    )


@asynccontextmanager
async def serving(*answers: Answer) -> AsyncIterator[Gateway]:
    """The server; every request beyond the scripts gets a silent stream."""
    gateway = Gateway(answers=list(answers))
    serving_now: set[asyncio.Task[None] | None] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving_now.add(asyncio.current_task())
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().splitlines()
            gateway.asked.append(_asked(head))
            answer = gateway.answers.pop(0) if gateway.answers else Answer([status(), HOLD])
            await _answer(answer, reader, writer, gateway)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client went
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    gateway.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield gateway
    finally:
        gateway.released.set()
        server.close()
        await server.wait_closed()
        async with asyncio.timeout(5):
            for task in filter(None, serving_now):
                await task


def _asked(head: list[str]) -> Asked:
    parts = urlsplit(head[0].split()[1])
    headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)
    return Asked(parts.path, parse_qs(parts.query), headers)


async def _gone(reader: asyncio.StreamReader) -> None:
    with suppress(ConnectionError):
        await reader.read()


async def _answer(
    answer: Answer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, gateway: Gateway
) -> None:
    whole = answer.body is not None
    length = f"content-length: {len(answer.body or b'')}" if whole else "transfer-encoding: chunked"
    lines = [f"HTTP/1.1 {answer.status}", f"content-type: {answer.kind}", length, *answer.headers]
    writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
    if answer.body is not None:
        writer.write(answer.body)
        await writer.drain()
        return
    for piece in answer.blocks:
        if piece is HOLD:
            async with asyncio.TaskGroup() as tasks:
                gone = tasks.create_task(_gone(reader))
                freed = tasks.create_task(gateway.released.wait())
                await asyncio.wait({gone, freed}, return_when=asyncio.FIRST_COMPLETED)
                gone.cancel()
                freed.cancel()
            return
        if piece is CUT:
            await writer.drain()
            writer.transport.abort()
            return
        assert isinstance(piece, bytes)
        writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
        await writer.drain()
    writer.write(b"0\r\n\r\n")
    await writer.drain()
