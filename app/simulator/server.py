"""Puts the exchange together and serves it, in a test's own loop or as a process.

Rules: every task here belongs to one TaskGroup; leaving ends the port, the sockets and the tasks.
"""

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from decimal import Decimal
from types import TracebackType
from typing import Self

from app.simulator.control import Control
from app.simulator.exchange import Exchange
from app.simulator.generated import Generated
from app.simulator.http import Http
from app.simulator.load import Load
from app.simulator.playback import Playback
from app.simulator.switches import Options

SWEEP, SWEEPS = 0.25, 8  # idle sockets are looked for this often, and so often in one idle time

FUNDS = {"USDT": "40000", "BTC": "0.5", "ETH": "8", "SOL": "120", "LTC": "150"}
OTHER_FUNDS = "9000"


class Simulator:
    """`async with Simulator(Options(port=0)) as simulator:` the exchange at `simulator.url`."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.port = options.port
        self.exchange = Exchange(options)
        make = Generated if options.recording is None else Playback
        self._source = make(options, self.exchange)
        for currency in self.exchange.listing.currencies:
            amount = FUNDS.get(currency, OTHER_FUNDS)
            self.exchange.account.fund(currency, Decimal(amount), self.exchange.now())
        self.control = Control(self.exchange, self._source)
        self._doors: set[Http] = set()
        self._stack = AsyncExitStack()

    @property
    def url(self) -> str:
        """The base of all three REST hosts."""
        return f"http://{self.options.host}:{self.port}"

    @property
    def ws_url(self) -> str:
        """Where the socket is, without the token."""
        return f"ws://{self.options.host}:{self.port}/ws"

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(
            lambda: Http(self.exchange, self.control, self._doors),
            self.options.host,
            self.options.port,
        )
        self._stack.callback(self._end, server)
        self.port = server.sockets[0].getsockname()[1]
        self.control.on_away = self._shut_doors
        group = await self._stack.enter_async_context(asyncio.TaskGroup())
        for run in (self._source.run, Load(self.exchange).run, self._sweep):
            self._stack.callback(group.create_task(run()).cancel)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # The body's own error passes as it is: only a task's failure makes a group.
        await self._stack.aclose()

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(min(SWEEP, self.exchange.switches.idle_close / SWEEPS + 0.01))
            self.exchange.sweep()

    def _shut_doors(self) -> None:
        """Abort the HTTP connections that are not at the control endpoint just now."""
        for door in list(self._doors):
            if not door.controlling:
                door.shut()

    def _end(self, server: asyncio.Server) -> None:
        server.close()
        for client in list(self.exchange.clients.values()):
            client.line.abort()
        for door in list(self._doors):
            door.shut()


async def serve(options: Options, *, ready: Callable[[int], None] | None = None) -> None:
    """Be the exchange until cancelled; `ready` is told the port once it listens."""
    async with Simulator(options) as simulator:
        if ready is not None:
            ready(simulator.port)
        await asyncio.Event().wait()
