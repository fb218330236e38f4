"""``GET /v1/stream``: channels as Server-Sent Events."""

import asyncio
from collections.abc import Callable, Iterable
from contextlib import ExitStack, suppress
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Header, Query, Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from app.api.admission import Admission, refused
from app.api.client import client_of
from app.api.deps import State, state_of
from app.api.fastpath import AGAIN
from app.api.outlet import SendOutlet
from app.api.parameters import ChannelsText, channels_in
from app.api.problems import tell_away
from app.api.protocol import connection
from app.api.rights import authorise
from app.api.schemas import STREAM_RESPONSES
from app.domain.channel import Channel
from app.errors import (
    BrokerUnavailable,
    GatewayError,
    MalformedRequest,
    NotReady,
    TooManyStreams,
    UpstreamUnavailable,
)
from app.hub.hub import Hub, bye
from app.hub.subscription import End, Subscription
from app.hub.wishes import Wishes
from app.logs import REQUEST, logger
from app.rights.rights import Rights
from app.upstream.markets import Markets

log = logger("stream")

PATIENCE = 2.0
"""Seconds to wait for the exchange's market list before a stream opens without it."""

PATH = "/v1/stream"

ENDED = "sluice.ended"
"""Where the scope holds who is told, with its subscription, that a stream has ended."""

HEADERS = {"cache-control": "no-store", "x-accel-buffering": "no"}
MEDIA_TYPE = "text/event-stream"
_HEAD = tuple(StreamingResponse((), headers=HEADERS, media_type=MEDIA_TYPE).raw_headers)
_LAST_HEAD = (*_HEAD, (b"connection", b"close"))

router = APIRouter()


class _Seat:
    """What an open stream holds beside its subscription: its place, its wishes, and its name."""

    __slots__ = ("_admission", "_began", "_channels", "_client", "_request", "_wishes", "told")

    told: Callable[[Subscription], None] | None
    """Who else is told of its end."""

    def __init__(
        self, channels: frozenset[Channel], client: str, wishes: Wishes, admission: Admission
    ) -> None:
        self.told = None
        admission.enter(client)
        wishes.hold(channels)
        self._channels = channels
        self._client = client
        self._wishes = wishes
        self._admission = admission
        self._request = REQUEST.get("")
        self._began = asyncio.get_running_loop().time()

    def leave(self) -> None:
        self._wishes.release(self._channels, asyncio.get_running_loop().time())
        self._admission.leave(self._client)

    def ended(self, subscription: Subscription) -> None:
        """Give everything back, and tell how it was."""
        self.leave()
        if self.told is not None:
            self.told(subscription)
        log.info(
            "stream ended",
            request_id=self._request,  # it is a connection that tells the end, and no request
            reason=subscription.ended,
            events=subscription.events,
            bytes=subscription.bytes,
            duration=round(asyncio.get_running_loop().time() - self._began, 3),
            channels=len(self._channels),
            client=self._client,
        )


class EventStream(Response):
    """Starts the response and joins the hub, which keeps the stream until its client is gone.

    Where the connection can be taken, the request ends there and then. Raises NotReady and
    TooManyStreams if it must not begin now.
    """

    media_type = MEDIA_TYPE

    def __init__(
        self, state: State, channels: frozenset[Channel], after: str, client: str, caller: Rights
    ) -> None:
        self.background = None
        self._hub = state["hub"]
        self._channels = (
            channels if caller.patterns is None else frozenset(caller.narrowed(channels))
        )
        self._permitted = None if caller.anonymous else partial(state["callers"].permitted, caller)
        self._after = after
        self._hub.require_open()
        state["admission"].check(client)
        state["wishes"].admit(channels, asyncio.get_running_loop().time())
        self._seat = partial(_Seat, channels, client, state["wishes"], state["admission"])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve until the client goes or the hub ends the stream."""
        direct = connection(scope)
        headers = _HEAD if direct is None else _LAST_HEAD
        with ExitStack() as held:
            seat = self._seat()
            seat.told = scope.get(ENDED)
            held.callback(seat.leave)
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            outlet = SendOutlet() if direct is None else direct.take()
            if outlet is None:
                return
            subscription = self._hub.join(
                self._channels,
                outlet,
                self._after,
                on_left=seat.ended,
                permitted=self._permitted,
            )
            held.pop_all()
            log.debug("stream opened", channels=len(self._channels), resumed=bool(self._after))
            if isinstance(outlet, SendOutlet):
                try:
                    await outlet.serve(receive, send)
                finally:
                    subscription.gone()
                    del outlet.owner  # who knows this outlet


@router.get(
    PATH,
    summary="Follow channels as Server-Sent Events",
    tags=["stream"],
    status_code=200,
    response_class=EventStream,
    responses=STREAM_RESPONSES,
)
async def stream(
    request: Request,
    channels: Annotated[
        list[ChannelsText] | None,
        Query(description="`kind:subject`, comma separated, or the parameter repeated"),
    ] = None,
    after: Annotated[
        str | None, Query(description="Resume after this position; the header wins")
    ] = None,
    last_event_id: Annotated[
        str | None, Query(alias="lastEventId", description="The same as `after`")
    ] = None,
    ticket: Annotated[
        str | None, Query(description="From `POST /v1/tickets`; opens one stream")
    ] = None,
    last_event_id_header: Annotated[str | None, Header(alias="Last-Event-ID")] = None,
) -> Response:
    """Snapshots first, then updates; see the API guide for ids, gaps, resets and heartbeats."""
    state = state_of(request.scope)
    try:
        wanted = _read(channels)
        if ticket is None:
            caller = await state["callers"].of(request.scope)
        else:
            redeemed = await state["callers"].by_ticket(request.scope, ticket)
            if redeemed is None:
                return _last("expired")
            caller = redeemed
        authorise(wanted, caller)
        await _require(state["markets"], wanted)
        # judged after the only wait, so that what holds here still holds when the stream begins
        begun = _begun(
            request.scope, wanted, last_event_id_header or after or last_event_id, caller
        )
    except (NotReady, TooManyStreams, BrokerUnavailable) as error:
        if isinstance(error, TooManyStreams):
            refused(error, client_of(request.scope), state["metrics"])
        if MEDIA_TYPE in request.headers.get("accept", ""):
            return _farewell(error, state["hub"])
        raise
    # a position or a ticket in the target is not asked for twice
    if not (after or last_event_id) and ticket is None:
        request.scope[AGAIN] = partial(_at_once, wanted)
    return begun


def _begun(
    scope: Scope, channels: frozenset[Channel], after: str | None, caller: Rights
) -> EventStream:
    return EventStream(state_of(scope), channels, after or "", client_of(scope), caller)


def _at_once(channels: frozenset[Channel], scope: Scope) -> EventStream | None:
    """The same stream for one more client, if the exchange has all its channels for certain."""
    state = state_of(scope)
    caller = state["callers"].at_once(scope)
    if caller is None:
        return None
    authorise(channels, caller)
    store = state["hub"].store
    if not all(channel.wildcard or store.get(channel) for channel in channels):
        return None
    ids = (value for name, value in scope["headers"] if name == b"last-event-id")
    return _begun(scope, channels, next(ids, b"").decode("latin-1"), caller)


def _read(texts: Iterable[str] | None) -> frozenset[Channel]:
    """The channels asked for; those under a wildcard asked for too are left out."""
    try:
        channels = frozenset(channels_in(texts or [""]))
    except MalformedRequest as error:
        raise MalformedRequest(error.detail) from None
    return frozenset(
        channel for channel in channels if channel.wildcard or channel.everything not in channels
    )


async def _require(markets: Markets, channels: Iterable[Channel]) -> None:
    """Refuse what the exchange does not list; an exchange that is away or slow refuses nothing.

    What could not be checked here is checked by the leader before it is followed. What can be
    told without asking comes first, so that a slow answer about another does not let it through.
    """
    with suppress(TimeoutError):
        async with asyncio.timeout(PATIENCE):
            for channel in sorted(channels, key=lambda channel: markets.knows(channel) is None):
                with suppress(UpstreamUnavailable):
                    await markets.require(channel)


def _farewell(error: GatewayError, hub: Hub) -> Response:
    """To an EventSource every status but 200 is final: tell it in a stream to come back later."""
    if isinstance(error, BrokerUnavailable):
        tell_away(error)
    limited = isinstance(error, TooManyStreams) and error.status == 429
    reason: End = "drain" if hub.draining else "limit" if limited else "overload"
    return _last(reason)


def _last(reason: End) -> Response:
    """A stream of one block."""
    return Response(bye(reason), headers=HEADERS, media_type=MEDIA_TYPE)
