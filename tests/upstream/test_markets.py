import asyncio

import httpx
import pytest

from app.domain.channel import Channel
from app.errors import UnknownChannel, UpstreamUnavailable
from app.upstream.markets import Markets
from app.upstream.rest import Rest, RestOptions

BTC = {"symbol": "BTC_USDT", "baseCurrency": "BTC", "quoteCurrency": "USDT"}
ETH = {"symbol": "ETH_USDT", "baseCurrency": "ETH", "quoteCurrency": "USDT"}
SCALES = [{"scale": "0.01", "index": 0}, {"scale": "0.1", "index": 1}]


class Host:
    """The exchange's lists, how often they were asked for, and a clock."""

    def __init__(self) -> None:
        self.now = 0.0
        self.rows = [BTC]
        self.away = False
        self.asked: list[str] = []
        self.gate: asyncio.Event | None = None
        self.waiting = asyncio.Event()
        client = httpx.AsyncClient(transport=httpx.MockTransport(self._answer))
        options = RestOptions("https://api", "https://markets", "https://scales")
        self.markets = Markets(Rest(client, options, None), clock=lambda: self.now)

    async def _answer(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request.url.host)
        if self.gate is not None:
            self.waiting.set()
            await self.gate.wait()
        if self.away:
            return httpx.Response(503)
        payload = self.rows if request.url.host == "markets" else SCALES
        return httpx.Response(200, json={"data": payload})


def channel(text: str) -> Channel:
    return Channel.parse(text)


async def test_the_list_is_fetched_once_and_anew_when_it_is_old() -> None:
    host = Host()
    assert await host.markets.all() == [BTC]
    assert await host.markets.symbols() == {"BTC_USDT"}
    assert await host.markets.market("BTC_USDT") == BTC
    assert host.asked == ["markets"]
    host.now, host.rows = 61.0, [BTC, ETH]
    assert await host.markets.all() == [BTC, ETH]


async def test_an_unknown_name_has_the_list_fetched_at_most_once_in_a_while() -> None:
    host = Host()
    for _ in range(3):
        assert await host.markets.market("ETH_USDT") is None
    assert host.asked == ["markets"]
    host.now, host.rows = 4.0, [BTC, ETH]
    assert await host.markets.market("ETH_USDT") == ETH
    for _ in range(3):
        assert await host.markets.market("NO_PE") is None
    assert host.asked == ["markets", "markets"]


async def test_many_at_once_ask_once() -> None:
    host = Host()
    host.gate = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        asking = [tasks.create_task(host.markets.all()) for _ in range(20)]
        await host.waiting.wait()
        host.gate.set()
    assert [task.result() for task in asking] == [[BTC]] * 20
    assert host.asked == ["markets"]


async def test_while_one_asks_anew_the_others_get_the_last_known() -> None:
    host = Host()
    await host.markets.all()
    host.now, host.gate, host.rows = 100.0, asyncio.Event(), [BTC, ETH]
    async with asyncio.TaskGroup() as tasks:
        asking = tasks.create_task(host.markets.all())
        await host.waiting.wait()
        assert await host.markets.all() == [BTC]
        host.gate.set()
    assert asking.result() == [BTC, ETH]


async def test_the_last_known_is_served_while_the_exchange_is_away() -> None:
    host = Host()
    await host.markets.all()
    host.now, host.away = 100.0, True
    assert await host.markets.all() == [BTC]
    assert await host.markets.market("ETH_USDT") is None
    assert len(host.asked) == 2
    host.now = 104.0
    assert await host.markets.all() == [BTC]
    assert len(host.asked) == 3


async def test_nothing_known_and_nobody_there_is_unavailable() -> None:
    host = Host()
    host.away = True
    for _ in range(3):
        with pytest.raises(UpstreamUnavailable):
            await host.markets.all()
    assert len(host.asked) == 1
    host.now, host.away = 5.0, False
    assert await host.markets.all() == [BTC]


async def test_scales_are_kept_by_market_and_not_asked_for_unknown_ones() -> None:
    host = Host()
    assert await host.markets.scales("BTC_USDT") == SCALES
    assert await host.markets.scales("BTC_USDT") == SCALES
    assert await host.markets.scales("ETH_USDT") == []
    assert host.asked == ["markets", "scales"]


async def test_what_is_known_is_told_at_once() -> None:
    host = Host()
    knows = host.markets.knows
    assert knows(channel("ticker:BTC_USDT")) is None
    assert knows(channel("ticker:*")) is True
    await host.markets.all()
    assert knows(channel("ticker:BTC_USDT")) is True
    assert knows(channel("ticker:ETH_USDT")) is False
    assert knows(channel("depth:ETH_USDT:0")) is False
    assert knows(channel("depth:BTC_USDT:0")) is None
    await host.markets.scales("BTC_USDT")
    assert knows(channel("depth:BTC_USDT:1")) is True
    assert knows(channel("depth:BTC_USDT:7")) is False
    assert knows(channel("balance:USDT")) is True
    assert knows(channel("balance:BTC")) is True
    assert knows(channel("balance:DOGE")) is False


@pytest.mark.parametrize(
    "text", ["ticker:BTC_USDT", "ticker:*", "depth:BTC_USDT:1", "balance:BTC", "order:BTC_USDT"]
)
async def test_what_the_exchange_has_is_let_through(text: str) -> None:
    host = Host()
    await host.markets.require(channel(text))
    asked = len(host.asked)
    await host.markets.require(channel(text))
    assert len(host.asked) == asked


@pytest.mark.parametrize("text", ["ticker:ETH_USDT", "depth:ETH_USDT:0", "depth:BTC_USDT:9"])
async def test_what_the_exchange_lacks_is_unknown(text: str) -> None:
    with pytest.raises(UnknownChannel):
        await Host().markets.require(channel(text))


async def test_an_unknown_currency_is_unknown_only_once_the_list_is_there() -> None:
    host = Host()
    host.away = True
    with pytest.raises(UpstreamUnavailable):
        await host.markets.require(channel("balance:DOGE"))
    host.away, host.now = False, 10.0
    with pytest.raises(UnknownChannel):
        await host.markets.require(channel("balance:DOGE"))
