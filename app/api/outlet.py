"""Where a stream's bytes go: straight into a connection taken from uvicorn, or through plain ASGI.

What depends on uvicorn's inside stands here alone: StreamProtocol puts itself into the scope, and
knows that a response is chunked and how a connection is let go of. Under any other server, over
HTTP/2, TLS or uvicorn's own protocol a stream falls back to SendOutlet.
"""

import asyncio
from collections.abc import Callable
from typing import Any

from starlette.types import Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from app.hub.subscription import Owner

EXTENSION = "sluice.connection"
HEAD_TIME = 10.0
"""Seconds that a client may take to send a request: its head, as no route reads a body."""
LONGEST_HEAD = 64 * 1024
"""Bytes of a request that are read, and what one more read brings."""
_TOO_LONG = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\n"
    b"content-length: 0\r\nconnection: close\r\n\r\n"
)
LAST_CHUNK = b"0\r\n\r\n"
HIGH_WATER = 64 * 1024
"""Bytes that may wait in the process for one client before it counts as lagging."""


class ConnectionOutlet(asyncio.Protocol):
    """A connection taken from uvicorn after the response's head: chunks go to its transport.

    Nothing else is kept for an open stream: no task, no request, no HTTP parser. What the client
    sends from here on means nothing, and is read only to notice its end.
    """

    __slots__ = ("_came", "_transport", "owner", "write")

    owner: Owner
    framed = True

    def __init__(self, transport: asyncio.Transport) -> None:
        self._came = 0
        self._transport = transport
        self.write: Callable[[bytes], None] = transport.write

    def backlog(self) -> int:
        """Bytes that wait inside the process."""
        return self._transport.get_write_buffer_size()

    def close(self) -> None:
        """End the chunked body, and the connection when that is written."""
        self.write(LAST_CHUNK)
        self._transport.close()

    def abort(self) -> None:
        """Drop the connection and what waits in it."""
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        """A client that has no end of things to say is dropped."""
        self._came += len(data)
        if self._came > LONGEST_HEAD:
            self.abort()

    def pause_writing(self) -> None:
        """The transport holds more than its high-water mark."""
        self.owner.full()

    def resume_writing(self) -> None:
        """The transport has drained."""
        self.owner.drained()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone."""
        self.owner.gone()


class StreamProtocol(HttpToolsProtocol):
    """uvicorn's HTTP/1.1 protocol, which lends its transport to event streams.

    uvicorn itself bounds neither the size of a request's head nor the time to send one. What
    follows a head (a body, trailers) counts with it, so that it is no way around the bounds.
    """

    _late: asyncio.TimerHandle | None = None
    _came = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn's
        """Expect a request."""
        super().connection_made(transport)
        self._await_request()

    def data_received(self, data: bytes) -> None:
        """Refuse a request that is too long before it takes more memory."""
        self._came += len(data)
        if self._came > LONGEST_HEAD:
            self._refuse()
            return
        if not self._answering:  # even an empty line, which begins no request, ends the idle time
            self._await_request()
        super().data_received(data)

    def on_message_begin(self) -> None:
        """Put the connection where a stream finds it."""
        super().on_message_begin()
        self.scope["extensions"] = {EXTENSION: {"protocol": self}}
        self._await_request()

    def on_message_complete(self) -> None:
        """The request came in time."""
        self._came = 0
        self._request_over()
        super().on_message_complete()

    @property
    def _answering(self) -> bool:
        return bool(self.cycle) and not self.cycle.response_complete

    def _refuse(self) -> None:
        if not (self._answering or (bool(self.cycle) and self.cycle.more_body)):
            self.transport.write(_TOO_LONG)  # elsewhere it would be taken for a part of an answer
        self.transport.close()

    def _await_request(self) -> None:
        if self._late is None:
            self._late = self.loop.call_later(HEAD_TIME, self.transport.abort)

    def _request_over(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone."""
        self._request_over()
        super().connection_lost(exc)

    def take(self) -> ConnectionOutlet | None:
        """Take the connection from uvicorn once a chunked response has begun; None if it is lost.

        uvicorn believes the response complete, and forgets the connection.
        """
        self.cycle.response_complete = True
        transport = self.transport
        if transport.is_closing():  # nobody will tell us again that it is lost
            return None
        self._request_over()
        self.connections.discard(self)
        outlet = ConnectionOutlet(transport)
        transport.set_protocol(outlet)
        # both lead back here, and would leave the whole request to the garbage collector
        del self.parser, self.cycle
        return outlet


class SendOutlet:
    """Keeps the bytes for the response's own task, which sends them as ASGI messages."""

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
        """Bytes kept."""
        return self._size

    def close(self) -> None:
        """Let the response end after what is kept."""
        self.closed.set()
        self._woken.set()

    def abort(self) -> None:
        """Give up on a send that does not return; ASGI cannot drop the connection itself."""
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
            data, self._waiting, self._size = b"".join(self._waiting), [], 0
            if data:
                await send(body(data, more=True))
            if self._full and self._size <= HIGH_WATER:
                self._full = False
                self.owner.drained()
        await send(body(more=False))

    async def _watch(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self._waiting, self._size = [], 0
        self.close()


def connection(scope: Scope) -> StreamProtocol | None:
    """The uvicorn connection that a request came in on, if a stream can have it for itself."""
    found: Any = scope.get("extensions", {}).get(EXTENSION, {}).get("protocol")
    if not isinstance(found, StreamProtocol) or found.scheme != "http" or found.pipeline:
        return None
    return found


def body(data: bytes = b"", *, more: bool) -> Message:
    """An ASGI message with a part of the response."""
    return {"type": "http.response.body", "body": data, "more_body": more}
