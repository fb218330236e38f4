"""A made-up exchange for property tests: random but right events, on few channels."""

from dataclasses import dataclass, field

from hypothesis import strategies as st

from app.domain.channel import Channel, Kind, depth
from app.domain.event import Event
from tests.given import book, price, row, ticker, trades

MARKETS = ("BTC_USDT", "ETH_USDT")
KINDS = (Kind.LASTPRICE, Kind.TICKER, Kind.TRADE, Kind.DEPTH)
CHANNELS = tuple(
    depth(market, 0) if kind is Kind.DEPTH else Channel(kind, market)
    for kind in KINDS
    for market in MARKETS
)

ASK_PRICES = st.sampled_from(["100", "100.0", "100.5", "99.9", "101", "0101"])
BID_PRICES = st.sampled_from(["99", "99.00", "99.5", "99.9", "9", "100"])
VALUES = st.sampled_from(["0", "0.000", "1", "2.50"])


def sides(prices: st.SearchStrategy[str]) -> st.SearchStrategy[list[tuple[str, str]]]:
    return st.lists(st.tuples(prices, VALUES), max_size=3)


@dataclass(frozen=True)
class Fact:
    """What happens on a channel; ``breaks``: something may have been missed before it."""

    channel: Channel
    breaks: bool
    full: bool
    asks: list[tuple[str, str]]
    bids: list[tuple[str, str]]


FACTS = st.builds(
    Fact,
    st.sampled_from(CHANNELS),
    st.sampled_from([False] * 9 + [True]),
    st.booleans(),
    sides(ASK_PRICES),
    sides(BID_PRICES),
)


@dataclass
class Exchange:
    """Turns facts into events, each with a time not before the last."""

    time: int = 1000
    runs: dict[Channel, int] = field(default_factory=dict)
    _number: int = 0

    def event(self, fact: Fact) -> Event:
        self._number += 1
        self.time += self._number % 2
        market = fact.channel.market
        assert market is not None
        run = self.runs[fact.channel] = self.runs.get(fact.channel, 1) + fact.breaks
        number = str(self._number)
        match fact.channel.kind:
            case Kind.LASTPRICE:
                return price(market, number, time=self.time, continuity=run)
            case Kind.TICKER:
                return ticker(market, number, time=self.time, continuity=run)
            case Kind.TRADE:
                rows = [row(number, time=self.time), row(number + ".5", time=self.time)]
                return trades(market, rows, time=self.time, continuity=run)
            case _:
                return book(
                    market, fact.asks, fact.bids, full=fact.full, time=self.time, continuity=run
                )
