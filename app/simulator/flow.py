"""One generated market: random orders round a wandering fair price, matched in a real book.

Rules: floats decide, whole ticks and lots are what happens; same seed, same market. PURE.
"""

import math
import random
from dataclasses import dataclass

from app.simulator.matching import Fill, Matching, Resting, Side

DEPTH = 110  # orders a side aims at
FEWEST = 30  # orders a side is never cancelled or traded below
REVERSION = 0.0005  # a second, towards the first price
HALF_SPREAD = 0.00003  # of the price
FARTHEST = 0.03  # of the price


@dataclass(frozen=True, slots=True)
class Spec:
    """What a market is like. `places` are decimals of price and size, `scales` its price steps."""

    symbol: str
    price: float
    places: tuple[int, int]
    scales: tuple[int, ...]  # in ticks
    lot: float  # a usual order's size
    share: float  # of all activity
    beta: float = 1.0  # how much the common factor moves it
    own: float = 0.00005  # its own standard deviation a second


class Flow:
    """`step` lets a little time pass; fills come out, the book is `matching`."""

    def __init__(self, spec: Spec, seed: int) -> None:
        self.spec = spec
        self._random = random.Random(f"{seed} {spec.symbol}")
        self.matching = Matching()
        self._tick: int = 10 ** spec.places[0]
        self._lots: float = spec.lot * 10 ** spec.places[1]
        self._anchor = math.log(spec.price)
        self._fair = self._anchor
        for _ in range(DEPTH):
            self._rest("buy")
            self._rest("sell")

    @property
    def fair(self) -> int:
        """In ticks."""
        return max(2, round(math.exp(self._fair) * self._tick))

    def step(self, seconds: float, common: float, actions: int) -> list[Fill]:
        """Move the fair price (`common` is the move all markets share), then act."""
        noise = self._random.gauss(0.0, self.spec.own * math.sqrt(seconds))
        pull = (self._anchor - self._fair) * REVERSION * seconds
        self._fair += self.spec.beta * common + noise + pull
        fills: list[Fill] = []
        for _ in range(actions):
            fills += self._correct()
            fills += self._act()
        return fills

    def size(self) -> int:
        """A usual order's size in lots, now and then a large one."""
        return max(1, round(self._lots * self._random.lognormvariate(0.0, 1.1)))

    def _correct(self) -> list[Fill]:
        """Someone takes what is offered on the wrong side of the fair price."""
        ask, bid, fair = self.matching.best("sell"), self.matching.best("buy"), self.fair
        if ask is not None and ask < fair and self._thick("sell"):
            return self.matching.take("buy", 3 * self.size(), fair)
        if bid is not None and bid > fair and self._thick("buy"):
            return self.matching.take("sell", 3 * self.size(), fair)
        return []

    def _act(self) -> list[Fill]:
        """One participant's move: a market order, or some orders placed and taken back."""
        side: Side = self._random.choice(("buy", "sell"))
        against: Side = "sell" if side == "buy" else "buy"
        if self._random.random() < 0.3 and self._thick(against):
            return self.matching.take(side, self.size())
        fills: list[Fill] = []
        for _ in range(self._random.randint(1, 3)):
            fills += self._rest(self._random.choice(("buy", "sell")))
        for each in ("buy", "sell"):
            self._thin(each)
        return fills

    def _rest(self, side: Side) -> list[Fill]:
        """A limit order at a power-law distance from the fair price."""
        distance = HALF_SPREAD * self._random.paretovariate(0.9) * self._random.uniform(0.5, 1.5)
        away = math.exp(min(distance, FARTHEST))
        exact = self.fair / away if side == "buy" else self.fair * away
        price = max(1, math.floor(exact) if side == "buy" else math.ceil(exact))
        fills, _ = self.matching.limit(side, price, self.size())
        return fills

    def _thin(self, side: Side) -> None:
        """Take orders back down to the depth aimed at, and now and then one more."""
        while True:
            mine = [order for order in self.matching.orders.values() if order.side == side]
            surplus = len(mine) - DEPTH
            if surplus <= 0 and (len(mine) <= FEWEST or self._random.random() < 0.7):
                return
            self._take_back(mine)

    def _take_back(self, orders: list[Resting]) -> None:
        """Of three, the one farthest off goes: the book stays near the market."""
        free = [order for order in orders if order.owner is None]
        chosen = self._random.choices(free, k=3)
        self.matching.remove(max(chosen, key=lambda order: abs(order.price - self.fair)))

    def _thick(self, side: Side) -> bool:
        return self.matching.count(side) > FEWEST
