"""Waiting on conditions, never for a time."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, overload

T = TypeVar("T")

LIMIT = 20.0
"""Seconds that a condition may take; generous, as a machine may be busy."""


@overload
async def until(
    condition: Callable[[], Awaitable[T]], what: object = ..., *, limit: float = ...
) -> T: ...
@overload
async def until(condition: Callable[[], T], what: object = ..., *, limit: float = ...) -> T: ...
async def until(condition: Callable[[], Any], what: object = "", *, limit: float = LIMIT) -> object:
    """The first true value of a condition, plain or async; fails if that takes too long.

    ``what`` says what was waited for; as a callable it tells what was seen last.
    """
    try:
        async with asyncio.timeout(limit):
            while True:
                found = condition()
                if inspect.isawaitable(found):
                    found = await found
                if found:
                    return found
                await asyncio.sleep(0.02)
    except TimeoutError:
        seen = what() if callable(what) else what or condition
        raise AssertionError(f"not within {limit:g} s: {seen}") from None
