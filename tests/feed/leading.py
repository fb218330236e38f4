"""A process that may lead, on a simulated exchange, with a lease that a test gives and takes."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Never

import httpx

from app.bus.broker import Broker
from app.bus.lease import Lease, Term
from app.domain.channel import Channel
from app.domain.event import Entry
from app.domain.position import Position
from app.errors import LeaseLost
from app.feed import Replica, Upstream, follow, lead
from app.simulator import Options, Simulator
from app.telemetry import Metrics
from app.upstream.account import Books
from app.upstream.audit import Audit
from app.upstream.markets import Markets
from app.upstream.pool import Pool, PoolOptions
from app.upstream.rest import Credentials, Rest, RestOptions
from tests.e2e.waiting import until
from tests.feed.place import FaultyBroker
from tests.upstream.live import freely


class GivenLease:
    """Had at once by whoever asks, in epochs that rise by ten; lost when ``lost`` is set."""

    def __init__(self, *, ttl: float = 60.0, shared: bool = True) -> None:
        self.ttl, self.shared = ttl, shared
        self.end: Callable[[], Position | None] = lambda: None
        self.terms: list[Term] = []
        self.patience: list[float] = []
        self.released = 0
        self.over = False
        self.forgetful = False
        """Whether what an earlier leader has published is lost."""
        self.lost = asyncio.Event()

    async def acquire(
        self, known: Callable[[], int], *, patience: Callable[[], float] = lambda: 0.0
    ) -> Term:
        self.patience.append(patience())
        self.lost.clear()
        self.terms.append(Term(known() + 10, self.end(), lost=self.forgetful))
        return self.terms[-1]

    async def keep(self) -> Never:
        await self.lost.wait()
        raise LeaseLost("told to")

    def check(self) -> None:
        if self.over:
            self.over = False
            raise LeaseLost("its time is over")

    async def release(self) -> None:
        self.released += 1


class Process:
    """What one process has, and what its exchange sees."""

    def __init__(
        self, exchange: Simulator, broker: Broker, replica: Replica, pool: Pool, metrics: Metrics
    ) -> None:
        self.exchange = exchange
        self.broker = broker
        self.replica = replica
        self.pool = pool
        self.metrics = metrics

    def epoch(self, channel: str) -> int:
        """The epoch of what the store holds; 0: nothing."""
        state = self.replica.store.get(Channel.parse(channel))
        return 0 if state is None else state.position.epoch

    async def fresh(self, channel: str, epoch: int) -> None:
        """Wait until a leader of that epoch, or a later one, has told something of a channel."""
        await until(lambda: self.epoch(channel) >= epoch, f"{channel} in epoch {epoch}", limit=30)

    async def status(self, wanted: str) -> None:
        """Wait until the upstream counts as so."""
        hub = self.replica.hub
        await until(lambda: hub.status[0] == wanted, f"upstream {wanted}", limit=30)

    async def settled(self) -> None:
        """Wait until the whole upstream is live, and what is private was read over REST."""

        def live() -> bool:
            health = self.replica.hub.health
            return (
                health is not None
                and {one.state for one in self.pool.connections()} == {"live"}
                and bool(health.following)
                and all(one.live for one in health.following.values())
            )

        await until(live, lambda: self.replica.hub.health, limit=30)

    @property
    def leading(self) -> bool:
        return bool(self.metrics.registry.get_sample_value("sluice_lease_held"))


def broken_chain(entries: list[Entry]) -> list[tuple[Entry, Entry]]:
    """Where an entry does not follow the one before it."""
    return [(one, other) for one, other in pairwise(entries) if other.previous != one.position]


def lease_on(broker: FaultyBroker, *, ttl: float = 60.0, shared: bool = True) -> GivenLease:
    """A lease that knows where the journal ends."""
    lease = GivenLease(ttl=ttl, shared=shared)
    lease.end = lambda: broker.last
    return lease


@asynccontextmanager
async def candidate(
    lease: Lease,
    broker: Broker,
    replica: Replica,
    *,
    health_ttl: float = 5.0,
    **switches: object,
) -> AsyncIterator[Process]:
    """Following and leading; at the end, the exchange must have nothing to complain of."""
    metrics = Metrics()
    options = {"port": 0, "rate": 200.0, "account": False} | switches
    async with (
        Simulator(Options(**options)) as exchange,  # type: ignore[arg-type] # checked there
        httpx.AsyncClient(trust_env=False) as client,
    ):
        hosts = RestOptions(exchange.url, exchange.url, exchange.url, timeout=2.0)
        rest = Rest(client, hosts, Credentials("demo-user", "demo-key"))
        pool = Pool(rest, PoolOptions(exchange.ws_url), metrics, leave=freely)
        upstream = Upstream(pool, Markets(rest), Audit(rest, metrics), Books(rest, gap=0.0))
        async with asyncio.TaskGroup() as tasks:
            running = [
                tasks.create_task(follow(broker, replica, health_ttl=health_ttl)),
                tasks.create_task(lead(lease, broker, replica, upstream, metrics)),
            ]
            yield Process(exchange, broker, replica, pool, metrics)
            for task in running:
                task.cancel()
        assert exchange.control.report()["violations"] == []
