"""What the kernel keeps for a connection that its client has not taken yet.

``TCP_USER_TIMEOUT`` counts also while a slow client takes byte after byte: it is started anew only
when what is next in the queue, up to 64 KiB, fits into the client's window as a whole. So streams,
which may be slow for hours, are judged by their queue instead, and spared from it.

Where a system cannot do one of these, it is left undone.
"""

import fcntl
import socket
import struct
import sys
import termios
from contextlib import suppress
from typing import Any

from app.hub.stalls import STALL

STALL_MS = int(STALL * 1000)
"""Milliseconds after which the kernel ends a connection on which nothing is taken."""

_FORGET = struct.pack("ii", 1, 0)


def spare(sock: Any) -> None:
    """Let the client take as long as it likes, as far as the kernel is concerned."""
    _wait(sock, 0)


def leave(sock: Any) -> None:
    """Let the kernel judge alone what it still holds: nobody else will look at it any more."""
    _wait(sock, STALL_MS)


def queued(sock: Any) -> int:
    """Bytes that the client's side has not acknowledged (Linux, SIOCOUTQ)."""
    try:
        return int.from_bytes(fcntl.ioctl(sock, termios.TIOCOUTQ, bytes(4)), sys.byteorder)
    except (OSError, ValueError, TypeError):
        return 0


def forget(sock: Any) -> None:
    """Let what is queued go with the connection, and reset it, when it is closed."""
    with suppress(OSError, ValueError, AttributeError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _FORGET)


def _wait(sock: Any, milliseconds: int) -> None:
    with suppress(OSError, ValueError, AttributeError):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)
