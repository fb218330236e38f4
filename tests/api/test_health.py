"""Alive, ready, at a glance, in numbers."""

import time
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from app import __version__
from app.api.callers import NOBODY
from app.api.shapes import Status
from app.domain.channel import Channel
from app.domain.health import ConnectionHealth, Health
from tests import given
from tests.api.harness import Gateway, is_problem, live, lost, price


def ready() -> Gateway:
    gateway = Gateway()
    gateway.report(lastprice=live(), ticker=live(), trade=live())
    return gateway


async def test_livez_is_200_whatever_happens() -> None:
    gateway = Gateway(anonymous=NOBODY)
    gateway.hub.draining = True
    response = await gateway.get("/livez")
    assert (response.status_code, response.json()) == (200, {"status": "alive"})
    assert response.headers["cache-control"] == "no-store"


class TestReady:
    @pytest.mark.parametrize("query", ["", "?for=traffic"])
    async def test_when_all_is_well(self, query: str) -> None:
        response = await ready().get(f"/readyz{query}")
        assert (response.status_code, response.json()) == (200, {"status": "ready"})

    @pytest.mark.parametrize("query", ["", "?for=traffic"])
    async def test_not_before_the_state_is_loaded(self, query: str) -> None:
        response = await Gateway(loaded=False).get(f"/readyz{query}")
        assert "loaded" in is_problem(response, 503, "not ready")
        assert response.headers["retry-after"] == "1"

    @pytest.mark.parametrize("query", ["", "?for=traffic"])
    async def test_not_while_shutting_down(self, query: str) -> None:
        gateway = ready()
        await gateway.hub.drain(0)
        assert "shutting down" in is_problem(await gateway.get(f"/readyz{query}"), 503, "not ready")

    async def test_not_while_nobody_leads_but_for_traffic(self) -> None:
        gateway = ready()
        gateway.hub.report(None, "down", time.time())
        assert "no process leads" in is_problem(await gateway.get("/readyz"), 503, "not ready")
        assert (await gateway.get("/readyz?for=traffic")).status_code == 200

    async def test_not_while_nothing_is_followed(self) -> None:
        gateway = ready()
        gateway.report()
        assert "nothing is followed" in is_problem(await gateway.get("/readyz"), 503, "not ready")

    async def test_not_after_a_channel_was_lost_for_long_but_for_traffic(self) -> None:
        gateway = ready()
        gateway.report(ticker=lost(31), trade=live())
        detail = is_problem(await gateway.get("/readyz"), 503, "not ready")
        assert detail.startswith("not live for 31 s: ticker:*")
        assert (await gateway.get("/readyz?for=traffic")).status_code == 200

    async def test_still_after_a_channel_was_lost_for_a_moment(self) -> None:
        gateway = ready()
        gateway.hear(given.ticker("BTC_USDT", "1"))
        gateway.report(ticker=lost(29), trade=live())
        assert (await gateway.get("/readyz")).status_code == 200

    async def test_not_before_anything_was_heard(self) -> None:
        gateway = ready()
        gateway.report(ticker=lost(1), trade=live())
        detail = is_problem(await gateway.get("/readyz"), 503, "not ready")
        assert detail == "nothing heard yet: ticker:*"

    async def test_names_a_few_channels(self) -> None:
        gateway = ready()
        names = {f"depth_X{number}_USDT:0": lost(40) for number in range(8)}
        gateway.report(**names)
        detail = is_problem(await gateway.get("/readyz"), 503, "not ready")
        assert detail.endswith("depth:X4_USDT:0 and 3 more")

    async def test_needs_no_credentials(self) -> None:
        gateway = Gateway(anonymous=NOBODY)
        assert (await gateway.get("/readyz?for=traffic")).status_code == 200

    async def test_for_anything_else_is_422(self) -> None:
        response = await ready().get("/readyz?for=fun")
        assert is_problem(response, 422, "malformed request").startswith("for: ")


async def test_metrics_are_prometheus_text() -> None:
    gateway = ready()
    gateway.hear(price("BTC_USDT", "1"))
    await gateway.get("/v1/lastprice/BTC_USDT")
    response = await gateway.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain")
    found = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(response.text)
        for sample in family.samples
    }
    assert found["sluice_events_total", "lastprice"] == 1
    assert found["sluice_http_requests_total", "/v1/lastprice/{symbol}", "200"] == 1
    assert found["sluice_http_request_seconds_count", "/v1/lastprice/{symbol}"] == 1


async def test_a_request_that_was_to_wait_is_not_timed() -> None:
    gateway = ready()
    gateway.hear(price("BTC_USDT", "1"))
    await gateway.get("/v1/lastprice/BTC_USDT?after=0-1&wait=5")
    await gateway.get("/v1/lastprice/BTC_USDT")
    text = (await gateway.get("/metrics")).text
    route = '{route="/v1/lastprice/{symbol}"'
    assert f'sluice_http_requests_total{route},status="200"}} 2.0' in text
    assert f"sluice_http_request_seconds_count{route}}} 1.0" in text


class TestStatus:
    async def test_says_how_it_stands(self) -> None:
        gateway = ready()
        gateway.hear(price("BTC_USDT", "1"), price("ETH_USDT", "1", age=50))
        now = time.time()
        gateway.hub.report(
            Health(
                epoch=7,
                at=now,
                upstream="degraded",
                since=now - 9,
                connections=(ConnectionHealth("upstream-1", "live", now - 60, 3, 2),),
                following={
                    Channel.parse("lastprice:*"): live(since=now - 60),
                    Channel.parse("depth:BTC_USDT:0"): lost(31),
                },
                audits={Channel.parse("depth:BTC_USDT:0"): 0.98},
                leader="that-one",
            ),
            "degraded",
            now - 9,
        )
        body: dict[str, Any] = (await gateway.get("/v1/status")).json()
        Status.model_validate(body, strict=True, extra="forbid")
        assert body["version"] == __version__
        assert body["upstream"] == {"status": "degraded", "since": pytest.approx(now - 9, abs=0.01)}
        assert body["process"] == "this-one"
        assert body["lease"] == {"held": True, "epoch": 7, "leader": "that-one"}
        assert body["position"] == "7-2"
        assert body["connections"] == [
            {
                "name": "upstream-1",
                "state": "live",
                "since": pytest.approx(now - 60, abs=0.01),
                "following": 3,
                "reconnects": 2,
            }
        ]
        book, prices = body["channels"]
        assert (book["channel"], book["live"], book["known"]) == ("depth:BTC_USDT:0", False, 0)
        assert book["age"] is None
        assert (prices["channel"], prices["live"], prices["known"]) == ("lastprice:*", True, 2)
        assert prices["stale"] == 0
        assert prices["age"] < 10
        assert body["audits"] == {"depth:BTC_USDT:0": 0.98}
        assert body["streams"] == {"open": 0, "catching_up": 0}
        assert body["followed"] == 0
        assert body["limits"] == {"streams": 20_000, "streams_per_client": 64, "followed": 1000}
        assert body["draining"] is False

    async def test_counts_what_is_stale_under_a_wildcard(self) -> None:
        gateway = ready()
        gateway.hear(price("BTC_USDT", "1"), price("ETH_USDT", "1"))
        gateway.report(lastprice=lost(31))
        [row] = (await gateway.get("/v1/status")).json()["channels"]
        assert (row["known"], row["stale"]) == (2, 2)

    async def test_before_anything_is_known(self) -> None:
        body = (await Gateway().get("/v1/status")).json()
        Status.model_validate(body, strict=True, extra="forbid")
        assert body["upstream"]["status"] == "down"
        assert body["lease"] == {"held": False, "epoch": None, "leader": None}
        assert (body["connections"], body["channels"], body["audits"]) == ([], [], {})

    async def test_knows_the_epoch_of_its_state_while_nobody_leads(self) -> None:
        gateway = Gateway()
        gateway.hear(price("BTC_USDT", "1"))
        assert (await gateway.get("/v1/status")).json()["lease"] == {
            "held": False,
            "epoch": 7,
            "leader": None,
        }

    async def test_anonymous_none_is_401(self) -> None:
        gateway = Gateway(anonymous=NOBODY)
        is_problem(await gateway.get("/v1/status"), 401, "not allowed")
