"""The socket under a session: moves frames and waits, decides nothing [websockets].

The URL carries the token, so no error of this room keeps the library's text or cause.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import quote

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException
from websockets.frames import CloseCode

from app.domain.channel import Channel
from app.domain.event import Event
from app.errors import ConnectionLost, HandshakeFailed
from app.upstream.session import Session

_quiet = logging.getLogger("app.upstream.websockets")
_quiet.setLevel(logging.WARNING)  # below, the library writes the URL and whole frames

Tap = Callable[[float, str], None]
"""Called with each frame as read, and when (Unix seconds); must neither wait nor raise."""


@dataclass(frozen=True, slots=True)
class SocketOptions:
    """Times in seconds; a frame above ``max_bytes`` ends the connection."""

    open_timeout: float = 10.0
    send_timeout: float = 10.0
    close_timeout: float = 0.5
    max_bytes: int = 8 * 1024 * 1024
    tap: Tap | None = None


def socket_url(ws_url: str, token: str) -> str:
    """Where to connect with a token: as secret as the token (protocol 1)."""
    return f"{ws_url}{'&' if '?' in ws_url else '?'}token={quote(token, safe='')}"


async def open_socket(url: str, options: SocketOptions) -> ClientConnection:
    """Open a socket whose keepalive is left to the session; raises HandshakeFailed."""
    try:
        return await connect(
            url,
            compression=None,
            proxy=None,
            ping_interval=None,
            open_timeout=options.open_timeout,
            close_timeout=options.close_timeout,
            max_size=options.max_bytes,
            logger=_quiet,
        )
    except InvalidStatus as refused:
        status = refused.response.status_code
        raise HandshakeFailed(f"handshake refused with status {status}") from None
    except TimeoutError:
        raise HandshakeFailed("handshake timed out") from None
    except (OSError, EOFError, ValueError, WebSocketException) as error:
        raise HandshakeFailed(f"handshake failed: {type(error).__name__}") from None


class Connection:
    """One open socket and its session.

    ``deliver`` gets what was heard; ``changed`` is called when more than that may have changed.
    """

    def __init__(
        self,
        socket: ClientConnection,
        session: Session,
        options: SocketOptions,
        *,
        deliver: Callable[["Connection", list[Event]], None],
        changed: Callable[["Connection"], None],
    ) -> None:
        self.session = session
        self.over = asyncio.Event()
        self.opened = time.time()
        self._socket = socket
        self._options = options
        self._deliver = deliver
        self._changed = changed
        self._nudge = asyncio.Event()
        self._seen = -1

    def want(self, channels: frozenset[Channel]) -> None:
        """Replace what this socket is to bring."""
        if self.session.fault is None:
            self.session.want(channels, _now())
            self._stir()

    def lose(self, scope: Channel | None = None) -> None:
        """Start new runs, and reload books, on ``scope`` (None: on everything)."""
        if self.session.fault is None:
            self.session.lose(_now(), scope)
            self._stir()

    def retire(self) -> None:
        """End politely."""
        self.session.end(ConnectionLost("retired"))
        self._stir()

    async def run(self) -> None:
        """Converse until the session is over, for the reason in ``session.fault``."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._read())
                tasks.create_task(self._keep())
        finally:
            self.over.set()
            await self._socket.close()

    async def _read(self) -> None:
        """Feed the session. What is buffered is read without giving way to anything else."""
        session, receive, tap = self.session, self._socket.recv, self._options.tap
        try:
            while session.fault is None:
                frame = await receive(decode=False)
                received = time.time()
                if tap is not None:
                    tap(received, frame.decode(errors="replace"))
                session.receive(frame, _now(), received)
                if events := session.events():
                    self._deliver(self, events)
                if session.revision != self._seen:
                    self._stir()
        except ConnectionClosed as closed:
            session.end(ConnectionLost(_reason(closed)))
            self._stir()

    async def _keep(self) -> None:
        """Send what the session wants sent, and wake it in time."""
        while self.session.fault is None:
            self._nudge.clear()
            if not await self._send():
                break
            try:
                async with asyncio.timeout_at(self.session.next_wake()):
                    await self._nudge.wait()
            except TimeoutError:
                self.session.wake(_now())
                self._stir()
        if str(self.session.fault) != "retired":
            self._socket.transport.abort()
        await self._socket.close()

    async def _send(self) -> bool:
        """Send all there is to send; False if the socket does not take it."""
        try:
            for frame in self.session.outgoing():
                async with asyncio.timeout(self._options.send_timeout):
                    await self._socket.send(frame)
        except TimeoutError:
            self.session.end(ConnectionLost("socket takes nothing"))
        except ConnectionClosed as closed:
            self.session.end(ConnectionLost(_reason(closed)))
        else:
            return True
        self._stir()
        return False

    def _stir(self) -> None:
        self._seen = self.session.revision
        self._nudge.set()
        self._changed(self)


def _now() -> float:
    return asyncio.get_running_loop().time()


def _reason(closed: ConnectionClosed) -> str:
    """Why a socket ended, from a closed set of texts."""
    if closed.rcvd is not None and not (closed.sent is not None and closed.rcvd_then_sent is False):
        return "closed by the exchange"
    if closed.sent is None:
        return "broken off"
    if closed.sent.code == CloseCode.MESSAGE_TOO_BIG:
        return "frame too large"
    return "broke the websocket protocol"
