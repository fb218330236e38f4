"""Who issues tokens: a set of public keys on a real HTTP server of the loopback."""

import asyncio
import gzip
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Literal

from app.rights.jwks import LARGEST
from tests.rights.test_tokens import SET

Mood = Literal["good", "mute", "endless", "cut", "away", "moved", "compressed", "huge"]


@dataclass
class Issuer:
    """Answers with its set, or as its mood is; counts who asks."""

    body: bytes = field(default_factory=lambda: json.dumps(SET).encode())
    status: str = "200 OK"
    mood: Mood = "good"
    asked: int = 0
    url: str = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            self.asked += 1
            await self._answer(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # whoever asked has gone
        finally:
            writer.transport.abort() if self.mood == "away" else writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        body, more = self.body, ""
        match self.mood:
            case "mute":
                await reader.read()
                return
            case "away":
                return
            case "endless":
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 999\r\n\r\n")
                while not reader.at_eof():
                    writer.write(b" ")
                    await writer.drain()
                    await asyncio.sleep(0.02)
                return
            case "cut":
                more = "content-length: 99999\r\n"
            case "moved":
                more = f"location: {self.url}/elsewhere\r\n"
            case "compressed":  # which nobody asked for
                body, more = gzip.compress(body), "content-encoding: gzip\r\n"
            case "huge":
                body = b" " * LARGEST + body
        status = "302 Found" if self.mood == "moved" else self.status
        length = "" if self.mood == "cut" else f"content-length: {len(body)}\r\n"
        head = f"HTTP/1.1 {status}\r\n{more}{length}connection: close\r\n\r\n"
        writer.write(head.encode() + body)
        await writer.drain()


@asynccontextmanager
async def issuing() -> AsyncIterator[Issuer]:
    """The server."""
    issuer = Issuer()
    server = await asyncio.start_server(issuer.serve, "127.0.0.1", 0)
    issuer.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/set"
    try:
        yield issuer
    finally:
        server.close()
        await server.wait_closed()
