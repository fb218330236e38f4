"""The composition root: builds a process from its settings, leaf to root, and runs its tasks."""

import asyncio
import os
import secrets
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import httpx
from fastapi import FastAPI
from fastapi.telemetry import TelemetryConfig
from fastapi_offline import FastAPIOffline
from starlette.types import ASGIApp

from app import __version__, traces
from app.api import account, catalogue, health, problems, schemas, state, stream, tickets
from app.api.admission import Admission
from app.api.callers import ANONYMOUS, NOBODY, Callers
from app.api.cors import Cors
from app.api.deps import Limits, State
from app.api.exposition import Exposition
from app.api.fastpath import FastPath
from app.api.guard import Guard
from app.api.limiter import Limiter
from app.api.quota import Quotas
from app.api.vitals import Vitals
from app.bus.broker import Broker
from app.bus.lease import Lease, OwnLease, RedisLease
from app.bus.link import Link
from app.bus.memory import MemoryBroker
from app.bus.pace import SharedPace
from app.bus.redis import RedisBroker
from app.bus.tally import Tally
from app.domain.store import Store
from app.feed import Replica, Upstream, follow, lead
from app.hub.hub import Hub, HubOptions
from app.hub.recall import Older
from app.hub.wishes import Wishes
from app.logs import configure_logging, logger
from app.rights.jwks import Jwks
from app.rights.keys import Keys
from app.rights.tokens import TokenOptions
from app.rights.vault import Memory, Shared, Shelf, Vault
from app.settings import Settings, SettingsError, read_settings
from app.telemetry import Metrics
from app.upstream.account import Books
from app.upstream.audit import Audit
from app.upstream.markets import Markets
from app.upstream.pool import Leave, Pool, PoolOptions
from app.upstream.rest import Credentials, Rest, RestOptions
from app.upstream.session import SessionOptions

if TYPE_CHECKING:
    from app.traces.traces import Traces

log = logger("main")

JOURNAL = 10_000
"""Events that the in-process journal keeps: its one listener is never far behind, and streams
resume from the hub's history."""


UNTRACED: TelemetryConfig = {"tracing": False, "metrics": False, "logs": False}
"""FastAPI would look for an exporter on every request; the metrics are our own."""

LOAD = 2.0
"""Seconds for which a start waits for the state; after that the process serves, and says that it
is not ready."""


def create_app(
    settings: Settings | None = None, *, bound: str = "127.0.0.1", worker: Path | None = None
) -> FastAPI:
    """The gateway as an ASGI application.

    ``uvicorn app.main:create_app --factory`` calls it without settings: they come from the
    environment then. ``bound`` is the address served on, an accepted ``Host`` by default;
    ``worker`` the path of a worker's own socket among those of its supervisor's.
    """
    if settings is None:
        settings = _settings_or_exit()
    traced = traces.begin(os.environ)
    app = _with_documents(
        settings.anonymous == "market",
        redoc_url=None,
        title="Sluice",
        version=__version__,
        summary="Exchange market data as Server-Sent Events and cached REST",
        lifespan=_lifespan,
        redirect_slashes=False,
        telemetry=UNTRACED if traced is None else traced.config,
    )
    app.state.traces = traced
    app.state.settings = settings
    app.state.worker = worker
    app.state.failed = False
    app.state.hand_over = lambda: None
    data = (
        stream.router,
        state.router,
        account.router,
        catalogue.router,
        tickets.router,
    )
    for router in (*(() if settings.role == "feed" else data), health.router):
        app.include_router(router)
    problems.install(app)
    schemas.install(app)
    front: ASGIApp = Limiter(FastPath(app.build_middleware_stack()))
    if settings.cors_origins:
        front = Cors(front, origins=settings.cors_origins)
    hosts = settings.allowed_hosts or (bound, "localhost", "127.0.0.1")
    app.middleware_stack = Guard(front, allowed_hosts=hosts)
    if traced is not None:
        app.middleware_stack = traced.around(app.middleware_stack)
    return app


def _with_documents(shown: bool, **given: Any) -> FastAPI:
    """FastAPI's application, with its reference or with nothing that tells of its paths."""
    if shown:
        return FastAPIOffline(docs_url="/docs", static_url="/docs/assets", **given)
    return FastAPI(docs_url=None, openapi_url=None, **given)


def _settings_or_exit() -> Settings:
    try:
        settings = read_settings()
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        raise SystemExit(2) from None
    configure_logging(settings.log_format, settings.log_level)
    return settings


def rest_of(settings: Settings, client: httpx.AsyncClient) -> Rest:
    """The exchange's REST hosts, with the credentials if there are any."""
    credentials = None
    if settings.upstream_user_id is not None and settings.upstream_api_key is not None:
        credentials = Credentials(
            settings.upstream_user_id.get_secret_value(),
            settings.upstream_api_key.get_secret_value(),
        )
    hosts = RestOptions(
        api_url=settings.upstream_api_url,
        markets_url=settings.upstream_markets_url,
        scales_url=settings.upstream_scales_url,
    )
    return Rest(client, hosts, credentials)


def pool_options(settings: Settings) -> PoolOptions:
    """The upstream connections as the settings want them."""
    session = SessionOptions(
        ping_interval=settings.upstream_ping_interval,
        pong_timeout=settings.upstream_pong_timeout,
        mute_after=settings.mute_after,
    )
    return PoolOptions(
        settings.upstream_ws_url, connections=settings.upstream_connections, session=session
    )


def jwks_of(settings: Settings, client: httpx.AsyncClient) -> Jwks | None:
    """Where the public keys of tokens come from, if from anywhere."""
    if settings.jwt_jwks_url is None:
        return None
    return Jwks(client, settings.jwt_jwks_url, now=time.monotonic)


def callers_of(settings: Settings, keys: Keys, vault: Vault, jwks: Jwks | None) -> Callers:
    """Who may call, as the settings want it."""
    secret = settings.jwt_secret
    tokens = TokenOptions(
        secret=None if secret is None else secret.get_secret_value(),
        key=None if jwks is None else jwks.key,
        audience=settings.jwt_audience,
        issuer=settings.jwt_issuer,
    )
    return Callers(
        keys,
        vault,
        tokens,
        jwks=jwks,
        anonymous=ANONYMOUS if settings.anonymous == "market" else NOBODY,
        origins=settings.cors_origins,
    )


class _Bus(NamedTuple):
    """What the processes of a deployment share."""

    broker: Broker
    lease: Lease
    shelf: Shelf
    leave: Leave | None = None
    older: Older | None = None
    tally: Tally | None = None


@asynccontextmanager
async def _bus(settings: Settings, process: str, metrics: Metrics) -> AsyncIterator[_Bus]:
    ttl = settings.lease_ttl
    if not settings.shared:
        yield _Bus(MemoryBroker(min(settings.history, JOURNAL)), OwnLease(ttl=ttl), Memory())
        return
    link = Link(settings.broker_url.get_secret_value(), limit=min(2.0, ttl * 0.4))
    log.info("broker", url=str(link.address), process=process)
    broker = RedisBroker(
        link, settings.history, linger=settings.linger, health_ttl=ttl, metrics=metrics
    )
    try:
        lease = RedisLease(link, process, ttl=ttl)
        tally = Tally(link, settings.rate.seconds)
        yield _Bus(broker, lease, Shared(link), SharedPace(link).leave, broker.events, tally)
    finally:
        await link.close()


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[State]:
    """Run the background tasks around the serving; a crash of one ends the process."""
    settings: Settings = app.state.settings
    traced: Traces | None = app.state.traces
    metrics = Metrics()
    exposition = Exposition(metrics.registry, app.state.worker)
    limits = Limits(
        settings.stale_after,
        settings.max_streams,
        settings.max_streams_per_client,
        settings.max_followed,
    )
    process = f"{socket.gethostname()}-{secrets.token_hex(4)}"
    store = Store()
    wishes = Wishes(settings.pinned, linger=settings.linger, limit=settings.max_followed)
    hub: Hub | None = None
    try:
        async with (
            httpx.AsyncClient(trust_env=False) as client,
            _bus(settings, process, metrics) as bus,
            exposition.answering(),
            asyncio.TaskGroup() as tasks,
        ):
            options = HubOptions(settings.history, settings.heartbeat, settings.stream_lifetime)
            hub = app.state.hub = Hub(store, options, metrics, older=bus.older)
            metrics.registry.register(Vitals(hub, wishes, limits))
            broker = bus.broker if traced is None else traced.along(bus.broker, hub.collector)
            replica = Replica(store, hub, wishes, process)
            rest = rest_of(settings, client)
            markets = Markets(rest)
            jwks = jwks_of(settings, client)
            keys = Keys(settings.api_keys_file)
            callers = callers_of(settings, keys, Vault(bus.shelf), jwks)
            background = [
                tasks.create_task(keys.run(), name="keys"),
                tasks.create_task(
                    follow(broker, replica, health_ttl=settings.lease_ttl), name="follow"
                ),
                tasks.create_task(hub.run(), name="hub"),
                tasks.create_task(hub.recall.run(), name="recall"),
                tasks.create_task(hub.stalls.run(), name="stalls"),
            ]
            if jwks is not None:
                background.append(tasks.create_task(jwks.run(), name="jwks"))
            if settings.role != "serve":
                pool = Pool(rest, pool_options(settings), metrics, leave=bus.leave)
                upstream = Upstream(pool, markets, Audit(rest, metrics), Books(rest))
                leading = tasks.create_task(
                    lead(bus.lease, broker, replica, upstream, metrics), name="lead"
                )
                background.append(leading)
                if settings.shared:
                    app.state.hand_over = leading.cancel
            with suppress(TimeoutError):
                async with asyncio.timeout(LOAD):
                    await replica.loaded.wait()
            yield State(
                hub=hub,
                admission=Admission(
                    most=settings.max_streams, most_per_client=settings.max_streams_per_client
                ),
                wishes=wishes,
                markets=markets,
                metrics=metrics,
                exposition=exposition,
                limits=limits,
                callers=callers,
                process=process,
                quotas=Quotas(settings.rate, bus.tally),
            )
            for task in background:
                task.cancel()
    except* Exception as crash:
        app.state.failed = True
        if hub is not None:
            hub.close()
        log.critical("a background task crashed", exc_info=crash)
        signal.raise_signal(signal.SIGTERM)
    finally:
        if traced is not None:
            await traced.close()
