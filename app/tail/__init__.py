"""Follows channels of a running gateway in a terminal: ``sluice tail``.

A client like any other: of the gateway it knows nothing but the contract.
"""

import asyncio
import os
import sys
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import TextIO

import httpx
from rich.console import Console
from rich.live import Live

from app.stopping import stopped_by_signals
from app.tail.board import Board, Unreadable, decode
from app.tail.events import TIMEOUT, Cut, Item, Message, Opened, Refused, follow
from app.tail.grid import clean
from app.tail.link import Link, say
from app.tail.view import render

REFRESH = 0.2
"""Seconds between two drawings."""


async def tail(
    channels: Sequence[str],
    url: str = "http://127.0.0.1:8000",
    as_json: bool = False,
    *,
    key: str | None = None,
) -> int:
    """Follow ``channels`` at the gateway ``url`` until stopped; the exit status.

    ``as_json``, or an output that is no terminal: an envelope a line on standard output, everything
    else on standard error. 0 after Ctrl-C, SIGTERM or a closed pipe, 1 if the gateway refuses.
    ``key`` is an API key (secret).
    """
    console = Console()
    headers = {} if key is None else {"authorization": f"Bearer {key}"}
    refused = ""
    with stopped_by_signals():
        try:
            async with (
                httpx.AsyncClient(timeout=TIMEOUT, headers=headers) as client,
                aclosing(follow(client, url, channels)) as items,
            ):
                if as_json or not console.is_terminal:
                    await write_lines(items, sys.stdout, sys.stderr)
                else:
                    await _show(items, console)
        except* Refused as group:
            refused = str(group.exceptions[0])
        except* BrokenPipeError:
            _drop_output()
    if refused:
        sys.stderr.write(f"sluice tail: {clean(refused)}\n")
        return 1
    return 0


async def write_lines(items: AsyncGenerator[Item], out: TextIO, err: TextIO) -> None:
    """Write each envelope as it came, on one line, flushed; what is said of the stream to ``err``.

    A reader that is slow slows this one, and with it the stream: the gateway then ends it, and it
    is resumed from where it was.
    """
    async for item in items:
        if isinstance(item, Message) and item.event != "gateway":
            out.write(item.data.replace("\n", " ") + "\n")
            out.flush()
        else:
            err.write(f"sluice tail: {clean(say(item))}\n")
            err.flush()


async def _show(items: AsyncGenerator[Item], console: Console) -> None:
    screen = Screen()
    with Live(console=console, screen=True, auto_refresh=False) as live:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(_draw(screen, live, console), name="draw")
            async for item in items:
                screen.take(item, time.time())


async def _draw(screen: "Screen", live: Live, console: Console) -> None:
    while True:
        width, height = console.size
        live.update(
            render(screen.board, screen.link, now=time.time(), width=width, height=height),
            refresh=True,
        )
        await asyncio.sleep(REFRESH)


class Screen:
    """What is shown: the board and the link, fed with what the stream brings."""

    def __init__(self) -> None:
        self.board = Board()
        self.link = Link()

    def take(self, item: Item, now: float) -> None:
        """Take in an item of the stream at ``now``, Unix seconds."""
        if isinstance(item, Opened):
            self.link.opened(item, now)
        elif isinstance(item, Cut):
            self.link.cut(item, now)
        elif item.event == "gateway":
            self.link.control(item, now)
        else:
            self._take_event(item, now)

    def _take_event(self, message: Message, now: float) -> None:
        try:
            envelope = decode(message.data)
            whole = envelope.gap or not self.board.follows(envelope)
            if not self.board.apply(envelope, now):
                return
        except Unreadable as error:
            self.link.note(f"unreadable event: {error}", now)
            return
        self.link.heard(envelope.position, now)
        if whole:
            self.link.gap(envelope.channel, now)


def _drop_output() -> None:
    """Nobody reads any more: let the interpreter's last flush go nowhere, silently."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
