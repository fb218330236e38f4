"""Plays a recording into the exchange, at any speed, once or for ever."""

import asyncio
import math

from app.simulator import wire
from app.simulator.exchange import Exchange
from app.simulator.recording import read, scan, shifted
from app.simulator.source import Source
from app.simulator.switches import Options

YIELD_EVERY = 50  # messages between two chances for everyone else, when in a hurry


class Playback(Source):
    """`ended` once a pass is over that is not looped; `play` then starts the next one.

    Each pass begins with the recording's own full reloads, so books are right over the seam.
    """

    def __init__(self, options: Options, exchange: Exchange) -> None:
        super().__init__(options, exchange)
        if options.recording is None:
            raise ValueError("expected a recording")
        self._path = options.recording
        self._speed, self._loop = options.speed, options.loop
        contents = scan(self._path)
        self._duration = math.ceil(contents.duration) + 1
        for market in contents.markets:
            exchange.listing.add(market)

    async def run(self) -> None:
        shift = 0
        while True:
            await self._go.wait()
            self.ended = False
            await self._pass(shift)
            shift += self._duration
            if not self._loop:
                self.ended = True
                self._go.clear()

    async def _pass(self, shift: int) -> None:
        clock = asyncio.get_running_loop().time
        origin = clock()
        for number, (at, text) in enumerate(read(self._path)):
            if not self._go.is_set():
                await self._go.wait()
                origin = clock() - (at / self._speed if self._speed else 0.0)
            ahead = origin + at / self._speed - clock() if self._speed else 0.0
            if ahead > 0:
                await asyncio.sleep(ahead)
            elif number % YIELD_EVERY == 0:
                await asyncio.sleep(0)
            self._exchange.publish(wire.read_event(shifted(text, shift)))
