"""Where a stream's bytes go: straight into a connection taken from uvicorn, or through plain ASGI.

Which of the two a stream can have is for the protocol to say.
"""

import asyncio
from collections.abc import Callable

from starlette.types import Message, Receive, Send

from app.api import kernel
from app.hub.subscription import Owner

MOST_SAID = 64 * 1024
"""Bytes that a client may send on an open stream, where they mean nothing."""
LAST_CHUNK = b"0\r\n\r\n"
HIGH_WATER = 64 * 1024
"""Bytes that may wait in the process for one client before it counts as lagging."""


class ConnectionOutlet(asyncio.Protocol):
    """A connection taken from uvicorn after the response's head: chunks go to its transport.

    Nothing else is kept for an open stream: no task, no request, no HTTP parser. What the client
    sends from here on means nothing, and is read only to notice its end.
    """

    __slots__ = ("_came", "_socket", "_transport", "owner", "write")

    owner: Owner
    framed = True

    def __init__(self, transport: asyncio.Transport) -> None:
        self._came = 0
        self._transport = transport
        self._socket = transport.get_extra_info("socket")
        kernel.spare(self._socket)
        self.write: Callable[[bytes], None] = transport.write

    def backlog(self) -> int:
        """Bytes that wait inside the process and in the kernel."""
        return self._transport.get_write_buffer_size() + kernel.queued(self._socket)

    def close(self) -> None:
        """End the chunked body, and the connection when that is written."""
        self.write(LAST_CHUNK)
        self._transport.close()

    def abort(self) -> None:
        """Drop the connection and what waits in it."""
        kernel.forget(self._socket)
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        """A client that has no end of things to say is dropped."""
        self._came += len(data)
        if self._came > MOST_SAID:
            self.abort()

    def pause_writing(self) -> None:
        """The transport holds more than its high-water mark."""
        self.owner.full()

    def resume_writing(self) -> None:
        """The transport has drained."""
        self.owner.drained()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone, or all is written; its owner, who knows this outlet, is let go."""
        kernel.leave(self._socket)
        self.owner.gone()
        del self.owner


class SendOutlet:
    """Keeps the bytes for the response's own task, which sends them as ASGI messages.

    They count until a send of them returns.
    """

    owner: Owner
    framed = False

    def __init__(self) -> None:
        self.closed = asyncio.Event()
        self._waiting: list[bytes] = []
        self._size = 0
        self._full = False
        self._woken = asyncio.Event()
        self._sending: asyncio.Task[None] | None = None

    def write(self, data: bytes) -> None:
        """Keep bytes; beyond the high-water mark the outlet is full."""
        self._waiting.append(data)
        self._size += len(data)
        self._woken.set()
        if self._size > HIGH_WATER and not self._full:
            self._full = True
            self.owner.full()

    def backlog(self) -> int:
        """Bytes kept and being sent, once they are too many: a send may just take its time."""
        return self._size if self._full else 0

    def close(self) -> None:
        """Let the response end after what is kept."""
        self.closed.set()
        self._woken.set()

    def abort(self) -> None:
        """Give up on what is being sent; ASGI cannot drop the connection itself."""
        if self._sending is not None:
            self._sending.cancel()

    async def serve(self, receive: Receive, send: Send) -> None:
        """Send what is kept until the outlet is closed or the client hangs up."""
        try:
            async with asyncio.TaskGroup() as tasks:
                watching = tasks.create_task(self._watch(receive), name="stream-watch")
                self._sending = tasks.create_task(self._pump(send), name="stream-send")
                await asyncio.wait({self._sending})
                watching.cancel()
        finally:
            self._sending = None

    async def _pump(self, send: Send) -> None:
        while self._waiting or not self.closed.is_set():
            await self._woken.wait()
            self._woken.clear()
            data, self._waiting = b"".join(self._waiting), []
            if data:
                await send(body(data, more=True))
            self._size -= len(data)
            if self._full and self._size <= HIGH_WATER:
                self._full = False
                self.owner.drained()
        await send(body(more=False))

    async def _watch(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self.abort()


def body(data: bytes = b"", *, more: bool) -> Message:
    """An ASGI message with a part of the response."""
    return {"type": "http.response.body", "body": data, "more_body": more}
