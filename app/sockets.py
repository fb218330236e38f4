"""The sockets that are listened on.

The kernel is told to drop a client that takes nothing of its answer (``TCP_USER_TIMEOUT``; streams
are judged by ``hub.stalls``) and to keep little for one (``TCP_NOTSENT_LOWAT``): both are inherited
by every accepted connection.
"""

import socket

from app.api.kernel import STALL_MS

BACKLOG = 4096
NOT_SENT = 16 * 1024


def listen(host: str, port: int) -> socket.socket:
    """Open the listening socket; port 0 takes a free one. Raises OSError."""
    sock = bind(host, port)
    try:
        sock.listen(BACKLOG)
    except OSError:
        sock.close()
        raise
    return sock


def reserve(host: str, port: int) -> socket.socket:
    """Take an address for workers that ``bind`` it shared. Raises OSError if anyone has it.

    The socket is never to listen: only those that do are given connections.
    """
    sock = bind(host, port)
    # not before: two programs that both share would get each other's clients
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    return sock


def bind(host: str, port: int, *, shared: bool = False) -> socket.socket:
    """Bind a socket on which ``serve`` listens once it can answer. Raises OSError.

    A ``shared`` address is each worker's own: the kernel spreads connections over the sockets that
    listen on it. A queue that workers share would give most of the long-lived streams to whoever
    wakes first.
    """
    try:
        family, kind, number, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except UnicodeError:  # told before any resolver is asked
        said = "no host's name: a part of it is empty or longer than 63 characters"
        raise socket.gaierror(socket.EAI_NONAME, said) from None
    sock = socket.socket(family, kind, number)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if shared:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    for name, value in (("TCP_USER_TIMEOUT", STALL_MS), ("TCP_NOTSENT_LOWAT", NOT_SENT)):
        option = getattr(socket, name, None)
        if option is not None:
            sock.setsockopt(socket.IPPROTO_TCP, option, value)
    try:
        sock.bind(address)
    except OSError:
        sock.close()
        raise
    return sock
