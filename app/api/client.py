"""Who a client is to the limits: its address, or what a trusted proxy says of it."""

from functools import lru_cache
from ipaddress import IPv6Address

from starlette.types import Scope

LONGEST = 64
"""Characters that are kept of what a proxy says and is no address."""


def client_of(scope: Scope) -> str:
    """The client that a request came from.

    uvicorn puts there what came last through ``X-Forwarded-For`` from outside of the proxies in
    ``SLUICE_FORWARDED_ALLOW_IPS``; of anyone else that header is not believed.
    """
    client = scope.get("client")
    return _one(client[0]) if client else ""


@lru_cache(4096)
def _one(address: str) -> str:
    """An IPv4 address as it is, an IPv6 one by its /64: that much a single subscriber is given."""
    if ":" not in address:
        return address[:LONGEST]
    try:
        found = IPv6Address(address)
    except ValueError:
        return address[:LONGEST]
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return f"{IPv6Address(int(found) >> 64 << 64)}/64"
