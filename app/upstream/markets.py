"""The exchange's market list and depth scales, cached, as the exchange gives them.

The last known is served while the exchange is away; one caller at a time asks it anew.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from app.domain.channel import Channel, Kind
from app.domain.event import Data
from app.errors import UnknownChannel, UpstreamUnavailable
from app.upstream.rest import Rest

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class MarketsOptions:
    """Seconds: how long an answer is good, and the least time between two questions."""

    list_age: float = 60.0
    scales_age: float = 300.0
    pause: float = 3.0


class _Answer(Generic[T]):
    """The last answer to one question."""

    def __init__(self, ask: Callable[[], Awaitable[T]], clock: Callable[[], float]) -> None:
        self.value: T | None = None
        self._ask = ask
        self._clock = clock
        self._answered = self._asked = float("-inf")
        self._asking = asyncio.Lock()

    async def get(self, *, age: float, pause: float) -> T:
        """An answer not older than ``age``, or else the last one; raises UpstreamUnavailable."""
        if self.value is not None and (self._fresh(age, pause) or self._asking.locked()):
            return self.value
        async with self._asking:
            if self.value is not None and self._fresh(age, pause):
                return self.value
            return await self._renew(pause)

    def _fresh(self, age: float, pause: float) -> bool:
        now = self._clock()
        return now - self._answered <= age or now - self._asked < pause

    async def _renew(self, pause: float) -> T:
        if self._clock() - self._asked < pause:  # just tried, in vain
            raise UpstreamUnavailable("exchange did not answer a moment ago")
        try:
            self.value = value = await self._ask()
            self._answered = self._clock()
        except UpstreamUnavailable:
            if self.value is None:
                raise
            return self.value
        finally:
            self._asked = self._clock()
        return value


class Markets:
    """What can be followed: markets, currencies and the scales of books."""

    def __init__(
        self,
        rest: Rest,
        options: MarketsOptions | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._rest = rest
        self._options = options or MarketsOptions()
        self._clock = clock
        self._list = _Answer(self._index, clock)
        self._scales: dict[str, _Answer[list[Data]]] = {}

    async def all(self) -> list[Data]:
        """The market list; raises UpstreamUnavailable while nothing is known yet."""
        return list((await self._known()).values())

    async def symbols(self) -> frozenset[str]:
        """The names of all markets; raises UpstreamUnavailable while nothing is known yet."""
        return frozenset(await self._known())

    async def market(self, symbol: str) -> Data | None:
        """One market, None if there is no such; raises UpstreamUnavailable.

        For a name that is not in the list it is fetched anew, at most once in a few seconds.
        """
        known = await self._known()
        if symbol not in known:
            known = await self._known(age=self._options.pause)
        return known.get(symbol)

    async def scales(self, symbol: str) -> list[Data]:
        """The depth scales of a market, none if there is no such; raises UpstreamUnavailable."""
        if await self.market(symbol) is None:
            return []
        answer = self._scales.get(symbol)
        if answer is None:
            answer = _Answer(lambda: self._rest.scales(symbol), self._clock)
            self._scales[symbol] = answer
        return await answer.get(age=self._options.scales_age, pause=self._options.pause)

    def knows(self, channel: Channel) -> bool | None:
        """Whether the exchange has such a channel; None where that is not known yet."""
        if channel.wildcard:
            return True
        known = self._list.value
        if known is None:
            return None
        if channel.kind is Kind.BALANCE:
            return any(
                channel.subject in (row.get("baseCurrency"), row.get("quoteCurrency"))
                for row in known.values()
            )
        if channel.market not in known:
            return False
        return True if channel.kind is not Kind.DEPTH else self._has_scale(channel)

    async def require(self, channel: Channel) -> None:
        """Raise UnknownChannel for what the exchange does not have; UpstreamUnavailable if unclear.

        Asks the exchange only about what is not known to be there.
        """
        if self.knows(channel):
            return
        market = channel.market
        if market is None:
            await self._known()
        elif await self.market(market) is None:
            raise UnknownChannel(f"the exchange has no market {market}")
        elif channel.kind is Kind.DEPTH:
            await self.scales(market)
        if not self.knows(channel):
            raise UnknownChannel(f"the exchange has no {channel}")

    def _has_scale(self, channel: Channel) -> bool | None:
        answer = self._scales.get(channel.market or "")
        if answer is None or answer.value is None:
            return None
        return any(row["index"] == channel.scale for row in answer.value)

    async def _known(self, age: float | None = None) -> dict[str, Data]:
        wanted = self._options.list_age if age is None else age
        return await self._list.get(age=wanted, pause=self._options.pause)

    async def _index(self) -> dict[str, Data]:
        return {str(row["symbol"]): row for row in await self._rest.markets()}
