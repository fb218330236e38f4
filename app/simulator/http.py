"""The exchange's one port: HTTP/1.1 until a request upgrades, then a `Socket`.

Rules: `away` shuts every door but the control endpoint; requests are answered in their order.
"""

import asyncio
from http import HTTPStatus
from typing import cast
from urllib.parse import parse_qsl, unquote, urlsplit

import httptools

from app.simulator.control import Control
from app.simulator.exchange import Exchange
from app.simulator.rest import Answer, Asked, answer
from app.simulator.socket import Socket

SOCKET_PATH = "/ws"
CONTROL = "control"
MAX_BODY = 32 * 1024 * 1024


class Http(asyncio.Protocol):
    def __init__(self, exchange: Exchange, control: Control, doors: set["Http"]) -> None:
        self._exchange = exchange
        self._control = control
        self._doors = doors
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._raw = bytearray()
        self.controlling = False  # its last request was for the control endpoint
        self._begin()

    def _begin(self) -> None:
        self._parser = httptools.HttpRequestParser(self)
        self._url = b""
        self._headers: dict[str, str] = {}
        self._body = bytearray()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by its class
        self._doors.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._doors.discard(self)

    def data_received(self, data: bytes) -> None:
        self._raw += data
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._upgrade()
        except httptools.HttpParserError:
            self.shut()

    def shut(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    # httptools callbacks

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_body(self, body: bytes) -> None:
        self._body += body
        if len(self._body) > MAX_BODY:
            self.shut()

    def on_message_complete(self) -> None:
        if self._parser.should_upgrade():
            return
        asked = self._asked()
        keep = self._parser.should_keep_alive()
        self._raw.clear()
        self._headers, self._url, self._body = {}, b"", bytearray()
        self.controlling = asked.path.split("/")[1:2] == [CONTROL]
        if self.controlling:
            self._send(self._control.answer(asked), keep=keep)
        elif self._exchange.switches.away:
            self.shut()
        else:
            reply = answer(self._exchange, asked)
            if reply.delay:
                self._loop.call_later(reply.delay, lambda: self._send(reply, keep=keep))
            else:
                self._send(reply, keep=keep)

    def _asked(self) -> Asked:
        url = urlsplit(self._url.decode("latin-1"))
        query = dict(parse_qsl(url.query, keep_blank_values=True))
        method = self._parser.get_method().decode()
        return Asked(method, unquote(url.path), query, self._headers, bytes(self._body))

    def _upgrade(self) -> None:
        asked = self._asked()
        if self._exchange.switches.away or self._transport is None:
            self.shut()
        elif asked.path != SOCKET_PATH:
            self._send(Answer(404, b'{"state":1,"message":"not found"}'), keep=False)
        else:
            self._doors.discard(self)
            line = Socket(self._exchange, self._loop, self._transport)
            self._transport.set_protocol(line)
            line.upgrade(bytes(self._raw), asked.query.get("token", ""))

    def _send(self, reply: Answer, *, keep: bool) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        lines = [
            f"HTTP/1.1 {reply.status} {HTTPStatus(reply.status).phrase}",
            "content-type: application/json",
            f"content-length: {len(reply.body)}",
            f"connection: {'keep-alive' if keep else 'close'}",
        ]
        head = "\r\n".join(lines) + "\r\n\r\n"
        self._transport.write(head.encode() + reply.body)
        if not keep:
            self._transport.close()
