"""How uvicorn's answers are written: whole ones with one call, and those of one turn together."""

import asyncio
from contextlib import suppress

from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle


class Outbox:
    """The whole answers of a server that were made in one turn of the loop; they go out together.

    A write wakes whoever waits for it, which costs more than all else about it, and of several
    clients of one process only the first has to be woken. None waits twice: a connection's next
    request begins behind ``flush`` in the loop's queue.
    """

    def __init__(self) -> None:
        self._waiting: list[tuple[asyncio.Transport, bytes]] = []

    def put(self, transport: asyncio.Transport, answer: bytes) -> None:
        """Write an answer at the end of this turn."""
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self.flush)
        self._waiting.append((transport, answer))

    def before_errors(self, app: ASGIApp) -> ASGIApp:
        """``app``, behind whose errors uvicorn closes the connection."""

        async def flushed(scope: Scope, receive: Receive, send: Send) -> None:
            try:
                await app(scope, receive, send)
            except BaseException:
                self.flush()
                raise

        return flushed

    def flush(self) -> None:
        """Write them now, before something else happens to one of their connections."""
        waiting, self._waiting = self._waiting, []
        for transport, answer in waiting:
            if not transport.is_closing():
                transport.write(answer)


class OneWrite(RequestResponseCycle):
    """uvicorn's answer to a request, but an answer that is whole is written with one call.

    uvicorn writes the head before the body, and each is a call of the kernel; it also looks at each
    field three times. So the head waits for the first part of the body, be that empty.
    """

    outbox: Outbox
    _head: Message | None = None

    async def send(self, message: Message) -> None:  # type: ignore[override] # the same, by another name
        """Keep a head, or another in its place; write it with what follows."""
        if message["type"] == "http.response.start" and not self._begun:
            self._head = message
            return
        if self._head is not None:
            if self._written(self._head, message):
                return
            self.flush()
        await super().send(message)  # type: ignore[arg-type] # as above

    @property
    def _begun(self) -> bool:
        """Whether a head can not wait: one is written, or bytes before it have not gone out."""
        return self.response_started or self.flow.write_paused

    def flush(self) -> None:
        """Write a head that waits. uvicorn does so at once: nothing was written since it came."""
        head, self._head = self._head, None
        if head is not None:
            with suppress(StopIteration):
                super().send(head).send(None)  # type: ignore[arg-type] # as above

    def _written(self, head: Message, last: Message) -> bool:
        """Write an answer that is whole, if nothing about it is out of the ordinary."""
        if last.get("more_body") or self.scope["method"] == "HEAD":
            return False
        if self.disconnected or self.access_log or not self.keep_alive:
            return False
        status, body = head["status"], last.get("body", b"")
        fields = [*self.default_headers, *head["headers"]]
        known = (status == 304 and not body) or (b"content-length", b"%d" % len(body)) in fields
        if not known:
            return False
        lines = b"\r\n".join(map(b": ".join, fields))
        broken = 0 in lines or not lines.count(b"\r") == lines.count(b"\n") == len(fields) - 1
        if broken or b"connection: " in lines:  # uvicorn tells what is wrong, and closes
            return False
        self._head = None
        answer = b"".join((STATUS_LINE[status], lines, b"\r\n\r\n", body))
        self.outbox.put(self.transport, answer)
        self.response_started = self.response_complete = True
        self.waiting_for_100_continue = False
        self.message_event.set()
        self.on_response()
        return True
