"""The REST states: what is served, when, and with which validators."""

import asyncio
import json
import time
from typing import Any

import httpx
import pytest

from app.api.callers import NOBODY
from app.api.deps import Limits
from app.domain.channel import Channel
from app.domain.event import Event
from tests import given
from tests.api.harness import PINNED, Gateway, is_problem, live, lost, price

BOOK = given.book(
    "BTC_USDT", asks=[("3", "1"), ("2", "1")], bids=[("1", "5"), ("0.5", "1")], full=True
)
ROWS = [given.row(str(number)) for number in range(80)]


def envelopes(response: httpx.Response) -> list[dict[str, Any]]:
    assert response.status_code == 200, response.text
    body = response.json()
    assert list(body) == ["data"]
    found: list[dict[str, Any]] = body["data"]
    return found


class TestSingle:
    async def test_is_the_envelope_with_age_and_stale(self) -> None:
        gateway = Gateway()
        gateway.report(lastprice=live())
        gateway.hear(price("BTC_USDT", "27123.4500", age=1.5))
        response = await gateway.get("/v1/lastprice/BTC_USDT")
        assert response.status_code == 200
        body = response.json()
        assert body["channel"] == "lastprice:BTC_USDT"
        assert body["type"] == "snapshot"
        assert body["position"] == "7-1"
        assert body["previous"] is None
        assert body["data"]["price"] == "27123.4500"
        assert 1.5 <= body["age"] < 3
        assert body["stale"] is False
        assert "gap" not in body

    async def test_head_of_an_answer(self) -> None:
        gateway = Gateway()
        gateway.report(lastprice=live())
        gateway.hear(price("BTC_USDT", "1", age=5.5))
        headers = (await gateway.get("/v1/lastprice/BTC_USDT")).headers
        assert headers["etag"] == '"7-1"'
        assert headers["cache-control"] == "no-cache"
        assert headers["content-type"] == "application/json"
        assert headers["age"] in {"5", "6"}
        assert headers["sluice-stale"] == "false"

    async def test_age_has_three_decimals_and_is_never_negative(self) -> None:
        gateway = Gateway()
        gateway.hear(price("BTC_USDT", "1", age=-50))
        response = await gateway.get("/v1/lastprice/BTC_USDT")
        assert b'"age":0.000,' in response.content
        assert response.headers["age"] == "0"

    async def test_serves_the_ticker(self) -> None:
        gateway = Gateway()
        gateway.hear(given.ticker("BTC_USDT", "3"))
        response = await gateway.get("/v1/ticker/BTC_USDT")
        assert response.json()["data"]["price_change"] == "-0.10"

    async def test_serves_fifty_trades_newest_first_unless_told_otherwise(self) -> None:
        gateway = Gateway()
        gateway.hear(given.trades("BTC_USDT", ROWS))
        for query, count in (("", 50), ("?limit=3", 3), ("?limit=100", 80)):
            body = (await gateway.get(f"/v1/trades/BTC_USDT{query}")).json()
            prices = [trade["price"] for trade in body["data"]["trades"]]
            assert prices == [str(79 - number) for number in range(count)]
            assert body["data"]["symbol"] == "BTC_USDT"
            assert body["position"] == "7-1"

    @pytest.mark.parametrize("limit", ["0", "101", "-1", "many", "", "1.5", "9" * 5000])
    async def test_a_limit_of_trades_is_from_1_to_100(self, limit: str) -> None:
        response = await Gateway().get(f"/v1/trades/BTC_USDT?limit={limit}")
        assert "limit" in is_problem(response, 422, "malformed request")

    async def test_serves_the_book_best_first(self) -> None:
        gateway = Gateway()
        gateway.hear(BOOK)
        body = (await gateway.get("/v1/depth/BTC_USDT")).json()
        assert body["channel"] == "depth:BTC_USDT:0"
        assert body["data"]["asks"] == [["2", "1"], ["3", "1"]]
        assert body["data"]["bids"] == [["1", "5"], ["0.5", "1"]]

    async def test_limit_cuts_each_side_of_the_book(self) -> None:
        gateway = Gateway()
        gateway.hear(BOOK)
        body = (await gateway.get("/v1/depth/BTC_USDT?limit=1&scale=0")).json()
        assert body["data"]["asks"] == [["2", "1"]]
        assert body["data"]["bids"] == [["1", "5"]]
        assert body["data"]["scale_index"] == 0
        assert "stale" in body

    async def test_a_part_of_the_book_does_not_encode_the_whole(self) -> None:
        gateway = Gateway()
        gateway.hear(BOOK)
        kept = gateway.hub.store.get(Channel.parse("depth:BTC_USDT:0"))
        assert kept is not None
        assert (await gateway.get("/v1/depth/BTC_USDT?limit=1")).status_code == 200
        assert kept._snapshot is None
        assert (await gateway.get("/v1/depth/BTC_USDT")).status_code == 200
        assert kept._snapshot is not None

    async def test_scales_are_told_apart(self) -> None:
        gateway = Gateway()
        gateway.hear(BOOK, given.book("BTC_USDT", asks=[("9", "1")], full=True, scale=1))
        body = (await gateway.get("/v1/depth/BTC_USDT?scale=1")).json()
        assert body["channel"] == "depth:BTC_USDT:1"
        assert body["data"]["asks"] == [["9", "1"]]

    async def test_the_body_after_an_update_is_the_whole_state(self) -> None:
        gateway = Gateway()
        gateway.hear(BOOK)
        gateway.hear(given.book("BTC_USDT", asks=[("2", "0")], full=False))
        body = (await gateway.get("/v1/depth/BTC_USDT")).json()
        assert (body["type"], body["position"]) == ("snapshot", "7-2")
        assert body["data"]["asks"] == [["3", "1"]]

    async def test_a_state_is_encoded_once_per_change(self) -> None:
        gateway = Gateway()
        gateway.hear(price("BTC_USDT", "1"))
        await gateway.get("/v1/lastprice/BTC_USDT")
        kept = gateway.hub.store.get(Channel.parse("lastprice:BTC_USDT"))
        assert kept is not None
        first = kept.snapshot()
        await gateway.get("/v1/lastprice/BTC_USDT")
        assert kept.snapshot() is first


class TestUnknown:
    @pytest.mark.parametrize(
        "path",
        [
            "/v1/lastprice/NOPE_USDT",
            "/v1/lastprice/btc_usdt",
            "/v1/ticker/BTCUSDT",
            "/v1/ticker/*",
            "/v1/trades/BTC_USDT:0",
            "/v1/depth/NOPE_USDT",
            "/v1/depth/*",
            "/v1/depth/BTC_USDT:0",
            "/v1/depth/BTC_USDT?scale=2",
            "/v1/depth/BTC_USDT?scale=12345678901234567890",
            "/v1/ticker?symbols=BTC_USDT,NOPE_USDT",
            "/v1/ticker?symbols=btc_usdt",
            "/v1/state?channels=ticker:NOPE_USDT",
            "/v1/state?channels=ticker:btc_usdt",
            "/v1/state?channels=depth:BTC_USDT:7",
        ],
    )
    async def test_market_or_scale_is_404(self, path: str) -> None:
        gateway = Gateway()
        gateway.hear(given.ticker("BTC_USDT", "1"))
        is_problem(await gateway.get(path), 404, "unknown channel")

    async def test_changes_nothing(self) -> None:
        gateway = Gateway()
        await gateway.get("/v1/depth/NOPE_USDT")
        await gateway.get("/v1/state?channels=depth:BTC_USDT:0,depth:NOPE_USDT:0")
        assert gateway.wishes.own(0) == frozenset()

    async def test_names_the_market_without_its_control_characters(self) -> None:
        response = await Gateway().get("/v1/ticker/%1b%5b31m%0d%0aX%00")
        assert "\\x1b" in is_problem(response, 404, "unknown channel")

    async def test_is_503_while_nobody_can_say(self) -> None:
        gateway = Gateway()
        gateway.markets.away = True
        response = await gateway.get("/v1/ticker/ETH_USDT")
        detail = is_problem(response, 503, "not ready")
        assert "secret" not in detail
        assert response.headers["retry-after"] == "2"

    async def test_what_the_store_holds_is_served_while_the_exchange_is_away(self) -> None:
        gateway = Gateway()
        gateway.markets.away = True
        gateway.hear(given.ticker("BTC_USDT", "1"))
        assert (await gateway.get("/v1/ticker/BTC_USDT")).status_code == 200
        assert gateway.markets.asked == 0


class TestConditional:
    @pytest.mark.parametrize(
        "validator",
        ['"7-1"', 'W/"7-1"', '"6-9", "7-1"', 'W/"1-1",W/"7-1"', "*", ' "7-1" ', '"x", *"7-1"'],
    )
    async def test_304_where_the_position_is_named(self, validator: str) -> None:
        gateway = Gateway()
        gateway.report(lastprice=live())
        gateway.hear(price("BTC_USDT", "1"))
        response = await gateway.get("/v1/lastprice/BTC_USDT", if_none_match=validator)
        assert response.status_code == 304
        assert response.content == b""
        assert response.headers["etag"] == '"7-1"'
        assert response.headers["age"] == "0"
        assert response.headers["sluice-stale"] == "false"
        assert response.headers["cache-control"] == "no-cache"

    @pytest.mark.parametrize("validator", ['"7-2"', '"7-11"', "7-1", '"', '""', 'W/"6-1"', "x"])
    async def test_200_where_it_is_not(self, validator: str) -> None:
        gateway = Gateway()
        gateway.hear(price("BTC_USDT", "1"))
        response = await gateway.get("/v1/lastprice/BTC_USDT", if_none_match=validator)
        assert response.status_code == 200

    async def test_lists_have_validators_too(self) -> None:
        gateway = Gateway()
        gateway.hear(price("BTC_USDT", "1"), price("ETH_USDT", "1"))
        response = await gateway.get("/v1/lastprice", if_none_match='"7-2"')
        assert response.status_code == 304
        assert response.headers["etag"] == '"7-2"'


class TestMaxAge:
    async def test_serves_what_is_young_enough(self) -> None:
        gateway = Gateway()
        gateway.hear(price("BTC_USDT", "1", age=2))
        assert (await gateway.get("/v1/lastprice/BTC_USDT?max_age=60")).status_code == 200

    async def test_is_judged_before_if_none_match(self) -> None:
        gateway = Gateway()
        gateway.hear(price("BTC_USDT", "1", age=9))
        response = await gateway.get("/v1/lastprice/BTC_USDT?max_age=2", if_none_match='"7-1"')
        assert "2 s" in is_problem(response, 503, "not ready")
        assert response.headers["retry-after"] == "1"

    async def test_a_list_is_as_old_as_its_oldest(self) -> None:
        gateway = Gateway()
        gateway.hear(price("BTC_USDT", "1", age=9), price("ETH_USDT", "1"))
        assert (await gateway.get("/v1/lastprice")).headers["age"] in {"9", "10"}
        is_problem(await gateway.get("/v1/lastprice?max_age=2"), 503, "not ready")
        assert (await gateway.get("/v1/lastprice?max_age=2&symbols=ETH_USDT")).status_code == 200

    async def test_holds_for_the_304_of_a_long_poll(self) -> None:
        gateway = Gateway()
        gateway.hear(price("BTC_USDT", "1", age=9))
        path = "/v1/lastprice/BTC_USDT?after=7-1&max_age=2"
        is_problem(await gateway.get(path), 503, "not ready")

    @pytest.mark.parametrize("text", ["-1", "nan", "inf", "soon", ""])
    async def test_malformed_is_422(self, text: str) -> None:
        response = await Gateway().get(f"/v1/ticker?max_age={text}")
        assert "max_age" in is_problem(response, 422, "malformed request")


class TestStale:
    @pytest.mark.parametrize(("seconds", "stale"), [(29.0, False), (31.0, True)])
    async def test_follows_confirmation(self, seconds: float, stale: bool) -> None:
        gateway = Gateway()
        gateway.hear(price("BTC_USDT", "1"))
        gateway.report(lastprice=lost(seconds))
        response = await gateway.get("/v1/lastprice/BTC_USDT")
        assert response.json()["stale"] is stale
        assert response.headers["sluice-stale"] == str(stale).lower()

    async def test_is_not_a_quiet_channels_own_age(self) -> None:
        gateway = Gateway()
        gateway.hear(price("BTC_USDT", "1", age=5000))
        gateway.report(lastprice=live())
        assert (await gateway.get("/v1/lastprice/BTC_USDT")).json()["stale"] is False

    async def test_while_nobody_leads_it_follows_the_status(self) -> None:
        gateway = Gateway(limits=Limits(stale_after=30))
        gateway.hear(price("BTC_USDT", "1"))
        for seconds, stale in ((29.0, False), (31.0, True)):
            gateway.hub.report(None, "down", time.time() - seconds)
            assert (await gateway.get("/v1/lastprice/BTC_USDT")).json()["stale"] is stale

    async def test_is_told_on_a_304(self) -> None:
        gateway = Gateway()
        gateway.hear(price("BTC_USDT", "1"))
        gateway.report(lastprice=lost(40))
        response = await gateway.get("/v1/lastprice/BTC_USDT", if_none_match="*")
        assert (response.status_code, response.headers["sluice-stale"]) == (304, "true")

    async def test_a_list_is_stale_if_any_of_it_is(self) -> None:
        gateway = Gateway()
        gateway.hear(price("BTC_USDT", "1"), price("ETH_USDT", "1"))
        gateway.report(lastprice_BTC_USDT=live(), lastprice_ETH_USDT=lost(40))
        response = await gateway.get("/v1/lastprice")
        assert [one["stale"] for one in envelopes(response)] == [False, True]
        assert response.headers["sluice-stale"] == "true"


class TestLists:
    async def test_all_that_is_known_by_name(self) -> None:
        gateway = Gateway()
        gateway.hear(price("TRX_USDT", "1"), price("BTC_USDT", "1"), given.ticker("ETH_USDT", "1"))
        found = envelopes(await gateway.get("/v1/lastprice"))
        assert [one["channel"] for one in found] == ["lastprice:BTC_USDT", "lastprice:TRX_USDT"]
        assert all({"age", "stale", "position", "data"} <= set(one) for one in found)

    @pytest.mark.parametrize(
        "query",
        [
            "symbols=ETH_USDT,BTC_USDT",
            "symbols=ETH_USDT&symbols=BTC_USDT",
            "symbols=ETH_USDT,BTC_USDT,ETH_USDT",
        ],
    )
    async def test_symbols_in_the_order_asked_each_once(self, query: str) -> None:
        gateway = Gateway()
        gateway.hear(*(given.ticker(name, "1") for name in ("BTC_USDT", "TRX_USDT", "ETH_USDT")))
        response = await gateway.get(f"/v1/ticker?{query}")
        assert [one["channel"] for one in envelopes(response)] == [
            "ticker:ETH_USDT",
            "ticker:BTC_USDT",
        ]
        assert response.headers["etag"] == '"7-3"'

    @pytest.mark.parametrize("query", ["symbols=", "symbols=,", "symbols=BTC_USDT,"])
    async def test_an_empty_symbol_is_422(self, query: str) -> None:
        is_problem(await Gateway().get(f"/v1/ticker?{query}"), 422, "malformed request")

    async def test_too_many_symbols_are_413(self) -> None:
        names = ",".join(f"X{number}_USDT" for number in range(201))
        response = await Gateway().get(f"/v1/ticker?symbols={names}")
        is_problem(response, 413, "too many channels")

    @pytest.mark.looptime
    async def test_nothing_known_at_all_is_503(self) -> None:
        response = await Gateway().get("/v1/ticker")
        assert "ticker:*" in is_problem(response, 503, "not ready")
        assert response.headers["retry-after"] == "1"

    @pytest.mark.looptime
    async def test_an_unpinned_kind_is_followed_as_a_whole(self) -> None:
        gateway = Gateway(pinned=frozenset())
        gateway.when_wanted(lambda: gateway.hear(given.ticker("BTC_USDT", "1")))
        assert len(envelopes(await gateway.get("/v1/ticker"))) == 1
        assert gateway.wishes.own(0) == {Channel.parse("ticker:*")}


class TestState:
    async def test_several_kinds_in_the_order_asked(self) -> None:
        gateway = Gateway()
        gateway.hear(given.ticker("BTC_USDT", "1"), BOOK, price("ETH_USDT", "2"))
        response = await gateway.get(
            "/v1/state?channels=depth:BTC_USDT:0,lastprice:ETH_USDT&channels=ticker:BTC_USDT"
        )
        found = envelopes(response)
        assert [(one["channel"], one["position"]) for one in found] == [
            ("depth:BTC_USDT:0", "7-2"),
            ("lastprice:ETH_USDT", "7-3"),
            ("ticker:BTC_USDT", "7-1"),
        ]
        assert response.headers["etag"] == '"7-3"'
        assert {one["type"] for one in found} == {"snapshot"}

    async def test_a_wildcard_is_all_that_is_known_each_once(self) -> None:
        gateway = Gateway()
        gateway.hear(given.ticker("ETH_USDT", "1"), given.ticker("BTC_USDT", "1"))
        found = envelopes(await gateway.get("/v1/state?channels=ticker:ETH_USDT,ticker:*"))
        assert [one["channel"] for one in found] == ["ticker:ETH_USDT", "ticker:BTC_USDT"]

    @pytest.mark.parametrize(
        "query",
        [
            "",
            "?channels=",
            "?channels=ticker:BTC_USDT,,",
            "?channels=candle:BTC_USDT",
            "?channels=ticker",
            "?channels=depth:BTC_USDT",
            "?channels=depth:*",
            "?channels=ticker:BTC%0AUSDT",
        ],
    )
    async def test_malformed_is_422(self, query: str) -> None:
        gateway = Gateway()
        is_problem(await gateway.get(f"/v1/state{query}"), 422, "malformed request")

    async def test_too_many_channels_are_413(self) -> None:
        names = ",".join(f"ticker:X{number}_USDT" for number in range(201))
        is_problem(await Gateway().get(f"/v1/state?channels={names}"), 413, "too many channels")

    async def test_private_channels_are_401(self) -> None:
        for channel in ("order:BTC_USDT", "order:*", "balance:USDT", "deal:*"):
            response = await Gateway().get(f"/v1/state?channels=ticker:BTC_USDT,{channel}")
            assert channel in is_problem(response, 401, "not allowed")
            assert response.headers["www-authenticate"] == "Bearer"

    @pytest.mark.looptime
    async def test_waits_for_all_and_names_what_is_missing(self) -> None:
        gateway = Gateway()
        gateway.hear(given.ticker("BTC_USDT", "1"))
        response = await gateway.get(
            "/v1/state?channels=ticker:BTC_USDT,depth:BTC_USDT:0,depth:BTC_USDT:1"
        )
        detail = is_problem(response, 503, "not ready")
        assert "depth:BTC_USDT:0, depth:BTC_USDT:1" in detail
        assert "ticker" not in detail

    @pytest.mark.looptime
    async def test_follows_what_is_not_known_yet(self) -> None:
        gateway = Gateway()
        gateway.when_wanted(lambda: gateway.hear(BOOK), after=1.9)
        gateway.hear(given.ticker("BTC_USDT", "1"))
        path = "/v1/state?channels=ticker:BTC_USDT,depth:BTC_USDT:0"
        assert len(envelopes(await gateway.get(path))) == 2


@pytest.mark.looptime
class TestFirstState:
    async def test_asking_starts_following_and_waits(self) -> None:
        gateway = Gateway()
        gateway.when_wanted(lambda: gateway.hear(BOOK), after=1.5)
        started = asyncio.get_running_loop().time()
        response = await gateway.get("/v1/depth/BTC_USDT")
        assert response.status_code == 200
        assert asyncio.get_running_loop().time() - started == pytest.approx(1.5, abs=0.1)
        assert gateway.wishes.own(0) == {Channel.parse("depth:BTC_USDT:0")}

    async def test_takes_two_seconds_then_503(self) -> None:
        started = asyncio.get_running_loop().time()
        response = await Gateway().get("/v1/depth/BTC_USDT")
        assert "depth:BTC_USDT:0" in is_problem(response, 503, "not ready")
        assert response.headers["retry-after"] == "1"
        assert asyncio.get_running_loop().time() - started == pytest.approx(2.0, abs=0.1)

    async def test_an_exchange_that_is_slow_to_say_what_it_has_takes_no_longer(self) -> None:
        """Its channels are followed all the same: the leader asks, too."""
        gateway = Gateway()
        gateway.markets.slow = 1.5
        books = [f"depth:{market}:0" for market in gateway.markets.rows]
        loop = asyncio.get_running_loop()
        started = loop.time()
        response = await gateway.get("/v1/state?channels=" + ",".join(books))
        assert ", ".join(books) in is_problem(response, 503, "not ready")
        assert loop.time() - started == pytest.approx(2.0, abs=0.1)
        assert gateway.wishes.own(loop.time()) == set(map(Channel.parse, books))
        unlisted = await gateway.get(f"/v1/state?channels={','.join(books)},ticker:NOPE_USDT")
        is_problem(unlisted, 404, "unknown channel")

    async def test_a_pinned_channel_with_nothing_heard_is_503_too(self) -> None:
        gateway = Gateway()
        is_problem(await gateway.get("/v1/ticker/BTC_USDT"), 503, "not ready")
        assert gateway.wishes.own(0) == frozenset()

    async def test_other_channels_do_not_answer_for_it(self) -> None:
        gateway = Gateway()
        gateway.when_wanted(lambda: gateway.hear(given.ticker("BTC_USDT", "1")))
        is_problem(await gateway.get("/v1/depth/BTC_USDT"), 503, "not ready")

    async def test_over_the_limit_of_followed_channels_is_503(self) -> None:
        gateway = Gateway(limit=1)
        gateway.wishes.hold([Channel.parse("depth:ETH_USDT:0")])
        response = await gateway.get("/v1/depth/BTC_USDT")
        assert "1 channels are followed" in is_problem(response, 503, "not ready")
        assert response.headers["retry-after"] == "60"

    async def test_what_is_followed_already_needs_no_room(self) -> None:
        gateway = Gateway(limit=0, pinned=frozenset())
        gateway.hear(given.ticker("BTC_USDT", "1"))
        gateway.report(ticker_BTC_USDT=live())
        assert (await gateway.get("/v1/ticker/BTC_USDT")).status_code == 200

    async def test_asking_keeps_it_followed(self) -> None:
        gateway = Gateway()
        gateway.hear(BOOK)
        await gateway.get("/v1/depth/BTC_USDT")
        now = asyncio.get_running_loop().time()
        assert gateway.wishes.own(now + 59) == {Channel.parse("depth:BTC_USDT:0")}
        assert gateway.wishes.own(now + 61) == frozenset()


SINGLES: list[tuple[str, Event]] = [
    ("/v1/lastprice/BTC_USDT", given.price("BTC_USDT", "1")),
    ("/v1/ticker/BTC_USDT", given.ticker("BTC_USDT", "1")),
    ("/v1/trades/BTC_USDT", given.trades("BTC_USDT", ROWS[:2])),
    ("/v1/depth/BTC_USDT", BOOK),
]


@pytest.mark.looptime
class TestLongPoll:
    @pytest.mark.parametrize(("path", "event"), SINGLES)
    async def test_answers_at_once_where_the_state_is_newer(self, path: str, event: Event) -> None:
        gateway = Gateway()
        gateway.hear(event)
        response = await gateway.get(f"{path}?after=6-99&wait=20")
        assert (response.status_code, response.json()["position"]) == (200, "7-1")

    @pytest.mark.parametrize(("path", "event"), SINGLES)
    async def test_is_304_after_the_wait(self, path: str, event: Event) -> None:
        gateway = Gateway()
        gateway.hear(event)
        started = asyncio.get_running_loop().time()
        response = await gateway.get(f"{path}?after=7-1&wait=20")
        assert (response.status_code, response.content) == (304, b"")
        assert response.headers["etag"] == '"7-1"'
        assert asyncio.get_running_loop().time() - started == pytest.approx(20, abs=0.1)

    async def test_answers_as_soon_as_something_comes(self) -> None:
        gateway = Gateway()
        gateway.hear(price("BTC_USDT", "1"))
        loop = asyncio.get_running_loop()
        started = loop.time()
        loop.call_later(1, lambda: gateway.hear(price("ETH_USDT", "1")))
        loop.call_later(3, lambda: gateway.hear(price("BTC_USDT", "2")))
        response = await gateway.get("/v1/lastprice/BTC_USDT?after=7-1&wait=60")
        assert response.json()["position"] == "7-3"
        assert loop.time() - started == pytest.approx(3, abs=0.1)

    async def test_an_event_not_newer_than_after_is_not_enough(self) -> None:
        gateway = Gateway()
        gateway.hear(price("BTC_USDT", "1"))
        loop = asyncio.get_running_loop()
        loop.call_later(1, lambda: gateway.hear(price("BTC_USDT", "2")))
        loop.call_later(2, lambda: gateway.hear(price("BTC_USDT", "3")))
        response = await gateway.get("/v1/lastprice/BTC_USDT?after=7-2&wait=60")
        assert response.json()["data"]["price"] == "3"

    async def test_without_wait_it_answers_at_once(self) -> None:
        gateway = Gateway()
        gateway.hear(price("BTC_USDT", "1"))
        started = asyncio.get_running_loop().time()
        assert (await gateway.get("/v1/lastprice/BTC_USDT?after=7-1")).status_code == 304
        assert (await gateway.get("/v1/lastprice/BTC_USDT?after=7-0")).status_code == 200
        assert asyncio.get_running_loop().time() == pytest.approx(started, abs=0.1)

    async def test_a_first_state_is_newer_than_anything(self) -> None:
        gateway = Gateway()
        gateway.when_wanted(lambda: gateway.hear(BOOK))
        response = await gateway.get("/v1/depth/BTC_USDT?after=6-1&wait=1")
        assert response.status_code == 200

    async def test_the_channel_stays_followed_while_someone_waits(self) -> None:
        gateway = Gateway()
        gateway.wishes.linger = 5
        gateway.hear(BOOK)
        loop = asyncio.get_running_loop()
        wanted = []
        loop.call_later(19, lambda: wanted.append(gateway.wishes.own(loop.time())))
        await gateway.get("/v1/depth/BTC_USDT?after=7-1&wait=20")
        assert wanted == [{Channel.parse("depth:BTC_USDT:0")}]
        assert gateway.wishes.own(loop.time() + 6) == frozenset()

    async def test_a_process_that_shuts_down_is_503_at_once(self) -> None:
        gateway = Gateway()
        gateway.hear(price("BTC_USDT", "1"))
        started = asyncio.get_running_loop().time()
        async with asyncio.TaskGroup() as tasks:
            asked = tasks.create_task(gateway.get("/v1/lastprice/BTC_USDT?after=7-1&wait=60"))
            await asyncio.sleep(1)
            await gateway.hub.drain(0)
        is_problem(asked.result(), 503, "not ready")
        assert asked.result().headers["retry-after"] == "1"
        assert asyncio.get_running_loop().time() - started == pytest.approx(1, abs=0.1)

    async def test_a_channel_forgotten_meanwhile_is_503(self) -> None:
        gateway = Gateway()
        gateway.hear(BOOK)
        loop = asyncio.get_running_loop()
        loop.call_later(1, lambda: gateway.forget("depth:BTC_USDT:0"))
        response = await gateway.get("/v1/depth/BTC_USDT?after=7-1&wait=5")
        is_problem(response, 503, "not ready")

    @pytest.mark.parametrize("path", [path for path, _ in SINGLES])
    @pytest.mark.parametrize(
        "query", ["wait=60.5", "wait=-1", "wait=nan", "wait=x", "after=x", "after=07-1", "after=7"]
    )
    async def test_malformed_is_422(self, path: str, query: str) -> None:
        response = await Gateway().get(f"{path}?{query}")
        name = query.partition("=")[0]
        assert is_problem(response, 422, "malformed request").startswith(name)

    async def test_leaves_no_watcher_behind(self) -> None:
        gateway = Gateway()
        gateway.hear(price("BTC_USDT", "1"))
        await gateway.get("/v1/lastprice/BTC_USDT?after=7-1&wait=1")
        assert not gateway.hub._watchers


async def test_anonymous_none_is_401_for_everything_under_v1() -> None:
    """Before the parameters, too."""
    gateway = Gateway(anonymous=NOBODY)
    gateway.hear(given.ticker("BTC_USDT", "1"))
    for path in (
        "/v1/ticker",
        "/v1/ticker/BTC_USDT",
        "/v1/ticker/nope",
        "/v1/trades/BTC_USDT?limit=many",
        "/v1/depth/BTC_USDT",
        "/v1/lastprice",
        "/v1/state?channels=ticker:BTC_USDT",
        "/v1/state",
    ):
        response = await gateway.get(path)
        is_problem(response, 401, "not allowed")
        assert response.headers["www-authenticate"] == "Bearer"


def test_pinned_channels_of_the_harness_are_the_defaults() -> None:
    assert sorted(map(str, PINNED)) == ["lastprice:*", "ticker:*", "trade:*"]


async def test_numbers_keep_their_digits() -> None:
    """No float ever touches an amount."""
    gateway = Gateway()
    gateway.hear(price("BTC_USDT", "0.10000000000000000000000001"))
    content = (await gateway.get("/v1/lastprice/BTC_USDT")).content
    assert json.loads(content)["data"]["price"] == "0.10000000000000000000000001"
