"""What every source of events can: be held, be let go, wait for the first subscriber."""

import asyncio

from app.simulator.exchange import Exchange
from app.simulator.switches import Options


class Source:
    """`ended` once there is nothing more to come unless `play` begins anew."""

    def __init__(self, options: Options, exchange: Exchange) -> None:
        self._exchange = exchange
        self._go = asyncio.Event()
        self.ended = False
        if options.start == "now":
            self._go.set()
        elif options.start == "on-subscribe":
            exchange.on_subscribe = self._first_subscribe

    @property
    def playing(self) -> bool:
        return self._go.is_set()

    def play(self) -> None:
        self._go.set()

    def pause(self) -> None:
        self._go.clear()

    def _first_subscribe(self) -> None:
        self._exchange.on_subscribe = lambda: None
        self._go.set()
