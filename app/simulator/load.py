"""Load for benchmarks: ticker events of one market at an exact rate, each carrying its send time.

`price` is CLOCK_REALTIME in nanoseconds as digits, `volume` counts the events from 1; the other
fields stand still.
"""

import asyncio
import time

from app.simulator import wire
from app.simulator.exchange import Exchange
from app.simulator.listing import Market
from app.simulator.switches import LOAD

TURN = 0.001  # seconds between two bursts at most rates
IDLE = 0.05  # seconds between two looks at the switch


class Load:
    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._sent = 0

    async def run(self) -> None:
        """Follow the switch for ever."""
        while True:
            setting = self._exchange.switches.load
            if setting:
                await self._keep(setting)
            else:
                await asyncio.sleep(IDLE)

    async def _keep(self, setting: str) -> None:
        """Emit until the switch says something else; what fell behind is caught up."""
        found = LOAD.fullmatch(setting)
        if found is None:
            raise ValueError(f"load is {setting!r}")
        symbol, rate = found[1], int(found[2])
        if symbol not in self._exchange.listing.markets:
            self._exchange.listing.add(Market(symbol))
        clock = asyncio.get_running_loop().time
        start, emitted = clock(), 0
        while self._exchange.switches.load == setting:
            due = int((clock() - start) * rate)
            while emitted < due:
                emitted += 1
                self._emit(symbol)
            await asyncio.sleep(max(TURN, start + (emitted + 1) / rate - clock()))

    def _emit(self, symbol: str) -> None:
        self._sent += 1
        now = time.time_ns()
        data = {
            "symbol": symbol,
            "timestamp": now // 1_000_000_000,
            "price": str(now),
            "open": "1",
            "high": "1",
            "low": "1",
            "volume": str(self._sent),
            "quote_volume": "1",
            "price_change": "0",
        }
        self._exchange.publish(wire.event("ticker", data))
