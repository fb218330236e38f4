"""Who a client is to the limits."""

import pytest
from uvicorn._types import ASGIReceiveEvent, ASGISendEvent
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from app.api.client import LONGEST, client_of


@pytest.mark.parametrize(
    ("address", "client"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::", "2001:db8:1:3::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("::1", "::/64"),
        ("un:known", "un:known"),
        ("x" * 1000, "x" * LONGEST),
        ("x:" * 1000, "x:" * (LONGEST // 2)),
    ],
)
def test_by_address(address: str, client: str) -> None:
    assert client_of({"client": (address, 1234)}) == client


@pytest.mark.parametrize("scope", [{}, {"client": None}])
def test_without_an_address(scope: dict[str, None]) -> None:
    assert client_of(scope) == ""


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("192.0.2.1", "198.51.100.1", "192.0.2.1"),  # nobody that is trusted says so
        ("127.0.0.1", "198.51.100.1", "198.51.100.1"),
        ("127.0.0.1", "203.0.113.9, 198.51.100.1", "198.51.100.1"),  # what a client said before
        ("127.0.0.1", "198.51.100.1, 10.0.0.2", "198.51.100.1"),  # a chain of trusted ones
        ("127.0.0.1", "2001:db8:1:2:3::4", "2001:db8:1:2::/64"),
        ("127.0.0.1", "", "127.0.0.1"),
    ],
)
async def test_behind_proxies_only_a_trusted_one_is_believed(
    peer: str, forwarded: str, client: str
) -> None:
    """As the server that ``sluice serve`` runs has it."""
    seen = []

    async def app(scope: object, _receive: object, _send: object) -> None:
        seen.append(client_of(scope))  # type: ignore[arg-type] # one kind of scope is all there is

    async def receive() -> ASGIReceiveEvent:
        raise AssertionError

    async def send(_message: ASGISendEvent) -> None:
        raise AssertionError

    trusting = ProxyHeadersMiddleware(app, trusted_hosts="127.0.0.1,10.0.0.2")
    scope = {
        "type": "http",
        "client": (peer, 1),
        "headers": [(b"x-forwarded-for", forwarded.encode())],
    }
    await trusting(scope, receive, send)  # type: ignore[arg-type] # what it reads of a scope
    assert seen == [client]
