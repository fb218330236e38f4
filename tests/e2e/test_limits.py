"""What one client may ask of several processes."""

from pathlib import Path

import pytest

from tests.e2e.gateway import exchange, gateway
from tests.redis.servers import server

pytestmark = pytest.mark.e2e

QUOTA = 40
MOST = QUOTA + QUOTA // 20
"""Two processes together: see ADR 15. In an hour, of which the test sees one or the turn of two."""


async def test_two_processes_give_a_client_one_quota(tmp_path: Path) -> None:
    async with (
        server(tmp_path) as redis,
        exchange(tmp_path, rate=0) as source,
        gateway(
            source.url, tmp_path, name="a", broker_url=redis.url, rate_limit=f"{QUOTA}/hour"
        ) as one,
        gateway(
            source.url, tmp_path, name="b", broker_url=redis.url, rate_limit=f"{QUOTA}/hour"
        ) as two,
    ):
        here = {"x-forwarded-for": "198.51.100.1"}
        statuses = []
        for number in range(2 * QUOTA):
            process = (one, two)[number % 2]
            statuses.append((await process.http.get("/v1/markets", headers=here)).status_code)
        assert set(statuses) == {200, 429}
        assert QUOTA <= statuses.count(200) <= MOST
        told = (await one.http.get("/metrics")).text
        assert 'sluice_http_refused_total{reason="rate"}' in told

        there = {"x-forwarded-for": "198.51.100.2"}
        assert (await two.http.get("/v1/markets", headers=there)).status_code == 200

        await redis.kill()
        other = {"x-forwarded-for": "198.51.100.3"}
        for _ in range(QUOTA):
            assert (await one.http.get("/v1/markets", headers=other)).status_code == 200
        assert (await one.http.get("/v1/markets", headers=other)).status_code == 429
