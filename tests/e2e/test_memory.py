"""Events come and go; what the process holds stays the same."""

from pathlib import Path

import pytest

from tests.e2e.clients import crowd
from tests.e2e.gateway import exchange, gateway, memory
from tests.e2e.reconstruct import Json
from tests.e2e.test_exactness import RECORDING
from tests.e2e.waiting import until

HISTORY = 2_000
FILLED = 6 * HISTORY
EVENTS = 100_000
GROWTH = 1.25
"""The share by which memory may have grown since the history was first full."""

LIMIT = 90.0

pytestmark = pytest.mark.e2e


async def test_memory_stays_flat_after_the_first_fill_of_the_history(tmp_path: Path) -> None:
    """Load on one market; beside it books and trades, where the recordings are there."""
    market: Json = {"load": "BTC_USDT:12000", "rate": 200}
    if RECORDING.exists():
        market |= {"recording": RECORDING, "speed": 20, "loop": True}
    async with (
        exchange(tmp_path, **market) as simulated,
        gateway(simulated.url, tmp_path, history=HISTORY) as running,
        crowd(running.url) as join,
    ):
        reader = join("depth:BTC_USDT:0", "depth:ETH_USDT:0", "trade:*")
        too_slow = join("ticker:*", "depth:BTC_USDT:0", pace=20_000)

        def heard(events: int) -> bool:
            """Whether so many were published: positions count them."""
            return any(sequence >= events for _, sequence in reader.mirror.at.values())

        await until(lambda: heard(FILLED), "the history is full", limit=LIMIT)
        full = memory(running.pid)
        await until(lambda: heard(EVENTS), f"{EVENTS} events", limit=LIMIT)
        assert memory(running.pid) <= full * GROWTH
        assert len(reader.mirror.at) > 2
        assert too_slow.mirror.at
        assert (await simulated.get("/control"))["violations"] == []
