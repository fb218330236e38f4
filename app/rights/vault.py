"""Rights deposited for a while against a random secret: tickets, taken once, and sessions.

The secret has 256 random bits and is kept as a hash only. Through Redis every process accepts what
one of them has given out; without it they stay in this process's memory.
"""

import hashlib
import json
import math
import secrets
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Literal, Protocol

from app.bus.link import Link
from app.errors import NotReady, TooManyRequests
from app.rights.rights import Rights

TICKET = 30
"""Seconds of a ticket."""
SESSION = 12 * 3600
"""Seconds of a session."""
MOST = 10_000
"""Deposits that are kept in memory at once."""
MOST_OF_ONE = 5_000
"""Tickets, and likewise sessions, that may be out for one key or token: given by one process, and
not at their end yet. No one can take all the places, nor fill Redis."""
LONGEST = 100
"""Characters of a secret that is looked up."""

Purpose = Literal["ticket", "session"]


class Shelf(Protocol):
    """Where deposits lie, by name; each for some seconds."""

    async def put(self, name: str, text: str, seconds: int) -> None:
        """Keep a text; raises NotReady if there is no room."""

    async def get(self, name: str) -> str | None:
        """What is kept."""

    async def take(self, name: str) -> str | None:
        """What is kept, and never again: of several who ask at once one gets it."""


class Memory:
    """A shelf in this process, of at most ``most`` deposits."""

    def __init__(self, *, most: int = MOST, now: Callable[[], float] = time.monotonic) -> None:
        self._most = most
        self._now = now
        self._kept: dict[str, tuple[str, float]] = {}

    async def put(self, name: str, text: str, seconds: int) -> None:
        """Keep a text; raises NotReady if there is no room."""
        now = self._now()
        if len(self._kept) >= self._most:
            self._kept = {name: one for name, one in self._kept.items() if one[1] > now}
        if len(self._kept) >= self._most:
            raise NotReady(f"{self._most} tickets and sessions are out already", retry_after=TICKET)
        self._kept[name] = text, now + seconds

    async def get(self, name: str) -> str | None:
        """What is kept."""
        text, ends = self._kept.get(name, (None, 0.0))
        return text if ends > self._now() else None

    async def take(self, name: str) -> str | None:
        """What is kept, and never again."""
        text, ends = self._kept.pop(name, (None, 0.0))
        return text if ends > self._now() else None


class Shared:
    """A shelf in Redis; raises BrokerUnavailable."""

    def __init__(self, link: Link) -> None:
        self._link = link

    async def put(self, name: str, text: str, seconds: int) -> None:
        """Keep a text."""
        await self._link.call("SET", self._link.key(name), text, "EX", seconds)

    async def get(self, name: str) -> str | None:
        """What is kept."""
        return _text(await self._link.call("GET", self._link.key(name)))

    async def take(self, name: str) -> str | None:
        """What is kept, and never again."""
        return _text(await self._link.call("GETDEL", self._link.key(name)))


class Outstanding:
    """What was given out to whom, by the times at which it ends, Unix seconds."""

    def __init__(self, most: int = MOST_OF_ONE) -> None:
        self._most = most
        self._ends: dict[tuple[Purpose, str], deque[float]] = {}
        self._sweep_at = MOST

    def __len__(self) -> int:
        return len(self._ends)

    def add(self, purpose: Purpose, holder: str, now: float, ends: float) -> None:
        """One more; raises TooManyRequests until the oldest has ended."""
        if len(self._ends) >= self._sweep_at:
            self._ends = {one: out for one, out in self._ends.items() if out[-1] > now}
            self._sweep_at = max(MOST, 2 * len(self._ends))
        out = self._ends.setdefault((purpose, holder), deque())
        while out and out[0] <= now:
            out.popleft()
        if len(out) >= self._most:
            raise TooManyRequests(
                f"{self._most} {purpose}s of these credentials are out", math.ceil(out[0] - now)
            )
        out.append(ends)


class Vault:
    """Gives out secrets for rights, and rights for secrets."""

    def __init__(self, shelf: Shelf, *, most_of_one: int = MOST_OF_ONE) -> None:
        self._shelf = shelf
        self._out = Outstanding(most_of_one)

    async def deposit(self, purpose: Purpose, rights: Rights, seconds: int) -> tuple[str, float]:
        """A secret for these rights, and when it ends, Unix seconds: with the rights at latest.

        Raises TooManyRequests and NotReady where too many are out.
        """
        now = time.time()
        ends = now + seconds if rights.ends is None else min(rights.ends, now + seconds)
        self._out.add(purpose, rights.holder, now, ends)
        if purpose == "session":  # so that none is made longer by another
            rights = replace(rights, ends=ends)
        secret = secrets.token_urlsafe(32)
        await self._shelf.put(_name(purpose, secret), _packed(rights), max(1, round(ends - now)))
        return secret, ends

    async def redeem(self, ticket: str) -> Rights | None:
        """The rights behind a ticket, once; None if it is spent, expired or none."""
        if len(ticket) > LONGEST:
            return None
        return _unpacked(await self._shelf.take(_name("ticket", ticket)))

    async def session(self, secret: str) -> Rights | None:
        """The rights of a session; None if there is none."""
        if len(secret) > LONGEST:
            return None
        return _unpacked(await self._shelf.get(_name("session", secret)))

    async def end(self, secret: str) -> None:
        """End a session."""
        if len(secret) <= LONGEST:
            await self._shelf.take(_name("session", secret))


def _name(purpose: Purpose, secret: str) -> str:
    return f"{purpose}:{hashlib.sha256(secret.encode(errors='replace')).hexdigest()}"


def _packed(rights: Rights) -> str:
    return json.dumps([sorted(rights.scopes), rights.patterns, rights.ends, rights.holder])


def _unpacked(text: str | None) -> Rights | None:
    if text is None:
        return None
    scopes, patterns, ends, holder = json.loads(text)
    return Rights(frozenset(scopes), None if patterns is None else tuple(patterns), ends, holder)


def _text(answer: bytes | None) -> str | None:
    return None if answer is None else answer.decode()
