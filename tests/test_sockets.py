"""The sockets that are listened on: options, refusals, and addresses that workers share."""

import socket
from contextlib import closing

import pytest

from app.api.kernel import STALL_MS
from app.sockets import NOT_SENT, bind, listen, reserve


def test_the_kernel_is_told_to_drop_who_takes_nothing_and_to_keep_little() -> None:
    with listen("127.0.0.1", 0) as sock, closing(socket.socket()) as client:
        client.connect(sock.getsockname())
        accepted, _ = sock.accept()
        with accepted:
            tcp = socket.IPPROTO_TCP
            assert accepted.getsockopt(tcp, socket.TCP_USER_TIMEOUT) == STALL_MS == 12_000
            assert accepted.getsockopt(tcp, getattr(socket, "TCP_NOTSENT_LOWAT", 25)) == NOT_SENT


def test_a_taken_port_is_refused() -> None:
    with listen("127.0.0.1", 0) as sock, pytest.raises(OSError, match="in use"):
        listen("127.0.0.1", sock.getsockname()[1])


@pytest.mark.parametrize("host", ["x..y", "a" * 70], ids=["empty part", "long part"])
def test_what_cannot_be_a_host_s_name_is_refused_as_one_that_nobody_has(host: str) -> None:
    with pytest.raises(OSError, match="longer than 63"):
        bind(host, 0)


def test_a_reserved_address_is_for_who_shares_it_only() -> None:
    with reserve("127.0.0.1", 0) as reserved:
        host, port = reserved.getsockname()
        with bind(host, port, shared=True) as one, bind(host, port, shared=True) as other:
            with closing(socket.socket()) as client, pytest.raises(ConnectionRefusedError):
                client.connect((host, port))  # nobody listens yet
            one.listen()
            other.listen()
            for take in (listen, reserve):
                with pytest.raises(OSError, match="in use"):
                    take(host, port)


def test_a_reserved_address_gets_no_connections() -> None:
    with reserve("127.0.0.1", 0) as reserved:
        host, port = reserved.getsockname()
        with bind(host, port, shared=True) as only:
            only.listen()
            only.setblocking(False)  # every connection is there, or this is an error
            for _ in range(50):
                with closing(socket.create_connection((host, port))):
                    accepted, _address = only.accept()
                    accepted.close()


def test_an_address_of_the_other_family() -> None:
    if not socket.has_ipv6:
        pytest.skip("no IPv6 on this machine")
    try:
        sock = listen("::1", 0)
    except OSError:
        pytest.skip("no IPv6 loopback on this machine")
    with sock:
        assert sock.family == socket.AF_INET6
