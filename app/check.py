"""``sluice check``: whether this installation can do its work, a line for everything about it."""

import ipaddress
import resource
import stat
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import httpx

from app.bus.condition import troubles
from app.bus.link import Link
from app.errors import BrokerUnavailable, HandshakeFailed, TokenRefused, UpstreamUnavailable
from app.main import rest_of
from app.rights.jwks import JwksUnreadable, fetched
from app.rights.keys import KeysUnreadable
from app.rights.keys import read as read_keys
from app.rights.rights import Rights
from app.rights.vault import Shared, Vault
from app.settings import MEMORY, Settings, unknown_settings
from app.sockets import bind
from app.upstream.connection import SocketOptions, open_socket, socket_url
from app.upstream.rest import Rest

LIMIT = 5.0
"""Seconds that the broker may take for an answer."""

USUAL = "BTC_USDT"
"""A market to ask about when there is no list to take one from."""

SPARE = 500
"""Descriptors beside the streams': REST's connections, the exchange's, Redis's, files."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something about an installation: the variables it is about, what was seen, what to do.

    ``wrong`` things keep the gateway from its work; others are worth knowing.
    """

    names: str
    text: str
    wrong: bool = True

    def __str__(self) -> str:
        return f"{'' if self.wrong else 'warning: '}{self.names}: {self.text}"


@dataclass(frozen=True, slots=True)
class Installation:
    """What is to be served, and how ``sluice serve`` would be called."""

    settings: Settings
    client: httpx.AsyncClient
    host: str
    workers: int

    @property
    def rest(self) -> Rest:
        return rest_of(self.settings, self.client)


Found = AsyncIterator[Finding]


async def check(settings: Settings, *, host: str = "127.0.0.1", workers: int = 1) -> list[Finding]:
    """Ask for what a start would ask for, and look at what it would rely on."""
    async with httpx.AsyncClient(trust_env=False) as client:
        installation = Installation(settings, client, host, workers)
        return [finding for one in CHECKS async for finding in one(installation)]


async def _names(_: Installation) -> Found:
    for name in unknown_settings():
        yield Finding(name, "there is no such setting")


async def _workers(one: Installation) -> Found:
    if one.workers > 1 and not one.settings.shared:
        yield Finding(
            "SLUICE_BROKER_URL",
            f"{one.workers} workers need a Redis to share, and it is {MEMORY}",
        )


async def _address(one: Installation) -> Found:
    try:
        bind(one.host, 0).close()
    except OSError as error:
        yield Finding("--host", f"{one.host} cannot be served on: {error.strerror}")
        return
    names = one.settings.allowed_hosts
    if names is None and not _loopback(one.host):
        yield Finding(
            "SLUICE_ALLOWED_HOSTS",
            f"not set, so that clients must call {one.host}, localhost or 127.0.0.1 by that name, "
            "and any other gets 421: set the names that they call",
            wrong=False,
        )


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


async def _proxies(one: Installation) -> Found:
    if "*" in map(str.strip, one.settings.forwarded_allow_ips.split(",")):
        yield Finding(
            "SLUICE_FORWARDED_ALLOW_IPS",
            "* believes anyone's X-Forwarded-For, so that a client can be as many as it likes "
            "to SLUICE_RATE_LIMIT: name the proxies unless nothing else reaches this process",
            wrong=False,
        )


async def _descriptors(one: Installation) -> Found:
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = one.settings.max_streams + SPARE
    if hard != resource.RLIM_INFINITY and hard < needed:
        yield Finding(
            "SLUICE_MAX_STREAMS",
            f"the system gives a process {hard} open files, {needed} are needed for "
            f"{one.settings.max_streams} streams: raise the limit (ulimit -Hn, LimitNOFILE), or "
            "lower the setting",
            wrong=False,
        )


async def _keys(one: Installation) -> Found:
    path = one.settings.api_keys_file
    if path is None:
        return
    try:
        read_keys(path)
        mode = stat.S_IMODE(path.stat().st_mode)
    except KeysUnreadable as error:
        yield Finding("SLUICE_API_KEYS_FILE", str(error))
    except FileNotFoundError:
        yield Finding(
            "SLUICE_API_KEYS_FILE",
            f"{path} is not there, so that no key is taken: sluice keys create makes it",
            wrong=False,
        )
    else:
        if mode & (stat.S_IWGRP | stat.S_IWOTH):
            yield _too_open(path, mode, "write", wrong=True)
        elif mode & stat.S_IROTH:
            yield _too_open(path, mode, "read", wrong=False)


def _too_open(path: Path, mode: int, right: str, *, wrong: bool) -> Finding:
    return Finding(
        "SLUICE_API_KEYS_FILE",
        f"others may {right} {path} (mode {mode:04o}): chmod 600, or 640 for the service's group",
        wrong,
    )


async def _jwks(one: Installation) -> Found:
    url = one.settings.jwt_jwks_url
    if url is not None:
        try:
            await fetched(one.client, url)
        except JwksUnreadable as error:
            yield Finding("SLUICE_JWT_JWKS_URL", f"no keys from {url}: {error}")


async def _broker(one: Installation) -> Found:
    if not one.settings.shared:
        return
    link = Link(one.settings.broker_url.get_secret_value(), limit=LIMIT)
    try:
        async for trouble in troubles(link):
            yield Finding("SLUICE_BROKER_URL", trouble.text, trouble.grave)
        if one.settings.role != "feed":
            async for finding in _deposits(link):
                yield finding
    except BrokerUnavailable as error:
        yield Finding("SLUICE_BROKER_URL", f"{link.address} cannot be used: {error}")
    finally:
        await link.close()


async def _deposits(link: Link) -> Found:
    """Whether tickets and sessions can be kept, which wants rights of its own to Redis."""
    vault, nothing = Vault(Shared(link)), Rights(frozenset())
    try:
        ticket, _ = await vault.deposit("ticket", nothing, 1)
        await vault.redeem(ticket)
        session, _ = await vault.deposit("session", nothing, 1)
        await vault.end(session)
    except BrokerUnavailable as error:
        yield Finding(
            "SLUICE_BROKER_URL",
            f"{link.address} keeps no tickets and sessions: {error}: its user needs the keys "
            "~{sluice}:ticket:* and ~{sluice}:session:*",
        )


async def _socket(one: Installation) -> Found:
    credentials = "SLUICE_UPSTREAM_USER_ID, SLUICE_UPSTREAM_API_KEY"
    if one.settings.role == "serve":
        return
    if one.settings.upstream_user_id is None:
        yield Finding(credentials, "not set, and the exchange gives no socket without them")
        return
    try:
        url = socket_url(one.settings.upstream_ws_url, await one.rest.token())
        socket = await open_socket(url, SocketOptions())
    except TokenRefused as error:
        yield Finding(f"{credentials}, SLUICE_UPSTREAM_API_URL", f"no socket token: {error}")
    except HandshakeFailed as error:
        yield Finding("SLUICE_UPSTREAM_WS_URL", f"no socket: {error}")
    else:
        await socket.close()


async def _lists(one: Installation) -> Found:
    symbol = USUAL
    try:
        symbol = (await one.rest.markets())[0]["symbol"]
    except UpstreamUnavailable as error:
        yield Finding("SLUICE_UPSTREAM_MARKETS_URL", f"no market list: {error}")
    try:
        await one.rest.scales(symbol)
    except UpstreamUnavailable as error:
        yield Finding("SLUICE_UPSTREAM_SCALES_URL", f"no depth scales: {error}")


CHECKS: tuple[Callable[[Installation], Found], ...] = (
    _names,
    _workers,
    _address,
    _proxies,
    _descriptors,
    _keys,
    _jwks,
    _broker,
    _socket,
    _lists,
)
"""What is looked at, from what is at hand to what is far away."""
