"""The latest state of every channel: a pure reducer of envelopes.

Every process keeps one, fed by the broker; the leader's Sequencer owns another. A stale or
repeated envelope changes nothing.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from itertools import islice

from app.domain.account import Balance, Deals, Orders
from app.domain.book import OrderBook
from app.domain.channel import Channel, Kind
from app.domain.event import Data, Envelope, envelope
from app.domain.position import START, Position

LAST = 100
"""How many trades a channel remembers."""


class Latest:
    """lastprice, ticker: the last object is the state."""

    def __init__(self) -> None:
        self._data: Data = {}

    def replace(self, data: Data) -> None:
        self._data = data

    update = replace

    def data(self, _limit: int | None = None) -> Data:
        """The state, as a snapshot's ``data``."""
        return self._data


class Trades:
    """trade: the last hundred, newest first."""

    def __init__(self) -> None:
        self._symbol = ""
        self._newest_first: deque[Data] = deque(maxlen=LAST)

    def replace(self, data: Data) -> None:
        self._symbol = data["symbol"]
        self._newest_first = deque(data["trades"][:LAST], maxlen=LAST)

    def update(self, data: Data) -> None:
        self._symbol = data["symbol"]
        self._newest_first.extendleft(data["trades"])

    def data(self, limit: int | None = None) -> Data:
        return {"symbol": self._symbol, "trades": list(islice(self._newest_first, limit))}


class Depth:
    """depth: the order book."""

    def __init__(self) -> None:
        self.book = OrderBook()
        self._head: Data = {}

    def replace(self, data: Data) -> None:
        self._head = data
        self.book.reload(data.get("asks", ()), data.get("bids", ()))

    def update(self, data: Data) -> None:
        self._head = data
        self.book.update(data.get("asks", ()), data.get("bids", ()))

    def data(self, limit: int | None = None) -> Data:
        return {
            "symbol": self._head["symbol"],
            "scale_index": self._head["scale_index"],
            "timestamp": self._head["timestamp"],
            "asks": self.book.asks(limit),
            "bids": self.book.bids(limit),
        }


Reducer = Latest | Trades | Depth | Orders | Balance | Deals

_REDUCERS: dict[Kind, type[Reducer]] = {
    Kind.LASTPRICE: Latest,
    Kind.TICKER: Latest,
    Kind.TRADE: Trades,
    Kind.DEPTH: Depth,
    Kind.ORDER: Orders,
    Kind.BALANCE: Balance,
    Kind.DEAL: Deals,
}


class State:
    """The latest state of one channel, and the envelope that brought it there."""

    __slots__ = ("_part", "_snapshot", "channel", "last", "reducer")

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.reducer: Reducer = _REDUCERS[channel.kind]()
        self.last: Envelope
        self._snapshot: Envelope | None = None
        self._part: tuple[int, Envelope] | None = None

    @property
    def position(self) -> Position:
        return self.last.position

    @property
    def received(self) -> float:
        return self.last.received

    def apply(self, new: Envelope) -> None:
        """Take in an envelope that follows the last one."""
        if new.type == "snapshot":
            self.reducer.replace(new.data)
        else:
            self.reducer.update(new.data)
        self.settle(new)

    def settle(self, new: Envelope) -> None:
        """Stand at an envelope that the reducer already contains."""
        self.last = new
        self._snapshot = self._part = None

    def snapshot(self, limit: int | None = None) -> Envelope:
        """The state as an envelope, with at most ``limit`` trades or levels of each side.

        The whole, and the part that was asked for last, are encoded at most once per change.
        """
        if limit is None:
            if self._snapshot is None:
                self._snapshot = self._encoded(self.reducer.data())
            return self._snapshot
        if self._part is None or self._part[0] != limit:
            self._part = limit, self._encoded(self.reducer.data(limit))
        return self._part[1]

    def _encoded(self, data: Data) -> Envelope:
        """A snapshot at this position; it tells a gap there as well."""
        return envelope(
            self.channel,
            "snapshot",
            position=self.last.position,
            previous=None,
            time=self.last.time,
            received=self.last.received,
            data=data,
            gap=self.last.gap,
            origin=self.last.origin,
        )


class Store:
    """The states of all channels heard of, by channel and by kind."""

    def __init__(self) -> None:
        self._states: dict[Kind, dict[Channel, State]] = {kind: {} for kind in _REDUCERS}
        self.head = START

    def get(self, channel: Channel) -> State | None:
        """The state of one channel; None if nothing is known of it."""
        return self._states[channel.kind].get(channel)

    def of_kind(self, kind: Kind) -> Iterable[State]:
        """The states of all channels of a kind."""
        return self._states[kind].values()

    def __iter__(self) -> Iterator[State]:
        for states in self._states.values():
            yield from states.values()

    def matching(self, channels: Iterable[Channel]) -> Iterator[State]:
        """The states under ``channels``, wildcards included; each once."""
        once = dict.fromkeys(channels)
        wild: dict[Kind, list[Channel]] = {}
        for channel in once:
            if channel.open:
                wild.setdefault(channel.kind, []).append(channel)
        for kind, some in wild.items():
            if any(channel.wildcard for channel in some):
                yield from self.of_kind(kind)
                continue
            some += [channel for channel in once if channel.kind is kind and not channel.open]
            for one in self.of_kind(kind):
                if any(channel.covers(one.channel) for channel in some):
                    yield one
        for channel in once:
            if channel.kind not in wild:
                state = self.get(channel)
                if state is not None:
                    yield state

    def apply(self, new: Envelope) -> bool:
        """Take in an envelope; False if it was already contained, or follows nothing known."""
        states = self._states[new.channel.kind]
        state = states.get(new.channel)
        if state is None:
            if new.type != "snapshot":
                return False
            state = states[new.channel] = State(new.channel)
        elif new.position <= state.position:
            return False
        state.apply(new)
        if new.position > self.head:
            self.head = new.position
        return True

    def reload(self, head: Position, snapshots: Iterable[Envelope]) -> None:
        """Replace everything by snapshots that are complete up to ``head``."""
        for states in self._states.values():
            states.clear()
        for one in snapshots:
            self.apply(one)
        self.head = head

    def forget(self, channel: Channel) -> None:
        """Drop a channel that is no longer followed."""
        self._states[channel.kind].pop(channel, None)
