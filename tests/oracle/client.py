"""What a careful user of the envelopes would build of them, sharing nothing with the gateway.

Strict: whatever the contract rules out (a broken chain, an event twice, a crossed book) raises.
"""

from collections.abc import Iterable
from decimal import Decimal
from typing import Any

Place = tuple[int, int]


def place(position: str) -> Place:
    """A position as a pair that compares in the order of events."""
    epoch, sequence = position.split("-")
    return int(epoch), int(sequence)


class NaiveBook:
    """A dict of decimals for each side."""

    def __init__(self) -> None:
        self.sides: dict[str, dict[Decimal, list[str]]] = {"asks": {}, "bids": {}}

    def reload(self, data: dict[str, Any]) -> None:
        self.sides = {"asks": {}, "bids": {}}
        self.change(data)

    def change(self, data: dict[str, Any]) -> None:
        for name, side in self.sides.items():
            for price, value in data.get(name, ()):
                if Decimal(value) == 0:
                    side.pop(Decimal(price), None)
                else:
                    side[Decimal(price)] = [price, value]

    def asks(self) -> list[list[str]]:
        return [level for _, level in sorted(self.sides["asks"].items())]

    def bids(self) -> list[list[str]]:
        return [level for _, level in sorted(self.sides["bids"].items(), reverse=True)]

    @property
    def crossed(self) -> bool:
        asks, bids = self.sides["asks"], self.sides["bids"]
        return bool(asks and bids) and max(bids) >= min(asks)


class Client:
    """The state of each channel, rebuilt from envelopes."""

    def __init__(self) -> None:
        self.at: dict[str, Place] = {}
        self.latest: dict[str, dict[str, Any]] = {}
        self.trades: dict[str, list[dict[str, Any]]] = {}
        self.books: dict[str, NaiveBook] = {}

    def reset(self) -> None:
        """The gateway said that what we hold cannot be continued."""
        self.__init__()  # type: ignore[misc]  # anew means anew

    def take(self, envelope: dict[str, Any]) -> None:
        """Take in the next envelope of a stream."""
        channel, at = envelope["channel"], place(envelope["position"])
        held = self.at.get(channel)
        assert held is None or at > held, f"{channel}: {at} after {held}"
        if envelope["type"] == "update":
            assert held is not None, f"{channel}: update before a snapshot"
            assert place(envelope["previous"]) == held, f"{channel}: broken chain"
            assert "gap" not in envelope, f"{channel}: a gap in the middle of a chain"
        else:
            assert envelope["type"] == "snapshot"
            assert envelope["previous"] is None
        self.at[channel] = at
        self._reduce(channel, envelope)

    def _reduce(self, channel: str, envelope: dict[str, Any]) -> None:
        data, whole = envelope["data"], envelope["type"] == "snapshot"
        match channel.partition(":")[0]:
            case "trade" if whole:
                self.trades[channel] = list(data["trades"])
            case "trade":
                self.trades[channel] = [*reversed(data["trades"]), *self.trades[channel]][:100]
            case "depth":
                book = self.books.setdefault(channel, NaiveBook())
                book.reload(data) if whole else book.change(data)
                assert not book.crossed, f"{channel}: crossed book"
            case _:
                self.latest[channel] = data

    def view(self, channel: str) -> Any:
        """The state of a channel in a form that compares with ``view_of_snapshot``."""
        if channel in self.books:
            return {"asks": self.books[channel].asks(), "bids": self.books[channel].bids()}
        return self.trades.get(channel, self.latest.get(channel))

    def copy_of(self, channels: Iterable[str]) -> dict[str, Any]:
        return {channel: (self.at[channel], self.view(channel)) for channel in channels}


def view_of_snapshot(data: dict[str, Any]) -> Any:
    """The part of a snapshot's ``data`` that tells the state."""
    if "asks" in data:
        return {"asks": data["asks"], "bids": data["bids"]}
    return data.get("trades", data)
