"""Long polls: requests that wait for news, each in a place among the streams.

A poll holds its connection for up to a minute, as a stream does for an hour, so both count against
the same limits, and end with their credentials or their client alike.
"""

import asyncio
from contextlib import suppress

from starlette.types import Receive, Scope

from app.api.admission import refused
from app.api.client import client_of
from app.api.deps import state_of
from app.domain.channel import Channel
from app.domain.position import Position
from app.errors import NotAllowed, NotReady, TooManyStreams
from app.rights.rights import Rights

LOOK = 2.0
"""Seconds between two looks at whether the credentials still hold."""


class LongPoll:
    """One request that may wait."""

    def __init__(self, scope: Scope, receive: Receive, caller: Rights) -> None:
        state = state_of(scope)
        self._hub = state["hub"]
        self._wishes = state["wishes"]
        self._admission = state["admission"]
        self._metrics = state["metrics"]
        self._callers = state["callers"]
        self._caller = caller
        self._client = client_of(scope)
        self._receive = receive

    async def newer(self, channel: Channel, after: Position, wait: float) -> None:
        """Wait until a state is newer than a position, the time is over or the client is gone.

        ``wait``: seconds. Raises TooManyStreams where there is no place, NotReady when the process
        shuts down, NotAllowed once the credentials have ended.
        """
        if self._is_newer(channel, after):
            return
        try:
            self._admission.enter(self._client)
        except TooManyStreams as error:
            refused(error, self._client, self._metrics)
            raise
        self._wishes.hold([channel])
        try:
            with self._metrics.polls.track_inprogress():
                await self._wait(channel, after, wait)
        finally:
            self._wishes.release([channel], self._hub.now())
            self._admission.leave(self._client)
        self._hub.require_open()
        if not self._permitted():
            raise NotAllowed("the credentials have ended")

    async def _wait(self, channel: Channel, after: Position, wait: float) -> None:
        """Until there is news, the time is over or the client hangs up: its place is for others."""
        async with asyncio.TaskGroup() as tasks:
            waiting = [
                tasks.create_task(self._news(channel, after), name="poll"),
                tasks.create_task(_hung_up(self._receive), name="poll-watch"),
            ]
            await asyncio.wait(waiting, timeout=wait, return_when=asyncio.FIRST_COMPLETED)
            for task in waiting:
                task.cancel()

    async def _news(self, channel: Channel, after: Position) -> None:
        with suppress(NotReady):  # the process shuts down
            while not self._is_newer(channel, after) and self._permitted():
                await self._change(channel)

    async def _change(self, channel: Channel) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(None if self._caller.anonymous else LOOK):
                await self._hub.changed(channel)

    def _is_newer(self, channel: Channel, after: Position) -> bool:
        state = self._hub.store.get(channel)
        return state is not None and state.position > after

    def _permitted(self) -> bool:
        return self._callers.permitted(self._caller)


async def _hung_up(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
