import asyncio
import logging
import time
from typing import Any

import httpx
import pytest
import structlog

from app.domain.channel import Channel, Kind
from app.errors import TokenRefused
from app.simulator import Options, Simulator
from app.telemetry import Metrics
from app.upstream.connection import SocketOptions
from app.upstream.pool import Pool, PoolOptions
from app.upstream.rest import Credentials, Rest, RestOptions
from tests.upstream.live import BOOK, PUBLIC, Live, channels, freely, live, until


async def test_what_is_wanted_is_shared_out_confirmed_and_heard() -> None:
    async with live(*PUBLIC, BOOK, "order:*", "balance:*", "deal:*") as it:
        assert {one.following for one in it.pool.connections()} == {3, 4}
        for text in PUBLIC:
            await it.more(text)
        await it.book_is_true(BOOK)
        assert it.exchange.control.report()["tokens_issued"] == 2


async def test_a_whole_kind_is_confirmed_in_a_newer_run_on_each_connection() -> None:
    async with live("order:*") as it:
        first = it.pool.confirmed(Kind.ORDER)
        assert first is not None
        assert it.pool.confirmed(Kind.DEAL) is None
        it.exchange.control.act("cut")
        await until(lambda: (it.pool.confirmed(Kind.ORDER) or 0) > first)


async def test_what_is_wanted_later_comes_later_and_goes_again() -> None:
    async with live("ticker:*") as it:
        it.pool.want(channels("ticker:*", BOOK))
        await it.all_live()
        await it.book_is_true(BOOK)
        it.pool.want(channels("ticker:*", "depth:ETH_USDT:0"))
        await it.all_live()
        await it.book_is_true("depth:ETH_USDT:0")
        assert Channel.parse(BOOK) not in it.pool.following()
        it.pool.want(frozenset())
        await until(lambda: it.pool.following() == {})


@pytest.mark.parametrize("policy", ["replace", "merge", "reject"])
async def test_books_stay_right_whatever_a_repeated_subscribe_does(policy: str) -> None:
    books = ["depth:BTC_USDT:0", "depth:ETH_USDT:0", "depth:SOL_USDT:0"]
    async with live(books[0], switches={"subscribe": policy}, connections=1) as it:
        for count in (2, 3):
            it.pool.want(channels(*books[:count]))
            await it.all_live(within=15)
            for book in books[:count]:
                await it.book_is_true(book, within=15)
        it.pool.want(channels(books[2]))
        await it.all_live()
        await it.book_is_true(books[2])
    if policy == "replace":
        assert all(len(it.runs(book)) == 1 for book in books)


async def test_a_lost_connections_channels_go_on_at_once_on_the_other_in_new_runs() -> None:
    async with live(*PUBLIC, BOOK) as it:
        shares = [one.following for one in it.pool.connections()]
        assert min(shares) > 0
        await it.heard(*PUBLIC, BOOK)
        report = it.exchange.control.report()
        lost = report["connections"][0]["number"]
        cut = time.time()
        it.exchange.control.act("cut", connection=lost)
        for text in PUBLIC:
            await it.more(text, within=2)
        await it.book_is_true(BOOK)
        assert sorted(len(it.runs(text)) for text in (*PUBLIC, BOOK)) == [1, 1, 2, 2]
        await it.all_live()
        assert time.time() - cut < 3
        assert sorted(one.following for one in it.pool.connections()) == [0, 4]
        broken = [one.broken for one in it.pool.following().values()]
        assert max(moment for moment in broken if moment) >= cut - 0.001
        assert it.disconnects("broken off") == 1


async def test_all_connections_lost_are_all_back_within_moments() -> None:
    async with live(*PUBLIC, BOOK) as it:
        await it.heard(*PUBLIC, BOOK)
        it.exchange.control.act("cut")
        await until(lambda: not any(one.live for one in it.pool.following().values()))
        await it.all_live(within=3)
        await it.heard(*PUBLIC, BOOK, runs=2)
        await it.book_is_true(BOOK)


async def test_a_pool_of_one_waits_and_comes_back() -> None:
    async with live("ticker:*", connections=1) as it:
        it.exchange.control.act("close")
        await until(lambda: not it.following("ticker:*").live)
        await it.all_live(within=3)
        assert it.disconnects("closed by the exchange") == 1
        assert it.pool.connections()[0].reconnects == 1


@pytest.mark.parametrize("refusal", ["401", "404", "500", "malformed", "slow"])
async def test_a_refused_token_is_asked_for_again(refusal: str) -> None:
    switches = {"token": refusal, "rest_delay": 60.0}
    async with live("ticker:*", switches=switches, settle=False, connections=1) as it:
        await until(lambda: it.refusals() > 0)
        it.exchange.control.set(token="ok")
        await it.all_live()


@pytest.mark.parametrize("accept", ["http401", "close"])
async def test_a_refused_socket_is_tried_again_with_a_new_token(accept: str) -> None:
    async with live("ticker:*", switches={"accept": accept}, settle=False, connections=1) as it:
        await until(lambda: it.exchange.control.report()["tokens_issued"] >= 2)
        it.exchange.control.set(accept="ok")
        await it.all_live()


async def test_an_exchange_that_was_away_is_found_again() -> None:
    async with live(*PUBLIC) as it:
        it.exchange.control.set(away=True)
        await until(lambda: {one.state for one in it.pool.connections()} <= {"waiting", "opening"})
        it.exchange.control.set(away=False)
        await it.all_live()
        for text in PUBLIC:
            await it.more(text)


@pytest.mark.parametrize("kind", ["json", "text", "utf8", "array"])
async def test_garbage_is_survived_and_breaks_every_run_of_its_socket(kind: str) -> None:
    async with live(*PUBLIC, BOOK, connections=1) as it:
        await it.heard(*PUBLIC, BOOK)
        it.exchange.control.act("garbage", kind=kind)
        await it.heard(*PUBLIC, BOOK, runs=2)
        await it.book_is_true(BOOK)
        assert it.pool.connections()[0].reconnects == 0


async def test_a_frame_that_is_too_large_costs_the_socket() -> None:
    socket = SocketOptions(max_bytes=100_000)
    async with live("ticker:*", connections=1, socket=socket) as it:
        it.exchange.control.act("garbage", kind="oversized", size=200_000)
        await until(lambda: it.disconnects("frame too large") == 1)
        await it.all_live()


async def test_a_flood_of_garbage_costs_the_socket() -> None:
    async with live("ticker:*", connections=1, session={"garbage_limit": 3}) as it:
        for _ in range(4):
            it.exchange.control.act("garbage", kind="json")
        await until(lambda: it.disconnects("too many unreadable frames") == 1)
        await it.all_live()


async def test_a_socket_without_pongs_is_replaced() -> None:
    session = {"ping_interval": 0.2, "pong_timeout": 0.3}
    async with live("ticker:*", connections=1, session=session) as it:
        it.exchange.control.set(pong=False)
        await until(lambda: it.disconnects("no pong") == 1)
        it.exchange.control.set(pong=True)
        await it.all_live()


async def test_a_stalled_socket_is_replaced() -> None:
    session = {"ping_interval": 0.2, "pong_timeout": 0.3}
    async with live("ticker:*", connections=1, session=session) as it:
        it.exchange.control.set(stall=True)
        await until(lambda: it.disconnects("no pong") == 1)
        await it.all_live(within=5)
        await it.more("ticker:*")


async def test_a_socket_that_answers_nothing_is_replaced() -> None:
    async with live("ticker:*", connections=1, session={"ack_timeout": 0.2}) as it:
        it.exchange.control.set(ack=False)
        it.pool.want(channels("ticker:BTC_USDT"))
        await until(lambda: it.disconnects("request not answered") == 1)
        it.exchange.control.set(ack=True)
        await it.all_live()


async def test_a_mute_socket_is_resubscribed_and_then_replaced() -> None:
    async with live(*PUBLIC, connections=1, session={"mute_after": 1.0}) as it:
        await it.more("trade:*")
        it.exchange.control.set(mute=True)
        await until(lambda: it.pool.connections()[0].state == "mute")
        await until(lambda: not it.following("trade:*").live)
        await until(lambda: it.disconnects("mute") == 1)
        it.exchange.control.set(mute=False)
        await it.all_live()
        await it.heard("trade:*", runs=2)


async def test_a_replaced_socket_that_is_as_mute_does_not_count_as_live() -> None:
    def mute_for_good() -> bool:
        assert not it.following("trade:*").live
        return it.disconnects("mute") == 2

    async with live(*PUBLIC, connections=2, session={"mute_after": 1.0}) as it:
        await it.more("trade:*")
        it.exchange.control.set(mute=True)
        await until(lambda: not it.following("trade:*").live)
        since = it.following("trade:*").since
        await until(mute_for_good)
        assert since == it.following("trade:*").since
        it.exchange.control.set(mute=False)
        await it.all_live()


async def test_deltas_before_the_reload_are_withheld() -> None:
    async with live(BOOK) as it:
        it.exchange.control.act("early_delta", times=1)
        it.exchange.control.act("cut")
        await until(lambda: len(it.runs(BOOK)) == 2)
        first = next(one for one in it.events if one.continuity == it.runs(BOOK)[1])
        assert first.full
        await it.book_is_true(BOOK)


async def test_a_book_is_resynced_on_demand_in_a_new_run() -> None:
    async with live(BOOK, "depth:ETH_USDT:0", connections=1) as it:
        await it.book_is_true(BOOK)
        it.exchange.control.act("cross", book="BTC_USDT:0")
        it.pool.resync(Channel.parse(BOOK), "crossed")
        await until(lambda: len(it.runs(BOOK)) == 2)
        await it.book_is_true(BOOK)
        assert len(it.runs("depth:ETH_USDT:0")) == 1


async def test_a_resync_of_what_nobody_follows_asks_for_nothing() -> None:
    async with live(BOOK) as it:
        it.pool.resync(Channel.parse("depth:ETH_USDT:0"), "crossed")
        await it.book_is_true(BOOK)


async def test_a_retired_connection_hands_over_without_a_loss() -> None:
    async with live(*PUBLIC, BOOK, connections=1, max_age=0.5) as it:
        issued = it.exchange.control.report()["tokens_issued"]
        assert isinstance(issued, int)
        await until(lambda: it.exchange.control.report()["tokens_issued"] >= 3, within=20)
        assert {len(it.runs(text)) for text in (*PUBLIC, BOOK)} == {1}
        assert it.pool.connections()[0].reconnects == 0
        await it.book_is_true(BOOK)
        told = it.trades("BTC_USDT")
        truth = it.exchange.exchange.truth.trades["BTC_USDT"]
        true = [(one.price, one.quantity) for one in truth]
        assert told
        assert told == true[len(true) - len(told) :] or told == true[-len(told) - 1 : -1]


async def test_a_successor_that_is_refused_leaves_the_old_one_at_work() -> None:
    async with live("ticker:*", connections=1, max_age=0.3) as it:
        it.exchange.control.set(token="500")
        await until(lambda: it.refusals() > 0)
        await it.more("ticker:*")
        assert len(it.runs("ticker:*")) == 1


async def test_a_connection_lost_during_its_handover_is_taken_over_with_a_gap() -> None:
    async with live("trade:*", connections=1, max_age=0.3) as it:
        await until(lambda: it.exchange.control.report()["open"] == 2)
        old = it.exchange.control.report()["connections"][0]["number"]
        it.exchange.control.act("cut", connection=old)
        await it.all_live()
        await it.more("trade:*")


async def test_a_successor_lost_during_the_handover_changes_nothing() -> None:
    async with live("trade:*", connections=1, max_age=0.3) as it:
        await until(lambda: it.exchange.control.report()["open"] == 2)
        new = it.exchange.control.report()["connections"][-1]["number"]
        it.exchange.control.act("cut", connection=new)
        await it.more("trade:*")
        assert len(it.runs("trade:*")) == 1


async def test_a_successor_lost_after_it_took_a_book_over_leaves_a_gap() -> None:
    """The old socket's deltas were passed over meanwhile."""
    async with live(BOOK, connections=1, max_age=0.3) as it:
        await _joined(it)
        new = it.exchange.control.report()["connections"][-1]["number"]
        it.exchange.control.act("cut", connection=new)
        await until(lambda: len(it.runs(BOOK)) == 2)
        await it.book_is_true(BOOK)


async def test_a_book_resynced_during_a_handover_is_reloaded_by_who_carries_it() -> None:
    async with live(BOOK, connections=1, max_age=0.3) as it:
        await _joined(it)
        it.pool.resync(Channel.parse(BOOK), "crossed")
        await until(lambda: len(it.runs(BOOK)) == 2)
        assert next(one for one in it.events if one.continuity == it.runs(BOOK)[1]).full
        await it.book_is_true(BOOK)


async def _joined(it: Live) -> None:
    """The successor's reload of the book has come, and the overlap is not over."""
    (slot,) = it.pool._slots
    await until(lambda: slot.handover is not None and bool(slot.handover.joined))


async def test_a_loss_on_one_market_is_told_beside_its_wildcard() -> None:
    async with live("ticker:*", connections=1) as it:
        await it.more("ticker:*")
        bad = {"symbol": "BTC_USDT", "timestamp": 1, "price": "NaN"}
        frame = {"id": 0, "method": "ticker_update", "data": bad, "error": None}
        it.exchange.control.act("emit", message=frame)
        await until(lambda: Channel.parse("ticker:BTC_USDT") in it.pool.following())
        assert it.following("ticker:BTC_USDT").unbroken > it.following("ticker:*").unbroken
        assert it.following("ticker:BTC_USDT").live


async def test_what_is_not_taken_in_time_is_dropped_and_everything_starts_a_new_run() -> None:
    async with live("trade:*", BOOK, connections=1, max_pending=20) as it:
        await it.more("trade:*")
        it.reading.clear()
        before = it.exchange.control.report()["events_sent"]
        assert isinstance(before, int)
        await until(lambda: it.exchange.control.report()["events_sent"] > before + 100)
        it.reading.set()
        await until(lambda: len(it.runs("trade:*")) >= 2)
        await it.book_is_true(BOOK)
        trades = len(it.trades("BTC_USDT"))
        assert trades < len(it.exchange.exchange.truth.trades["BTC_USDT"])


async def test_what_is_read_in_one_turn_is_one_batch() -> None:
    async with live("trade:*", connections=1, switches={"rate": 0.0}) as it:
        data = {"symbol": "BTC_USDT", "timestamp": 1, "trades": []}
        message = {"id": 0, "method": "trade_update", "data": data, "error": None}
        for _ in range(50):
            it.exchange.control.act("emit", message=message)
        await until(lambda: len(it.events) == 50)
        assert max(it.batches) > 1


async def test_frames_are_tapped_as_they_were_read() -> None:
    frames: list[tuple[float, str]] = []
    socket = SocketOptions(tap=lambda received, text: frames.append((received, text)))
    async with live("ticker:*", connections=1, socket=socket) as it:
        await it.more("ticker:*")
        it.exchange.control.act("garbage", kind="utf8")
        await until(lambda: any("\ufffd" in text for _, text in frames))
    assert any('"ticker_update"' in text for _, text in frames)
    assert all(abs(time.time() - received) < 60 for received, _ in frames)


async def test_no_secret_reaches_a_log(caplog: pytest.LogCaptureFixture) -> None:
    structlog.configure(
        processors=[structlog.stdlib.render_to_log_kwargs],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )
    tokens: list[str] = []
    fetch = Rest.token

    class Watched(Rest):
        async def token(self) -> str:
            tokens.append(await fetch(self))
            return tokens[-1]

    try:
        with caplog.at_level(logging.DEBUG):
            async with Simulator(Options(port=0)) as exchange, httpx.AsyncClient() as client:
                hosts = RestOptions(exchange.url, exchange.url, exchange.url)
                credentials = Credentials("demo-user", "demo-key")
                rest = Watched(client, hosts, credentials)
                pool = Pool(rest, PoolOptions(exchange.ws_url), Metrics(), leave=freely)
                pool.want(channels("ticker:*"))
                async with asyncio.TaskGroup() as tasks:
                    running = tasks.create_task(pool.run())
                    await until(lambda: pool.connections()[1].state == "live")
                    exchange.control.set(accept="http401")
                    exchange.control.act("cut")
                    await until(lambda: len(tokens) > 4)
                    running.cancel()
    finally:
        structlog.reset_defaults()
    assert len(caplog.records) > 4
    for secret in (*tokens, credentials.sign(), "demo-key"):
        assert secret not in caplog.text


async def test_a_pool_may_be_run_again() -> None:
    async with Simulator(Options(port=0)) as exchange, httpx.AsyncClient() as client:
        hosts = RestOptions(exchange.url, exchange.url, exchange.url)
        rest = Rest(client, hosts, Credentials("demo-user", "demo-key"))
        pool = Pool(rest, PoolOptions(exchange.ws_url), Metrics(), leave=freely)
        pool.want(channels("ticker:*"))
        for _ in range(2):
            async with asyncio.TaskGroup() as tasks:
                running = tasks.create_task(pool.run())
                await until(lambda: all(one.live for one in pool.following().values()))
                running.cancel()
            assert not any(one.live for one in pool.following().values())
            assert {one.state for one in pool.connections()} == {"waiting"}
        await until(lambda: exchange.control.report()["open"] == 0)


class Refusing(Rest):
    """Counts how often it is asked, and refuses."""

    asked = 0

    async def token(self) -> str:
        self.asked += 1
        raise TokenRefused("no")


@pytest.mark.looptime
async def test_tokens_are_asked_for_ten_times_a_minute_at_most() -> None:
    async with httpx.AsyncClient() as client:
        rest = Refusing(client, RestOptions("", "", ""), None)
        pool = Pool(rest, PoolOptions("ws://nowhere", connections=8), Metrics())
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(pool.run())
            await asyncio.sleep(3)
            assert rest.asked == 5
            await asyncio.sleep(597)
            running.cancel()
    assert 90 <= rest.asked <= 105


async def test_a_bug_is_not_retried() -> None:
    class Broken(Rest):
        async def token(self) -> str:
            raise RuntimeError("a bug")

    async with httpx.AsyncClient() as client:
        rest: Any = Broken(client, RestOptions("", "", ""), None)
        pool = Pool(rest, PoolOptions("ws://nowhere"), Metrics())
        with pytest.raises(ExceptionGroup) as caught:
            await pool.run()
        assert caught.group_contains(RuntimeError, match="a bug")
