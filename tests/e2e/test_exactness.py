"""The real market data, replayed through both processes, arrives digit for digit everywhere."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.clients import Follower, Join, crowd
from tests.e2e.gateway import Running, exchange, gateway
from tests.e2e.reconstruct import End, Json, plain, replayed, state_of
from tests.e2e.waiting import until

RECORDINGS = Path(__file__).parents[3] / "shared" / "recordings"
RECORDING = RECORDINGS / "market.jsonl.gz"
EXPECTED = RECORDINGS / "market_expected.json"
HURRY = 0
TEN_TIMES = 10
PLAYED_WITHIN = 90.0
"""Seconds that a replay of 300 s at ten times speed may take on a busy machine."""

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(not RECORDING.exists(), reason="no ../shared/recordings: no market data"),
]

WILD = ("lastprice:*", "ticker:*", "trade:*")
REST = {"lastprice": "lastprice", "ticker": "ticker", "trade": "trades"}


@dataclass
class Replay:
    """Both processes, the market standing still until ``play``."""

    market: Running
    gateway: Running
    end: End

    @property
    def books(self) -> tuple[str, ...]:
        return tuple(self.end.books)

    async def play(self) -> None:
        """Let the market go, once everything is followed."""

        async def followed() -> bool:
            open_ = (await self.market.get("/control"))["connections"]
            books = [book for one in open_ for book in one["subscriptions"].get("depth", ())]
            return {f"depth:{book}" for book in books} == set(self.books)

        await until(followed, "the books are followed")
        await self.market.post("/control/play")

    async def ended(self) -> None:
        async def over() -> bool:
            return bool((await self.market.get("/control"))["ended"])

        await until(over, "the end of the recording", limit=PLAYED_WITHIN)

    async def events(self) -> int:
        return int((await self.market.get("/control"))["events_published"])

    async def state(self, channel: str) -> Any:
        kind, symbol, *scale = channel.split(":")
        if kind == "depth":
            return state_of(await self.gateway.get(f"/v1/depth/{symbol}", scale=scale[0]))
        limit = {"limit": 100} if kind == "trade" else {}
        return state_of(await self.gateway.get(f"/v1/{REST[kind]}/{symbol}", **limit))

    async def equals_the_end(self) -> bool:
        for channel in self.end.channels:
            if await self.state(channel) != self.end.state(channel):
                return False
        return True


@asynccontextmanager
async def replay(folder: Path, speed: float) -> AsyncIterator[Replay]:
    async with (
        exchange(folder, recording=RECORDING, speed=speed, start="paused") as market,
        gateway(market.url, folder) as running,
    ):
        yield Replay(market, running, replayed(RECORDING))


@pytest.fixture(scope="module")
def expected() -> Json:
    content: Json = json.loads(EXPECTED.read_text())
    return content


def test_the_end_computed_here_is_the_one_given(expected: Json) -> None:
    end = replayed(RECORDING)
    assert {f"depth:{key}" for key in expected["depth"]} == set(end.books)
    for key, book in expected["depth"].items():
        assert end.state(f"depth:{key}") == {"asks": book["asks"], "bids": book["bids"]}
    for symbol, given in expected["last_price"].items():
        assert end.state(f"lastprice:{symbol}") == {"symbol": symbol, **given}
    for symbol, given in expected["ticker"].items():
        assert end.state(f"ticker:{symbol}") == given
    for symbol, rows in expected["last_50_trades_oldest_first"].items():
        tape = end.tape[f"trade:{symbol}"]
        assert len(tape) == expected["trade_count"][symbol]
        # the file writes the numbers without the zeros that the exchange puts behind them
        assert [as_numbers(row) for row in tape[-50:]] == [as_numbers(row) for row in rows]


def as_numbers(trade: Json) -> Json:
    return {**trade, "price": Decimal(trade["price"]), "quantity": Decimal(trade["quantity"])}


def test_small_trade_numbers_become_plain_digits() -> None:
    assert plain(Decimal("9e-05")) == "0.00009"


@pytest.mark.parametrize("speed", [HURRY, TEN_TIMES])
async def test_every_client_and_every_answer_equals_the_recordings_end(
    tmp_path: Path, expected: Json, speed: float
) -> None:
    async with replay(tmp_path, speed) as run, crowd(run.gateway.url) as join:
        end = run.end
        early = [
            join(*WILD, *run.books),
            join(*run.books),
            join("trade:BTC_USDT"),
            join("lastprice:ETH_USDT", "depth:TRX_USDT:0", "trade:ETH_USDT"),
        ]
        slow = join(*run.books, pace=40_000)
        restless = join(*WILD, *run.books)
        await until(lambda: all(one.connections for one in [*early, slow, restless]))
        await run.play()

        late = await joined_on_the_way(run, early[0], restless, join)
        await run.ended()
        await until(run.equals_the_end, "the end state over REST", limit=30)
        for one in [*early, restless, slow, *late]:
            one.pace = None
            await has_the_end(one, end)

        await check_rest(run, expected)
        for one in [*early, restless]:
            check_trades_complete(one, end)
            assert one.mirror.resets() == []
            assert one.mirror.repeated == 0
            assert set(one.mirror.farewells()) <= {"slow"}  # this busy process is, now and then
        if speed == TEN_TIMES:
            assert [one.connections <= 2 for one in early] == [True] * len(early)
            assert early[1].connections == 1
            assert early[1].mirror.counts.total() == end.counts["depth"]
            assert slow.mirror.counts.total() < end.counts["depth"] / 2, "it did not lag"
        assert restless.connections > 3
        assert slow.mirror.farewells() == []
        for one in [*early, restless, slow, *late]:
            assert not +one.mirror.gaps, one.channels
        report = await run.market.get("/control")
        assert report["violations"] == []
        assert report["events_lost"] == 0
        assert report["tokens_issued"] == report["open"] == 2


async def joined_on_the_way(
    run: Replay, watched: Follower, restless: Follower, join: Join
) -> list[Follower]:
    """Clients that come while it plays; one that is cut again and again in the meantime."""
    total = len(run.end.tape["trade:BTC_USDT"])
    late = []
    for part in range(1, 6):
        heard = partial(has_heard, watched, total * part // 7)
        await until(heard, f"part {part} of the trades", limit=PLAYED_WITHIN)
        before = restless.connections
        restless.cut()
        await until(partial(has_come_back, restless, before))
        late.append(join(*(run.books if part % 2 else WILD)))
    return late


def has_heard(client: Follower, trades: int) -> bool:
    return len(client.mirror.tape.get("trade:BTC_USDT", ())) >= trades


def has_come_back(client: Follower, connections: int) -> bool:
    return client.connections > connections


async def has_the_end(client: Follower, end: End) -> None:
    wanted = [channel for channel in end.channels if follows(client, channel)]

    def same() -> bool:
        return all(client.mirror.state(channel) == end.state(channel) for channel in wanted)

    await until(same, f"the end on a stream of {client.channels}", limit=30)
    assert set(client.mirror.at) == set(wanted)


def follows(client: Follower, channel: str) -> bool:
    return channel in client.channels or f"{channel.partition(':')[0]}:*" in client.channels


def check_trades_complete(client: Follower, end: End) -> None:
    """The first trades come as a snapshot, all others as updates."""
    for channel, rows in end.tape.items():
        if follows(client, channel):
            tape = client.mirror.tape[channel]
            assert tape == rows[-len(tape) :]
            first = client.mirror.counts[f"snapshot {channel}"]
            assert first == 1
            assert len(rows) - len(tape) <= 100


async def check_rest(run: Replay, expected: Json) -> None:
    """The answers equal the file that was made by someone else's code."""
    for key, book in expected["depth"].items():
        symbol, scale = key.split(":")
        answer = await run.gateway.get(f"/v1/depth/{symbol}", scale=scale)
        assert state_of(answer) == {"asks": book["asks"], "bids": book["bids"]}
        assert answer["type"] == "snapshot"
        assert answer["stale"] is False
    for symbol, given in expected["last_price"].items():
        answer = await run.gateway.get(f"/v1/lastprice/{symbol}")
        assert state_of(answer) == {"symbol": symbol, **given}
    for symbol, given in expected["ticker"].items():
        assert state_of(await run.gateway.get(f"/v1/ticker/{symbol}")) == given
    for symbol, rows in expected["last_50_trades_oldest_first"].items():
        answer = state_of(await run.gateway.get(f"/v1/trades/{symbol}", limit=50))
        assert [as_numbers(row) for row in reversed(answer)] == [as_numbers(row) for row in rows]
