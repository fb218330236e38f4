"""The lease: the right to run the upstream and to publish, one process's at a time.

Nobody's clock matters. A lease in Redis has no time to live there: its holder changes its text with
every renewal, and a candidate takes it when it has seen the same text for the whole of ``ttl`` by
its own monotonic clock. The holder stops when its last renewal was sent ``ttl`` ago, which is
before that. Taking it makes a new epoch, and the journal refuses every older one.
"""

import asyncio
import time
from collections.abc import Callable
from typing import NamedTuple, Never, Protocol

from app.bus import scripts
from app.bus.broker import delays
from app.bus.link import Link
from app.domain.position import Position, next_epoch
from app.errors import BrokerUnavailable, LeaseLost
from app.logs import logger

log = logger("lease")


class Term(NamedTuple):
    """One time of leading: its epoch, and where the journal ended when it began.

    ``lost``: somebody knew of a later epoch than the journal, so its leader may have published
    what nobody can tell any more.
    """

    epoch: int
    end: Position | None
    lost: bool = False


class Lease(Protocol):
    """The right to lead. ``ttl``: seconds it lasts without renewal; ``shared``: others want it."""

    ttl: float
    shared: bool

    async def acquire(
        self, known: Callable[[], int], *, patience: Callable[[], float] = lambda: 0.0
    ) -> Term:
        """Wait until it is ours, in an epoch above the highest ``known`` to anyone.

        With ``patience`` only after nobody else has taken it for that many seconds. Who is
        cancelled meanwhile does not hold it.
        """

    async def keep(self) -> Never:
        """Renew it until that fails; raises LeaseLost."""

    def check(self) -> None:
        """Raise LeaseLost if its time is over."""

    async def release(self) -> None:
        """Give it back, so that another can take it at once; nothing if it is not ours."""


class OwnLease:
    """The lease of a process that shares its broker with no other."""

    shared = False

    def __init__(self, *, ttl: float) -> None:
        self.ttl = ttl

    async def acquire(
        self, known: Callable[[], int], *, patience: Callable[[], float] = lambda: 0.0
    ) -> Term:
        """At once."""
        return Term(next_epoch(known(), time.time()), None)

    async def keep(self) -> Never:
        """For ever."""
        await asyncio.Event().wait()
        raise AssertionError("nobody sets it")

    def check(self) -> None:
        """It is always ours."""

    async def release(self) -> None:
        """There is nobody to take it."""


FREE = "free"
"""The text of a lease that was given back. One without any text may have been lost by Redis while
somebody holds it."""


class Candidate:
    """When a lease that somebody else holds, or nobody, may be taken. Pure: monotonic seconds."""

    def __init__(self, ttl: float) -> None:
        self._ttl = ttl
        self._seen: str | None = None
        self._since = 0.0

    def see(self, text: str, now: float) -> None:
        """The lease's text is this now; empty if there is none."""
        if text != self._seen:
            self._seen, self._since = text, now

    def due(self, patience: float, *, known: bool) -> float:
        """When it may be taken if its text stays as it is; ``known``: somebody has ever led."""
        held = self._seen != FREE if self._seen else known
        return self._since + patience + (self._ttl if held else 0.0)


class RedisLease:
    """The lease that the processes of a deployment share; ``process`` is this one's name."""

    shared = True

    def __init__(self, link: Link, process: str, *, ttl: float) -> None:
        self.ttl = ttl
        self._link = link
        self._process = process
        self._text = ""
        self._over = 0.0

    async def acquire(
        self, known: Callable[[], int], *, patience: Callable[[], float] = lambda: 0.0
    ) -> Term:
        """Wait until it is ours; while Redis is away, until it is back."""
        try:
            return await self._take(known, patience)
        except asyncio.CancelledError:
            self._text = self._process  # whatever its epoch: it may be ours unheard
            await self.release()
            raise

    async def _take(self, known: Callable[[], int], patience: Callable[[], float]) -> Term:
        candidate = Candidate(self.ttl)
        may_replace = "-" if patience() else FREE
        pauses, away = delays(), False
        while True:
            sent = time.monotonic()
            try:
                answer = await self._link.run(
                    scripts.TAKE,
                    ("lease", "epoch", "journal", "vacant"),
                    self._process,
                    known(),
                    may_replace,
                )
                text = answer[0].decode()
                if len(answer) == 4:
                    self._text = f"{self._process} {int(answer[1])}"
                    self._over = sent + self.ttl
                    end = Position.parse(answer[2].decode())
                    return Term(int(answer[1]), end, lost=bool(answer[3]))
                candidate.see(text, time.monotonic())
                wait = candidate.due(patience(), known=int(answer[1]) > 0) - time.monotonic()
                may_replace = text if wait <= 0 else "-" if patience() else FREE
                if wait > 0:
                    await self._vacancy(max(0.01, min(wait, self.ttl / 10)))
                pauses, away = delays(), False
            except BrokerUnavailable as error:
                if not away:
                    log.warning("no lease to be had", reason=str(error))
                away = True
                await asyncio.sleep(next(pauses))

    async def _vacancy(self, seconds: float) -> None:
        """Wait until the lease is released, but not longer than some seconds."""
        await self._link.call(
            "BLPOP", self._link.key("vacant"), seconds, limit=seconds + self._link.limit
        )

    async def keep(self) -> Never:
        """Renew it three times in its life; raises LeaseLost when that did not succeed in time."""
        number, failing = 0, False
        while True:
            number += 1
            sent = time.monotonic()
            try:
                async with asyncio.timeout(max(0.0, self._over - sent)):
                    if not await self._link.run(scripts.RENEW, ("lease",), self._text, number):
                        self._over = 0.0
                        raise LeaseLost("another process has taken the lease")
                self._over, failing = sent + self.ttl, False
            except BrokerUnavailable as error:
                if not failing:
                    log.warning("lease not renewed", reason=str(error))
                failing = True
            except TimeoutError:
                pass  # its time is over
            self.check()
            pause = self.ttl / (20 if failing else 3)
            await asyncio.sleep(min(pause, max(0.0, self._over - time.monotonic())))

    def check(self) -> None:
        """Raise LeaseLost once ``ttl`` has passed since the last renewal was sent."""
        if time.monotonic() >= self._over:
            raise LeaseLost("the lease could not be renewed in time")

    async def release(self) -> None:
        """Give it back; while Redis is away it is left to its end."""
        self._over = 0.0
        try:
            await self._link.run(scripts.RELEASE, ("lease", "vacant"), self._text)
        except BrokerUnavailable as error:
            log.info("lease not released", reason=str(error))
