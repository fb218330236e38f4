"""What the process says of itself: alive, ready, at a glance, in numbers."""

import time
from collections.abc import Iterator
from typing import Annotated, Any, Literal

import msgspec
from fastapi import APIRouter, Depends, Query
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.responses import Response

from app import __version__
from app.api.answers import is_stale
from app.api.deps import ExpositionDep, HubDep, LimitsDep, ProcessDep, WishesDep
from app.api.rights import Caller, may_see_details, may_watch
from app.api.schemas import answers, problems
from app.domain.channel import PRIVATE, Channel, Kind
from app.domain.health import Following, Health
from app.errors import NotReady
from app.hub.hub import Hub
from app.rights.rights import Rights

SHOWN = 5
"""Channels that a reason names."""

router = APIRouter(tags=["health"])

_encode = msgspec.json.Encoder().encode


@router.get("/livez", responses=answers("Alive"))
async def livez() -> Response:
    """Alive: the event loop runs."""
    return _json({"status": "alive"})


@router.get("/readyz", responses=answers("Ready") | problems(422, 503))
async def readyz(
    hub: HubDep,
    wishes: WishesDep,
    limits: LimitsDep,
    purpose: Annotated[
        Literal["traffic"] | None,
        Query(alias="for", description="`traffic`: only whether this process can take requests"),
    ] = None,
) -> Response:
    """Ready to serve fresh data; with `for=traffic` ready to serve at all.

    An exchange that is away makes the first fail and not the second, so that it does not take
    every process out of a load balancer.
    """
    reasons = list(_closed(hub))
    if not reasons and purpose is None:
        reasons = list(_not_fresh(hub, bool(wishes.pinned), limits.stale_after))
    if reasons:
        raise NotReady("; ".join(reasons))
    return _json({"status": "ready"})


@router.get(
    "/metrics",
    dependencies=[Depends(may_see_details)],
    response_class=Response,
    responses={200: {"content": {"text/plain": {}}}, **problems(401, 403)},
)
async def metrics(exposition: ExpositionDep, caller: Caller) -> Response:
    """Every metric of this process, or of all workers of its supervisor, as Prometheus text.

    What counts events of the account is for callers who may see it, or carry `metrics` or `admin`.
    """
    text = await exposition.text()
    hidden = [b'kind="%b"' % kind.encode() for kind in PRIVATE if not _watches(caller, kind)]
    if hidden:
        lines = text.splitlines(keepends=True)
        text = b"".join(line for line in lines if not any(label in line for label in hidden))
    return Response(text, media_type=CONTENT_TYPE_LATEST)


@router.get(
    "/v1/status",
    dependencies=[Depends(may_see_details)],
    responses=answers("Status") | problems(401, 403),
)
async def status(
    hub: HubDep, wishes: WishesDep, limits: LimitsDep, process: ProcessDep, caller: Caller
) -> Response:
    """The upstream, the lease, what is followed and how fresh it is, the streams open.

    What is followed of the account is for callers who may see it, or carry `metrics` or `admin`.
    """
    upstream, since = hub.status
    health = hub.health
    now = time.time()
    following = {} if health is None else health.following
    return _json(
        {
            "version": __version__,
            "process": process,
            "upstream": {"status": upstream, "since": round(since, 3)},
            "lease": {
                "held": health is not None,
                "epoch": _epoch(hub),
                "leader": None if health is None else health.leader,
            },
            "position": str(hub.store.head),
            "connections": [] if health is None else list(health.connections),
            "channels": [
                _freshness(hub, channel, followed, now=now, after=limits.stale_after)
                for channel, followed in sorted(following.items(), key=lambda item: str(item[0]))
                if may_watch(caller, channel)
            ],
            "audits": _audits(health),
            "streams": {"open": len(hub), "catching_up": hub.catching_up},
            "followed": len(wishes.wanted(hub.now()) - wishes.pinned),
            "limits": {
                "streams": limits.streams,
                "streams_per_client": limits.streams_per_client,
                "followed": limits.followed,
            },
            "draining": hub.draining,
        }
    )


def _watches(caller: Rights, kind: Kind) -> bool:
    return may_watch(caller, Channel(kind, "*"))


def _closed(hub: Hub) -> Iterator[str]:
    if not hub.loaded:
        yield "the state is not loaded yet"
    if hub.draining:
        yield "this process is shutting down"


def _not_fresh(hub: Hub, pinned: bool, after: float) -> Iterator[str]:
    health, now = hub.health, time.time()
    if health is None:
        yield f"no process leads: the upstream is {hub.status[0]}"
        return
    if pinned and not health.following:
        yield "nothing is followed yet"
    lost = {one: now - it.since for one, it in health.following.items() if not it.live}
    dead = {one: since for one, since in lost.items() if since >= after}
    if dead:
        yield f"not live for {max(dead.values()):.0f} s: {_some(dead)}"
    unheard = [one for one in lost if one not in dead and not any(hub.store.matching([one]))]
    if unheard:
        yield f"nothing heard yet: {_some(unheard)}"


def _some(channels: dict[Channel, float] | list[Channel]) -> str:
    names = sorted(map(str, channels))
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def _freshness(
    hub: Hub, channel: Channel, following: Following, *, now: float, after: float
) -> dict[str, Any]:
    """One line for what is followed as one: a wildcard's channels are counted, not listed."""
    states = list(hub.store.matching([channel]))
    newest = max((state.received for state in states), default=None)
    return {
        "channel": str(channel),
        "live": following.live,
        "since": round(following.since, 3),
        "known": len(states),
        "stale": sum(is_stale(hub, state, now, after) for state in states),
        "age": None if newest is None else round(max(0.0, now - newest), 3),
    }


def _audits(health: Health | None) -> dict[str, float]:
    if health is None:
        return {}
    return {
        str(channel): share
        for channel, share in sorted(health.audits.items(), key=lambda item: str(item[0]))
    }


def _epoch(hub: Hub) -> int | None:
    if hub.health is not None:
        return hub.health.epoch
    return hub.store.head.epoch or None


def _json(data: dict[str, Any]) -> Response:
    return Response(
        _encode(data), headers={"cache-control": "no-store"}, media_type="application/json"
    )
