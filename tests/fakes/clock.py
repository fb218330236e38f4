"""An event loop whose time stands still unless a test moves it."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class StillLoop(asyncio.SelectorEventLoop):
    """For tests that are not coroutines themselves, such as state machines."""

    def __init__(self) -> None:
        self.now = 1000.0
        super().__init__()

    def time(self) -> float:
        return self.now

    def do(self, action: Callable[[], T]) -> T:
        """Call something inside the running loop."""

        async def act() -> T:
            return action()

        return self.run_until_complete(act())

    def settle(self, turns: int = 200) -> None:
        """Let everything happen that is due now."""

        async def wait() -> None:
            for _ in range(turns):
                await asyncio.sleep(0)

        self.run_until_complete(wait())
