"""A primary, its replicas, and the sentinels that replace it when it fails."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.e2e.waiting import until
from tests.redis.servers import Server, agreed, in_sync, running

QUORUM = 2
SETTINGS = {"down-after-milliseconds": 1000, "failover-timeout": 3000}
HASTE = {"publish-period": 200, "info-period": 1000}
"""Milliseconds between what sentinels tell each other and ask servers; else 2 s and 10 s."""


@dataclass
class Sentinels:
    """Servers under the eyes of sentinels."""

    service: str
    servers: list[Server]
    sentinels: list[Server]

    @property
    def url(self) -> str:
        hosts = ",".join(f"{one.host}:{one.port}" for one in self.sentinels)
        return f"redis+sentinel://{hosts}/{self.service}"

    async def primary(self) -> Server:
        """What the running sentinels call the primary, once they agree."""

        async def told(sentinel: Server) -> int:
            _, port = await sentinel.ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.service)
            return int(port)

        port = await agreed(self.sentinels, told)
        return next(one for one in self.servers if one.port == port)

    async def _begin(self, sentinel: Server) -> None:
        first = self.servers[0]
        await sentinel.ask("SENTINEL MONITOR", self.service, first.host, first.port, QUORUM)
        for name, value in SETTINGS.items():
            await sentinel.ask("SENTINEL SET", self.service, name, value)
        for name, value in HASTE.items():
            await sentinel.ask("SENTINEL DEBUG", name, value)

    async def _sees_all(self, sentinel: Server) -> bool:
        replicas = await sentinel.ask("SENTINEL SLAVES", self.service)
        others = await sentinel.ask("SENTINEL SENTINELS", self.service)
        return (
            [one["flags"] for one in replicas] == ["slave"] * (len(self.servers) - 1)
            and [one["flags"] for one in others] == ["sentinel"] * (len(self.sentinels) - 1)
            and all(one["master-link-status"] == "ok" for one in replicas)
        )


@asynccontextmanager
async def sentinels(
    folder: Path, *, service: str = "sluice", binary: Path | None = None
) -> AsyncIterator[Sentinels]:
    """A primary, two replicas and three sentinels, each seen by all sentinels."""
    servers = [Server(folder, binary=binary, repl_diskless_sync_delay=0) for _ in range(3)]
    watchers = [Server(folder, binary=binary, sentinel=True, appendonly="no") for _ in range(3)]
    made = Sentinels(service, servers, watchers)
    async with running(servers + watchers):
        primary, *replicas = servers
        for one in replicas:
            await one.ask("REPLICAOF", primary.host, primary.port)
            await one.ask("CONFIG REWRITE")  # so that it is one again after a restart
        for one in replicas:
            await until(partial(in_sync, one), f"replica {one.port} in sync")
        for one in watchers:
            await made._begin(one)
        for one in watchers:
            await until(partial(made._sees_all, one), f"sentinel {one.port} sees all")
        yield made
