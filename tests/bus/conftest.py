"""What tests of the road are given: a real server, and a link to it."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from app.bus.link import Link
from app.bus.redis import RedisBroker
from tests.bus.road import broker_on, linked
from tests.redis.servers import Server, server


@pytest.fixture(name="binary")
def _binary() -> Path | None:
    """The first server that this machine has; modules that want all of them override it."""
    return None


@pytest.fixture(name="one")
async def _one(tmp_path: Path, binary: Path | None) -> AsyncIterator[Server]:
    async with server(tmp_path, binary=binary, appendonly="no") as started:
        yield started


@pytest.fixture(name="link")
async def _link(one: Server) -> AsyncIterator[Link]:
    async with linked(one.url) as link:
        yield link


@pytest.fixture(name="broker")
def _broker(link: Link) -> RedisBroker:
    return broker_on(link)
