"""A connection that has grown old is replaced without a gap, a loss or a repetition."""

import asyncio

import httpx
import pytest

from app.domain.channel import Channel
from app.domain.sequencer import Sequencer
from app.domain.store import Store
from app.simulator import Options, Simulator
from app.telemetry import Metrics
from app.upstream.pool import Pool, PoolOptions
from app.upstream.rest import Credentials, Rest, RestOptions
from tests.e2e.gateway import KEY, USER
from tests.e2e.market import BOOKS, WILD, Market
from tests.e2e.reconstruct import Mirror, loads
from tests.e2e.waiting import until

pytestmark = pytest.mark.e2e

CONNECTIONS = 2
ROUNDS = 2
LIMIT = 60.0


async def at_once() -> float:
    """Leave for a token, always."""
    return 0.0


async def mirrored(pool: Pool, mirror: Mirror) -> None:
    """What the pool hears, numbered and encoded, as a client would get it."""
    sequencer = Sequencer(1, Store())
    async for batch in pool.batches():
        entry = sequencer.sequence(batch)
        for envelope in entry.envelopes if entry else ():
            mirror.learn(loads(envelope.raw))


async def test_a_planned_retirement_loses_and_repeats_nothing() -> None:
    async with (
        Simulator(Options(port=0, rate=100, account=False)) as exchange,
        httpx.AsyncClient(trust_env=False) as http,
        asyncio.TaskGroup() as tasks,
    ):
        rest = Rest(
            http,
            RestOptions(api_url=exchange.url, markets_url=exchange.url, scales_url=exchange.url),
            Credentials(USER, KEY),
        )
        options = PoolOptions(exchange.ws_url, connections=CONNECTIONS, max_age=1.0)
        pool = Pool(rest, options, Metrics(), leave=at_once)
        pool.want(frozenset(map(Channel.parse, [*WILD, *BOOKS])))
        market, mirror = Market(exchange=exchange), Mirror()
        running = [tasks.create_task(pool.run()), tasks.create_task(mirrored(pool, mirror))]

        def replaced() -> bool:
            market.nudge()
            return len(market.closed()) >= CONNECTIONS * ROUNDS

        await until(replaced, "all connections replaced, and again", limit=LIMIT)
        market.act("pause")
        await until(lambda: market.true_of(mirror), lambda: market.untrue(mirror), limit=5)
        for task in running:
            task.cancel()
        assert not +mirror.gaps
        assert set(mirror.at) == market.channels
        for channel, tape in mirror.tape.items():
            assert len(tape) > 10, channel
            assert mirror.counts[f"snapshot {channel}"] == 1
        assert market.report()["violations"] == []
        assert {one["closed"] for one in market.closed()} == {"by the client, code 1000"}
