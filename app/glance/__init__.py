"""A running gateway at a glance, in a terminal: ``sluice status``.

A client like any other: of the gateway it knows nothing but the contract. Looks are taken over one
kept connection, so that of several workers behind an address the same one answers.
"""

import asyncio
import sys
import time
from dataclasses import replace

import httpx
import msgspec
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console
from rich.live import Live

from app.errors import GatewayError
from app.glance.figures import Look, Status, rates, totals
from app.glance.view import render
from app.stopping import stopped_by_signals
from app.tail.grid import clean

REFRESH = 1.0
"""Seconds between two looks."""
TIMEOUT = 5.0
"""Seconds that an answer may take."""
WIDTH = 110
"""Cells of a line where no terminal says how many there are."""


class Refused(GatewayError):
    """It will not tell, however often it is asked."""


class Away(GatewayError):
    """It does not answer now."""


async def status(
    url: str = "http://127.0.0.1:8000",
    *,
    once: bool = False,
    as_json: bool = False,
    key: str | None = None,
) -> int:
    """Show how the gateway at ``url`` stands until stopped; the exit status.

    ``once``, or an output that is no terminal: one plain snapshot. ``as_json``: the same as a JSON
    object. 1 if the gateway refuses or, for a snapshot, is away. ``key`` is an API key or a JWT
    (secret).
    """
    console = Console()
    limits = httpx.Limits(max_connections=1)
    headers = {} if key is None else {"authorization": f"Bearer {key}"}
    refused = ""
    with stopped_by_signals():
        try:
            async with httpx.AsyncClient(
                base_url=url, timeout=TIMEOUT, limits=limits, headers=headers, trust_env=False
            ) as client:
                if once or as_json or not console.is_terminal:
                    await _tell(client, url, as_json)
                else:
                    await _show(client, url, console)
        except (Refused, Away) as error:
            refused = str(error)
        except (httpx.InvalidURL, UnicodeError) as error:
            refused = f"{url} is no http:// or https:// address: {error}"
    if refused:
        sys.stderr.write(f"sluice status: {clean(refused)}\n")
        return 1
    return 0


async def _tell(client: httpx.AsyncClient, url: str, as_json: bool) -> None:
    """One snapshot, of two looks: rates need a time."""
    before = await look(client)
    await asyncio.sleep(REFRESH)
    now = await look(client)
    if as_json:
        told = {
            **now.raw,
            "ready": not now.unready,
            "ready_for_traffic": not now.closed,
            "rates": rates(before, now),
        }
        sys.stdout.write(msgspec.json.encode(told).decode() + "\n")
        return
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    console.print(render(now, rates(before, now), url=url, now=time.time(), width=console.width))


async def _show(client: httpx.AsyncClient, url: str, console: Console) -> None:
    before: Look | None = None
    last: Look | None = None
    with Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            try:
                before, last = last, await look(client)
            except Away as away:
                if last is not None:
                    last = replace(last, away=str(away))
                else:
                    last = Look.of_nobody(str(away))
            width, height = console.size
            drawn = render(
                last, rates(before, last), url=url, now=time.time(), width=width, height=height
            )
            live.update(drawn, refresh=True)
            await asyncio.sleep(REFRESH)


async def look(client: httpx.AsyncClient) -> Look:
    """Ask for everything that is shown. Raises Refused and Away."""
    answer = await _ask(client, "/v1/status")
    try:
        told = msgspec.json.decode(answer.content)
        known = msgspec.convert(told, Status)
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError) as error:
        raise Refused(f"{answer.url} is no status of a gateway like this one: {error}") from None
    metrics = await _ask(client, "/metrics")
    counters = totals(
        (sample.name, sample.labels, sample.value)
        for family in text_string_to_metric_families(metrics.text)
        for sample in family.samples
        if not sample.name.endswith("_bucket")
    )
    return Look(
        at=time.monotonic(),
        status=known,
        raw=told,
        counters=counters,
        unready=await _reason(client, "/readyz"),
        closed=await _reason(client, "/readyz?for=traffic"),
    )


async def _ask(client: httpx.AsyncClient, path: str) -> httpx.Response:
    answer = await _get(client, path)
    if answer.status_code in {401, 403}:
        raise Refused(
            f"{answer.url} answered {answer.status_code}: {_detail(answer)}; SLUICE_CLIENT_KEY is "
            "to hold an API key or a JWT of scope metrics or admin"
        )
    if answer.status_code >= 500:
        raise Away(f"{answer.url} answered {answer.status_code}: {_detail(answer)}")
    if answer.status_code != 200:
        raise Refused(f"{answer.url} answered {answer.status_code}, expected 200 of a gateway")
    return answer


async def _get(client: httpx.AsyncClient, path: str) -> httpx.Response:
    try:
        return await client.get(path)
    except httpx.UnsupportedProtocol as error:
        raise Refused(f"{client.base_url} is no http:// or https:// address: {error}") from None
    except httpx.TransportError as error:
        said = str(error) or type(error).__name__
        raise Away(f"no gateway answers at {client.base_url}: {said}") from None


async def _reason(client: httpx.AsyncClient, path: str) -> str:
    """Why it is not ready; empty if it is."""
    answer = await _get(client, path)
    return "" if answer.status_code == 200 else _detail(answer)


def _detail(answer: httpx.Response) -> str:
    """The ``detail`` of a problem (RFC 9457)."""
    try:
        told = answer.json()
    except ValueError:
        return answer.reason_phrase
    found = told.get("detail") if isinstance(told, dict) else None
    return str(found or answer.reason_phrase)
