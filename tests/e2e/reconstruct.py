"""What the bytes of a stream say, and the state that follows from them.

Written from the contract alone and sharing nothing with the gateway. Strict: whatever the contract
rules out (a broken chain, a position or an id that goes down, a crossed book) raises.
"""

import gzip
import json
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

Json = dict[str, Any]
Level = list[str]
Place = tuple[int, int]

REMEMBERED = 100  # trades that a snapshot holds


def place(position: str) -> Place:
    """A position as a pair that compares in the order of events."""
    epoch, sequence = position.split("-")
    return int(epoch), int(sequence)


def loads(text: str | bytes) -> Any:
    """JSON whose fractions keep their digits."""
    return json.loads(text, parse_float=Decimal)


# The text of a stream


@dataclass(frozen=True, slots=True)
class Block:
    """One event as written: the fields of this very block."""

    event: str
    data: str
    id: str | None
    retry: int | None


class Parser:
    """Server-Sent Events out of bytes that come in pieces of any size."""

    def __init__(self) -> None:
        self.heartbeats = 0
        self._rest = b""
        self._fields: dict[str, str] = {}

    def feed(self, piece: bytes) -> list[Block]:
        """The events that the bytes complete."""
        *lines, self._rest = (self._rest + piece).split(b"\n")
        return [block for line in lines if (block := self._line(line.decode())) is not None]

    def _line(self, line: str) -> Block | None:
        if line.startswith(":"):
            assert line == ": hb", f"a comment that is no heartbeat: {line!r}"
            self.heartbeats += 1
        elif line:
            name, _, value = line.partition(": ")
            assert name in {"event", "id", "data", "retry"}, f"unexpected field {line[:80]!r}"
            assert name not in self._fields, f"{name} twice in one block"
            self._fields[name] = value
        elif self._fields:
            return self._dispatch()
        return None

    def _dispatch(self) -> Block:
        fields, self._fields = self._fields, {}
        assert fields.get("data"), f"a block without data: {fields}"
        retry = fields.get("retry")
        return Block(
            fields.get("event", "message"),
            fields["data"],
            fields.get("id"),
            None if retry is None else int(retry),
        )


# The state of a channel


class Side:
    """Levels by number; ``sign`` is 1 where the lowest price is the best, else -1."""

    def __init__(self, sign: int) -> None:
        self._levels: dict[Decimal, Level] = {}
        self._sign = sign
        self._best: Decimal | None = None

    def set(self, price: str, value: str) -> None:
        key = self._sign * Decimal(price)
        if Decimal(value) == 0:
            self._levels.pop(key, None)
            if key == self._best:
                self._best = min(self._levels, default=None)
        else:
            self._levels[key] = [price, value]
            if self._best is None or key < self._best:
                self._best = key

    def best(self) -> Decimal | None:
        return None if self._best is None else self._sign * self._best

    def listed(self) -> list[Level]:
        return [self._levels[key] for key in sorted(self._levels)]


class Book:
    def __init__(self, data: Json) -> None:
        self.asks, self.bids = Side(1), Side(-1)
        self.change(data)

    def change(self, data: Json) -> None:
        for name, side in (("asks", self.asks), ("bids", self.bids)):
            for price, value in data.get(name, ()):
                side.set(price, value)
        ask, bid = self.asks.best(), self.bids.best()
        assert ask is None or bid is None or bid < ask, f"crossed: bid {bid} at ask {ask}"

    def listed(self) -> Json:
        return {"asks": self.asks.listed(), "bids": self.bids.listed()}


# One client


@dataclass
class Mirror:
    """What one client knows, over all its connections."""

    at: dict[str, Place] = field(default_factory=dict)
    books: dict[str, Book] = field(default_factory=dict)
    latest: dict[str, Json] = field(default_factory=dict)
    trades: dict[str, deque[Json]] = field(default_factory=dict)
    """The last trades, newest first."""
    tape: dict[str, list[Json]] = field(default_factory=dict)
    """Every trade of an update since the last snapshot, oldest first."""
    counts: Counter[str] = field(default_factory=Counter)
    gaps: Counter[str] = field(default_factory=Counter)
    """Snapshots that say that something may have been missed, by channel."""
    controls: list[Json] = field(default_factory=list)
    last_id: str | None = None
    repeated: int = 0
    _highest: Place = (0, 0)
    _retried: bool = False

    def connected(self) -> None:
        """A new stream begins: positions start over, what is held stays."""
        self._highest = (0, 0)
        self._retried = False

    def take(self, block: Block) -> None:
        """Take in one event of the present stream."""
        content = loads(block.data)
        if not self._retried:
            assert content["type"] in {"status", "bye"}, f"a stream that begins with {block}"
            assert block.retry == 2000 or content["type"] == "bye"
            self._retried = True
        if block.event == "gateway":
            self._control(block, content)
        else:
            self._envelope(block, content)

    def statuses(self) -> list[str]:
        return [one["upstream"] for one in self.controls if one["type"] == "status"]

    def resets(self) -> list[str]:
        return [one["reason"] for one in self.controls if one["type"] == "reset"]

    def farewells(self) -> list[str]:
        return [one["reason"] for one in self.controls if one["type"] == "bye"]

    def state(self, channel: str) -> Any:
        """The state in the form of ``state_of``; None if nothing is known."""
        if channel in self.books:
            return self.books[channel].listed()
        if channel in self.trades:
            return list(self.trades[channel])
        return self.latest.get(channel)

    def _control(self, block: Block, content: Json) -> None:
        assert block.id is None, f"a control event with an id: {block}"
        assert content["type"] in {"status", "reset", "bye"}, f"unknown control event {content}"
        self.controls.append(content)
        if content["type"] == "reset":
            self._highest = (0, 0)

    def _envelope(self, block: Block, envelope: Json) -> None:
        channel, position = envelope["channel"], place(envelope["position"])
        assert block.event == channel.partition(":")[0]
        assert position > self._highest, f"{channel}: {position} sent after {self._highest}"
        self._highest = position
        if block.id is not None:
            assert block.id == envelope["position"]
            assert self.last_id is None or place(block.id) >= place(self.last_id), "an id went down"
            self.last_id = block.id
        self.learn(envelope)

    def learn(self, envelope: Json) -> None:
        """Take in an envelope, wherever it comes from."""
        channel, position = envelope["channel"], place(envelope["position"])
        held = self.at.get(channel)
        if held is not None and position <= held:
            self.repeated += 1
            return
        self._follow(envelope, held)
        self.at[channel] = position
        self.counts[f"{envelope['type']} {channel}"] += 1
        self._reduce(channel, envelope)

    def _follow(self, envelope: Json, held: Place | None) -> None:
        channel = envelope["channel"]
        if envelope["type"] == "update":
            assert held is not None, f"{channel}: an update before any snapshot"
            assert place(envelope["previous"]) == held, f"{channel}: held {held}, got {envelope}"
            assert "gap" not in envelope, f"{channel}: a gap on an update"
        else:
            assert envelope["type"] == "snapshot"
            assert envelope["previous"] is None
            self.gaps[channel] += envelope.get("gap", False)

    def _reduce(self, channel: str, envelope: Json) -> None:
        data, whole = envelope["data"], envelope["type"] == "snapshot"
        kind = channel.partition(":")[0]
        if kind == "depth":
            if whole:
                self.books[channel] = Book(data)
            else:
                self.books[channel].change(data)
        elif kind == "trade":
            if whole:
                self.trades[channel] = deque(data["trades"], maxlen=REMEMBERED)
                self.tape[channel] = []
            else:
                self.trades[channel].extendleft(data["trades"])
                self.tape[channel].extend(data["trades"])
        else:
            self.latest[channel] = data


def state_of(envelope: Json) -> Any:
    """The state that a REST answer shows."""
    data: Json = envelope["data"]
    if "asks" in data:
        return {"asks": data["asks"], "bids": data["bids"]}
    return data.get("trades", data)


# What was sent


def plain(number: Decimal | int | str) -> str:
    """Digits without an exponent."""
    return format(Decimal(number), "f")


@dataclass
class End:
    """What a recording leads to."""

    books: dict[str, Book] = field(default_factory=dict)
    latest: dict[str, Json] = field(default_factory=dict)
    tape: dict[str, list[Json]] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    """Events by kind."""

    @property
    def channels(self) -> list[str]:
        return [*self.books, *self.latest, *self.tape]

    def state(self, channel: str) -> Any:
        if channel in self.books:
            return self.books[channel].listed()
        if channel in self.latest:
            return self.latest[channel]
        return self.tape[channel][: -REMEMBERED - 1 : -1]


def _messages(recording: Path) -> Iterator[Json]:
    with gzip.open(recording) as lines:
        for line in lines:
            yield loads(line)["message"]


def replayed(recording: Path) -> End:
    """The end state of a recording."""
    end = End()
    for message in _messages(recording):
        kind, data = message["method"].removesuffix("_update"), message["data"]
        channel = f"{kind}:{data['symbol']}"
        end.counts[kind] += 1
        if kind == "depth":
            channel += f":{data['scale_index']}"
            if data["full_reload"]:
                end.books[channel] = Book(data)
            else:
                end.books[channel].change(data)
        elif kind == "trade":
            for row in data["trades"]:
                texts = {name: plain(row[name]) for name in ("price", "quantity")}
                end.tape.setdefault(channel, []).append({**row, **texts})
        else:
            end.latest[channel] = data
    return end
