"""Long polls: who waits for the next event on a channel."""

import asyncio
from collections.abc import Iterable

from app.domain.channel import Channel


class Watchers:
    """Futures by channel."""

    def __init__(self) -> None:
        self._waiting: dict[Channel, list[asyncio.Future[None]]] = {}

    def __bool__(self) -> bool:
        return bool(self._waiting)

    async def wait(self, channel: Channel) -> None:
        """Wait until the channel, or everyone, is woken."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiting = self._waiting.setdefault(channel, [])
        waiting.append(future)
        try:
            await future
        finally:
            waiting.remove(future)
            if not waiting and self._waiting.get(channel) is waiting:
                del self._waiting[channel]

    def wake(self, channels: Iterable[Channel] | None = None) -> None:
        """Something happened on these channels; without any, on all."""
        for channel in list(self._waiting if channels is None else channels):
            for future in self._waiting.pop(channel, ()):
                if not future.done():
                    future.set_result(None)
