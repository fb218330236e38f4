"""Ways to write one frame to many streams, each in a tiny hub under uvicorn.

    python ways.py send|transport|descriptor|taken PORT INGEST_PORT

Events come as lines over TCP. A socket that takes no more ends the process: it is no hub for slow
clients.
"""

import asyncio
import gc
import os
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import uvicorn
import uvloop
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

way = sys.argv[1]
port, ingest = int(sys.argv[2]), int(sys.argv[3])
HEAD = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"content-type", b"text/event-stream")],
}
Send = Callable[[dict[str, Any]], Awaitable[None]]
streams: dict[Any, Callable[[Any], object]] = {}
"""What is called with each frame, by whose stream it is."""


class Connection(HttpToolsProtocol):
    """Puts itself where the application finds it."""

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["extensions"] = {"connection": {"protocol": self}}


class Taken(asyncio.Protocol):
    """Stands where uvicorn's protocol did."""

    def connection_lost(self, exc: Exception | None) -> None:
        streams.pop(self, None)


def drive(send: Send) -> Callable[[dict[str, Any]], None]:
    """One step of the coroutine: it ends in it as long as the transport takes more."""

    def step(message: dict[str, Any]) -> None:
        try:
            send(message).__await__().send(None)
        except StopIteration:
            return
        raise SystemExit("a stream does not take what it is sent")

    return step


async def app(scope: dict[str, Any], receive: Callable[[], Awaitable[Any]], send: Send) -> None:
    await send(HEAD)
    protocol = scope["extensions"]["connection"]["protocol"]
    transport = protocol.transport
    if way == "taken":
        protocol.connections.discard(protocol)
        protocol.cycle.response_complete = True
        protocol.cycle = protocol.parser = None
        taken = Taken()
        transport.set_protocol(taken)
        streams[taken] = transport.write
        return
    if way == "send":
        streams[scope["client"]] = drive(send)
    elif way == "transport":
        streams[scope["client"]] = transport.write
    else:
        descriptor = transport.get_extra_info("socket").fileno()
        streams[scope["client"]] = lambda frame: os.write(descriptor, frame)
    try:
        while (await receive())["type"] != "http.disconnect":
            pass
    finally:
        streams.pop(scope["client"], None)


class Ingest(asyncio.Protocol):
    rest = b""

    def data_received(self, data: bytes) -> None:
        *lines, self.rest = (self.rest + data).split(b"\n")
        for line in lines:
            block = b"data: %b\n\n" % line
            frame: Any = b"%x\r\n%b\r\n" % (len(block), block)
            if way == "send":
                frame = {"type": "http.response.body", "body": block, "more_body": True}
            for write in list(streams.values()):
                write(frame)


async def serve() -> None:
    loop = asyncio.get_running_loop()
    await loop.create_server(Ingest, "127.0.0.1", ingest)
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
    config = uvicorn.Config(
        app, host="127.0.0.1", port=port, http=Connection, ws="none", lifespan="off", backlog=4096,
        log_level="critical",
    )  # fmt: skip
    await uvicorn.Server(config).serve()


if __name__ == "__main__":
    uvloop.run(serve())
