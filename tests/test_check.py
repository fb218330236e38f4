"""``sluice check`` against a simulated exchange: a line for everything wrong, naming variables."""

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from app.check import check
from app.simulator import Options, Simulator
from tests.e2e.gateway import ROOT, free_port
from tests.e2e.process import settings_for
from tests.redis.servers import Server, server
from tests.tail.gateway import Answer, serving

KEY = "hush-hush"


@pytest.fixture(name="options")
def _options() -> Options:
    return Options(port=0, rate=0, account=False, api_key=KEY)


async def test_nothing_is_wrong(options: Options) -> None:
    async with Simulator(options) as exchange:
        assert await check(settings_for(exchange)) == []


@pytest.mark.parametrize(
    "wrong", [{"upstream_api_key": "another"}, {"upstream_user_id": "somebody-else"}]
)
async def test_credentials_that_the_exchange_refuses(
    options: Options, wrong: dict[str, str]
) -> None:
    async with Simulator(options) as exchange:
        (problem,) = await check(settings_for(exchange, **wrong))
        assert problem.startswith("SLUICE_UPSTREAM_USER_ID, SLUICE_UPSTREAM_API_KEY")
        assert not any(secret in problem for secret in (KEY, *wrong.values()))


async def test_no_credentials(options: Options) -> None:
    async with Simulator(options) as exchange:
        (problem,) = await check(
            settings_for(exchange, upstream_user_id=None, upstream_api_key=None)
        )
        assert "SLUICE_UPSTREAM_USER_ID" in problem
        assert "not set" in problem


async def test_each_host_that_does_not_answer_is_named(options: Options) -> None:
    silent = f"http://127.0.0.1:{free_port()}"
    async with Simulator(options) as exchange:
        problems = await check(
            settings_for(exchange, upstream_api_url=silent, upstream_scales_url=silent)
        )
        assert len(problems) == 2
        assert "SLUICE_UPSTREAM_API_URL" in problems[0]
        assert "SLUICE_UPSTREAM_SCALES_URL" in problems[1]
        dead = silent.replace("http", "ws")
        (problem,) = await check(settings_for(exchange, upstream_ws_url=dead))
        assert problem.startswith("SLUICE_UPSTREAM_WS_URL")
        problems = await check(settings_for(exchange, upstream_markets_url=silent))
        assert [problem.partition(":")[0] for problem in problems] == [
            "SLUICE_UPSTREAM_MARKETS_URL"
        ]


async def test_an_exchange_that_fails(options: Options) -> None:
    async with Simulator(options) as exchange:
        exchange.control.set(token="500", rest="malformed")
        problems = await check(settings_for(exchange))
        assert len(problems) == 3
        assert "500" in problems[0]
        assert "json" in problems[1]
        assert "json" in problems[2]
        assert KEY not in "".join(problems)


async def test_an_empty_market_list(options: Options) -> None:
    empty = Answer(kind="application/json", body=b'{"result": []}')
    async with Simulator(options) as exchange, serving(empty) as other:
        (problem,) = await check(settings_for(exchange, upstream_markets_url=other.url))
        assert problem.startswith("SLUICE_UPSTREAM_MARKETS_URL")


class TestBroker:
    """What keeps a real Redis from being the broker."""

    @pytest.fixture(name="redis")
    async def _redis(self, tmp_path: Path) -> AsyncIterator[Server]:
        async with server(tmp_path, appendonly="no", requirepass=KEY) as running:
            yield running

    @staticmethod
    def url(redis: Server, password: str = KEY) -> str:
        return f"redis://:{password}@127.0.0.1:{redis.port}/0"

    async def check(self, options: Options, url: str, **given: Any) -> list[str]:
        async with Simulator(options) as exchange:
            problems = await check(settings_for(exchange, broker_url=url, **given))
        assert KEY not in "".join(problems)
        assert all(problem.startswith("SLUICE_BROKER_URL: ") for problem in problems)
        return problems

    async def test_a_good_one(self, options: Options, redis: Server) -> None:
        assert await self.check(options, self.url(redis)) == []

    async def test_a_process_that_only_serves_needs_no_credentials(
        self, options: Options, redis: Server
    ) -> None:
        nobody = {"upstream_user_id": None, "upstream_api_key": None}
        assert await self.check(options, self.url(redis), role="serve", **nobody) == []

    async def test_a_wrong_password(self, options: Options, redis: Server) -> None:
        (problem,) = await self.check(options, self.url(redis, "another"))
        assert f"redis://127.0.0.1:{redis.port}/0 cannot be used" in problem
        assert "another" not in problem

    async def test_nobody_there(self, options: Options, redis: Server) -> None:
        await redis.kill()
        (problem,) = await self.check(options, self.url(redis))
        assert "cannot be used" in problem

    async def test_a_replica(self, options: Options, redis: Server, tmp_path: Path) -> None:
        async with server(tmp_path, replicaof=f"127.0.0.1 {redis.port}") as replica:
            problems = await self.check(options, replica.url)
        assert "replica" in problems[0]

    async def test_one_that_evicts_keys(self, options: Options, redis: Server) -> None:
        await redis.ask("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
        (problem,) = await self.check(options, self.url(redis))
        assert "maxmemory-policy allkeys-lru" in problem

    async def test_a_user_without_rights(self, options: Options, redis: Server) -> None:
        await redis.ask("ACL", "SETUSER", "poor", "on", f">{KEY}", "~*", "&*", "+@all", "-eval")
        url = f"redis://poor:{KEY}@127.0.0.1:{redis.port}/0"
        (problem,) = await self.check(options, url)
        assert "eval" in problem.lower()

    @pytest.mark.parametrize(("user", "role"), [("sluice-feed", "feed"), ("sluice-serve", "serve")])
    async def test_the_users_that_the_operations_guide_makes(
        self, options: Options, redis: Server, user: str, role: str
    ) -> None:
        guide = (ROOT / "docs" / "operations.md").read_text()
        (line,) = re.findall(rf"^user {user} +(.*)$", guide, re.MULTILINE)
        await redis.ask("ACL", "SETUSER", user, *line.replace(">…", f">{KEY}").split())
        url = f"redis://{user}:{KEY}@127.0.0.1:{redis.port}/0"
        assert await self.check(options, url, role=role) == []
