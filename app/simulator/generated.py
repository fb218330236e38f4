"""The generated exchange: several markets that move together, and one account that trades on them.

Rules: `turn` is a pure function of the seed and how many turns there were; `run` only keeps time.
"""

import asyncio
import math
import random
from collections.abc import Iterator

from app.simulator.exchange import Exchange
from app.simulator.flow import Spec
from app.simulator.market import GeneratedMarket
from app.simulator.source import Source
from app.simulator.switches import Options
from app.simulator.trader import Trader
from app.simulator.wire import Event

TURN = 0.1  # seconds between two looks at one market, at lifelike rates
LIFELIKE = 100.0  # events a second up to which that holds; faster markets are looked at oftener
SHORTEST = 0.005
COMMON = 0.00008  # standard deviation a second of what moves them all
LATE = 2.0  # seconds behind after which time is skipped instead of caught up
ACTIONS = 0.25  # actions of participants per event wanted

SPECS = (
    Spec("BTC_USDT", 107_150.0, (2, 6), (1, 10, 100), lot=0.01, share=0.3),
    Spec("ETH_USDT", 2_450.0, (2, 4), (1, 10, 100), lot=0.4, share=0.2, beta=1.2),
    Spec("SOL_USDT", 148.3, (3, 3), (1, 10, 100), lot=6.0, share=0.12, beta=1.4),
    Spec("XRP_USDT", 2.187, (5, 1), (1, 10, 100), lot=400.0, share=0.1, beta=1.1),
    Spec("TRX_USDT", 0.27269, (5, 1), (1, 10), lot=3000.0, share=0.08, beta=0.6),
    Spec("DOGE_USDT", 0.16421, (6, 0), (1, 10, 100), lot=5000.0, share=0.08, beta=1.5),
    Spec("LTC_USDT", 84.12, (3, 4), (1, 10), lot=9.0, share=0.06),
    Spec("TON_USDT", 2.8734, (4, 2), (1, 10), lot=300.0, share=0.06, beta=0.9),
)


class Generated(Source):
    """Each turn serves one market, so that the markets' looks are spread over time."""

    def __init__(self, options: Options, exchange: Exchange) -> None:
        super().__init__(options, exchange)
        self._random = random.Random(f"{options.seed} common")
        self._rate = options.rate
        self._period = max(SHORTEST, TURN * min(1.0, LIFELIKE / max(options.rate, 1.0)))
        self._seed = options.seed
        self._now = exchange.now()
        self._turns = 0
        self._common = 0.0  # how far all markets together have moved
        self._seen: dict[str, float] = {}  # how much of that each market has followed
        self.markets: list[GeneratedMarket] = []
        for spec in SPECS:
            self._open(spec)
        self._trader = Trader(exchange.account, options.seed) if options.account else None

    def turn(self) -> Iterator[Event]:
        """What happens on the next market until it is looked at again."""
        market = self.markets[self._turns % len(self.markets)]
        self._turns += 1
        step = self._period / len(self.markets)
        self._now += step
        self._common += self._random.gauss(0.0, COMMON * math.sqrt(step))
        common = self._common - self._seen.get(market.spec.symbol, 0.0)
        self._seen[market.spec.symbol] = self._common
        mean = self._rate * ACTIONS * market.spec.share * self._period
        fills = market.flow.step(self._period, common, _poisson(self._random, mean))
        if self._trader is not None and self._rate:
            yield from self._trader.filled(market, fills, self._now)
            own, events = self._trader.step(market, self._period, self._now)
            yield from events
            fills = [*fills, *own]
        yield from market.told(fills, self._now)

    async def run(self) -> None:
        clock = asyncio.get_running_loop().time
        due = clock()
        while True:
            if not self._go.is_set():
                await self._go.wait()
                due = clock()
            for event in self.turn():
                self._exchange.publish(event)
            due += self._period / len(self.markets)
            behind = clock() - due
            if behind > LATE:
                self._now += behind
                due = clock()
            await asyncio.sleep(max(0.0, -behind))

    def _open(self, spec: Spec) -> None:
        market = GeneratedMarket(spec, self._seed, self._now)
        self.markets.append(market)
        self._exchange.listing.add(market.listed)
        for event in market.told([], self._now):
            self._exchange.publish(event)


def _poisson(chance: random.Random, mean: float) -> int:
    """How many events of a rate fall into one turn."""
    limit, product, count = math.exp(-min(mean, 500.0)), chance.random(), 0
    while product > limit:
        product *= chance.random()
        count += 1
    return count
