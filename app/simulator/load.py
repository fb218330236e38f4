"""Load for benchmarks: events at an exact rate, each carrying its send time.

`MARKET:RATE` is tickers of one market, `MARKETS:RATE` all four public kinds of so many markets,
M0_USDT and so on, in turn. `price`, or the value of a book's one ask, is CLOCK_REALTIME in
nanoseconds as digits; a ticker's `volume` counts all events from 1; the other fields stand still.
"""

import asyncio
import itertools
import time
from collections.abc import Callable, Iterator

from app.simulator import wire
from app.simulator.exchange import Exchange
from app.simulator.listing import Market
from app.simulator.switches import LOAD
from app.simulator.truth import depth
from app.simulator.wire import Event

TURN = 0.001  # seconds between two bursts at most rates
IDLE = 0.05  # seconds between two looks at the switch
SECOND = 1_000_000_000  # in nanoseconds


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
        turns, rate = self._turns(found[1]), int(found[2])
        clock = asyncio.get_running_loop().time
        start, emitted = clock(), 0
        while self._exchange.switches.load == setting:
            due = int((clock() - start) * rate)
            while emitted < due:
                emitted += 1
                self._emit(*next(turns))
            await asyncio.sleep(max(TURN, start + (emitted + 1) / rate - clock()))

    def _turns(self, what: str) -> Iterator[tuple["Make", str]]:
        """Whose event is next, for ever; the markets are listed and their books opened."""
        if not what.isdigit():
            self._list(what)
            return itertools.cycle([(_ticker, what)])
        symbols = [f"M{number}_USDT" for number in range(int(what))]
        for symbol in symbols:
            self._list(symbol)
            if f"{symbol}:0" not in self._exchange.truth.books:
                self._exchange.publish(_depth(symbol, time.time_ns(), self._sent, full=True))
        kinds: tuple[Make, ...] = (_lastprice, _ticker, _trade, _depth)
        return itertools.cycle([(make, symbol) for make in kinds for symbol in symbols])

    def _list(self, symbol: str) -> None:
        if symbol not in self._exchange.listing.markets:
            self._exchange.listing.add(Market(symbol))

    def _emit(self, make: "Make", symbol: str) -> None:
        self._sent += 1
        self._exchange.publish(make(symbol, time.time_ns(), self._sent))


Make = Callable[[str, int, int], Event]
"""An event of a market, from the time in nanoseconds and its number."""


def _lastprice(symbol: str, now: int, _number: int) -> Event:
    data = {"symbol": symbol, "timestamp": now // SECOND, "price": str(now)}
    return wire.event("lastprice", data)


def _ticker(symbol: str, now: int, number: int) -> Event:
    data = {
        "symbol": symbol,
        "timestamp": now // SECOND,
        "price": str(now),
        "open": "1",
        "high": "1",
        "low": "1",
        "volume": str(number),
        "quote_volume": "1",
        "price_change": "0",
    }
    return wire.event("ticker", data)


def _trade(symbol: str, now: int, _number: int) -> Event:
    row = {"price": now, "quantity": 1, "timestamp": now // SECOND, "direction": "buy"}
    return wire.event("trade", {"symbol": symbol, "timestamp": now // SECOND, "trades": [row]})


def _depth(symbol: str, now: int, _number: int, *, full: bool = False) -> Event:
    return depth(f"{symbol}:0", now // SECOND, ([("2", str(now))], [("1", "1")]), full=full)
