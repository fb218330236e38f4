"""Who may read what: the one place that asks for credentials."""

from collections.abc import Iterable
from typing import Annotated

from fastapi import Depends
from starlette.requests import HTTPConnection

from app.api.deps import state_of
from app.domain.channel import Channel
from app.errors import NotAllowed
from app.rights.rights import Rights

DETAILS = frozenset({"metrics", "admin"})
"""Scopes of which one opens what the process says of itself, where nothing is open to all."""


async def _caller(connection: HTTPConnection) -> Rights:
    return await state_of(connection.scope)["callers"].of(connection.scope)


Caller = Annotated[Rights, Depends(_caller)]


def authorise(channels: Iterable[Channel], caller: Rights) -> None:
    """Raise NotAllowed unless the caller may read all of ``channels``, of a wildcard something.

    401 without credentials, 403 with too few rights. No channels means the paths that are about
    none: markets.
    """
    if caller.anonymous and "market" not in caller.scopes:
        raise NotAllowed("everything under /v1 needs credentials here")
    for channel in channels:
        if caller.sees_some(channel):
            continue
        if caller.anonymous:
            raise NotAllowed(f"{channel} is private and needs credentials")
        raise NotAllowed(f"the credentials do not reach {channel}", status=403)


def may_watch(caller: Rights, channel: Channel) -> bool:
    """Whether the caller may know when, and how often, something happens on a channel.

    Of the account that is as telling as what happens.
    """
    return not channel.private or bool(DETAILS & caller.scopes) or caller.sees(channel)


async def signed_in(caller: Caller) -> None:
    """As a route's dependency it refuses before the route's own parameters are judged."""
    authorise((), caller)


async def credentialed(caller: Caller) -> None:
    """As a route's dependency it refuses everyone who came without credentials."""
    if caller.anonymous:
        raise NotAllowed("this path needs credentials")


async def may_see_details(connection: HTTPConnection, caller: Caller) -> None:
    """As a route's dependency: where anonymous callers may read nothing it wants a scope."""
    closed = "market" not in state_of(connection.scope)["callers"].anonymous.scopes
    if caller.anonymous:
        authorise((), caller)
    elif closed and not DETAILS & caller.scopes:
        raise NotAllowed("the credentials carry neither scope metrics nor admin", status=403)
