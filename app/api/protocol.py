"""uvicorn's HTTP/1.1 protocol, bounded: what a request may take in bytes and in time.

What depends on uvicorn's inside stands here and, for answers, in ``replies``. StreamProtocol puts
itself into the scope, and knows that a response is chunked and how a connection is let go of. Under
any other server, over HTTP/2, TLS or uvicorn's own protocol a stream falls back to SendOutlet, and
the bounds are that server's to keep.
"""

import asyncio
from http import HTTPStatus
from typing import Any, NoReturn

from starlette.types import Scope
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from app.api.guard import SECURITY
from app.api.outlet import ConnectionOutlet
from app.api.problems import problem
from app.api.replies import OneWrite, Outbox
from app.api.request_id import FIELD, identify
from app.errors import RefusedRequest
from app.logs import logger

log = logger("protocol")

EXTENSION = "sluice.connection"
HEAD_TIME = 10.0
"""Seconds that a client may take to send a request: head and body."""
LONGEST_LINE = 16 * 1024
"""Bytes of a request's target; RFC 9112 (3) asks for 8,000 in a line at least."""
LONGEST_HEAD = 64 * 1024
"""Bytes of a request that are read, and what one more read brings."""
LONGEST_BODY = 16 * 1024
"""Bytes of a request's body; no route takes more than a few."""
LINGER = 2.0
"""Seconds for which the rest of a refused request is read, and dropped: a connection that is closed
before is reset, and the client may not see why it was refused (RFC 9112, 9.6)."""
LINGER_BYTES = 16 * 1024 * 1024
"""Bytes of it."""
MOST_WAITING = 10_000
"""Connections that a request is waited for on; each takes some 20 KiB."""

_REFUSALS = {
    HTTPStatus.BAD_REQUEST: ("malformed", "what came is no HTTP request"),
    HTTPStatus.REQUEST_TIMEOUT: ("slow", f"the request did not come within {HEAD_TIME:g} s"),
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: (
        "body",
        f"no body of more than {LONGEST_BODY} bytes is taken here",
    ),
    HTTPStatus.REQUEST_URI_TOO_LONG: (
        "line",
        f"the request's target has more than {LONGEST_LINE} bytes",
    ),
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE: (
        "head",
        f"the request has more than {LONGEST_HEAD} bytes",
    ),
}
"""The reason that the metric names, and what the client is told."""


_CLOSE = (b"connection", b"close")


class _Refused(Exception):
    """Stops the parser, which hands it to nobody."""


class Crowd:
    """The connections of a server that a request is waited for on, ``most`` of them.

    One more ends the one that has waited longest: who means to ask does so at once.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._waiting: dict[StreamProtocol, None] = {}

    def enter(self, one: "StreamProtocol") -> None:
        """A request is waited for."""
        self._waiting[one] = None
        if len(self._waiting) > self._most:
            oldest = next(iter(self._waiting))
            oldest.give_up("crowd")

    def leave(self, one: "StreamProtocol") -> None:
        """It has come, or the connection is gone."""
        self._waiting.pop(one, None)


class StreamProtocol(HttpToolsProtocol):
    """Lends its transport to event streams.

    uvicorn itself bounds neither the size of a request nor the time to send one. What follows a
    head (a body, trailers) counts with it, so that it is no way around the bounds.
    """

    _late: asyncio.TimerHandle | None = None
    cycle: OneWrite
    _came = 0
    _body = 0
    _underway = False
    _wrong = HTTPStatus.BAD_REQUEST
    _lingering = False

    def __init__(
        self,
        *given: Any,
        crowd: Crowd | None = None,
        outbox: Outbox | None = None,
        **named: Any,
    ) -> None:
        super().__init__(*given, **named)
        self._crowd = crowd or Crowd(1)
        self._outbox = outbox or Outbox()
        self.app = self._outbox.before_errors(self.app)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn's
        """Expect a request."""
        super().connection_made(transport)
        self._await_request()

    def data_received(self, data: bytes) -> None:
        """Refuse a request that is too long before it takes more memory."""
        if self._lingering:
            self._came += len(data)
            if self._came > LINGER_BYTES:
                self.transport.abort()
            return
        left = LONGEST_HEAD - self._came
        self._came += len(data)
        if len(data) <= left:
            super().data_received(data)
        else:
            self._read_in_two(data, left)
        # what came whole needs no timer; even an empty line has ended uvicorn's own
        if self._underway or not self._answering:
            self._await_request()

    def _read_in_two(self, data: bytes, left: int) -> None:
        """Read what the request may still have, and the rest if that ends it."""
        self._came = LONGEST_HEAD
        super().data_received(data[:left])
        if self._lingering or self.transport.is_closing():
            return
        if self._came < LONGEST_HEAD:
            self.data_received(data[left:])
        else:
            self._refuse(self._too_much())

    def eof_received(self) -> None:
        """The client sends no more, and the connection is closed behind what is answered."""
        self._outbox.flush()

    def on_message_begin(self) -> None:
        """Put the connection where a stream finds it."""
        super().on_message_begin()
        self.scope["extensions"] = {EXTENSION: {"protocol": self}}
        self._body = 0
        self._underway = True

    def on_url(self, url: bytes) -> None:
        """Read a part of the target; one that is too long is not kept."""
        super().on_url(url)
        if len(self.url) > LONGEST_LINE:
            self._stop(HTTPStatus.REQUEST_URI_TOO_LONG)

    def on_headers_complete(self) -> None:
        """Begin with the answer, unless a body is announced that is too long."""
        for name, value in self.headers:
            if name == b"content-length" and int(value) > LONGEST_BODY:
                self._stop(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        super().on_headers_complete()
        self.cycle.__class__ = OneWrite  # uvicorn does not say which class it makes
        self.cycle.outbox = self._outbox
        if getattr(self.app_state.get("hub"), "draining", False):
            self.answer_last()

    def on_body(self, body: bytes) -> None:
        """Read a part of the body; it may have come without being announced."""
        self._body += len(body)
        if self._body > LONGEST_BODY:
            self._stop(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The request came in time."""
        self._came = 0
        self._underway = False
        self._request_over()
        self.cycle.more_body = False  # also if it is answered already, which uvicorn leaves out
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Refuse what the parser, or one of the above, does not take."""
        self._refuse(self._wrong)

    def answer_last(self) -> None:
        """Close the connection after the answer that is due, and say so if it has not begun."""
        if self._answering:
            self.cycle.keep_alive = False

    def give_up(self, reason: str) -> None:
        """Drop a connection on which there is nothing to answer."""
        self._count(reason)
        self._request_over()
        self._outbox.flush()
        self.transport.abort()

    def _stop(self, status: HTTPStatus) -> NoReturn:
        """From within the parser: take no more of this request."""
        self._wrong = status
        raise _Refused

    def _too_much(self) -> HTTPStatus:
        """What is too long about a request of so many bytes."""
        if self._reads_body:
            return HTTPStatus.REQUEST_ENTITY_TOO_LARGE
        return HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE

    @property
    def _answering(self) -> bool:
        return bool(self.cycle) and not self.cycle.response_complete

    @property
    def _reads_body(self) -> bool:
        """Whether what comes belongs to a request whose head is complete."""
        return bool(self.cycle) and self.cycle.more_body

    @property
    def _may_answer(self) -> bool:
        """Whether a refusal would be taken for the answer to the request that comes."""
        if self.pipeline:
            return False
        if self._answering:
            return self._reads_body and not self.cycle.response_started
        return not self._reads_body

    def shutdown(self) -> None:
        """Let the connection end with the answer that is due, if there is any."""
        self._outbox.flush()
        super().shutdown()

    def _refuse(self, status: HTTPStatus) -> None:
        self._outbox.flush()
        reason, detail = _REFUSALS[status]
        self._count(reason)
        self._request_over()
        self._unset_keepalive_if_required()
        if not self._may_answer:
            self.transport.close()
            return
        if self._answering:  # nobody hears that any more
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        answer = problem(RefusedRequest(detail, status=status))
        request = identify()
        log.info(
            "request refused",
            request_id=request.decode(),
            reason=reason,
            status=int(status),
            client=self.client[0] if self.client else "",
        )
        named = (FIELD, request)
        fields = (*self.server_state.default_headers, *answer.raw_headers, *SECURITY, named, _CLOSE)
        lines = b"".join(b"%b: %b\r\n" % field for field in fields)
        self.transport.write(b"%b%b\r\n%b" % (STATUS_LINE[status], lines, bytes(answer.body)))
        self._linger()

    def _linger(self) -> None:
        """Read on, so that what was written arrives; end the connection soon."""
        self._lingering = True
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._late = self.loop.call_later(LINGER, self.transport.abort)

    def _await_request(self) -> None:
        if self._late is None and not self.transport.is_closing():
            self._late = self.loop.call_later(HEAD_TIME, self._too_slow)
            self._crowd.enter(self)

    def _too_slow(self) -> None:
        if not self._came:
            self.give_up("idle")
        elif self._may_answer:
            self._refuse(HTTPStatus.REQUEST_TIMEOUT)
        else:
            self.give_up("slow")

    def _request_over(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None
            self._crowd.leave(self)

    def _count(self, reason: str) -> None:
        metrics = self.app_state.get("metrics")
        if metrics is not None:
            metrics.refused.labels(reason).inc()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone."""
        self._request_over()
        super().connection_lost(exc)
        self._let_go()

    def _let_go(self) -> None:
        """Drop what leads back here: all of it would wait for the garbage collector, for hours."""
        self.parser = self.cycle = self.scope = None  # type: ignore[assignment] # as uvicorn begins
        self.pipeline.clear()

    def take(self) -> ConnectionOutlet | None:
        """Take the connection from uvicorn once a chunked response has begun; None if it is lost.

        uvicorn believes the response complete, and forgets the connection.
        """
        if not self._answering:
            return None
        self.cycle.flush()
        self.cycle.response_complete = True
        transport = self.transport
        if transport.is_closing():  # nobody will tell us again that it is lost
            self._let_go()
            return None
        self._request_over()
        self.connections.discard(self)
        outlet = ConnectionOutlet(transport)
        transport.set_protocol(outlet)
        self._let_go()
        return outlet


def connection(scope: Scope) -> StreamProtocol | None:
    """The uvicorn connection that a request came in on, if a stream can have it for itself."""
    found: Any = scope.get("extensions", {}).get(EXTENSION, {}).get("protocol")
    if not isinstance(found, StreamProtocol) or found.scheme != "http" or found.pipeline:
        return None
    return found
