"""The account on the simulated exchange: whatever goes wrong, its state is the exchange's truth.

``ACCOUNT_STORMS=200 pytest tests/feed/test_account.py -k storm`` tries two hundred random lives.
"""

import asyncio
import os

import pytest

from tests.feed.storm import live, storm

TOGETHER = 5
STORMS = int(os.environ.get("ACCOUNT_STORMS", str(TOGETHER)))


@pytest.mark.parametrize("first", range(0, STORMS, TOGETHER))
async def test_after_any_storm_the_state_is_the_truth(first: int) -> None:
    """Several lives at a time, as most of each is waiting."""
    async with asyncio.TaskGroup() as tasks:
        for seed in range(first, first + TOGETHER):
            tasks.create_task(_life(seed), name=f"seed {seed}")


async def _life(seed: int) -> None:
    async with storm(seed) as it:
        await live(it, turns=25)
        assert it.client.held, f"seed {seed} told nothing"
