"""``GET /v1/stream`` over real sockets: what is refused, how it starts, resumes and ends."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from app.api.callers import COOKIE, Callers
from app.bus.link import Link
from app.logs import configure_logging
from app.rights.keys import Keys
from app.rights.vault import Shared, Vault
from tests.api.harness import Gateway, is_problem
from tests.e2e.process import (
    Stage,
    Stream,
    at_once,
    following,
    opened,
    positions,
    soon,
    staged,
)
from tests.oracle.sse import Block

PRICE = "lastprice:BTC_USDT"


def body(stream: Stream) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(stream.text)
    return found


async def problem(stage: Stage, target: str, **headers: str) -> tuple[int, dict[str, Any]]:
    """What a stream that is refused says."""
    async with opened(stage.url, target, accept="*/*", headers=headers) as stream:
        await stream.rest()
        assert stream.headers["content-type"] == "application/problem+json"
        found = body(stream)
        assert found["status"] == stream.status
        return stream.status, found


async def one_block(stage: Stage, target: str, **headers: str) -> Block:
    """The only event of a stream that is over at once."""
    async with opened(stage.url, target, headers=headers) as stream:
        assert stream.status == 200
        assert stream.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert stream.headers["cache-control"] == "no-store"
        (only,) = await stream.rest()
        assert only.event == "gateway"
        assert only.id is None
        assert only.retry == only.json()["retry"]
        return only


# How it starts


async def test_headers_and_first_event_come_at_once() -> None:
    async with staged() as stage, stage.stream(PRICE) as stream:
        assert stream.status == 200
        assert stream.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert stream.headers["cache-control"] == "no-store"
        assert stream.headers["x-accel-buffering"] == "no"
        assert stream.headers["x-content-type-options"] == "nosniff"
        first = await stream.gateway("status")
        assert stream.text.startswith(b"retry: 2000\nevent: gateway\ndata: {")
        assert first.retry == 2000
        assert first.id is None
        assert first.json()["upstream"] == "live"
        assert float(first.json()["since"]) <= time.time()


async def test_a_snapshot_then_updates_as_the_contract_writes_them() -> None:
    async with staged() as stage:
        held = await stage.priced("100.10")
        async with stage.stream(PRICE) as stream:
            await stream.gateway("status")
            first = await stream.block()
            assert first.event == "lastprice"
            assert first.id == held
            snapshot = first.json()
            assert snapshot["type"] == "snapshot"
            assert snapshot["previous"] is None
            assert snapshot["position"] == held
            assert snapshot["data"]["price"] == "100.10"
            assert "gap" not in snapshot
            stage.price("100.20")
            second = await stream.block()
            update = second.json()
            assert (second.event, second.id) == ("lastprice", update["position"])
            assert update["type"] == "update"
            assert update["previous"] == held
            assert list(update) == [
                "channel",
                "type",
                "position",
                "previous",
                "time",
                "received",
                "data",
            ]
            assert stream.events.empty_blocks == 0


async def test_what_is_not_known_yet_gets_its_snapshot_when_it_comes() -> None:
    async with staged() as stage, stage.stream(PRICE, "lastprice:ETH_USDT") as stream:
        await stream.gateway("status")
        stage.price("7.5", "ETH_USDT")
        assert (await stream.data())["type"] == "snapshot"
        stage.price("100")
        assert (await stream.data())["type"] == "snapshot"
        stage.price("101")
        assert (await stream.data())["type"] == "update"


async def test_only_the_last_of_a_run_of_snapshots_carries_an_id() -> None:
    markets = ("BTC_USDT", "ETH_USDT", "SOL_USDT")
    async with staged() as stage:
        for number, market in enumerate(markets):
            await stage.priced(f"{number + 1}", market)
        async with stage.stream(*(f"lastprice:{market}" for market in reversed(markets))) as stream:
            await stream.gateway("status")
            run = [await stream.block() for _ in markets]
            assert positions(run) == sorted(positions(run))
            assert [block.id for block in run] == [None, None, run[-1].json()["position"]]


async def test_a_wildcard_and_what_it_covers_bring_every_event_once() -> None:
    async with staged() as stage, stage.stream("lastprice:*", PRICE) as stream:
        await stream.gateway("status")
        stage.price("1")
        stage.price("2")
        stage.price("3", "ETH_USDT")
        prices = [(await stream.data())["data"]["price"] for _ in range(3)]
        assert prices == ["1", "2", "3"]


async def test_channels_repeated_and_comma_separated_are_one_list() -> None:
    async with staged() as stage:
        target = f"/v1/stream?channels={PRICE},lastprice:ETH_USDT&channels=lastprice:SOL_USDT"
        async with opened(stage.url, target) as stream:
            await stream.gateway("status")
            for market in ("SOL_USDT", "ETH_USDT", "BTC_USDT"):
                stage.price("9", market)
                assert (await stream.data())["channel"] == f"lastprice:{market}"


async def test_a_book_is_followed_on_demand_and_chained() -> None:
    async with staged() as stage, stage.stream("depth:BTC_USDT:0") as stream:
        book = await stream.data()
        assert book["type"] == "snapshot"
        asks, bids = stage.exchange.exchange.truth.books["BTC_USDT:0"].best_first()
        assert book["data"]["asks"] == [list(level) for level in asks]
        assert book["data"]["bids"] == [list(level) for level in bids]
        stage.emit(
            "depth",
            symbol="BTC_USDT",
            timestamp=int(time.time()),
            full_reload=False,
            scale_index=0,
            asks=[[asks[0][0], "7.77"]],
            bids=[],
        )
        update = await stream.data()
        assert update["previous"] == book["position"]
        assert update["data"]["asks"] == [[asks[0][0], "7.77"]]


async def test_a_changed_upstream_is_told_on_every_stream() -> None:
    async with staged() as stage, stage.stream(PRICE) as stream:
        await stream.gateway("status")
        stage.exchange.control.set(away=True)
        down = await stream.until(lambda block: block.json().get("upstream") == "down")
        assert down.id is None
        assert down.retry is None
        stage.exchange.control.set(away=False)
        await stream.until(lambda block: block.json().get("upstream") == "live")


async def test_an_exchange_that_is_away_is_no_error() -> None:
    async with staged({"away": True}, upstream="down") as stage:
        began = time.monotonic()
        async with stage.stream(PRICE, "depth:BTC_USDT:0") as stream:
            first = await stream.gateway("status")
            assert first.json()["upstream"] == "down"
            assert time.monotonic() - began < 5
            stage.exchange.control.set(away=False)
            await stream.until(lambda block: block.json().get("upstream") == "live")
            assert (await stream.data())["channel"] == "depth:BTC_USDT:0"


# What is refused

REFUSED = [
    ("", 400, "channels"),
    ("?channels=", 400, "channels"),
    ("?channels=,", 400, "channels"),
    ("?channels=ticker:btc_usdt", 404, "ticker:btc_usdt"),
    ("?channels=ticker:BTC_USDT,candles:BTC_USDT", 400, "candles:BTC_USDT"),
    ("?channels=ticker:BTC_USDT,", 400, "channel"),
    ("?channels=depth:BTC_USDT", 400, "depth:BTC_USDT"),
    ("?channels=depth:*", 400, "depth:*"),
    ("?channels=ticker", 400, "ticker"),
    ("?channels=ticker:BTC_USDT%0a%0adata:%20x", 400, "malformed"),
    ("?channels=ticker:NOPE_USDT", 404, "NOPE_USDT"),
    ("?channels=depth:BTC_USDT:9", 404, "depth:BTC_USDT:9"),
    ("?channels=order:*", 401, "order:*"),
    ("?channels=ticker:*,balance:USDT", 401, "balance:USDT"),
    ("?channels=" + ",".join(f"ticker:M{n}_USDT" for n in range(201)), 413, "200"),
]


async def test_refusals_come_before_the_stream_and_reach_nobody() -> None:
    async with staged() as stage:
        for query, status, named in REFUSED:
            got, found = await problem(stage, f"/v1/stream{query}")
            assert got == status, query
            assert named in found["detail"], query
            assert found["detail"].isprintable()
            # none of these is temporary: an EventSource is told the same
            async with opened(stage.url, f"/v1/stream{query}") as stream:
                assert stream.status == status, query
                assert ("www-authenticate" in stream.headers) == (status == 401)
        asked = json.dumps(stage.exchange.control.report()["connections"])
        assert "NOPE" not in asked
        assert "depth" not in asked
        assert (await stage.http.get("/v1/status")).json()["streams"]["open"] == 0


@asynccontextmanager
async def mute() -> AsyncIterator[str]:
    """A host that takes connections and says nothing."""

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(take, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def test_a_market_is_checked_while_the_scales_cannot_be() -> None:
    async def refused(stage: Stage) -> None:
        books = [f"depth:{market}:0" for market in ("BTC_USDT", "ETH_USDT", "SOL_USDT")]
        for number in range(8):
            wrong = f"ticker:NOPE{number}_USDT"
            status, _ = await problem(stage, following(*books, wrong))
            assert status == 404, wrong
            status, _ = await problem(stage, following(*books, f"depth:NOPE{number}_USDT:0"))
            assert status == 404, wrong

    async with staged(upstream_scales_url="http://127.0.0.1:1") as stage:
        await refused(stage)
    async with mute() as scales, staged(upstream_scales_url=scales) as stage:
        assert (await stage.http.get("/v1/markets")).status_code == 200
        async with asyncio.timeout(1.5):
            await refused(stage)


async def test_another_method_or_host_is_refused() -> None:
    async with staged() as stage:
        target = f"/v1/stream?channels={PRICE}"
        assert (await stage.http.post(target)).status_code == 405
        assert (await stage.http.head(target)).status_code == 405
        async with opened(stage.url, target, headers={"host": "evil.example"}) as stream:
            assert stream.status == 421


async def test_the_limit_of_one_client() -> None:
    async with staged(max_streams_per_client=2) as stage:
        target = f"/v1/stream?channels={PRICE}"
        async with opened(stage.url, target), opened(stage.url, target):
            async with opened(stage.url, target, accept="*/*") as third:
                assert third.status == 429
                assert int(third.headers["retry-after"]) > 0
            farewell = await one_block(stage, target)
            assert farewell.json()["type"] == "bye"
            assert farewell.json()["reason"] == "limit"
        await soon(lambda: _open_streams(stage, 0), "the places are free again")
        async with opened(stage.url, target) as again:
            await again.gateway("status")


async def test_the_limit_of_the_process(
    capsys: pytest.CaptureFixture[str], logging_as_before: None
) -> None:
    configure_logging("json")
    async with staged(max_streams=1) as stage:
        target = f"/v1/stream?channels={PRICE}"
        async with opened(stage.url, target):
            async with opened(stage.url, target, accept="*/*") as second:
                assert second.status == 503
                assert int(second.headers["retry-after"]) > 0
            assert (await one_block(stage, target)).json()["reason"] == "overload"
            told = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
            told = [line for line in told if line.get("reason") == "streams"]
            assert [one["event"] for one in told] == ["request refused"] * 2
            assert {(one["status"], one["client"]) for one in told} == {(503, "127.0.0.1")}
            retries = {(await one_block(stage, target)).retry for _ in range(6)}
            assert len(retries) > 1, "everyone would come back at once"
            assert min(filter(None, retries)) > 2000


async def test_a_limit_met_by_many_at_once_is_no_final_status_for_a_browser() -> None:
    """The market list is not known yet, so all of them wait in the middle of being let in."""
    slow = {"rest": "slow", "rest_delay": 0.5}
    async with staged(slow, upstream="live", max_streams_per_client=2) as stage:
        target = f"/v1/stream?channels={PRICE}"

        arrived: list[int] = []

        async def come() -> None:
            async with opened(stage.url, target) as stream:
                arrived.append(stream.status)
                await soon(lambda: len(arrived) == 6, "all of them have their answer")

        await at_once(*(come() for _ in range(6)))
        assert set(arrived) == {200}


@pytest.mark.parametrize(("query", "cookie"), [("&ticket=a", ""), ("", f"{COOKIE}=a")])
async def test_a_broker_that_is_away_is_no_final_status_for_a_browser(
    query: str, cookie: str, capsys: pytest.CaptureFixture[str], logging_as_before: None
) -> None:
    """It keeps the tickets and the sessions."""
    link = Link("redis://127.0.0.1:1", limit=1.0)
    gateway = Gateway(callers=Callers(Keys(None), Vault(Shared(link))))
    target = f"/v1/stream?channels={PRICE}{query}"
    configure_logging("json")
    answer = await gateway.get(target, cookie=cookie, accept="text/event-stream")
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert (answer.text.count("data:"), answer.text.count('"reason":"overload"')) == (1, 1)
    assert '"no broker for a request"' in capsys.readouterr().err
    is_problem(await gateway.get(target, cookie=cookie, accept="*/*"), 503, "not ready")
    await link.close()


async def _open_streams(stage: Stage, count: int) -> bool:
    return bool((await stage.http.get("/v1/status")).json()["streams"]["open"] == count)


async def test_channels_on_demand_are_bounded() -> None:
    async with staged(max_followed=1) as stage, stage.stream("depth:BTC_USDT:0") as stream:
        await stream.data()
        target = "/v1/stream?channels=depth:ETH_USDT:0"
        async with opened(stage.url, target, accept="*/*") as second:
            assert second.status == 503
            assert int(second.headers["retry-after"]) > 0
        assert (await one_block(stage, target)).json()["reason"] == "overload"
        async with stage.stream("depth:BTC_USDT:0", PRICE) as same:
            assert (await same.data())["channel"] == "depth:BTC_USDT:0"


async def test_a_forwarded_address_counts_only_from_a_trusted_proxy() -> None:
    target = f"/v1/stream?channels={PRICE}"
    far, farther = {"x-forwarded-for": "198.51.100.1"}, {"x-forwarded-for": "198.51.100.2"}
    async with (
        staged(max_streams_per_client=1) as stage,
        opened(stage.url, target, headers=far, accept="*/*") as one,
    ):
        assert one.status == 200
        async with opened(stage.url, target, headers=farther, accept="*/*") as other:
            assert other.status == 200
        async with opened(stage.url, target, headers=far, accept="*/*") as same:
            assert same.status == 429
        forged = {"x-forwarded-for": "203.0.113.9, 198.51.100.1"}
        async with opened(stage.url, target, headers=forged, accept="*/*") as same:
            assert same.status == 429, "what a client says before its proxy is not believed"
    async with (
        staged(max_streams_per_client=1, forwarded_allow_ips="192.0.2.1") as stage,
        opened(stage.url, target, headers=far, accept="*/*") as one,
    ):
        assert one.status == 200
        async with opened(stage.url, target, headers=farther, accept="*/*") as other:
            assert other.status == 429


async def test_origins_are_answered_as_the_settings_say() -> None:
    async with staged(cors_origins="https://a.example") as stage:
        target = f"/v1/stream?channels={PRICE}"
        async with opened(stage.url, target, headers={"origin": "https://a.example"}) as stream:
            assert stream.headers["access-control-allow-origin"] == "https://a.example"
            await stream.gateway("status")
        async with opened(stage.url, target, headers={"origin": "https://b.example"}) as stream:
            assert "access-control-allow-origin" not in stream.headers


# How it resumes


async def _history(stage: Stage, count: int, start: int = 1) -> list[str]:
    """So many last prices; their positions."""
    async with stage.stream(PRICE) as stream:
        await stream.gateway("status")
        for number in range(start, start + count):
            stage.price(str(number))
        found: list[str] = []
        while len(found) < count:
            envelope = await stream.data()
            if int(envelope["data"]["price"]) >= start:
                found.append(envelope["position"])
        return found


async def _prices(stream: Stream, count: int) -> list[str]:
    return [(await stream.data())["data"]["price"] for _ in range(count)]


async def test_resume_brings_exactly_what_was_missed() -> None:
    async with staged() as stage:
        at = await _history(stage, 6)
        stage.price("1", "ETH_USDT")
        async with stage.stream(PRICE, headers={"last-event-id": at[2]}) as stream:
            await stream.gateway("status")
            missed = [await stream.block() for _ in range(3)]
            assert [block.id for block in missed] == at[3:]
            assert [block.json()["previous"] for block in missed] == at[2:5]
            assert {block.json()["type"] for block in missed} == {"update"}
            stage.price("7")
            following = await stream.data()
            assert following["previous"] == at[5]
        async with stage.stream(PRICE, headers={"last-event-id": at[5]}) as stream:
            await stream.gateway("status")
            assert (await stream.data())["data"]["price"] == "7"


async def test_what_became_known_since_starts_with_its_snapshot() -> None:
    async with staged() as stage:
        at = await _history(stage, 2)
        await stage.priced("5", "ETH_USDT")
        await stage.priced("6", "ETH_USDT")
        async with stage.stream(PRICE, "lastprice:ETH_USDT", after=at[1]) as stream:
            await stream.gateway("status")
            first, second = await stream.data(), await stream.data()
            assert (first["type"], second["type"]) == ("snapshot", "update")
            assert second["previous"] == first["position"]


async def test_the_header_wins_over_after_and_that_over_last_event_id() -> None:
    async with staged() as stage:
        at = await _history(stage, 6)
        async with stage.stream(
            PRICE, after=at[1], lastEventId=at[0], headers={"last-event-id": at[4]}
        ) as stream:
            assert await _prices(stream, 1) == ["6"]
        async with stage.stream(PRICE, lastEventId=at[0], after=at[3]) as stream:
            assert await _prices(stream, 2) == ["5", "6"]
        async with stage.stream(PRICE, lastEventId=at[2]) as stream:
            assert await _prices(stream, 3) == ["4", "5", "6"]


async def test_an_empty_id_is_none() -> None:
    async with staged() as stage:
        await _history(stage, 3)
        async with stage.stream(PRICE, headers={"last-event-id": ""}, after="") as stream:
            await stream.gateway("status")
            assert (await stream.data())["type"] == "snapshot"


@pytest.mark.parametrize(
    "text", ["nonsense", "1-", "-1", "01-1", "1_1", "1-1-1", "é-1", " ", "9" * 200]
)
async def test_a_malformed_position_resets(text: str) -> None:
    async with staged() as stage:
        held = (await _history(stage, 2))[-1]
        async with stage.stream(PRICE, headers={"last-event-id": text}) as stream:
            await stream.gateway("status")
            if not text.strip():  # HTTP takes the blanks off: an empty id
                assert (await stream.data())["position"] == held
                return
            reset = await stream.gateway("reset")
            assert reset.json()["reason"] == "unknown_position"
            assert reset.id is None
            block = await stream.block()
            assert block.json()["type"] == "snapshot"
            assert block.id == held


async def test_a_position_above_the_end_is_waited_for_and_then_unknown() -> None:
    async with staged() as stage:
        held = (await _history(stage, 2))[-1]
        epoch, sequence = held.split("-")
        async with stage.stream(PRICE, after=f"{epoch}-{int(sequence) + 1000}") as stream:
            await stream.gateway("status")
            began = asyncio.get_running_loop().time()
            assert (await stream.gateway("reset")).json()["reason"] == "unknown_position"
            waited = asyncio.get_running_loop().time() - began
            assert (await stream.data())["position"] == held
            assert waited > 0.5, "a process may be a little behind"


async def test_a_position_that_is_heard_of_in_time_resumes() -> None:
    async with staged() as stage:
        held = (await _history(stage, 2))[-1]
        epoch, sequence = held.split("-")
        ahead = f"{epoch}-{int(sequence) + 1}"
        async with stage.stream(PRICE, after=ahead) as stream:
            await stream.gateway("status")
            stage.price("11")
            stage.price("12")
            update = await stream.data()
            assert update["data"]["price"] == "12"
            assert update["previous"] == ahead


async def test_a_position_older_than_the_history_resets() -> None:
    async with staged(history=16) as stage:
        at = await _history(stage, 60)
        async with stage.stream(PRICE, after=at[5]) as stream:
            await stream.gateway("status")
            assert (await stream.gateway("reset")).json()["reason"] == "history_expired"
            assert (await stream.data())["position"] == at[-1]
        async with stage.stream(PRICE, after=at[-15]) as stream:
            await stream.gateway("status")
            assert positions([await stream.block() for _ in range(14)]) == at[-14:]


async def test_a_position_of_a_former_life_of_the_gateway_is_too_old() -> None:
    async with staged() as stage:
        await _history(stage, 2)
        async with stage.stream(PRICE, after="1750000000000-77") as stream:
            await stream.gateway("status")
            assert (await stream.gateway("reset")).json()["reason"] == "history_expired"
            assert (await stream.data())["type"] == "snapshot"


# How it lives and ends


async def test_heartbeats_only_while_nothing_else_comes() -> None:
    async with staged(heartbeat=0.4) as stage, stage.stream(PRICE) as stream:
        await stream.gateway("status")
        async with asyncio.timeout(10):
            while len(stream.events.comments) < 2:
                assert await stream.more()
        assert stream.text.endswith(b"\n\n: hb\n: hb\n")
        assert stream.events.empty_blocks == 0
        stage.price("1")
        assert (await stream.data())["type"] == "snapshot"
        seen = len(stream.events.comments)
        for number in range(20):
            stage.price(str(number + 2))
            await stream.data()
            await asyncio.sleep(0.05)  # a stream on which something comes all the time
        assert len(stream.events.comments) == seen


async def test_a_stream_is_ended_politely_when_it_is_old() -> None:
    async with staged(stream_lifetime=1) as stage:

        async def live() -> Block:
            async with stage.stream(PRICE) as stream:
                last: Block = (await stream.rest())[-1]
                assert stream.ended
                assert not stream.cut
                return last

        farewells = await at_once(*(live() for _ in range(8)))
        for last in farewells:
            assert last.event == "gateway"
            assert last.id is None
            assert last.json()["type"] == "bye"
            assert last.json()["reason"] == "lifetime"
            assert last.retry == last.json()["retry"]
        assert len({last.retry for last in farewells}) > 1
        metrics = (await stage.http.get("/metrics")).text
        assert 'sluice_streams_ended_total{reason="lifetime"} 8.0' in metrics


async def test_a_connection_serves_again_after_its_stream() -> None:
    async with staged(stream_lifetime=1) as stage:
        async with stage.http.stream("GET", f"/v1/stream?channels={PRICE}") as response:
            async for _ in response.aiter_bytes():
                pass
        assert (await stage.http.get("/livez")).status_code == 200


async def test_a_client_that_goes_leaves_nothing_behind() -> None:
    async with staged() as stage:
        async with stage.stream(PRICE, "depth:BTC_USDT:0") as stream:
            await stream.data()
            await soon(lambda: _open_streams(stage, 1))
        await soon(lambda: _open_streams(stage, 0), "the stream is forgotten")
        stage.price("1")
        await stage.known(PRICE)
