"""``sluice check``: whether this installation can do its work, a line for everything wrong."""

import os
from collections.abc import AsyncIterator

import httpx

from app.bus.link import Link
from app.bus.redis import troubles
from app.errors import BrokerUnavailable, HandshakeFailed, TokenRefused, UpstreamUnavailable
from app.main import rest_of
from app.rights.keys import KeysUnreadable
from app.rights.keys import read as read_keys
from app.settings import Settings, unknown_settings
from app.upstream.connection import SocketOptions, open_socket, socket_url
from app.upstream.rest import Rest

LIMIT = 5.0
"""Seconds that the broker may take for an answer."""

USUAL = "BTC_USDT"
"""A market to ask about when there is no list to take one from."""


async def check(settings: Settings) -> list[str]:
    """Ask the exchange for what a start would ask for; each problem names its variable."""
    problems = [f"{name}: there is no such setting" for name in unknown_settings(os.environ)]
    try:
        if settings.api_keys_file is not None:
            read_keys(settings.api_keys_file)
    except KeysUnreadable as error:
        problems.append(f"SLUICE_API_KEYS_FILE: {error}")
    if settings.shared:
        problems += [f"SLUICE_BROKER_URL: {problem}" async for problem in _broker(settings)]
    async with httpx.AsyncClient(trust_env=False) as client:
        rest = rest_of(settings, client)
        if settings.role != "serve":
            problems += [problem async for problem in _socket(settings, rest)]
        problems += [problem async for problem in _lists(rest)]
    return problems


async def _broker(settings: Settings) -> AsyncIterator[str]:
    link = Link(settings.broker_url.get_secret_value(), limit=LIMIT)
    try:
        async for problem in troubles(link):
            yield problem
    except BrokerUnavailable as error:
        yield f"{link.address} cannot be used: {error}"
    finally:
        await link.close()


async def _socket(settings: Settings, rest: Rest) -> AsyncIterator[str]:
    if settings.upstream_user_id is None:
        yield (
            "SLUICE_UPSTREAM_USER_ID, SLUICE_UPSTREAM_API_KEY: not set, "
            "and the exchange gives no socket without them"
        )
        return
    try:
        url = socket_url(settings.upstream_ws_url, await rest.token())
        socket = await open_socket(url, SocketOptions())
    except TokenRefused as error:
        yield (
            "SLUICE_UPSTREAM_USER_ID, SLUICE_UPSTREAM_API_KEY, SLUICE_UPSTREAM_API_URL: "
            f"no socket token: {error}"
        )
    except HandshakeFailed as error:
        yield f"SLUICE_UPSTREAM_WS_URL: no socket: {error}"
    else:
        await socket.close()


async def _lists(rest: Rest) -> AsyncIterator[str]:
    symbol = USUAL
    try:
        symbol = (await rest.markets())[0]["symbol"]
    except UpstreamUnavailable as error:
        yield f"SLUICE_UPSTREAM_MARKETS_URL: no market list: {error}"
    try:
        await rest.scales(symbol)
    except UpstreamUnavailable as error:
        yield f"SLUICE_UPSTREAM_SCALES_URL: no depth scales: {error}"
