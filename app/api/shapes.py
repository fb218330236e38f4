"""The shapes of answers and events, for the OpenAPI document only: nothing is built of these."""

from typing import Annotated, Literal

from pydantic import BaseModel, Field

from app.api.holdings import (
    Balance,
    DealChange,
    DealList,
    Deals,
    OrderAnswer,
    OrderChange,
    OrderList,
    Orders,
)
from app.api.terms import Amount, Direction, Levels, Market, PositionText, Timestamp
from app.domain.channel import Kind


class LastPrice(BaseModel):
    """The price of the last trade."""

    symbol: Market
    timestamp: Timestamp
    price: Annotated[Amount, Field(description="In quote currency")]


class Ticker(BaseModel):
    """A market at a glance."""

    symbol: Market
    timestamp: Timestamp
    price: Annotated[Amount, Field(description="Last price, in quote currency")]
    open: Annotated[Amount, Field(description="In quote currency")]
    high: Annotated[Amount, Field(description="In quote currency")]
    low: Annotated[Amount, Field(description="In quote currency")]
    volume: Annotated[Amount, Field(description="In base currency")]
    quote_volume: Annotated[Amount, Field(description="In quote currency")]
    price_change: Annotated[Amount, Field(description="From `open`, in percent")]


class Trade(BaseModel):
    """One trade."""

    price: Annotated[Amount, Field(description="In quote currency")]
    quantity: Annotated[Amount, Field(description="In base currency")]
    timestamp: Timestamp
    direction: Annotated[Direction, Field(description="The taker's side")]


class Trades(BaseModel):
    """snapshot: the last trades, newest first. update: what came, in the exchange's order."""

    symbol: Market
    timestamp: Annotated[int | None, Field(description="Unix seconds; only in an update")] = None
    trades: Annotated[list[Trade], Field(max_length=100)]


class Book(BaseModel):
    """A whole order book, best first on each side."""

    symbol: Market
    scale_index: Annotated[int, Field(description="An index of the market's scales")]
    timestamp: Timestamp
    asks: Levels
    bids: Levels


class BookChange(BaseModel):
    """The levels of an order book that changed; a value of `"0"` removes its level."""

    symbol: Market
    scale_index: Annotated[int, Field(description="An index of the market's scales")]
    timestamp: Timestamp
    full_reload: bool
    asks: Levels = []
    bids: Levels = []


class _Envelope(BaseModel):
    channel: Annotated[str, Field(examples=["ticker:BTC_USDT"])]
    position: PositionText
    time: Annotated[int | None, Field(description="The exchange's time in Unix seconds")]
    received: Annotated[float, Field(description="When the gateway read it, Unix seconds")]
    gap: Annotated[
        Literal[True] | None,
        Field(description="Before this something may have been missed; absent otherwise"),
    ] = None
    origin: Annotated[
        Literal["reconcile"] | None, Field(description="Learnt from REST; absent otherwise")
    ] = None


class _Snapshot(_Envelope):
    type: Literal["snapshot"]
    previous: Annotated[None, Field(description="A snapshot follows nothing")]


class _Update(_Envelope):
    type: Literal["update"]
    previous: Annotated[
        PositionText, Field(description="The position of the event before it on the channel")
    ]


class _State(_Snapshot):
    age: Annotated[float, Field(ge=0, description="Seconds since `received`")]
    stale: Annotated[bool, Field(description="Whether the upstream does not confirm it")]


class Problem(BaseModel):
    """An error (RFC 9457)."""

    type: Annotated[
        str,
        Field(
            description="`/problems/` and the title with hyphens, or `about:blank`",
            examples=["/problems/unknown-channel"],
        ),
    ]
    title: Annotated[str, Field(examples=["unknown channel"])]
    status: int
    detail: str


class MarketInfo(BaseModel):
    """A market, as the exchange gives it: all text; sizes and precisions are decimal."""

    id: str
    symbol: Market
    baseCurrency: str
    quoteCurrency: str
    baseMinSize: Annotated[Amount, Field(description="In base currency")]
    quoteMinSize: Annotated[Amount, Field(description="In quote currency")]
    baseMaxSize: Annotated[Amount, Field(description="In base currency")]
    quoteMaxSize: Annotated[Amount, Field(description="In quote currency")]
    basePrec: Annotated[str, Field(description="Digits of an amount")]
    quotePrec: Annotated[str, Field(description="Digits of a price")]


class Scale(BaseModel):
    """A price step of a market's order books."""

    scale: Annotated[Amount, Field(description="The step, in quote currency", examples=["0.01"])]
    index: Annotated[int, Field(description="What a depth channel names it by")]


class MarketList(BaseModel):
    """All markets."""

    data: list[MarketInfo]


class MarketAnswer(BaseModel):
    """One market."""

    data: MarketInfo


class ScaleList(BaseModel):
    """The scales of a market."""

    data: list[Scale]


class Alive(BaseModel):
    """The process lives."""

    status: Literal["alive"]


class Ready(BaseModel):
    """The process is ready."""

    status: Literal["ready"]


Upstream = Literal["live", "degraded", "down"]


class UpstreamStatus(BaseModel):
    """How the exchange is heard, as every process tells it."""

    status: Upstream
    since: Annotated[float, Field(description="Unix seconds")]


class LeaseStatus(BaseModel):
    """Whether some process leads, which, and in which epoch."""

    held: bool
    epoch: int | None
    leader: Annotated[str | None, Field(description="The leader's `process`")]


class ConnectionStatus(BaseModel):
    """One socket to the exchange."""

    name: str
    state: str
    since: Annotated[float, Field(description="Unix seconds")]
    following: Annotated[int, Field(description="Channels it is subscribed to")]
    reconnects: int


class ChannelStatus(BaseModel):
    """One followed channel; under a wildcard its channels are counted."""

    channel: str
    live: bool
    since: Annotated[float, Field(description="Unix seconds: live, or not live, since then")]
    known: Annotated[int, Field(description="Channels with a state")]
    stale: Annotated[int, Field(description="Those of them that are stale")]
    age: Annotated[float | None, Field(description="Seconds since its newest event")]


class StreamsStatus(BaseModel):
    """The event streams of this process."""

    open: int
    catching_up: int


class LimitsStatus(BaseModel):
    """What this process may have at most: streams open, and channels followed on demand."""

    streams: int
    streams_per_client: int
    followed: int


class Status(BaseModel):
    """A running gateway at a glance."""

    version: str
    process: Annotated[str, Field(description="The name of the process that answers")]
    upstream: UpstreamStatus
    lease: LeaseStatus
    position: Annotated[PositionText, Field(description="The last event this process heard")]
    connections: list[ConnectionStatus]
    channels: list[ChannelStatus]
    audits: Annotated[
        dict[str, float],
        Field(description="Per order book, the share of its top levels that matched REST"),
    ]
    streams: StreamsStatus
    followed: Annotated[
        int, Field(description="Channels that clients of all processes want, not followed always")
    ]
    limits: LimitsStatus
    draining: bool


class StatusEvent(BaseModel):
    """On connect and on change: how the exchange is heard."""

    type: Literal["status"]
    upstream: Upstream
    since: Annotated[float, Field(description="Unix seconds")]


class ResetEvent(BaseModel):
    """The stream cannot resume where it was asked to: snapshots follow."""

    type: Literal["reset"]
    reason: Literal["history_expired", "unknown_position"]


class ByeEvent(BaseModel):
    """The gateway is about to end the stream."""

    type: Literal["bye"]
    reason: Literal["drain", "lifetime", "slow", "expired", "overload", "limit"]
    retry: Annotated[int, Field(description="Milliseconds to wait before coming back")]


def _model(name: str, base: type[BaseModel], data: type[BaseModel], text: str) -> type[BaseModel]:
    return type(name, (base,), {"__doc__": text, "__annotations__": {"data": data}})


DATA: dict[Kind, tuple[str, type[BaseModel], type[BaseModel]]] = {
    Kind.LASTPRICE: ("LastPrice", LastPrice, LastPrice),
    Kind.TICKER: ("Ticker", Ticker, Ticker),
    Kind.TRADE: ("Trade", Trades, Trades),
    Kind.DEPTH: ("Depth", Book, BookChange),
    Kind.ORDER: ("Order", Orders, OrderChange),
    Kind.BALANCE: ("Balance", Balance, Balance),
    Kind.DEAL: ("Deal", Deals, DealChange),
}
"""By kind the name of its models, and what a snapshot and an update of it hold."""

EVENTS: list[type[BaseModel]] = [StatusEvent, ResetEvent, ByeEvent]
"""What a stream carries."""

ANSWERS: list[type[BaseModel]] = [
    Problem,
    MarketList,
    MarketAnswer,
    ScaleList,
    OrderList,
    OrderAnswer,
    DealList,
    Alive,
    Ready,
    Status,
]
"""What paths answer with."""

for _kind, (_name, _whole, _change) in DATA.items():
    EVENTS += [
        _model(f"{_name}Snapshot", _Snapshot, _whole, f"The whole state of a {_kind} channel."),
        _model(f"{_name}Update", _Update, _change, f"What changed on a {_kind} channel."),
    ]
    ANSWERS.append(
        _model(f"{_name}State", _State, _whole, f"The whole state of a {_kind} channel, now.")
    )
