"""One WebSocket of the exchange, on a bare transport so that it can also misbehave.

Rules: writes of one turn of the loop go out together; what a client does not read, or what piles
up while the socket is stalled, is bounded by `BACKLOG`: beyond it the connection is aborted.
"""

import asyncio
import logging
import socket
import struct

from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.protocol import OPEN
from websockets.server import ServerProtocol

from app.simulator.client import Client
from app.simulator.exchange import Exchange

BACKLOG = 32 * 1024 * 1024  # bytes
GRACE = 2.0  # seconds a client has to answer a close

# Not the library's own: at debug level that one prints the handshake, token included.
_LOG = logging.getLogger("app.simulator.websocket")
_LOG.setLevel(logging.WARNING)


class Socket(asyncio.Protocol):
    """Takes over a transport whose upgrade request was read, and is a client's `Line`."""

    def __init__(
        self, exchange: Exchange, loop: asyncio.AbstractEventLoop, transport: asyncio.Transport
    ) -> None:
        self._exchange = exchange
        self._loop = loop
        self._transport = transport
        self._wire = ServerProtocol(logger=_LOG)
        self._client: Client | None = None
        self._out: list[bytes] = []
        self._stalled = False
        self._backlog = 0
        self._parts: list[bytes] = []

    def upgrade(self, head: bytes, token: str) -> None:
        """Answer the handshake: 101, a refusal, or a welcome with the door shut behind it."""
        refusal = self._exchange.admit(token)
        self._wire.receive_data(head)
        request = self._wire.events_received()[0]
        if not isinstance(request, Request):
            raise TypeError(f"expected an upgrade request, saw {request!r}")
        if refusal == "http401":
            response = self._wire.reject(401, "unauthorized\n")
        else:
            response = self._wire.accept(request)
        self._wire.send_response(response)
        if self._wire.state is OPEN:
            self._client = self._exchange.enter(self)
        self._drain()
        if refusal == "close":
            self.close(1008, "token refused")

    # asyncio.Protocol

    def data_received(self, data: bytes) -> None:
        self._wire.receive_data(data)
        for frame in self._wire.events_received():
            if isinstance(frame, Frame):
                self._frame(frame)
        self._drain()

    def eof_received(self) -> None:
        self._wire.receive_eof()
        self._drain()

    def connection_lost(self, exc: Exception | None) -> None:
        code = self._wire.close_rcvd.code if self._wire.close_rcvd else None
        self._leave(f"by the client, code {code}")

    def _frame(self, frame: Frame) -> None:
        client = self._client
        if client is None or self._wire.state is not OPEN:
            return
        if frame.opcode is Opcode.BINARY:
            self._exchange.blame(client, "binary frame")
            self.close(1003, "text only")
        elif frame.opcode in (Opcode.TEXT, Opcode.CONT):
            self._parts.append(bytes(frame.data))
            if frame.fin:
                text, self._parts = b"".join(self._parts), []
                self._exchange.hear(client, text)

    # client.Line

    def write(self, data: bytes) -> None:
        if self._wire.state is OPEN:  # nothing may follow a close frame
            self._queue(data)

    def close(self, code: int, reason: str) -> None:
        if self._wire.state is not OPEN:
            return
        self._leave(f"by the exchange, code {code}")
        self._wire.send_close(code, reason)
        self._drain()
        self._loop.call_later(GRACE, self._transport.abort)

    def abort(self) -> None:
        """End the TCP connection with a reset: no close frame, nothing more delivered."""
        self._leave("aborted")
        peer = self._transport.get_extra_info("socket")
        if peer is not None and not self._transport.is_closing():
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()

    def stall(self) -> None:
        if not self._stalled and not self._transport.is_closing():
            self._stalled = True
            self._transport.pause_reading()
            self._mark("stalled")

    def release(self) -> None:
        if not self._stalled:
            return
        self._stalled = False
        self._mark("open")
        if not self._transport.is_closing():
            self._transport.resume_reading()
            self._flush()

    def _mark(self, state: str) -> None:
        if self._client is not None:
            self._client.state, self._client.heard = state, self._exchange.now()

    def _leave(self, why: str) -> None:
        if self._client is not None:
            self._exchange.leave(self._client, why)

    def _queue(self, data: bytes) -> None:
        if self._transport.is_closing():
            return
        if not self._out and not self._stalled:
            self._loop.call_soon(self._flush)
        self._out.append(data)
        self._backlog += len(data)
        if self._backlog + self._transport.get_write_buffer_size() > BACKLOG:
            self._leave("aborted: does not read")
            self.abort()

    def _flush(self) -> None:
        if self._stalled or self._transport.is_closing():
            return
        ready, self._out, self._backlog = b"".join(self._out), [], 0
        if ready:
            self._transport.write(ready)

    def _drain(self) -> None:
        """What the WebSocket protocol itself has to say, behind what is already waiting."""
        for data in self._wire.data_to_send():
            if data:
                self._queue(data)
            else:
                self._flush()
                self._transport.close()
