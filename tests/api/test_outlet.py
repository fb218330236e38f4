"""Where a stream's bytes go: through plain ASGI, or straight into the connection."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from starlette.types import Message

from app.api.outlet import HIGH_WATER, MOST_SAID, ConnectionOutlet, SendOutlet, body
from tests.e2e.process import soon
from tests.fakes.outlet import Told


class Server:
    """The other end of an ASGI application: takes what it sends when it is let."""

    def __init__(self) -> None:
        self.sent: list[Message] = []
        self.taking = asyncio.Event()
        self.taking.set()
        self.gone = asyncio.Event()
        self.waiting = False

    async def send(self, message: Message) -> None:
        self.waiting = True
        await self.taking.wait()
        self.waiting = False
        self.sent.append(message)

    async def receive(self) -> Message:
        await self.gone.wait()
        return {"type": "http.disconnect"}

    @property
    def body(self) -> bytes:
        return b"".join(message["body"] for message in self.sent)

    @property
    def complete(self) -> bool:
        return bool(self.sent) and not self.sent[-1]["more_body"]


@asynccontextmanager
async def served(outlet: SendOutlet) -> AsyncIterator[Server]:
    """The outlet at work; it must have ended by itself at the end of the block."""
    server = Server()
    async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
        tasks.create_task(outlet.serve(server.receive, server.send))
        yield server


async def test_what_was_written_goes_out_in_order_and_the_response_ends() -> None:
    outlet = SendOutlet()
    outlet.write(b"one ")
    async with served(outlet) as server:
        await soon(lambda: server.body == b"one ")
        outlet.write(b"two ")
        outlet.write(b"three")
        await soon(lambda: server.body == b"one two three")
        assert outlet.backlog() == 0
        outlet.write(b"!")
        outlet.close()
    assert server.body == b"one two three!"
    assert server.complete


async def test_beyond_the_high_water_mark_it_is_full_once_and_says_when_it_has_drained() -> None:
    outlet = SendOutlet()
    outlet.owner = Told()
    said = outlet.owner.heard
    async with served(outlet) as server:
        server.taking.clear()
        outlet.write(b"x")
        await soon(lambda: server.waiting)
        outlet.write(b"y" * (HIGH_WATER - 1))
        assert said == []
        outlet.write(b"z")
        outlet.write(b"z")
        assert said == ["full"]
        assert outlet.backlog() == HIGH_WATER + 2
        server.taking.set()
        await soon(lambda: said == ["full", "drained"])
        assert outlet.backlog() == 0
        outlet.close()
    assert len(server.body) == HIGH_WATER + 2


async def test_what_a_send_has_taken_waits_until_it_returns() -> None:
    """One that takes nothing of it would not be told from one that has taken all."""
    outlet = SendOutlet()
    outlet.owner = Told()
    async with served(outlet) as server:
        server.taking.clear()
        outlet.write(b"x" * (HIGH_WATER + 1))
        await soon(lambda: server.waiting)
        assert outlet.backlog() == HIGH_WATER + 1
        server.taking.set()
        await soon(lambda: outlet.backlog() == 0)
        outlet.close()


async def test_a_client_that_hangs_up_ends_it_though_a_send_does_not_return() -> None:
    """As one that waits for an HTTP/2 window does not."""
    outlet = SendOutlet()
    async with served(outlet) as server:
        server.taking.clear()
        outlet.write(b"x")
        await soon(lambda: server.waiting)
        outlet.write(b"never read")
        server.gone.set()
    assert server.sent == []


async def test_to_abort_gives_up_on_a_send_that_does_not_return() -> None:
    outlet = SendOutlet()
    outlet.abort()  # nothing to give up on yet
    async with served(outlet) as server:
        server.taking.clear()
        outlet.write(b"x")
        await soon(lambda: server.waiting)
        outlet.abort()
    assert server.sent == []


class Transport(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.aborted = self.closed = False

    def write(self, data: Any) -> None:
        self.written += data

    def get_write_buffer_size(self) -> int:
        return len(self.written)

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.aborted = True


def test_a_connection_is_written_to_as_it_is() -> None:
    transport = Transport()
    outlet = ConnectionOutlet(transport)
    assert outlet.framed
    outlet.write(b"5\r\nhello\r\n")
    assert transport.written == b"5\r\nhello\r\n"
    assert outlet.backlog() == 10
    outlet.close()
    assert transport.written.endswith(b"0\r\n\r\n")
    assert transport.closed
    outlet.abort()
    assert transport.aborted


def test_a_connection_tells_its_owner_how_it_is() -> None:
    outlet = ConnectionOutlet(Transport())
    outlet.owner = told = Told()
    outlet.pause_writing()
    outlet.resume_writing()
    outlet.connection_lost(None)
    assert told.heard == ["full", "drained", "gone"]


def test_a_client_that_has_no_end_of_things_to_say_is_dropped() -> None:
    transport = Transport()
    outlet = ConnectionOutlet(transport)
    outlet.data_received(b"x" * MOST_SAID)
    assert not transport.aborted
    outlet.data_received(b"x")
    assert transport.aborted


def test_body() -> None:
    assert body(b"x", more=True) == {"type": "http.response.body", "body": b"x", "more_body": True}
    assert body(more=False) == {"type": "http.response.body", "body": b"", "more_body": False}
