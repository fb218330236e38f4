"""A TCP proxy in the test's own loop: the network before a server, with its faults."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

HOST = "127.0.0.1"
PIECE = 64 * 1024
"""Bytes that a direction holds at most: one piece is sent before the next is read."""

RESET = struct.pack("ii", 1, 0)
ORDERLY = struct.pack("ii", 0, 0)
"""What SO_LINGER makes of closing."""


class Proxy:
    """Carries connections to one port, as well as its switches allow."""

    def __init__(
        self, listener: socket.socket, target: tuple[str, int], tasks: asyncio.TaskGroup
    ) -> None:
        self.port: int = listener.getsockname()[1]
        self.delay = 0.0
        """Seconds that each piece of an answer is held back."""
        self._listener = listener
        self._target = target
        self._tasks = tasks
        self._links: set[asyncio.Task[None]] = set()
        self._refusing = False
        self._flowing = asyncio.Event()
        self._flowing.set()

    @property
    def url(self) -> str:
        return f"redis://{HOST}:{self.port}/0"

    def cut(self) -> None:
        """Abort what is open; new connections work."""
        self._admit()
        for link in self._links:
            link.cancel()

    def partition(self) -> None:
        """Carry nothing and tell nobody: what is open or opened from now on just hangs."""
        self._flowing.clear()

    def heal(self) -> None:
        """Abort what hung; new connections work."""
        if not self._flowing.is_set():
            self.cut()
            self._flowing.set()

    def refuse(self) -> None:
        """Reset new connections; open ones go on."""
        self._admit()
        self._refusing = True

    def accept(self) -> None:
        """Take new connections again."""
        self._admit()
        self._refusing = False

    def _admit(self) -> None:
        """Take who waits, also before a switch: to a client its connection is open already."""
        while True:
            try:
                near, _ = self._listener.accept()
            except BlockingIOError:
                return
            near.setblocking(False)
            near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            if self._refusing:
                near.close()
            else:
                self._take(near)

    def _take(self, near: socket.socket) -> None:
        link = self._tasks.create_task(self._link(near))
        self._links.add(link)
        link.add_done_callback(self._links.discard)
        # not in the task: one that is cancelled before it began closes nothing
        link.add_done_callback(lambda _: near.close())

    async def _link(self, near: socket.socket) -> None:
        with socket.socket() as far:
            far.setblocking(False)
            far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            await self._flowing.wait()
            try:
                await asyncio.get_running_loop().sock_connect(far, self._target)
                async with asyncio.TaskGroup() as ways:
                    ways.create_task(self._carry(near, far))
                    ways.create_task(self._carry(far, near, answers=True))
                for side in (near, far):
                    side.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ORDERLY)
            except* OSError:
                pass  # one side failed, so the other is reset

    async def _carry(
        self, source: socket.socket, sink: socket.socket, *, answers: bool = False
    ) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                piece = await loop.sock_recv(source, PIECE)
            except OSError:
                await self._flowing.wait()  # a partition hides that, too
                raise
            if answers:
                await asyncio.sleep(self.delay)
            await self._flowing.wait()
            if not piece:
                sink.shutdown(socket.SHUT_WR)
                return
            await loop.sock_sendall(sink, piece)


@asynccontextmanager
async def proxy(port: int, host: str = HOST) -> AsyncIterator[Proxy]:
    """A proxy before a server; what is open at the end is aborted."""
    loop = asyncio.get_running_loop()
    with socket.create_server((HOST, 0)) as listener:
        listener.setblocking(False)
        async with asyncio.TaskGroup() as tasks:
            made = Proxy(listener, (host, port), tasks)
            loop.add_reader(listener, made._admit)
            try:
                yield made
            finally:
                loop.remove_reader(listener)
                made.cut()
