"""Debian's nginx in front of gateways, by ``deploy/nginx``, and clients of it."""

import asyncio
import shutil
import ssl
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import httpx
from h2.connection import H2Connection
from h2.events import DataReceived, Event, ResponseReceived, StreamEnded, StreamReset

from tests.e2e.gateway import free_port
from tests.e2e.process import EVENT_STREAM, following
from tests.e2e.reconstruct import Mirror, Parser
from tests.e2e.waiting import LIMIT, until

CONFIGURED = Path(__file__).parents[2] / "deploy" / "nginx"
NGINX = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
BACK_AFTER = 0.1
"""Seconds before a client whose stream ended comes back."""
ALL = 60.0
"""Seconds that something may take for a thousand streams of one test process."""
LOCAL = """\
listen 127.0.0.1:%(port)d ssl http2;
ssl_certificate %(certificate)s;
ssl_certificate_key %(key)s;
access_log /dev/stdout sluice;
"""


@dataclass
class Front:
    """nginx that runs; both of its logs go to one file."""

    url: str
    certificate: Path
    path: Path

    @property
    def log(self) -> str:
        return self.path.read_text()

    def client(self, address: str = "127.0.0.1") -> httpx.AsyncClient:
        """A client that comes from an address, with one connection for all that it asks."""
        return over_http2(self.url, self.certificate, address)


def over_http2(url: str, authority: Path, address: str) -> httpx.AsyncClient:
    """A client that trusts an authority and comes from an address, over one connection."""
    transport = httpx.AsyncHTTPTransport(
        verify=ssl.create_default_context(cafile=str(authority)),
        http1=False,
        http2=True,
        local_address=address,
    )
    return httpx.AsyncClient(base_url=url, transport=transport, timeout=LIMIT)


def configure(folder: Path, certificate: tuple[Path, Path], gateways: Iterable[str]) -> int:
    """Write what ``deploy/nginx`` has, with this machine's places; the port it will listen on."""
    port = free_port()
    for name in ("nginx.conf", "sluice.conf"):
        text = (CONFIGURED / name).read_text().replace("/run/nginx", str(folder))
        (folder / name).write_text(text)
    places = {"port": port, "certificate": certificate[0], "key": certificate[1]}
    (folder / "site.conf").write_text(LOCAL % places)
    servers = (f"server {url.removeprefix('http://')};\n" for url in gateways)
    (folder / "gateways.conf").write_text("".join(servers))
    return port


@asynccontextmanager
async def nginx(
    folder: Path, certificate: tuple[Path, Path], *gateways: str
) -> AsyncIterator[Front]:
    """nginx in front of gateways, told by their URLs, in a folder of its own."""
    assert NGINX is not None
    here = folder / "nginx"
    here.mkdir()
    port = configure(here, certificate, gateways)
    log = here / "log"
    with log.open("ab") as output:
        process = await asyncio.create_subprocess_exec(
            *(NGINX, "-c", str(here / "nginx.conf")), stdout=output, stderr=output
        )
    try:
        front = Front(f"https://localhost:{port}", certificate[0], log)

        async def up() -> bool:
            assert process.returncode is None, front.log
            try:
                async with front.client() as client:
                    return (await client.get("/livez")).status_code in {200, 503}
            except httpx.TransportError:
                return False

        await until(up, lambda: front.log)
        yield front
        for word in ("[emerg]", "[alert]", "[crit]"):
            assert word not in front.log, front.log
    finally:
        process.terminate()
        await process.wait()


@dataclass
class Reader:
    """One stream of a channel: what it has told, over all the times it was opened."""

    mirror: Mirror = field(default_factory=Mirror)
    opened: int = 0
    _parser: Parser = field(default_factory=Parser)

    def begin(self) -> None:
        self.opened += 1
        self.mirror.connected()
        self._parser = Parser()

    def feed(self, piece: bytes) -> None:
        for block in self._parser.feed(piece):
            self.mirror.take(block)


class Caller:
    """Follows a channel on many streams of one connection; each comes back with its last id."""

    def __init__(self, front: Front, address: str, channel: str, streams: int) -> None:
        self.readers = [Reader() for _ in range(streams)]
        self._front, self._address, self._target = front, address, following(channel)
        self._h2 = H2Connection()
        self._at: dict[int, Reader] = {}

    async def run(self, tasks: asyncio.TaskGroup) -> None:
        trusted = ssl.create_default_context(cafile=str(self._front.certificate))
        trusted.set_alpn_protocols(["h2"])
        parts = urlsplit(self._front.url)
        reader, self._writer = await asyncio.open_connection(
            "127.0.0.1",
            parts.port,
            ssl=trusted,
            server_hostname="localhost",
            local_addr=(self._address, 0),
        )
        try:
            self._h2.initiate_connection()
            for one in self.readers:
                self._open(one)
            while piece := await reader.read(64 * 1024):
                for event in self._h2.receive_data(piece):
                    self._take(event, tasks)
                self._writer.write(self._h2.data_to_send())
            raise AssertionError("nginx closed the connection")
        finally:
            self._writer.transport.abort()

    def _take(self, event: Event, tasks: asyncio.TaskGroup) -> None:
        if isinstance(event, ResponseReceived):
            assert dict(event.headers)[b":status"] == b"200", event.headers
            self._at[event.stream_id].begin()
        elif isinstance(event, DataReceived):
            self._at[event.stream_id].feed(event.data)
            self._h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, StreamEnded | StreamReset):
            tasks.create_task(self._again(self._at.pop(event.stream_id)))

    async def _again(self, reader: Reader) -> None:
        await asyncio.sleep(BACK_AFTER)
        self._open(reader)

    def _open(self, reader: Reader) -> None:
        headers = [(":method", "GET"), (":scheme", "https"), (":path", self._target)]
        headers += [(":authority", urlsplit(self._front.url).netloc), ("accept", EVENT_STREAM)]
        if reader.mirror.last_id is not None:
            headers.append(("last-event-id", reader.mirror.last_id))
        number = self._h2.get_next_available_stream_id()
        self._at[number] = reader
        self._h2.send_headers(number, headers, end_stream=True)
        self._writer.write(self._h2.data_to_send())


@asynccontextmanager
async def callers(
    front: Front, channel: str, number: int, streams: int
) -> AsyncIterator[list[Reader]]:
    """So many clients, each from an address of its own, with so many streams each; all follow.

    What one of them finds wrong ends the block.
    """
    found = [Caller(front, f"127.0.1.{one}", channel, streams) for one in range(1, number + 1)]
    readers = [reader for caller in found for reader in caller.readers]
    try:
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(one.run(tasks)) for one in found]
            await until(
                lambda: all(channel in one.mirror.at for one in readers), "all follow", limit=ALL
            )
            yield readers
            for task in running:
                task.cancel()
    except BaseExceptionGroup as group:
        raise group.exceptions[0] from None


async def reached(readers: Iterable[Reader], position: str) -> None:
    """Wait until all have got as far as a position."""
    behind: list[str | None] = []

    def none_behind() -> bool:
        behind[:] = [one.mirror.last_id for one in readers if one.mirror.last_id != position]
        return not behind

    await until(none_behind, lambda: f"all at {position}; {len(behind)} at {behind[:3]}", limit=ALL)
