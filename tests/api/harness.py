"""The REST routes on a real hub, store and wishes, without sockets and without an exchange."""

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any, cast

import httpx
from fastapi import FastAPI
from starlette.types import ASGIApp, Receive, Scope, Send

from app.api import account, catalogue, health, problems, schemas, state, stream, tickets
from app.api.admission import Admission
from app.api.callers import ANONYMOUS, Callers
from app.api.deps import Limits, State
from app.api.exposition import Exposition
from app.api.fastpath import FastPath
from app.api.guard import Guard
from app.api.limiter import Limiter
from app.api.quota import Quotas
from app.api.rate import Rate
from app.api.vitals import Vitals
from app.domain.channel import Channel, Kind
from app.domain.event import Data, Entry, Event
from app.domain.health import Following, Health
from app.domain.position import Position
from app.domain.sequencer import Sequencer
from app.domain.store import Store
from app.errors import UnknownChannel, UpstreamUnavailable
from app.hub.hub import Hub, HubOptions
from app.hub.wishes import Wishes
from app.rights.keys import Keys
from app.rights.rights import Rights
from app.rights.vault import Memory, Vault
from app.telemetry import Metrics
from app.upstream.markets import Markets
from tests import given
from tests.e2e.process import soon

SCALES = [{"scale": "0.01", "index": 0}, {"scale": "0.1", "index": 1}]
PINNED = frozenset(map(Channel.parse, ("lastprice:*", "ticker:*", "trade:*")))


def market_row(symbol: str) -> Data:
    base, _, quote = symbol.partition("_")
    return {
        "id": "01",
        "symbol": symbol,
        "baseCurrency": base,
        "quoteCurrency": quote,
        "baseMinSize": "0.00001",
        "quoteMinSize": "1",
        "baseMaxSize": "1000",
        "quoteMaxSize": "1000000",
        "basePrec": "8",
        "quotePrec": "2",
    }


class FakeMarkets:
    """A market list that is there, or an exchange that is away, or slow to tell scales."""

    def __init__(self) -> None:
        self.rows = {name: market_row(name) for name in ("BTC_USDT", "ETH_USDT", "TRX_USDT")}
        self.away = False
        self.slow = 0.0
        self.asked = 0

    async def all(self) -> list[Data]:
        self._ask()
        return list(self.rows.values())

    async def market(self, symbol: str) -> Data | None:
        self._ask()
        return self.rows.get(symbol)

    async def scales(self, symbol: str) -> list[Data]:
        self._ask()
        return SCALES if symbol in self.rows else []

    def knows(self, channel: Channel) -> bool | None:
        listed = channel.market in self.rows
        return None if listed and self.slow and channel.scale is not None else listed

    async def require(self, channel: Channel) -> None:
        self._ask()
        if self.knows(channel) is None:
            await asyncio.sleep(self.slow)
        if channel.market is not None and channel.market not in self.rows:
            raise UnknownChannel(f"the exchange has no market {channel.market}")
        if channel.scale is not None and channel.scale > 1:
            raise UnknownChannel(f"the exchange has no {channel}")

    def _ask(self) -> None:
        self.asked += 1
        if self.away:
            raise UpstreamUnavailable("the exchange said something secret")


class Gateway:
    """One process's REST face; events are put in by hand."""

    def __init__(
        self,
        *,
        limits: Limits | None = None,
        callers: Callers | None = None,
        anonymous: Rights = ANONYMOUS,
        hosts: tuple[str, ...] = ("*",),
        limit: int = 1000,
        pinned: frozenset[Channel] = PINNED,
        loaded: bool = True,
        most: int = 100,
        rate: str = "10000/second",
    ) -> None:
        self.metrics = Metrics()
        self.hub = Hub(Store(), HubOptions(), self.metrics)
        self.wishes = Wishes(pinned, linger=60.0, limit=limit)
        self.markets = FakeMarkets()
        self.limits = limits or Limits()
        self.metrics.registry.register(Vitals(self.hub, self.wishes, self.limits))
        self.exposition = Exposition(self.metrics.registry)
        self.callers = callers or Callers(Keys(None), Vault(Memory()), anonymous=anonymous)
        self.admission = Admission(most=10, most_per_client=10)
        self.quotas = Quotas(Rate.parse(rate), clock=lambda: self.clock)
        self.clock = time.time()
        self._sequencer = Sequencer(7, Store())
        self.app = FastAPI(redirect_slashes=False)
        for room in (stream, state, account, catalogue, tickets, health):
            self.app.include_router(room.router)
        problems.install(self.app)
        schemas.install(self.app)
        front = Limiter(FastPath(self.app.build_middleware_stack(), most=most))
        self.app.middleware_stack = Guard(front, allowed_hosts=hosts)
        self._stack: ASGIApp = self.app
        if loaded:
            self.load()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        given_by_lifespan: State = {
            "hub": self.hub,
            "admission": self.admission,
            "wishes": self.wishes,
            "markets": cast("Markets", self.markets),
            "metrics": self.metrics,
            "exposition": self.exposition,
            "limits": self.limits,
            "callers": self.callers,
            "process": "this-one",
            "quotas": self.quotas,
        }
        scope["state"] = dict(given_by_lifespan)
        await self._stack(scope, receive, send)

    def client(self, *, raising: bool = True) -> httpx.AsyncClient:
        transport = httpx.ASGITransport(self, raise_app_exceptions=raising)
        return httpx.AsyncClient(transport=transport, base_url="http://gateway")

    async def get(self, path: str, **headers: str) -> httpx.Response:
        """Ask for a path; underscores in header names stand for hyphens."""
        async with self.client() as client:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            return await client.get(path, headers=named)

    async def stream(self, path: str, **headers: str) -> httpx.Response:
        """What a stream brings before its end, which comes once it has been let in."""
        async with asyncio.TaskGroup() as tasks:
            asked = tasks.create_task(self.get(path, **headers))
            await soon(lambda: asked.done() or len(self.hub))
            for subscription in list(self.hub._subscriptions):
                self.hub.end(subscription, "lifetime")
        return asked.result()

    def hear(self, *events: Event) -> Entry:
        """What the broker would bring of ``events``."""
        entry = self._sequencer.sequence(events)
        assert entry is not None
        for envelope in entry.envelopes:
            self.hub.store.apply(envelope)
        self.hub.publish(entry)
        return entry

    def forget(self, channel: str) -> None:
        self.hub.store.forget(Channel.parse(channel))

    def load(self) -> None:
        self.hub.reload(Position(7, 0))

    def report(self, **lines: Following) -> None:
        """The leader's health; ``ticker_BTC_USDT`` and ``ticker`` name a channel and a wildcard."""
        following = {_channel(name): line for name, line in lines.items()}
        now = time.time()
        report = Health(epoch=7, at=now, upstream="live", since=now, following=following)
        self.hub.report(report, "live", now)

    def when_wanted(self, act: Callable[[], Any], *, after: float = 0.5) -> None:
        """Do something a while after the next channel is wished for."""
        loop = asyncio.get_running_loop()

        def wished() -> None:
            loop.call_later(after, act)

        self.wishes.on_more = wished


def _channel(name: str) -> Channel:
    kind, _, market = name.partition("_")
    return Channel(Kind(kind), market or "*")


def live(*, since: float | None = None) -> Following:
    since = time.time() - 100 if since is None else since
    return Following(live=True, since=since, unbroken=0.0, broken=0.0)


def lost(seconds: float) -> Following:
    """Not live for some seconds."""
    since = time.time() - seconds
    return Following(live=False, since=since, unbroken=0.0, broken=since)


def price(market: str, text: str, *, age: float = 0.0) -> Event:
    return given.price(market, text, received=time.time() - age)


def is_problem(response: httpx.Response, status: int, title: str) -> str:
    """Check the shape of an error; its detail."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body = json.loads(response.content)
    assert set(body) == {"type", "title", "status", "detail"}
    assert body["status"] == status
    assert body["title"] == title
    detail = body["detail"]
    assert isinstance(detail, str)
    assert detail.isprintable()
    return detail
