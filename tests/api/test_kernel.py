"""What the kernel holds for a client, on real sockets of the loopback."""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing

import pytest

from app.api import kernel
from app.api.outlet import ConnectionOutlet
from tests.e2e.waiting import until
from tests.fakes.outlet import Told

SENT = b"x" * 4_000_000


@pytest.fixture(name="pair")
def _pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """The server's side, which does not wait, and the client's."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        client = socket.create_connection(listening.getsockname())
        accepted, _ = listening.accept()
        accepted.setblocking(False)
        with closing(client), closing(accepted):
            yield accepted, client


def read(client: socket.socket) -> None:
    while client.recv(1 << 20):
        pass


async def test_what_the_client_has_not_taken_is_queued(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    server, client = pair
    assert kernel.queued(server) == 0
    sent = server.send(SENT)
    waiting = kernel.queued(server)
    assert 0 < waiting < sent
    left = sent
    while left:
        left -= len(client.recv(left))
    await until(lambda: kernel.queued(server) == 0)


def test_it_is_spared_from_the_kernels_own_patience(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    server, _ = pair
    server.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 12_000)
    kernel.spare(server)
    assert server.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 0


@asynccontextmanager
async def streaming(server: socket.socket) -> AsyncIterator[tuple[ConnectionOutlet, Told]]:
    """A stream on the server's side of a connection."""
    loop = asyncio.get_running_loop()
    transport, _ = await loop.connect_accepted_socket(asyncio.Protocol, server)
    outlet = ConnectionOutlet(transport)
    outlet.owner = told = Told()
    transport.set_protocol(outlet)
    yield outlet, told
    outlet.abort()
    await until(lambda: "gone" in told.heard)


async def test_a_stream_knows_what_waits_in_the_kernel_alone(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    server, client = pair
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    async with streaming(server) as (outlet, _):
        outlet.write(b"x" * 200_000)
        assert outlet._transport.get_write_buffer_size() == 0
        assert 0 < outlet.backlog() < 200_000


async def test_a_stream_that_is_aborted_leaves_nothing_to_be_taken(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    server, client = pair
    async with streaming(server) as (outlet, _):
        outlet.write(SENT)
        outlet.abort()
    with pytest.raises(ConnectionResetError):
        read(client)


async def test_what_is_left_to_it_when_a_stream_is_over_it_does_not_keep_for_long(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    server, _ = pair
    server.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 1)
    with socket.fromfd(server.fileno(), server.family, server.type) as same:
        async with streaming(server) as (outlet, told):
            assert same.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 0
            outlet.close()
            await until(lambda: "gone" in told.heard)
        assert same.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == kernel.STALL_MS


def test_what_is_forgotten_is_not_delivered_any_more(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    server, client = pair
    server.send(SENT)
    kernel.forget(server)
    server.close()
    with pytest.raises(ConnectionResetError):
        read(client)


@pytest.mark.parametrize("gone", [False, True])
def test_where_nothing_is_known_nothing_is_done(*, gone: bool) -> None:
    sock = socket.socket() if gone else None
    if sock is not None:
        sock.close()
    kernel.spare(sock)
    kernel.forget(sock)
    assert kernel.queued(sock) == 0
