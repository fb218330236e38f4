"""What these tests talk with: a fake line for the exchange, a real client for its port."""

import asyncio
import json
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
from websockets.asyncio.client import ClientConnection, connect

from app.simulator import Options, Simulator
from app.simulator.client import Client
from app.simulator.exchange import Exchange
from app.simulator.listing import Market
from app.simulator.rest import TOKEN_PATH
from app.simulator.tokens import sign

PATIENCE = 3.0  # seconds a condition may take
SIGNED = {"userId": "demo-user", "sign": sign(b"", "demo-key")}


class FakeLine:
    """A line that keeps what was written, decoded."""

    def __init__(self) -> None:
        self.heard: list[Any] = []
        self.ended: str | None = None

    def write(self, data: bytes) -> None:
        self.heard.append(json.loads(unframed(data)))

    def close(self, code: int, reason: str) -> None:
        self.ended = f"{code} {reason}"

    def abort(self) -> None:
        self.ended = "abort"

    def stall(self) -> None:
        self.ended = "stall"

    def release(self) -> None:
        self.ended = None


class Clock:
    def __init__(self) -> None:
        self.now = 1_750_000_000.0

    def __call__(self) -> float:
        return self.now


class Desk:
    """An exchange without a port, with one client; `ask` gives what came back."""

    def __init__(self, **options: Any) -> None:
        self.clock = Clock()
        self.exchange = Exchange(Options(**options), now=self.clock)
        self.exchange.listing.add(Market("BTC_USDT", ("0.01", "1")))
        self.exchange.listing.add(Market("TRX_USDT", ("0.00001",)))
        self.line, self.client = self.enter()
        self._id = 1000

    def enter(self) -> tuple[FakeLine, Client]:
        line = FakeLine()
        return line, self.exchange.enter(line)

    def ask(self, method: str, *params: str) -> list[Any]:
        self._id += 1
        return self.say(json.dumps({"id": self._id, "method": method, "params": params}))

    def say(self, text: str) -> list[Any]:
        self.line.heard.clear()
        self.exchange.hear(self.client, text.encode())
        return list(self.line.heard)

    @property
    def violations(self) -> list[object]:
        return [violation["what"] for violation in self.exchange.violations]


class Talk:
    """A real client: `ask` waits for the reply, `event` for the next event of a kind."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.events: list[dict[str, Any]] = []
        self._id = 1000

    async def ask(self, method: str, *params: str) -> dict[str, Any]:
        self._id += 1
        await self.socket.send(json.dumps({"id": self._id, "method": method, "params": params}))
        while True:
            message = await self.next()
            if message["id"] == self._id:
                return message
            self.events.append(message)

    async def event(self, kind: str) -> dict[str, Any]:
        while True:
            for index, message in enumerate(self.events):
                if message["method"] == f"{kind}_update":
                    return self.events.pop(index)
            self.events.append(await self.next())

    async def next(self) -> dict[str, Any]:
        async with asyncio.timeout(PATIENCE):
            message: dict[str, Any] = json.loads(await self.socket.recv())
        return message


def unframed(data: bytes) -> bytes:
    """The payload of one unmasked frame."""
    short = data[1]
    if short == 127:
        return data[10 : 10 + struct.unpack("!Q", data[2:10])[0]]
    return data[4:] if short == 126 else data[2:]


async def token(simulator: Simulator) -> str:
    async with httpx.AsyncClient(base_url=simulator.url, headers=SIGNED) as http:
        answer = await http.get(TOKEN_PATH)
    return str(answer.json()["token"])


@asynccontextmanager
async def talking(simulator: Simulator) -> AsyncIterator[Talk]:
    """A connected client."""
    url = f"{simulator.ws_url}?token={await token(simulator)}"
    async with connect(url, max_size=None) as socket:
        yield Talk(socket)


async def until(condition: Callable[[], object]) -> None:
    """Wait until something is so."""
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110 - anything may be waited for
            await asyncio.sleep(0.005)
