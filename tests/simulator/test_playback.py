"""A recording played through the port."""

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from app.simulator import Options, Simulator
from tests.simulator.talk import Talk, talking, until

RECORDINGS = Path(__file__).parents[3] / "shared" / "recordings"
SHORT = (
    '{"at":0,"message":{"id":0,"method":"depth_update","data":{"symbol":"BTC_USDT","timestamp":7,'
    '"full_reload":true,"scale_index":0,"asks":[["101.50","1"]],"bids":[["100","1.000"]]},'
    '"error":null}}\n'
    '{"at":0.01,"message":{"id":0,"method":"lastprice_update","data":{"symbol":"BTC_USDT",'
    '"timestamp":8,"price":"101.50"},"error":null}}\n'
)


@pytest.fixture(name="short")
def _short(tmp_path: Path) -> Path:
    path = tmp_path / "short.jsonl"
    path.write_text(SHORT)
    return path


class Follower:
    """Puts the events of a socket together, sharing nothing with the simulator."""

    def __init__(self) -> None:
        self.books: dict[str, dict[str, dict[Decimal, list[str]]]] = {}
        self.last: dict[str, dict[str, Any]] = {"lastprice": {}, "ticker": {}}
        self.trades: dict[str, list[dict[str, Any]]] = {}
        self.counts: dict[str, int] = {}

    def take(self, text: str) -> None:
        message = json.loads(text, parse_float=Decimal, parse_int=Decimal)
        method, data = message["method"], message["data"]
        self.counts[method] = self.counts.get(method, 0) + 1
        kind, symbol = method.removesuffix("_update"), data["symbol"]
        if kind in self.last:
            self.last[kind][symbol] = data
        elif kind == "trade":
            self.trades.setdefault(symbol, []).extend(data["trades"])
        else:
            self.book(f"{symbol}:{data['scale_index']}", data)

    def book(self, key: str, data: dict[str, Any]) -> None:
        if data["full_reload"]:
            self.books[key] = {"asks": {}, "bids": {}}
        for side in ("asks", "bids"):
            for price, value in data[side]:
                self.books[key][side].pop(Decimal(price), None)
                if Decimal(value):
                    self.books[key][side][Decimal(price)] = [price, value]


async def follow(talk: Talk, count: int) -> Follower:
    follower = Follower()
    for _ in range(count):
        follower.take(str(await talk.socket.recv()))
    return follower


async def test_a_recording_ends_in_the_expected_state() -> None:
    """Every message arrives, and putting them together gives the state computed elsewhere."""
    if not RECORDINGS.exists():
        pytest.skip("needs ../shared/recordings, which is not here")
    expected = json.loads((RECORDINGS / "market_expected.json").read_text())
    recording = RECORDINGS / "market.jsonl.gz"
    options = Options(port=0, recording=recording, speed=0, start="paused")
    async with Simulator(options) as simulator, talking(simulator) as talk:
        for kind in ("depth", "trade", "lastprice", "ticker"):
            await talk.ask(f"{kind}_subscribe", "all")
        simulator.control.act("play")
        follower = await follow(talk, sum(expected["messages"].values()))
        await until(lambda: simulator.control.report()["ended"])
        truth = simulator.exchange.truth

    assert follower.counts == expected["messages"]
    for key, book in expected["depth"].items():
        asks, bids = (follower.books[key][side] for side in ("asks", "bids"))
        assert [asks[price] for price in sorted(asks)] == book["asks"]
        assert [bids[price] for price in sorted(bids, reverse=True)] == book["bids"]
        assert truth.books[key].best_first() == (book["asks"], book["bids"])
    for symbol, ticker in expected["ticker"].items():
        assert follower.last["ticker"][symbol] == ticker
        assert (
            follower.last["lastprice"][symbol]["price"] == expected["last_price"][symbol]["price"]
        )
        assert len(follower.trades[symbol]) == expected["trade_count"][symbol]
        heard = [numbers(trade) for trade in follower.trades[symbol][-50:]]
        wanted = expected["last_50_trades_oldest_first"][symbol]
        assert heard == [numbers(trade) for trade in wanted]
        kept = [(trade.price, trade.quantity) for trade in list(truth.trades[symbol])[-50:]]
        assert [tuple(map(Decimal, pair)) for pair in kept] == [pair[:2] for pair in heard]


def numbers(trade: dict[str, Any]) -> tuple[Decimal, Decimal, int, str]:
    price, quantity = Decimal(trade["price"]), Decimal(trade["quantity"])
    return price, quantity, int(trade["timestamp"]), trade["direction"]


async def test_who_comes_late_gets_the_book_as_it_is(short: Path) -> None:
    options = Options(port=0, recording=short, speed=0)
    async with Simulator(options) as simulator:
        await until(lambda: simulator.control.report()["ended"])
        async with talking(simulator) as talk:
            await talk.ask("depth_subscribe", "BTC_USDT:0")
            event = await talk.event("depth")
    assert event == json.loads(SHORT.splitlines()[0])["message"]


async def test_playing_may_wait_for_the_first_subscriber(short: Path) -> None:
    options = Options(port=0, recording=short, speed=100.0, start="on-subscribe")
    async with Simulator(options) as simulator, talking(simulator) as talk:
        assert not simulator.control.report()["playing"]
        await talk.ask("lastprice_subscribe", "all")
        assert (await talk.event("lastprice"))["data"]["price"] == "101.50"


async def test_a_loop_goes_on_in_time_with_a_whole_book(short: Path) -> None:
    options = Options(port=0, recording=short, speed=100.0, loop=True, start="paused")
    async with Simulator(options) as simulator, talking(simulator) as talk:
        await talk.ask("depth_subscribe", "all")
        simulator.control.act("play")
        first, second = await talk.event("depth"), await talk.event("depth")
    assert second["data"]["timestamp"] > first["data"]["timestamp"]
    assert second["data"] | {"timestamp": 7} == first["data"]


async def test_a_pause_holds_the_recording(short: Path) -> None:
    options = Options(port=0, recording=short, speed=1.0, start="paused")
    async with Simulator(options) as simulator, talking(simulator) as talk:
        await talk.ask("depth_subscribe", "all")
        await talk.ask("lastprice_subscribe", "all")
        simulator.control.act("play")
        await talk.event("depth")
        simulator.control.act("pause")
        assert not simulator.control.report()["playing"]
        simulator.control.act("play")
        await talk.event("lastprice")
        await until(lambda: simulator.control.report()["ended"])
