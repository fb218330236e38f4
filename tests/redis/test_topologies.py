"""Sentinels and clusters are whole when handed out, and replace what fails."""

from pathlib import Path

import pytest
from redis.asyncio import RedisCluster
from redis.asyncio.sentinel import Sentinel

from tests.e2e.waiting import until
from tests.redis.cluster import cluster
from tests.redis.sentinel import sentinels
from tests.redis.servers import BINARIES, in_sync

pytestmark = pytest.mark.e2e


@pytest.fixture(params=BINARIES)
def binary(request: pytest.FixtureRequest) -> Path:
    return BINARIES[request.param]


def addresses(url: str, scheme: str) -> list[tuple[str, int]]:
    assert url.startswith(f"{scheme}://")
    hosts = url.removeprefix(f"{scheme}://").partition("/")[0].split(",")
    return [(host, int(port)) for host, port in (one.split(":") for one in hosts)]


async def test_sentinels_replace_a_primary_that_hangs(tmp_path: Path, binary: Path) -> None:
    async with sentinels(tmp_path, binary=binary) as made:
        old = await made.primary()
        assert old is made.servers[0]
        assert await old.ask("SET", "key", "value")
        assert await old.ask("WAIT", len(made.servers) - 1, 0) == 2

        old.pause()

        async def replaced() -> bool:
            return await made.primary() is not old

        await until(replaced, "another primary")
        new = await made.primary()
        assert await new.ask("GET", "key") == b"value"
        old.resume()
        await until(lambda: in_sync(old), "the old primary follows")
        await old.restart(keep_data=True)
        await until(lambda: in_sync(old), "the old primary follows after its restart, too")
        assert await made.primary() is not old, "a busy machine may replace more than once"


async def test_any_sentinel_of_the_url_names_the_primary(tmp_path: Path, binary: Path) -> None:
    async with sentinels(tmp_path, service="other", binary=binary) as made:
        assert made.url.endswith("/other")
        listed = addresses(made.url, "redis+sentinel")
        assert listed == [(one.host, one.port) for one in made.sentinels]
        first, *others = made.sentinels
        await first.restart(keep_data=True)
        for one in others:
            await one.kill()
        primary = await made.primary()
        client = Sentinel(listed)  # type: ignore[no-untyped-call] # redis leaves it untyped
        assert await client.discover_master("other") == (primary.host, primary.port)
        for sentinel in client.sentinels:
            await sentinel.aclose()


async def test_a_cluster_replaces_a_primary_that_dies(tmp_path: Path, binary: Path) -> None:
    async with cluster(tmp_path, binary=binary) as made:
        assert len(made.servers) == 6
        (host, port), *_ = addresses(made.url, "redis+cluster")
        async with RedisCluster(host=host, port=port) as client:
            await client.set("key", "value")
        old = await made.owner("key")
        assert await old.ask("GET", "key") == b"value"
        assert await old.ask("WAIT", 1, 0) == 1

        await old.kill()

        async def replaced() -> bool:
            return await made.owner("key") is not old

        await until(replaced, "another owner")
        new = await made.owner("key")
        await new.ask("READWRITE")
        assert await new.ask("GET", "key") == b"value"
        await old.start()
        await until(lambda: in_sync(old), "the old owner follows")
        assert await made.owner("key") is new


async def test_a_cluster_without_replicas_fails_with_one_primary(tmp_path: Path) -> None:
    async with cluster(tmp_path, replicas=False) as made:
        assert addresses(made.url, "redis+cluster") == [
            (one.host, one.port) for one in made.servers
        ]
        owners = {key: await made.owner(key) for key in ("a", "b", "c", "{a}x")}
        for key, one in owners.items():
            assert await one.ask("SET", key, "value")
        assert len(set(owners.values())) == 3
        assert owners["a"] is owners["{a}x"]

        await owners["a"].kill()

        async def failed() -> bool:
            info = await owners["b"].ask("CLUSTER INFO")
            return bool(info["cluster_state"] == "fail")

        await until(failed, "cluster_state:fail")
