"""The account's side road: private events wait here until REST was read, and are let in then.

The Ledger decides; this room asks, waits and tries again.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import partial
from typing import Never, Protocol

from app.domain.channel import PRIVATE, Channel, Kind
from app.domain.event import Event
from app.domain.health import Following
from app.domain.ledger import Ledger, Question
from app.domain.reconcile import Statement
from app.domain.store import Store
from app.errors import UpstreamUnavailable
from app.logs import logger
from app.upstream.backoff import backoff

log = logger("feed")


class Pool(Protocol):
    """What the account needs of the pool."""

    changed: asyncio.Event

    def confirmed(self, kind: Kind) -> int | None: ...


class Books(Protocol):
    """The account over REST."""

    async def read(self, question: Question) -> Statement: ...


Number = Callable[[Callable[[], list[Event]]], Awaitable[None]]
"""Publishes what is decided when its turn has come."""


class Account:
    """One leader's private channels; ``lost``: what was published may not all be in ``store``."""

    def __init__(self, store: Store, pool: Pool, books: Books, *, lost: bool) -> None:
        self._pool = pool
        self._books = books
        self._ledger = Ledger(store, lost=lost)
        self._kinds = {state.channel.kind for state in store if state.channel.private}
        self._asked: frozenset[Channel] = frozenset()
        self._stirred = asyncio.Event()

    def widen(self, wanted: Iterable[Channel]) -> frozenset[Channel]:
        """What to follow: a private kind as a whole, and for good once it was wanted.

        With deals also orders: REST tells the deals of an order only once it is finished.
        """
        channels = frozenset(wanted)
        self._kinds |= {channel.kind for channel in channels if channel.private}
        if Kind.DEAL in self._kinds:
            self._kinds.add(Kind.ORDER)
        whole = frozenset(Channel(kind, "*") for kind in self._kinds)
        return whole.union(channel for channel in channels if not channel.private)

    def ask(self, channels: Iterable[Channel]) -> None:
        """These are wanted by themselves: if there is nothing on one, that is to be told."""
        asked = frozenset(channels)
        if asked - self._asked:
            self._stirred.set()
        self._asked = asked

    def sift(self, events: list[Event]) -> list[Event]:
        """What may be published now of what was heard."""
        if not any(event.channel.private for event in events):
            return events
        self._stirred.set()
        return self._ledger.sift(events)

    def look(self) -> None:
        """How the upstream stands may have changed."""
        self._stirred.set()

    def following(self, told: Mapping[Channel, Following]) -> dict[Channel, Following]:
        """How everything is followed: a private kind is live once REST was read."""
        return self._ledger.following(told, self._runs(), time.time())

    async def run(self, number: Number) -> Never:
        """Ask REST whenever something is to be asked, until cancelled."""
        delays = backoff(random.random)
        while True:
            runs = self._runs()
            question = self._ledger.due(runs, time.time())
            if question is None:
                if self._ledger.nothing(self._asked, time.time()):
                    await number(lambda: self._ledger.nothing(self._asked, time.time()))
                await self._wait()
                continue
            try:
                self._ledger.begin(question, time.time())
                statement = await self._books.read(question)
            except UpstreamUnavailable as trouble:
                log.warning("account not read", reason=str(trouble))
                self._ledger.failed(question)
                self._pool.changed.set()
                await asyncio.sleep(next(delays))
                continue
            await number(partial(self._ledger.settle, question, statement, runs))
            while self._ledger.unfound:
                log.warning("deals not told", order=self._ledger.unfound.pop())
            self._pool.changed.set()
            delays = backoff(random.random)

    async def _wait(self) -> None:
        """Wait until something may be due."""
        wake = self._ledger.next_wake()
        try:
            async with asyncio.timeout(None if wake is None else max(0.0, wake - time.time())):
                await self._stirred.wait()
        except TimeoutError:
            return
        self._stirred.clear()

    def _runs(self) -> dict[Kind, int]:
        runs = ((kind, self._pool.confirmed(kind)) for kind in PRIVATE)
        return {kind: run for kind, run in runs if run is not None}
