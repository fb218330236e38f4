"""``sluice check`` against a simulated exchange: a line for everything wrong, naming variables."""

import pytest

from app.check import check
from app.simulator import Options, Simulator
from tests.e2e.gateway import free_port
from tests.e2e.process import settings_for
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
