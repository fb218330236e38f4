"""The latest state over REST, out of the replica's store: one channel, lists, long poll.

Asking for a channel follows it. What the store holds is served at once; for what it does not hold
yet a request waits up to ``FIRST_STATE`` seconds.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import Response
from starlette.types import Scope

from app.api.answers import Answer, Wanted
from app.api.deps import state_of
from app.api.fastpath import AGAIN
from app.api.longpoll import LongPoll
from app.api.parameters import (
    After,
    ChannelsText,
    MaxAge,
    Symbol,
    Symbols,
    Wait,
    channel_of,
    channels_in,
    channels_of,
    position_in,
)
from app.api.rights import Caller, authorise, signed_in
from app.api.schemas import state_responses
from app.domain.channel import Channel, Kind
from app.domain.position import Position
from app.domain.store import State
from app.errors import NotReady
from app.rights.rights import Rights

FIRST_STATE = 2.0
"""Seconds to wait for the first state of a channel."""

LOOK = 0.05
"""Seconds between looks for the first state under a wildcard."""


class Reader:
    """Finds the states a request asks for, following their channels, and answers with them."""

    def __init__(self, scope: Scope, caller: Rights, poll: LongPoll | None = None) -> None:
        state = state_of(scope)
        self._scope = scope
        self._hub = state["hub"]
        self._wishes = state["wishes"]
        self._markets = state["markets"]
        self._stale_after = state["limits"].stale_after
        self._caller = caller
        self._poll = poll

    async def single(
        self,
        channel: Channel,
        *,
        after: Position | None = None,
        wait: float = 0.0,
        max_age: float | None = None,
        limit: int | None = None,
    ) -> Response:
        """One channel's state; with ``after`` only a newer one, waited for up to ``wait`` s."""
        await self._have([channel])
        if after is not None and wait and self._poll is not None:
            await self._poll.newer(channel, after, wait)
        wanted = Wanted(channel, max_age, limit)
        answer = self._answer(self._known([channel]))
        if after is None:
            self._scope[AGAIN] = partial(_at_once, wanted)
        elif answer.position <= after:
            return answer.unchanged(max_age)
        return answer.single(self._scope, wanted)

    def at_once(self, wanted: Wanted) -> Response | None:
        """The answer to what was answered before; None if it needs a wait."""
        state = self._hub.store.get(wanted.channel)
        if state is None:
            return None
        channels = (wanted.channel,)
        authorise(channels, self._caller)
        answer = self._answer((state,))
        response = answer.single(self._scope, wanted)
        if answer.stale or self._hub.health is None:
            self._admit(channels)  # what is live is followed already
        self._wishes.touch(channels, self._hub.now())
        return response

    async def several(self, channels: Sequence[Channel], max_age: float | None) -> Response:
        """The states of several channels, all of one moment; wildcards mean all that are known.

        Of a wildcard the caller gets what it may see.
        """
        return (await self.answer(channels)).several(self._scope, max_age)

    async def answer(self, channels: Sequence[Channel]) -> Answer:
        """What is known of channels; nothing, where REST has told that the account has nothing."""
        await self._have(channels)
        return self._answer(self._known(channels))

    def _confirmed(self, channel: Channel) -> bool:
        health = self._hub.health
        following = None if health is None else health.following_of(channel)
        return following is not None and following.live

    def _answer(self, states: Sequence[State]) -> Answer:
        return Answer(self._hub, states, stale_after=self._stale_after)

    async def _have(self, channels: Sequence[Channel]) -> None:
        """See that channels are followed and something is known of each, within FIRST_STATE s.

        Raises NotAllowed, UnknownChannel, UpstreamUnavailable, and NotReady when that takes longer.
        """
        authorise(channels, self._caller)
        until = self._hub.now() + FIRST_STATE
        await self._require(channels, until)
        self._admit(channels)
        self._wishes.touch(channels, self._hub.now())
        await self._first(channels, until)

    async def _require(self, channels: Sequence[Channel], until: float) -> None:
        """Refuse what the exchange does not list.

        What the store holds needs no asking: the exchange has sent it. What cannot be told in time
        the leader asks itself before it follows; so what can be told without asking comes first.
        """
        missing = [one for one in channels if not self._heard(one)]
        missing.sort(key=lambda one: self._markets.knows(one) is None)
        with suppress(TimeoutError):
            async with asyncio.timeout_at(until):
                for channel in missing:
                    await self._markets.require(channel)

    def _admit(self, channels: Sequence[Channel]) -> None:
        """Raise NotReady if following those that are not followed yet would be too many."""
        health = self._hub.health
        more = [one for one in channels if health is None or health.following_of(one) is None]
        if more:
            self._wishes.admit(more, self._hub.now())

    async def _first(self, channels: Sequence[Channel], until: float) -> None:
        """Wait until something is known of every channel; raises NotReady when time is over."""
        if all(map(self._heard, channels)):
            return
        try:
            async with asyncio.timeout_at(until):
                while missing := [one for one in channels if not self._heard(one)]:
                    await self._event(missing[0])
        except TimeoutError:
            missing = [one for one in channels if not self._heard(one)]
            if missing:
                raise NotReady(f"nothing was heard yet on {_some(missing)}") from None

    async def _event(self, channel: Channel) -> None:
        if channel.wildcard:
            await asyncio.sleep(LOOK)
        else:
            await self._hub.changed(channel)

    def _heard(self, channel: Channel) -> bool:
        if channel.wildcard:
            some = any(map(self._sees, self._hub.store.of_kind(channel.kind)))
            return some or (channel.private and self._confirmed(channel))
        return self._hub.store.get(channel) is not None

    def _sees(self, state: State) -> bool:
        return self._caller.sees(state.channel)

    def _known(self, channels: Sequence[Channel]) -> list[State]:
        """The states, in the order of the channels, each once; raises NotReady if one is gone."""
        found: dict[Channel, State] = {}
        for channel in channels:
            if channel.wildcard:
                states = filter(self._sees, self._hub.store.of_kind(channel.kind))
                found |= {one.channel: one for one in sorted(states, key=_subject)}
            elif (state := self._hub.store.get(channel)) is not None:
                found[channel] = state
            else:
                raise NotReady(f"{channel} is not followed any more")
        return list(found.values())


def _subject(state: State) -> str:
    return state.channel.subject


def _some(channels: Sequence[Channel]) -> str:
    shown = ", ".join(map(str, channels[:5]))
    return shown if len(channels) <= 5 else f"{shown} and {len(channels) - 5} more"


def _at_once(wanted: Wanted, scope: Scope) -> Response | None:
    caller = state_of(scope)["callers"].at_once(scope)
    return None if caller is None else Reader(scope, caller).at_once(wanted)


async def _reader(request: Request, caller: Caller) -> Reader:
    return Reader(request.scope, caller, LongPoll(request.scope, request.receive, caller))


ReaderDep = Annotated[Reader, Depends(_reader)]

router = APIRouter(prefix="/v1", tags=["state"], dependencies=[Depends(signed_in)])


@router.get("/lastprice", responses=state_responses("lastprice", several=True))
async def lastprices(
    reader: ReaderDep, symbols: Symbols = None, max_age: MaxAge = None
) -> Response:
    """The last prices of the markets named, or of all markets known."""
    return await reader.several(_listed(Kind.LASTPRICE, symbols), max_age)


@router.get("/lastprice/{symbol}", responses=state_responses("lastprice"))
async def lastprice(
    reader: ReaderDep, symbol: Symbol, after: After = None, wait: Wait = 0, max_age: MaxAge = None
) -> Response:
    """The last price of a market."""
    channel = channel_of(Kind.LASTPRICE, symbol)
    return await reader.single(channel, after=position_in(after), wait=wait, max_age=max_age)


@router.get("/ticker", responses=state_responses("ticker", several=True))
async def tickers(reader: ReaderDep, symbols: Symbols = None, max_age: MaxAge = None) -> Response:
    """The tickers of the markets named, or of all markets known."""
    return await reader.several(_listed(Kind.TICKER, symbols), max_age)


@router.get("/ticker/{symbol}", responses=state_responses("ticker"))
async def ticker(
    reader: ReaderDep, symbol: Symbol, after: After = None, wait: Wait = 0, max_age: MaxAge = None
) -> Response:
    """The ticker of a market."""
    channel = channel_of(Kind.TICKER, symbol)
    return await reader.single(channel, after=position_in(after), wait=wait, max_age=max_age)


@router.get("/trades/{symbol}", responses=state_responses("trade"))
async def trades(
    reader: ReaderDep,
    symbol: Symbol,
    limit: Annotated[int, Query(ge=1, le=100, description="Trades at most")] = 50,
    after: After = None,
    wait: Wait = 0,
    max_age: MaxAge = None,
) -> Response:
    """The last trades of a market, newest first."""
    return await reader.single(
        channel_of(Kind.TRADE, symbol),
        after=position_in(after),
        wait=wait,
        max_age=max_age,
        limit=limit,
    )


@router.get("/depth/{symbol}", responses=state_responses("depth"))
async def depth(
    reader: ReaderDep,
    symbol: Symbol,
    scale: Annotated[int, Query(ge=0, description="An index of the market's scales")] = 0,
    limit: Annotated[int | None, Query(ge=1, description="Levels of each side at most")] = None,
    after: After = None,
    wait: Wait = 0,
    max_age: MaxAge = None,
) -> Response:
    """The order book of a market at a scale, best prices first."""
    return await reader.single(
        channel_of(Kind.DEPTH, symbol, scale),
        after=position_in(after),
        wait=wait,
        max_age=max_age,
        limit=limit,
    )


@router.get("/state", responses=state_responses(None, several=True))
async def state(
    reader: ReaderDep,
    channels: Annotated[
        list[ChannelsText],
        Query(description="`kind:subject`, comma separated, or the parameter repeated"),
    ],
    max_age: MaxAge = None,
) -> Response:
    """The snapshots of several channels, all of one moment, in the order asked for.

    A wildcard stands for every channel known of its kind. 503 if one of the channels has no state
    within 2 s.
    """
    return await reader.several(channels_in(channels), max_age)


def _listed(kind: Kind, symbols: list[str] | None) -> list[Channel]:
    return [Channel(kind, "*")] if symbols is None else channels_of(kind, symbols)
