"""A simulated exchange whose truth is at hand."""

import time
from dataclasses import dataclass
from typing import Any

from app.simulator import Simulator
from tests.e2e.reconstruct import Json, Mirror

WILD = ("lastprice:*", "ticker:*", "trade:*")
BOOKS = ("depth:BTC_USDT:0", "depth:TRX_USDT:1")


@dataclass(kw_only=True)
class Market:
    exchange: Simulator
    _nudges: int = 0

    @property
    def channels(self) -> set[str]:
        """All that is watched."""
        kinds = [name.partition(":")[0] for name in WILD]
        symbols = self.exchange.exchange.truth.lastprices
        return {f"{kind}:{symbol}" for kind in kinds for symbol in symbols}.union(BOOKS)

    def switch(self, **switches: object) -> None:
        self.exchange.control.set(**switches)

    def act(self, action: str, **given: object) -> Json:
        return self.exchange.control.act(action, **given)

    def report(self) -> Json:
        return self.exchange.control.report()

    def nudge(self) -> None:
        """An event on every channel that is watched: some are quiet for long."""
        truth, now = self.exchange.exchange.truth, int(time.time())
        for symbol in list(truth.lastprices):
            self._nudges += 1
            price = {"symbol": symbol, "timestamp": now, "price": f"0.{self._nudges:07}"}
            row = {"price": 0.5, "quantity": self._nudges / 1e7, "timestamp": now}
            rows = [{**row, "direction": "buy"}]
            self._emit("lastprice", price)
            self._emit("ticker", truth.tickers[symbol] | price)
            self._emit("trade", {"symbol": symbol, "timestamp": now, "trades": rows})
        for book in BOOKS:
            _, symbol, index = book.split(":")
            head = {"symbol": symbol, "scale_index": int(index), "timestamp": now}
            far = [["0.00000001", str(self._nudges)]]
            self._emit("depth", {**head, "full_reload": False, "asks": [], "bids": far})

    def _emit(self, kind: str, data: Json) -> None:
        message = {"id": 0, "method": f"{kind}_update", "data": data, "error": None}
        self.act("emit", message=message, publish=True)

    def open(self) -> list[int]:
        """The numbers of the open connections."""
        return sorted(one["number"] for one in self.report()["connections"] if not one["closed"])

    def closed(self) -> list[Json]:
        """The connections that have ended."""
        return [one for one in self.report()["connections"] if one["closed"]]

    def subscribed(self, kind: str) -> set[str]:
        """What the open connections have subscribed, together."""
        found = [one["subscriptions"] for one in self.report()["connections"] if not one["closed"]]
        return {subject for one in found for subject in one.get(kind, ())}

    def truth(self, channel: str) -> Any:
        truth = self.exchange.exchange.truth
        kind, _, subject = channel.partition(":")
        if kind == "depth":
            asks, bids = truth.books[subject].best_first()
            return {"asks": [[*level] for level in asks], "bids": [[*level] for level in bids]}
        if kind == "trade":
            return [
                {
                    "price": trade.price,
                    "quantity": trade.quantity,
                    "timestamp": trade.timestamp,
                    "direction": trade.direction,
                }
                for trade in truth.trades[subject]
            ]
        return {"lastprice": truth.lastprices, "ticker": truth.tickers}[kind][subject]

    def true_of(self, mirror: Mirror) -> bool:
        """Whether all that a client knows is true."""
        return not self.untrue(mirror)

    def untrue(self, mirror: Mirror) -> dict[str, Any]:
        """What a client knows that is not true: held and true, by channel.

        Of trades those since the last snapshot (1000 at most), none missing and none twice.
        """
        found = {}
        for channel in mirror.at:
            held, true = mirror.state(channel), self.truth(channel)
            if channel.startswith("trade:"):
                held = mirror.tape[channel][-len(true) :]
                true = true[len(true) - len(held) :]
            if held != true:
                found[channel] = {"held": held, "true": true}
        return found
