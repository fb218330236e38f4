"""Waiting on conditions, never for a time."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")

LIMIT = 20.0
"""Seconds that a condition may take; generous, as a machine may be busy."""


async def until(
    condition: Callable[[], T | Awaitable[T]], what: str = "", *, limit: float = LIMIT
) -> T:
    """The first true value of a condition; fails with ``what`` when that takes too long."""
    value: T | None = None
    try:
        async with asyncio.timeout(limit):
            while True:
                found = condition()
                value = await found if isinstance(found, Awaitable) else found
                if value:
                    return value
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(
            f"not within {limit:g} s: {what or condition}; last: {value}"
        ) from None
