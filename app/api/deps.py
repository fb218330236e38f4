"""What the routes are given: the long-lived objects of the process, typed once."""

from dataclasses import dataclass
from typing import Annotated, TypedDict, cast

from fastapi import Depends
from starlette.requests import HTTPConnection
from starlette.types import Scope

from app.api.admission import Admission
from app.api.callers import Callers
from app.api.exposition import Exposition
from app.api.quota import Quotas
from app.hub.hub import Hub
from app.hub.wishes import Wishes
from app.telemetry import Metrics
from app.upstream.markets import Markets


@dataclass(frozen=True, slots=True)
class Limits:
    """What the routes must know of the settings.

    ``stale_after`` is in seconds; ``streams`` and ``streams_per_client`` are open at most in this
    process, ``followed`` channels on demand.
    """

    stale_after: float = 30.0
    streams: int = 20_000
    streams_per_client: int = 64
    followed: int = 1000


class State(TypedDict):
    """What the lifespan yields to every request."""

    hub: Hub
    admission: Admission
    wishes: Wishes
    markets: Markets
    metrics: Metrics
    exposition: Exposition
    limits: Limits
    callers: Callers
    process: str
    quotas: Quotas


def state_of(scope: Scope) -> State:
    """What the lifespan gave to the request."""
    return cast("State", scope["state"])


async def _hub(connection: HTTPConnection) -> Hub:
    return state_of(connection.scope)["hub"]


async def _wishes(connection: HTTPConnection) -> Wishes:
    return state_of(connection.scope)["wishes"]


async def _markets(connection: HTTPConnection) -> Markets:
    return state_of(connection.scope)["markets"]


async def _exposition(connection: HTTPConnection) -> Exposition:
    return state_of(connection.scope)["exposition"]


async def _process(connection: HTTPConnection) -> str:
    return state_of(connection.scope)["process"]


async def _callers(connection: HTTPConnection) -> Callers:
    return state_of(connection.scope)["callers"]


async def _limits(connection: HTTPConnection) -> Limits:
    return state_of(connection.scope)["limits"]


HubDep = Annotated[Hub, Depends(_hub)]
WishesDep = Annotated[Wishes, Depends(_wishes)]
MarketsDep = Annotated[Markets, Depends(_markets)]
ExpositionDep = Annotated[Exposition, Depends(_exposition)]
ProcessDep = Annotated[str, Depends(_process)]
CallersDep = Annotated[Callers, Depends(_callers)]
LimitsDep = Annotated[Limits, Depends(_limits)]
