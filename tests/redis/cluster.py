"""A cluster of three primaries, each with a replica that takes its place when it fails."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

from redis.crc import REDIS_CLUSTER_HASH_SLOTS as SLOTS
from redis.crc import key_slot
from redis.exceptions import ResponseError

from tests.e2e.waiting import until
from tests.redis.servers import Server, agreed, in_sync, running

PRIMARIES = 3
OPTIONS = {
    "cluster_enabled": "yes",
    "cluster_node_timeout": 1500,
    "repl_diskless_sync_delay": 0,
    "repl_ping_replica_period": 1,  # replicas count from the first ping on
}


@dataclass
class Cluster:
    """The primaries as first made come first among the servers."""

    servers: list[Server]

    @property
    def url(self) -> str:
        hosts = ",".join(f"{one.host}:{one.port}" for one in self.servers[:PRIMARIES])
        return f"redis+cluster://{hosts}"

    async def owner(self, key: str) -> Server:
        """The primary of a key's slot, once the running nodes agree on it."""
        slot = key_slot(key.encode())

        async def told(node: Server) -> int:
            owners = [row[2] for row in await _ranges(node) if row[0] <= slot <= row[1]]
            return int(owners[0][1]) if owners else 0

        port = await agreed(self.servers, told)
        return next(one for one in self.servers if one.port == port)

    async def _sees_all(self, node: Server) -> bool:
        state = (await node.ask("CLUSTER INFO"))["cluster_state"]
        each = len(self.servers) // PRIMARIES
        seen = [len(nodes) for _, _, *nodes in await _ranges(node)]
        return state == "ok" and seen == [each] * PRIMARIES


@asynccontextmanager
async def cluster(
    folder: Path, *, replicas: bool = True, binary: Path | None = None
) -> AsyncIterator[Cluster]:
    """A cluster in which every node sees all of it, and replicas have their primaries' data."""
    count = PRIMARIES * 2 if replicas else PRIMARIES
    nodes = [Server(folder, binary=binary, **OPTIONS) for _ in range(count)]
    made = Cluster(nodes)
    async with running(nodes):
        for number, one in enumerate(nodes[:PRIMARIES]):
            first, end = (SLOTS * part // PRIMARIES for part in (number, number + 1))
            await one.ask("CLUSTER SET-CONFIG-EPOCH", number + 1)
            await one.ask("CLUSTER ADDSLOTSRANGE", first, end - 1)
        for one, other in combinations(nodes, 2):
            await one.ask("CLUSTER MEET", other.host, other.port)
        for primary, replica in zip(nodes, nodes[PRIMARIES:], strict=False):
            name = await primary.ask("CLUSTER MYID")
            await until(partial(_replicates, replica, name), f"{replica.port} has met {name}")
        for one in nodes[PRIMARIES:]:
            await until(partial(in_sync, one), f"replica {one.port} in sync")
        for one in nodes:
            await until(partial(made._sees_all, one), f"node {one.port} sees all")
        yield made


async def _replicates(replica: Server, name: bytes) -> bool:
    try:
        return bool(await replica.ask("CLUSTER REPLICATE", name))
    except ResponseError:
        return False  # it has not met that node yet


async def _ranges(node: Server) -> list[Any]:
    """The ranges of slots, as ``first, last, primary, *replicas``."""
    ranges: list[Any] = await node.ask("CLUSTER", "SLOTS")
    return ranges
