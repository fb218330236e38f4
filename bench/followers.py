"""Clients of a soak: they come back by their last id, to either process, and prove each chain."""

import asyncio
import random
import re
import socket
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import httpx
import msgspec

from tests.e2e.clients import Chunks, Whole

Place = tuple[int, int]

PATIENCE = 20.0
"""Seconds that a head, or anything at all on a stream, may take: heartbeats come more often."""
SENT = re.compile(rb'"price":"?(\d{19})|\["2","(\d{19})"')
"""When the exchange made an event, in nanoseconds: its price, or the value of a book's one ask."""
TOLD = 20
"""Violations of which the words are kept."""
BLOCK = 64 * 1024


class Envelope(msgspec.Struct):
    """What proves that nothing is missing."""

    channel: str
    type: str
    position: str
    previous: str | None
    gap: bool = False


class Control(msgspec.Struct):
    """The gateway's own events."""

    type: str
    reason: str = ""
    retry: int = 0


read_envelope = msgspec.json.Decoder(Envelope).decode
read_control = msgspec.json.Decoder(Control).decode


@dataclass
class Tally:
    """What all clients have seen."""

    events: int = 0
    connections: int = 0
    resumed: int = 0
    repeated: int = 0
    gaps: int = 0
    ends: Counter[str] = field(default_factory=Counter)
    fault: str = "none"
    """The last that was made."""
    resets: Counter[str] = field(default_factory=Counter)
    """By reason, and of whom or after what."""
    answers: Counter[int] = field(default_factory=Counter)
    ages: list[float] = field(default_factory=list)
    """Milliseconds from the exchange to a client, of what came live, since they were last taken."""
    violations: int = 0
    told: list[str] = field(default_factory=list)

    def violate(self, what: str) -> None:
        self.violations += 1
        if len(self.told) < TOLD:
            self.told.append(f"{time.strftime('%H:%M:%S')} {what}")

    def take_ages(self) -> list[float]:
        found, self.ages = self.ages, []
        return found


def place(position: str) -> Place:
    epoch, _, sequence = position.partition("-")
    return int(epoch), int(sequence)


class Follower:
    """Follows channels for ever; ``pace`` is bytes a second, of one that reads slowly."""

    def __init__(
        self,
        ports: Sequence[int],
        channels: Sequence[str],
        tally: Tally,
        chance: random.Random,
        *,
        pace: int | None = None,
    ) -> None:
        self.channels = channels
        self.held: dict[str, Place] = {}
        self._ports = ports
        self._tally = tally
        self._chance = chance
        self.pace = pace
        self._slow = pace is not None
        self._last_id = ""
        self._on_stream: Place = (0, 0)
        self._since = 0.0
        self._pause = 0.0
        self._writer: asyncio.StreamWriter | None = None

    async def run(self) -> None:
        while True:
            self._pause = self._chance.uniform(0.2, 2)
            try:
                async with asyncio.timeout(None) as limit:
                    await self._once(limit)
            except (OSError, asyncio.IncompleteReadError):
                self._tally.ends["cut"] += 1
            except TimeoutError:
                self._tally.ends["silent"] += 1
            await asyncio.sleep(self._pause)

    def cut(self) -> None:
        """Drop the connection in mid-stream."""
        if self._writer is not None:
            self._writer.transport.abort()

    async def _once(self, limit: asyncio.Timeout) -> None:
        clock = asyncio.get_running_loop().time
        limit.reschedule(clock() + PATIENCE)
        sock = socket.socket()
        if self.pace is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.setblocking(False)
        try:
            await asyncio.get_running_loop().sock_connect(
                sock, ("127.0.0.1", self._chance.choice(self._ports))
            )
        except OSError:
            sock.close()
            raise
        reader, self._writer = await asyncio.open_connection(
            sock=sock, limit=BLOCK if self.pace is None else 4096
        )
        try:
            await self._read(reader, self._writer, limit)
        finally:
            self._writer.transport.abort()
            self._writer = None

    async def _read(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, limit: asyncio.Timeout
    ) -> None:
        clock = asyncio.get_running_loop().time
        writer.write(self._request())
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        if not head.startswith("http/1.1 200 "):
            self._tally.violate(f"a stream was refused: {head.splitlines()[0]}")
            return
        self._tally.connections += 1
        self._tally.resumed += bool(self._last_id)
        self._on_stream = place(self._last_id) if self._last_id else (0, 0)
        self._since = time.time()
        body = Chunks() if "\r\ntransfer-encoding: " in head else Whole(head)
        rest = b""
        while not body.ended:
            limit.reschedule(clock() + PATIENCE)
            piece = await reader.read(BLOCK if self.pace is None else 2048)
            if not piece:
                raise ConnectionResetError
            *blocks, rest = (rest + body.feed(piece)).split(b"\n\n")
            now = time.time()
            for block in blocks:
                self._take(block, now)
            if self.pace is not None:
                await asyncio.sleep(len(piece) / self.pace)

    def _request(self) -> bytes:
        lines = [
            f"GET /v1/stream?channels={','.join(self.channels)} HTTP/1.1",
            "host: 127.0.0.1",
            "accept: text/event-stream",
        ]
        if self._last_id:
            lines.append(f"last-event-id: {self._last_id}")
        return ("\r\n".join(lines) + "\r\n\r\n").encode()

    def _take(self, block: bytes, now: float) -> None:
        fields = dict(
            line.split(b": ", 1) for line in block.split(b"\n") if line and line[:1] != b":"
        )
        data = fields[b"data"]
        if fields.get(b"event") == b"gateway":
            self._control(read_control(data))
            return
        envelope = read_envelope(data)
        self._tally.events += 1
        self._prove(envelope)
        if b"id" in fields:
            self._last_id = fields[b"id"].decode()
        if envelope.type == "update" and self.pace is None and (found := SENT.search(data)):
            sent = int(found[1] or found[2]) / 1e9
            if sent > self._since:
                self._tally.ages.append((now - sent) * 1000)

    def _control(self, control: Control) -> None:
        if control.type == "bye":
            self._tally.ends[control.reason] += 1
            self._pause = control.retry / 1000
        elif control.type == "reset":
            when = "slow client" if self._slow else f"after {self._tally.fault}"
            self._tally.resets[f"{control.reason} ({when})"] += 1
            self._on_stream = (0, 0)

    def _prove(self, envelope: Envelope) -> None:
        """Nothing twice on a stream, nor what its id covers; nothing missing on a channel."""
        position, channel = place(envelope.position), envelope.channel
        if position <= self._on_stream:
            self._tally.violate(f"{channel}: {envelope.position} sent after {self._on_stream}")
        self._on_stream = position
        held = self.held.get(channel)
        if held is not None and position <= held:  # cut within a run of snapshots, or a reset
            self._tally.repeated += 1
            return
        if envelope.type == "update" and (held is None or place(envelope.previous or "") != held):
            self._tally.violate(
                f"{channel}: {envelope.position} follows {envelope.previous}, held {held}"
            )
        self._tally.gaps += envelope.gap
        self.held[channel] = position


class Poller:
    """Asks over REST: states, lists, and now and then a long poll, each with what it holds."""

    def __init__(
        self, ports: Sequence[int], channels: Sequence[str], tally: Tally, chance: random.Random
    ) -> None:
        self._ports = ports
        self._channels = channels
        self._tally = tally
        self._chance = chance

    async def run(self) -> None:
        async with httpx.AsyncClient(trust_env=False, timeout=PATIENCE) as http:
            tags: dict[str, str] = {}
            while True:
                path = self._path()
                url = f"http://127.0.0.1:{self._chance.choice(self._ports)}{path}"
                try:
                    answer = await http.get(url, headers={"if-none-match": tags.get(path, "")})
                except httpx.TransportError:  # a process was killed, or hangs
                    self._tally.answers[0] += 1
                else:
                    self._tally.answers[answer.status_code] += 1
                    if answer.status_code not in {200, 304, 503}:
                        self._tally.violate(f"{path}: {answer.status_code} {answer.text[:200]}")
                    if "etag" in answer.headers:
                        tags[path] = answer.headers["etag"]
                await asyncio.sleep(self._chance.expovariate(2))

    def _path(self) -> str:
        kind, _, symbol = self._chance.choice(self._channels).partition(":")
        symbol = symbol.partition(":")[0]
        name = {"trade": "trades"}.get(kind, kind)
        return self._chance.choices(
            [f"/v1/{name}/{symbol}", "/v1/ticker", f"/v1/{name}/{symbol}?after=1-1&wait=5"],
            [10, 1, 2],
        )[0]
