"""A pool that talks to the simulated exchange over real sockets, and what it brought."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import httpx

from app.domain.book import OrderBook
from app.domain.channel import Channel, Kind
from app.domain.event import Event
from app.domain.health import Following
from app.simulator import Options, Simulator
from app.telemetry import Metrics
from app.upstream.pool import Pool, PoolOptions
from app.upstream.rest import Credentials, Rest, RestOptions
from app.upstream.session import SessionOptions

PUBLIC = ("lastprice:*", "ticker:*", "trade:*")
BOOK = "depth:BTC_USDT:0"


async def until(condition: Callable[[], bool], *, within: float = 10.0) -> None:
    """Wait for a condition, with a time limit."""
    async with asyncio.timeout(within):
        while not condition():  # noqa: ASYNC110  conditions here are about many things at once
            await asyncio.sleep(0.005)


def channels(*texts: str) -> frozenset[Channel]:
    return frozenset(map(Channel.parse, texts))


async def freely() -> float:
    """Leave for a token, always."""
    return 0.0


class Live:
    """A running pool, its exchange, and every event it brought."""

    def __init__(self, exchange: Simulator, pool: Pool, metrics: Metrics) -> None:
        self.exchange = exchange
        self.pool = pool
        self.metrics = metrics
        self.events: list[Event] = []
        self.batches: list[int] = []
        self.reading = asyncio.Event()
        self.reading.set()

    async def take(self) -> None:
        async for batch in self.pool.batches():
            self.events += batch
            self.batches.append(len(batch))
            await self.reading.wait()

    def following(self, text: str) -> Following:
        return self.pool.following()[Channel.parse(text)]

    def live(self) -> bool:
        """Whether all that is wanted is confirmed, on sockets that are all up."""
        states = {one.state for one in self.pool.connections()}
        return states == {"live"} and all(one.live for one in self.pool.following().values())

    async def all_live(self, *, within: float = 10.0) -> None:
        await until(self.live, within=within)

    async def more(self, text: str, *, within: float = 10.0) -> Event:
        """The next event that a channel brings from now on."""
        channel, seen = Channel.parse(text), len(self.events)
        await until(
            lambda: any(channel.covers(one.channel) for one in self.events[seen:]), within=within
        )
        return next(one for one in self.events[seen:] if channel.covers(one.channel))

    def runs(self, text: str) -> list[int]:
        """The runs that were seen on a channel, in order."""
        channel = Channel.parse(text)
        return list(
            dict.fromkeys(one.continuity for one in self.events if channel.covers(one.channel))
        )

    async def heard(self, *texts: str, runs: int = 1) -> None:
        """Wait until each channel has brought something, in exactly so many runs by then."""
        await until(lambda: all(len(self.runs(text)) >= runs for text in texts))
        assert {text: len(self.runs(text)) for text in texts} == dict.fromkeys(texts, runs)

    def book(self, text: str) -> tuple[list[list[str]], list[list[str]]] | None:
        """The order book as the events make it."""
        book: OrderBook | None = None
        for event in self.events:
            if str(event.channel) == text:
                asks, bids = event.data.get("asks", ()), event.data.get("bids", ())
                if event.full:
                    book = OrderBook()
                    book.reload(asks, bids)
                elif book is not None:
                    book.update(asks, bids)
        return None if book is None else (book.asks(), book.bids())

    async def book_is_true(self, text: str, *, within: float = 10.0) -> None:
        subject = text.removeprefix("depth:")

        def equal() -> bool:
            asks, bids = self.exchange.exchange.truth.books[subject].best_first()
            return self.book(text) == ([*map(list, asks)], [*map(list, bids)])

        await until(equal, within=within)

    def trades(self, market: str) -> list[tuple[str, str]]:
        return [
            (row["price"], row["quantity"])
            for event in self.events
            if event.channel == Channel(Kind.TRADE, market)
            for row in event.data["trades"]
        ]

    def disconnects(self, reason: str) -> float:
        value = self.metrics.registry.get_sample_value(
            "sluice_upstream_disconnects_total", {"reason": reason}
        )
        return value or 0.0

    def refusals(self) -> float:
        value = self.metrics.registry.get_sample_value(
            "sluice_upstream_token_fetches_total", {"outcome": "refused"}
        )
        return value or 0.0

    def violations(self) -> list[Any]:
        """What the exchange had to complain about."""
        violations = self.exchange.control.report()["violations"]
        assert isinstance(violations, list)
        return violations


@asynccontextmanager
async def live(
    *wanted: str,
    switches: dict[str, Any] | None = None,
    session: dict[str, Any] | None = None,
    settle: bool = True,
    **options: Any,
) -> AsyncIterator[Live]:
    """A pool with its exchange; at the end the exchange must have no complaint."""
    switched = {"port": 0, "rate": 200.0, **(switches or {})}
    metrics = Metrics()
    async with Simulator(Options(**switched)) as exchange, httpx.AsyncClient() as client:
        hosts = RestOptions(exchange.url, exchange.url, exchange.url, timeout=2.0)
        rest = Rest(client, hosts, Credentials("demo-user", "demo-key"))
        chosen = PoolOptions(exchange.ws_url, session=SessionOptions(**(session or {})))
        pool = Pool(rest, replace(chosen, **options), metrics, leave=freely)
        it = Live(exchange, pool, metrics)
        pool.want(channels(*wanted))
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(pool.run()), tasks.create_task(it.take())]
            if settle:
                await it.all_live()
            yield it
            for task in running:
                task.cancel()
        assert it.violations() == []
