"""What a scrape tells of the moment."""

import re
import time
from pathlib import Path

from app.api.deps import Limits
from app.domain.channel import Channel, Kind
from tests.api.harness import Gateway, live, lost, price
from tests.api.test_exposition import Samples, samples

STATUSES = ("live", "degraded", "down")


async def scraped(gateway: Gateway) -> Samples:
    return samples((await gateway.get("/metrics")).content)


async def test_how_the_exchange_is_heard() -> None:
    gateway = Gateway()
    gateway.report(lastprice=live())
    found = await scraped(gateway)
    assert [found["sluice_upstream_status", one] for one in STATUSES] == [
        1,
        0,
        0,
    ]
    assert found["sluice_leader_heard",] == 1
    gateway.hub.report(None, "down", time.time())
    found = await scraped(gateway)
    assert [found["sluice_upstream_status", one] for one in STATUSES] == [
        0,
        0,
        1,
    ]
    assert found["sluice_leader_heard",] == 0


async def test_how_old_the_newest_of_a_kind_is() -> None:
    gateway = Gateway()
    gateway.hear(price("BTC_USDT", "1", age=5), price("ETH_USDT", "1", age=50))
    found = await scraped(gateway)
    assert 5 <= found["sluice_data_age_seconds", "lastprice"] < 20
    assert ("sluice_data_age_seconds", "trade") not in found  # nothing was heard, so nothing is old


async def test_what_is_followed_and_what_of_it_is_stale() -> None:
    gateway = Gateway(limits=Limits(stale_after=30))
    gateway.report(lastprice=live(), ticker=lost(10), trade=lost(31))
    found = await scraped(gateway)
    for kind, stale in (("lastprice", 0), ("ticker", 0), ("trade", 1)):
        assert found["sluice_channels_followed", kind] == 1
        assert found["sluice_channels_stale", kind] == stale
    assert found["sluice_channels_followed", "depth"] == 0


async def test_where_the_journal_stands_here() -> None:
    gateway = Gateway()
    gateway.hear(price("BTC_USDT", "1"), price("ETH_USDT", "1"))
    found = await scraped(gateway)
    assert (found["sluice_journal_epoch",], found["sluice_journal_sequence",]) == (7, 2)


async def test_how_near_the_limits_are() -> None:
    gateway = Gateway(limits=Limits(streams=12, followed=34))
    gateway.wishes.touch([Channel(Kind.DEPTH, "BTC_USDT:0")], gateway.hub.now())
    found = await scraped(gateway)
    assert found["sluice_streams_limit",] == 12
    assert found["sluice_channels_on_demand",] == 1
    assert found["sluice_channels_on_demand_limit",] == 34
    assert found["sluice_draining",] == 0
    gateway.hub.draining = True
    assert (await scraped(gateway))["sluice_draining",] == 1
    assert found["sluice_tasks",] >= 1


async def test_labels_are_from_closed_sets() -> None:
    """However many markets there are, the number of series stays."""
    few, many = Gateway(), Gateway()
    few.hear(price("BTC_USDT", "1"))
    many.hear(*(price(f"M{number}_USDT", "1") for number in range(500)))
    assert (await scraped(few)).keys() == (await scraped(many)).keys()


async def test_the_handbook_has_each_metric_and_no_other() -> None:
    handbook = (Path(__file__).parents[2] / "docs/operations.md").read_text()
    told = {
        name
        for line in handbook.splitlines()
        if line.startswith("| `")
        for name in re.findall(r"`((?:sluice|process|python)_[a-z_]+)`", line.split(" | ")[0])
    }
    text = (await Gateway().get("/metrics")).text
    there = set(re.findall(r"^# TYPE (\S+)", text, re.MULTILINE))
    assert told == there | {"sluice_worker_up"}  # which a process by itself does not have
