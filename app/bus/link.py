"""One process's way to Redis: the client its URL asks for, and nothing but typed errors [redis-py].

Every key is in one hash slot, and what is published goes over sharded pub/sub, so that one server,
Sentinel and Cluster are spoken to alike (Redis 7.0 and newer, Valkey).
"""

import asyncio
import re
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from inspect import signature
from typing import Any
from urllib.parse import urlsplit

from redis.asyncio import Redis, RedisCluster, Sentinel
from redis.asyncio.client import PubSub
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.connection import SSLConnection, parse_url
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import SentinelConnectionPool
from redis.backoff import NoBackoff
from redis.exceptions import RedisClusterException, RedisError

from app.errors import BrokerUnavailable

SLOT = "{sluice}"
"""Every key begins with it, so all are in one hash slot."""

_OPTIONS = {
    *("host", "port", "db", "username", "password", "connection_class"),
    *("client_name", "socket_keepalive", "health_check_interval"),
    *("sentinel_username", "sentinel_password"),
    *(name for name in signature(Redis).parameters if name.startswith("ssl_")),
}
"""What a URL may ask of redis-py; the rest is ours to say."""

_PARTS = re.compile(r"([^/?]*)(/[^?]*)?(\?.*)?", re.DOTALL)
_CLIENT = re.compile(r"<redis\..*?> - ")
_PORTS = {"": 6379, "sentinel": 26379, "cluster": 6379}


class Address:
    """What a broker's URL says; raises ValueError, whose text never quotes a password.

    ``redis://host:port/db``, ``rediss://…`` (TLS), ``redis+sentinel://host:port,…/service`` and
    ``redis+cluster://host:port,…``; user, password and options as redis-py takes them from a URL,
    ``sentinel_username`` and ``sentinel_password`` among the options for the sentinels themselves.
    """

    def __init__(self, url: str) -> None:
        scheme, found, rest = url.partition("://")
        protocol, _, self.flavour = scheme.partition("+")
        if not found or protocol not in {"redis", "rediss"} or self.flavour not in _PORTS:
            raise ValueError(
                "expected memory://, redis://, rediss://, redis+sentinel:// or redis+cluster://, "
                + (f"got scheme {scheme!r}" if found else "got no scheme")
            )
        authority, path, query = _PARTS.fullmatch(rest).groups(default="")  # type: ignore[union-attr] # matches any text
        if "@" in path + query:  # what stands before it is half a password
            raise ValueError("expected / and ? and @ in a password percent-encoded")
        user, at, hosts = authority.rpartition("@")
        self.hosts = [_host(text, _PORTS[self.flavour]) for text in hosts.split(",")]
        if len(self.hosts) > 1 and not self.flavour:
            raise ValueError("expected one host:port; several need +sentinel or +cluster")
        self.service = path.strip("/")
        if self.flavour == "sentinel" and not self.service:
            raise ValueError("expected the service's name: redis+sentinel://host:port,…/service")
        database = "" if self.flavour else path
        try:
            self.options: dict[str, Any] = dict(
                parse_url(f"{protocol}://{user}{at}{_spelt(self.hosts[0])}{database}{query}")
            )
        except ValueError as error:  # some of its texts quote the whole address
            known = str(error) if str(error).startswith("Invalid value for ") else "unreadable"
            raise ValueError(f"expected user, password and options of a URL: {known}") from None
        if not self.flavour and self.service and "db" not in self.options:
            raise ValueError("expected a database's number after the host")
        if unknown := sorted(self.options.keys() - _OPTIONS):
            raise ValueError(f"expected options that a connection takes, got {', '.join(unknown)}")

    @property
    def database(self) -> int:
        """The number of the database; pub/sub knows no databases, so channels are named by it."""
        return int(self.options.get("db", 0))

    def __str__(self) -> str:
        """Where it is, without user and password."""
        scheme = "rediss" if self.options.get("connection_class") is SSLConnection else "redis"
        flavour = f"+{self.flavour}" if self.flavour else ""
        after = {"sentinel": f"/{self.service}", "cluster": "", "": f"/{self.database}"}
        return f"{scheme}{flavour}://{','.join(map(_spelt, self.hosts))}{after[self.flavour]}"


def _host(text: str, usual: int) -> tuple[str, int]:
    try:
        parts = urlsplit(f"//{text}")
        if parts.hostname and parts.port != 0:
            return parts.hostname, parts.port or usual
    except ValueError:
        pass
    raise ValueError("expected host:port, several separated by commas")


def _spelt(host: tuple[str, int]) -> str:
    name, port = host
    return f"[{name}]:{port}" if ":" in name else f"{name}:{port}"


_CUT = (
    "unable to perform operation on",
    "NoneType' object has no attribute '_add_writer'",
    "NoneType' object has no attribute 'write",
)
"""What uvloop, asyncio (up to Python 3.13) and redis-py say to who writes to a transport that has
just been reset."""


def _cut(error: RuntimeError | AttributeError) -> bool:
    return any(text in str(error) for text in _CUT)


class Link:
    """Commands, scripts and a subscription; every wait ends after ``limit`` seconds.

    Raises BrokerUnavailable for whatever keeps Redis from doing what it is asked.
    """

    def __init__(self, url: str, *, limit: float) -> None:
        self.address = Address(url)
        self.limit = limit
        self._client = _client(self.address, limit)
        options = self.address.options
        self._secrets = [
            text for name in ("password", "sentinel_password") if (text := options.get(name))
        ]
        self.channel = self.key(f"events:{self.address.database}")

    @staticmethod
    def key(name: str) -> str:
        """The key of that name."""
        return f"{SLOT}:{name}"

    async def close(self) -> None:
        """Close every connection."""
        await self._close(self._client)

    async def call(self, *command: Any, limit: float | None = None) -> Any:
        """The answer to a command."""
        async with self._within(self.limit if limit is None else limit):
            try:
                return await self._client.execute_command(*command)
            except (RuntimeError, AttributeError) as error:
                if not _cut(error):
                    raise
            # redis-py has let go of the connection, but does not know this for a loss
            return await self._client.execute_command(*command)

    @asynccontextmanager
    async def _within(self, seconds: float) -> AsyncIterator[None]:
        with self.translated():
            try:
                async with asyncio.timeout(seconds):
                    yield
            except TimeoutError:
                self._look_elsewhere()
                raise

    def _look_elsewhere(self) -> None:
        """Ask last from now on who has not answered.

        redis-py would with a time limit of its own, but that takes ``asyncio.wait_for``, which
        loses cancellations before Python 3.12.
        """
        if isinstance(self._client, RedisCluster):
            with suppress(RedisClusterException, RedisError):
                owner = self._client.get_node_from_key(self.channel)
                if owner is not None:
                    self._client.nodes_manager.move_node_to_end_of_cached_nodes(owner.name)
            # the only way to have it read anew who has our slot without cutting off everyone
            self._client._initialize = True  # noqa: SLF001 -- see above
        elif isinstance(self._client.connection_pool, SentinelConnectionPool):
            self.address.hosts.append(self.address.hosts.pop(0))
            sentinels = self._client.connection_pool.sentinel_manager.sentinels
            sentinels.append(sentinels.pop(0))

    async def run(
        self, script: str, keys: Iterable[str], *arguments: Any, limit: float | None = None
    ) -> Any:
        """The answer of a Lua script, during which nothing else happens in Redis."""
        names = [self.channel if key == "events" else self.key(key) for key in keys]
        return await self.call("EVAL", script, len(names), *names, *arguments, limit=limit)

    @asynccontextmanager
    async def subscribed(self) -> AsyncIterator["Subscribed"]:
        """Hear what is published, from the moment the block begins, over a connection of its own.

        It does not heal itself: who listens must know that it may have missed something.
        """
        async with self._within(self.limit):
            client = await self._publisher()
        pubsub = client.pubsub()
        try:
            async with self._within(self.limit):
                await pubsub.ssubscribe(self.channel)
                while await pubsub.get_message(timeout=self.limit) is None:
                    pass
            yield Subscribed(pubsub, self)
        finally:
            await self._close(client, pubsub)

    async def _publisher(self) -> Redis:
        """A client of the server that publishes on our channel."""
        if not isinstance(self._client, RedisCluster):
            return _single(self.address, _options(self.address, self.limit, retries=0))
        await self._client.execute_command("EXISTS", self.channel)  # learns who has the slot now
        node = self._client.get_node_from_key(self.channel)
        if node is None:
            raise BrokerUnavailable("no server of the cluster has our slot")
        options = _options(self.address, self.limit, retries=0)
        return Redis(**options | {"host": node.host, "port": int(node.port)})

    async def _close(self, client: Redis | RedisCluster, pubsub: PubSub | None = None) -> None:
        """Close it, and what it asked the sentinels with, which redis-py leaves to us.

        A peer that does not take part in it, as TLS wants, is left to itself.
        """
        parts: list[Any] = [client] if pubsub is None else [pubsub, client]
        pool = None if isinstance(client, RedisCluster) else client.connection_pool
        if isinstance(pool, SentinelConnectionPool):
            parts += pool.sentinel_manager.sentinels
        for part in parts:
            with suppress(BrokerUnavailable), self.translated():
                async with asyncio.timeout(self.limit):
                    await part.aclose()

    @contextmanager
    def translated(self) -> Iterator[None]:
        """What keeps Redis from doing what it is asked is BrokerUnavailable, without secrets."""
        try:
            yield
        except TimeoutError:
            raise BrokerUnavailable("no answer in time") from None
        except (RedisError, RedisClusterException, OSError) as error:
            raise BrokerUnavailable(self._readable(f"{type(error).__name__}: {error}")) from None
        except (RuntimeError, AttributeError) as error:
            if not _cut(error):
                raise
            raise BrokerUnavailable("the connection was cut") from None

    def _readable(self, text: str) -> str:
        """Without secrets: some servers quote the command that they do not know, as AUTH.

        And without the sentinels' clients, which redis-py tells with all that they are made of.
        """
        text = _CLIENT.sub("", text)
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text


class Subscribed:
    """Messages as they come.

    Of a connection that breaks, redis-py tries to make another before it tells: ``limit`` seconds.
    """

    def __init__(self, pubsub: PubSub, link: Link) -> None:
        self._pubsub = pubsub
        self._link = link

    async def message(self, patience: float) -> bytes | None:
        """The next message; None after ``patience`` seconds without one. A pong is empty."""
        with self._link.translated():
            async with asyncio.timeout(patience + self._link.limit):
                found = await self._pubsub.get_message(timeout=patience)
        if found is None:
            return None
        if found["type"] == "sunsubscribe":
            raise BrokerUnavailable("the server has ended the subscription")
        return bytes(found["data"]) if found["type"] == "smessage" else b""

    async def ping(self) -> None:
        """Ask for a sign of life on this connection: an empty message."""
        with self._link.translated():
            async with asyncio.timeout(self._link.limit):
                await self._pubsub.ping()


def _options(address: Address, limit: float, *, retries: int) -> dict[str, Any]:
    """What every connection is opened with."""
    options = dict(address.options)
    if options.pop("connection_class", None) is SSLConnection:
        options["ssl"] = True
    return options | {
        "socket_timeout": None,  # each wait is limited by its caller
        "socket_connect_timeout": limit,
        "retry": Retry(NoBackoff(), retries),
        "protocol": 2,
        "driver_info": None,  # telling it takes two more round trips at every connect
    }


def _client(address: Address, limit: float) -> Redis | RedisCluster:
    options = _options(address, limit, retries=1)  # a connection out of the pool may be dead
    if address.flavour != "cluster":
        return _single(address, options)
    for name in ("host", "port", "db"):
        options.pop(name, None)
    return RedisCluster(startup_nodes=[ClusterNode(*host) for host in address.hosts], **options)


def _single(address: Address, options: dict[str, Any]) -> Redis:
    """A client of the one server there is, or of the one that the sentinels call primary."""
    own = ("sentinel_username", "sentinel_password")
    login = {name.removeprefix("sentinel_"): options.pop(name, None) for name in own}
    if not address.flavour:
        return Redis(**options)
    for name in ("host", "port"):
        options.pop(name)
    sentinel = {name: one for name, one in options.items() if name.startswith(("ssl", "socket_"))}
    sentinel |= {"retry": Retry(NoBackoff(), 0), "protocol": 2, "driver_info": None}
    sentinels = Sentinel(  # type: ignore[no-untyped-call] # not typed by the library
        address.hosts, sentinel_kwargs=sentinel | login, **options
    )
    primary: Redis = sentinels.master_for(address.service)
    return primary
