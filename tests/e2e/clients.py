"""Clients of a stream over plain sockets: they read, mirror the state, and come back."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from tests.e2e.reconstruct import Mirror, Parser
from tests.e2e.waiting import until

PIECE = 64 * 1024
BACK_AFTER = 0.05
"""Seconds before a client whose stream ended comes back."""


class Refused(Exception):
    """The stream was not granted."""


@dataclass
class Follower:
    """Follows channels until it is told to stop, as an ``EventSource`` would.

    ``pace`` bytes a second at most are read, out of a small buffer, when it is not None.
    """

    url: str
    channels: tuple[str, ...]
    pace: float | None = None
    mirror: Mirror = field(default_factory=Mirror)
    connections: int = 0
    _task: asyncio.Task[None] | None = None
    _writer: asyncio.StreamWriter | None = None

    async def run(self) -> None:
        while True:
            try:
                await self._once()
            except (ConnectionError, asyncio.IncompleteReadError):
                pass  # cut: come back with the last id
            await asyncio.sleep(self.pause())

    def pause(self) -> float:
        """Seconds until it comes back."""
        return BACK_AFTER

    def stop(self) -> None:
        """Go, for good."""
        if self._task is not None:
            self._task.cancel()

    def start(self, tasks: asyncio.TaskGroup) -> None:
        self._task = tasks.create_task(self.run())

    def cut(self) -> None:
        """Drop the connection in mid-stream."""
        if self._writer is not None:
            self._writer.transport.abort()

    async def knows(self, channel: str) -> None:
        """Wait for the first state of a channel."""
        await until(lambda: channel in self.mirror.at, f"{channel} on a stream")

    async def _once(self) -> None:
        parts = urlsplit(self.url)
        sock = socket.create_connection((parts.hostname, parts.port))
        if self.pace is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.setblocking(False)
        limit = 4096 if self.pace is not None else PIECE
        reader, self._writer = await asyncio.open_connection(sock=sock, limit=limit)
        try:
            self._writer.write(self._request(parts.netloc))
            head = await self._head(reader)
            self.connections += 1
            self.mirror.connected()
            await self._body(reader, Chunks() if "\r\ntransfer-encoding: " in head else Whole(head))
        finally:
            self._writer.transport.abort()
            self._writer = None

    def _request(self, host: str) -> bytes:
        lines = [
            f"GET /v1/stream?channels={','.join(self.channels)} HTTP/1.1",
            f"host: {host}",
            "accept: text/event-stream",
        ]
        if self.mirror.last_id is not None:
            lines.append(f"last-event-id: {self.mirror.last_id}")
        return ("\r\n".join(lines) + "\r\n\r\n").encode()

    async def _head(self, reader: asyncio.StreamReader) -> str:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        if not head.startswith("http/1.1 200 "):
            raise Refused(head)
        assert "content-type: text/event-stream; charset=utf-8\r\n" in head
        assert "cache-control: no-store\r\n" in head
        assert ("transfer-encoding: chunked\r\n" in head) != ("content-length: " in head), head
        return head

    async def _body(self, reader: asyncio.StreamReader, body: "Chunks | Whole") -> None:
        parser = Parser()
        while not body.ended:
            piece = await reader.read(PIECE)
            if not piece:
                raise ConnectionResetError
            for block in parser.feed(body.feed(piece)):
                self.mirror.take(block)
            if self.pace is not None:
                await asyncio.sleep(len(piece) / self.pace)


class Chunks:
    """Takes the chunk framing of HTTP/1.1 off; a chunk of length zero is the end."""

    def __init__(self) -> None:
        self.ended = False
        self._raw = b""

    def feed(self, piece: bytes) -> bytes:
        self._raw += piece
        found, at = [], 0
        while not self.ended:
            end = self._raw.find(b"\r\n", at)
            if end < 0:
                break
            size = int(self._raw[at:end], 16)
            start, stop = end + 2, end + 2 + size
            if len(self._raw) < stop + 2:
                break
            assert self._raw[stop : stop + 2] == b"\r\n", "a chunk does not end where it says"
            found.append(self._raw[start:stop])
            at, self.ended = stop + 2, size == 0
        self._raw = self._raw[at:]
        return b"".join(found)


class Whole:
    """A body whose length the head tells: one block, to say that no stream is to be had now."""

    def __init__(self, head: str) -> None:
        self._left = int(head.partition("\r\ncontent-length: ")[2].partition("\r\n")[0])

    @property
    def ended(self) -> bool:
        return self._left == 0

    def feed(self, piece: bytes) -> bytes:
        self._left -= len(piece)
        return piece


Join = Callable[..., Follower]
"""``join(*channels, pace=None)`` starts a client."""


@asynccontextmanager
async def crowd(url: str) -> AsyncIterator[Join]:
    """Clients that come when called, and go at the end of the block.

    What one of them finds wrong ends the block and is raised as it is.
    """
    try:
        async with asyncio.TaskGroup() as tasks:
            joined: list[Follower] = []

            def join(*channels: str, pace: float | None = None) -> Follower:
                follower = Follower(url, channels, pace)
                follower.start(tasks)
                joined.append(follower)
                return follower

            yield join
            for follower in joined:
                follower.stop()
    except BaseExceptionGroup as found:
        raise found.exceptions[0] from None
