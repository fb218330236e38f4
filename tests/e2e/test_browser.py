"""A real browser's EventSource: events, ids, and coming back by itself without a preflight."""

import asyncio
import json
import os
import re
import shutil
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from app.rights import keys
from tests.e2e.process import ROOT, following, soon, staged

pytestmark = pytest.mark.e2e

CHROMIUM = shutil.which("chromium")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
)

PAGE = """<!doctype html><meta charset="utf-8"><title>test</title><script>
const seen = {opens: 0, errors: 0, closed: 0, broken: 0,
              ids: [], prices: [], types: [], gateway: []};
let held = null;
const tell = () => fetch("/found", {method: "POST", body: JSON.stringify(seen)});
const source = new EventSource("STREAM");
source.onopen = () => { seen.opens++; tell(); };
source.onerror = () => { seen.errors++; seen.closed += source.readyState === 2; tell(); };
source.onmessage = () => { seen.gateway.push("a message without a name"); tell(); };
source.addEventListener("gateway", (event) => {
  const told = JSON.parse(event.data);
  seen.gateway.push(told.type + (told.reason ? " " + told.reason : ""));
  tell();
});
source.addEventListener("lastprice", (event) => {
  const envelope = JSON.parse(event.data);
  seen.broken += envelope.type === "update" && envelope.previous !== held;
  held = envelope.position;
  seen.types.push(envelope.type);
  seen.ids.push(event.lastEventId);
  seen.prices.push(envelope.data.price);
  tell();
});
</script>"""

TICKETS = """<!doctype html><meta charset="utf-8"><title>test</title><script>
GUIDE
const seen = {ids: [], prices: [], types: [], kinds: []};
followByTicket(["lastprice:BTC_USDT", "balance:*"], {"X-API-Key": "KEY"}, (envelope) => {
  seen.kinds.push(envelope.channel.split(":")[0]);
  seen.ids.push(envelope.position);
  if (envelope.data.price) {
    seen.types.push(envelope.type);
    seen.prices.push(envelope.data.price);
  }
  fetch("/found", {method: "POST", body: JSON.stringify(seen)});
}, "GATEWAY");
</script>"""


def guide() -> str:
    """The code for pages in the API guide."""
    text = (ROOT / "docs" / "api.md").read_text()
    return "\n".join(re.findall(r"^```js\n(.*?)^```", text, re.MULTILINE | re.DOTALL))


@dataclass
class Site:
    """Serves the page, and hears what it found."""

    url: str = ""
    page: str = ""
    found: dict[str, Any] = field(default_factory=dict)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
            length = next(iter(re.findall(r"content-length: (\d+)", head)), "0")
            if head.startswith("post /found "):
                found = json.loads(await reader.readexactly(int(length)))
                if len(found["ids"]) >= len(self.found.get("ids", ())):
                    self.found = found
            body = self.page.encode() if head.startswith("get / ") else b""
            writer.write(
                b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\nconnection: close\r\n"
                b"content-length: %d\r\n\r\n%b" % (len(body), body)
            )
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the browser changed its mind
        finally:
            writer.close()


@dataclass
class Road:
    """The network between browser and gateway: it can be cut, and notes what was asked."""

    port: int
    url: str = ""
    heads: list[str] = field(default_factory=list)
    links: list[asyncio.StreamWriter] = field(default_factory=list)
    spend: bool = False
    """Whether the next ticket is to be spent on its way."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.links.append(writer)
        there, back = await asyncio.open_connection("127.0.0.1", self.port)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._ask(reader, back))
            tasks.create_task(_carry(there, writer))

    async def _ask(self, reader: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        """Pass on one request after the other; none has a body."""
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                self.heads.append(head.decode("latin-1"))
                if b"ticket=" in head and self.spend:
                    self.spend = False
                    await self._spend(head)
                back.write(head)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # cut
        finally:
            back.transport.abort()

    async def _spend(self, head: bytes) -> None:
        """Be faster with somebody's ticket than they are."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(head)
        await reader.readuntil(b'"status"')
        writer.transport.abort()

    def cut(self) -> None:
        for writer in self.links:
            writer.transport.abort()
        self.links.clear()

    @property
    def last_ids(self) -> list[str | None]:
        """The Last-Event-ID of each request."""
        return [
            next(
                (
                    line.partition(": ")[2]
                    for line in head.splitlines()
                    if line.lower().startswith("last-event-id")
                ),
                None,
            )
            for head in self.heads
        ]


async def _carry(there: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while piece := await there.read(65536):
            writer.write(piece)
            await writer.drain()
    except ConnectionError:
        pass  # cut
    finally:
        writer.close()


@asynccontextmanager
async def listening(thing: Site | Road) -> AsyncIterator[None]:
    server = await asyncio.start_server(thing.serve, "127.0.0.1", 0)
    thing.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield
    finally:
        if isinstance(thing, Road):
            thing.cut()
        server.close()
        await server.wait_closed()


@asynccontextmanager
async def browser(url: str, folder: Path) -> AsyncIterator[None]:
    assert CHROMIUM is not None
    with (folder / "chromium.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            CHROMIUM,
            *FLAGS,
            f"--user-data-dir={folder / 'profile'}",
            "--remote-debugging-port=0",
            url,
            env=os.environ | {"HOME": str(folder)},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        yield
    finally:
        # a browser is many processes: its own session of them
        os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine: apt install chromium")
async def test_event_source_of_another_origin_resumes_by_itself(tmp_path: Path) -> None:
    site = Site()
    async with (
        listening(site),
        staged(cors_origins=site.url) as stage,
        listening(road := Road(int(stage.url.rsplit(":", 1)[1]))),
    ):
        site.page = PAGE.replace("STREAM", road.url + following("lastprice:BTC_USDT"))
        async with browser(site.url, tmp_path):
            await soon(lambda: site.found.get("opens") == 1, "the page opened its stream")
            for number in range(1, 6):
                stage.price(f"{number}.50")
            await soon(lambda: len(site.found["prices"]) == 5, "five events arrived")
            assert site.found["types"] == ["snapshot"] + ["update"] * 4
            assert site.found["prices"] == ["1.50", "2.50", "3.50", "4.50", "5.50"]
            last = site.found["ids"][-1]
            road.cut()
            for number in range(6, 9):
                stage.price(f"{number}.50")
            await soon(lambda: len(site.found["prices"]) == 8, "it came back for the rest")
        found = site.found
        assert found["prices"][5:] == ["6.50", "7.50", "8.50"]
        assert found["ids"] == sorted(found["ids"], key=lambda text: int(text.split("-")[1]))
        assert found["broken"] == 0
        assert found["closed"] == 0
        assert found["opens"] == 2
        assert set(found["gateway"]) == {"status"}, "resumed, not reset"
        assert [head.split()[0] for head in road.heads] == ["GET", "GET"], "no preflight"
        assert road.last_ids == [None, last]


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine: apt install chromium")
async def test_event_source_waits_where_it_is_told_to_come_later(tmp_path: Path) -> None:
    """A limit is no error to it: it stays open to trying again."""
    site = Site()
    async with (
        listening(site),
        staged(cors_origins=site.url, max_streams=1) as stage,
        listening(road := Road(int(stage.url.rsplit(":", 1)[1]))),
        stage.stream("lastprice:*") as first,
    ):
        await first.gateway("status")
        site.page = PAGE.replace("STREAM", road.url + following("lastprice:BTC_USDT"))
        async with browser(site.url, tmp_path):
            await soon(lambda: site.found.get("errors"), "the page was sent away")
        assert site.found["gateway"] == ["bye overload"]
        assert site.found["closed"] == 0, "it comes back by itself"


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine: apt install chromium")
async def test_the_page_of_the_guide_follows_by_tickets(tmp_path: Path) -> None:
    """Also past a cut, and a ticket that somebody else has spent."""
    site = Site()
    text, key = keys.create("page", ["market", "account"])
    with keys.changed(tmp_path / "keys.json") as known:
        known.append(key)
    async with (
        listening(site),
        staged(
            {"account": True}, cors_origins=site.url, api_keys_file=tmp_path / "keys.json"
        ) as stage,
        listening(road := Road(int(stage.url.rsplit(":", 1)[1]))),
    ):
        page = TICKETS.replace("GUIDE", guide()).replace("GATEWAY", road.url)
        site.page = page.replace("KEY", text)
        road.spend = True
        async with browser(site.url, tmp_path):
            await soon(lambda: "balance" in site.found.get("kinds", ()), "a second ticket is good")
            for number in range(1, 4):
                stage.price(f"{number}.50")
            await soon(lambda: len(site.found["prices"]) == 3, "three events arrived")
            road.cut()
            for number in range(4, 6):
                stage.price(f"{number}.50")
            await soon(lambda: len(site.found["prices"]) == 5, "it came back for the rest")
    assert site.found["prices"] == [f"{number}.50" for number in range(1, 6)]
    assert site.found["types"] == ["snapshot"] + ["update"] * 4, "resumed, not begun anew"
    targets = [head.split()[1] for head in road.heads if "ticket=" in head]
    assert len(targets) == 3
    assert len({*re.findall(r"ticket=([\w-]+)", " ".join(targets))}) == 3, "each only once"
    after = [target.partition("&after=")[2] for target in targets]
    assert after[:2] == ["", ""]
    assert after[2] in site.found["ids"]
    assert text not in "".join(targets)
