"""The exchange misbehaves, and what clients see stays true: each fault over real sockets."""

import time

import pytest

from tests.e2e.market import BOOKS
from tests.e2e.reconstruct import Json
from tests.e2e.scene import Scene, scene
from tests.e2e.waiting import until

pytestmark = pytest.mark.e2e


async def down_and_stale(play: Scene) -> None:
    """Clients, answers and readiness say that the exchange is not heard."""
    await until(play.stale, "stale answers")
    await until(play.unready, "not ready")
    await until(lambda: play.watcher.mirror.statuses()[-1] == "down", "status down")
    assert (await play.http.get("/readyz?for=traffic")).status_code == 200


async def stale_until_heard(play: Scene) -> None:
    """While the market is held nothing new comes, so that what may be missing shows as stale."""
    await until(play.stale, "stale until something is heard again")
    back = time.time()
    play.act("play")
    await play.fine(back)


def troubled(play: Scene) -> int:
    """Changes to a status that is not live, seen by the watcher after the first live one."""
    statuses = play.watcher.mirror.statuses()
    return sum(status != "live" for status in statuses[statuses.index("live") :])


async def test_a_cut_socket() -> None:
    async with scene() as play:
        before, gaps = play.open(), play.watcher.mirror.gaps.total()
        play.act("pause")
        play.act("cut")
        await until(lambda: len(play.open()) == 2, "two new connections")
        assert not set(play.open()) & set(before)
        await until(lambda: troubled(play) > 0, "a status on the stream")
        await stale_until_heard(play)
        assert play.watcher.mirror.gaps.total() > gaps
        assert play.watcher.connections == 1


async def test_one_of_two_sockets_cut() -> None:
    async with scene() as play:
        carriers = {
            kind: next(
                one["number"]
                for one in play.report()["connections"]
                if kind in one["subscriptions"]
            )
            for kind in ("trade", "depth", "lastprice", "ticker")
        }
        play.act("cut", connection=carriers["depth"])
        cut = time.time()
        await play.fine(cut)
        gaps = {channel.partition(":")[0] for channel in +play.watcher.mirror.gaps}
        untouched = {kind for kind, one in carriers.items() if one != carriers["depth"]}
        assert untouched
        assert gaps == carriers.keys() - untouched


async def test_a_stalled_socket() -> None:
    async with scene() as play:
        before = play.open()
        play.act("pause")
        play.switch(stall=True)
        await until(lambda: set(play.open()) - set(before), "a new connection", limit=30)
        await until(lambda: troubled(play) > 0, "a status on the stream")
        await stale_until_heard(play)
        assert +play.watcher.mirror.gaps
        play.switch(stall=False)
        await play.fine(time.time())


async def test_mute_while_it_answers_pings() -> None:
    async with scene(mute_after=1) as play:
        before = play.open()
        play.switch(mute=True)
        await down_and_stale(play)
        await until(lambda: set(play.open()) - set(before), "replaced", limit=30)
        play.switch(mute=False)
        await play.fine(time.time())
        assert +play.watcher.mirror.gaps


async def test_no_pongs() -> None:
    async with scene(upstream_connections=1) as play:
        before = play.open()
        play.act("pause")
        play.switch(pong=False)
        await until(lambda: not set(play.open()) & set(before), "given up")
        await until(lambda: troubled(play) > 0, "a status on the stream")
        play.switch(pong=True)
        await stale_until_heard(play)
        assert +play.watcher.mirror.gaps


@pytest.mark.parametrize("refusal", ["401", "404", "500", "malformed"])
async def test_a_refused_token(refusal: str) -> None:
    async with scene(upstream_connections=1) as play:
        play.switch(token=refusal)
        play.act("cut")
        await down_and_stale(play)
        play.switch(token="ok")
        await play.fine(time.time())
        assert +play.watcher.mirror.gaps


@pytest.mark.parametrize("refusal", ["http401", "close"])
async def test_a_refused_handshake(refusal: str) -> None:
    async with scene(upstream_connections=1) as play:
        play.switch(accept=refusal)
        play.act("cut")
        await down_and_stale(play)
        play.switch(accept="ok")
        await play.fine(time.time())


async def test_a_token_is_fetched_after_the_backoff() -> None:
    async with scene(upstream_connections=1) as play:
        play.switch(token="500", token_lifetime=0.3)
        play.act("cut")
        attempts = await metric(play, "sluice_upstream_token_fetches_total", "refused") + 2

        async def tried() -> bool:
            return await metric(play, "sluice_upstream_token_fetches_total", "refused") >= attempts

        await until(tried, "the backoff is above a token's life")
        play.switch(token="wrapped")
        await play.fine(time.time())  # an expired token would be a violation


async def metric(play: Scene, name: str, label: str) -> float:
    text = (await play.http.get("/metrics")).text
    lines = [line for line in text.splitlines() if line.startswith(name) and label in line]
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines)


GARBAGE: tuple[Json, ...] = (
    {"kind": "json"},
    {"kind": "text"},
    {"kind": "array"},
    {"kind": "event_bad_number", "number": "NaN"},
    {"kind": "event_bad_number", "number": "1e999"},
    {"kind": "event_bad_number", "number": "Infinity", "quoted": True},
)


async def test_garbage_frames() -> None:
    """Survived on the same sockets; as any of it may have been an event, snapshots follow."""
    async with scene() as play:
        before = play.open()
        for garbage in GARBAGE:
            play.act("garbage", **garbage)
        await until(lambda: play.watcher.mirror.gaps.total() >= len(BOOKS), "gaps")
        await play.fine(time.time())
        assert play.open() == before


@pytest.mark.parametrize("kind", ["utf8", "oversized", "binary"])
async def test_an_unreadable_frame(kind: str) -> None:
    async with scene() as play:
        play.act("pause")
        play.act("garbage", kind=kind)
        await until(lambda: play.watcher.mirror.gaps.total() > 0, "a gap")
        await stale_until_heard(play)


async def test_a_delta_before_the_full_reload() -> None:
    async with scene() as play:
        play.act("early_delta", times=3)
        client = play.join("depth:ETH_USDT:0", "depth:SOL_USDT:1")
        play.extra.append(client)
        await client.knows("depth:ETH_USDT:0")
        await client.knows("depth:SOL_USDT:1")
        await play.fine(time.time())


async def test_a_book_is_not_served_before_its_full_reload() -> None:
    async with scene() as play:
        play.switch(first_depth="partial")
        answer = await play.http.get("/v1/depth/ETH_USDT")
        assert answer.status_code == 503
        assert "retry-after" in answer.headers
        client = play.join("depth:ETH_USDT:0")
        play.extra.append(client)
        await until(lambda: client.connections == 1)
        assert client.mirror.at == {}
        play.switch(first_depth="full")
        await client.knows("depth:ETH_USDT:0")
        await play.fine(time.time())


async def test_a_crossed_book() -> None:
    """It is never shown (a client would raise), and comes back with a gap."""
    async with scene() as play:
        play.act("cross", book="BTC_USDT:0")
        await until(lambda: play.watcher.mirror.gaps["depth:BTC_USDT:0"], "a gap")
        await play.fine(time.time())
        assert set(+play.watcher.mirror.gaps) == {"depth:BTC_USDT:0"}


@pytest.mark.parametrize(
    ("mode", "late_ack"), [("replace", True), ("merge", False), ("reject", False)]
)
async def test_a_repeated_subscribe(mode: str, late_ack: bool) -> None:
    """Demand changes, whatever the exchange makes of a second subscribe of one kind."""
    switches = {"subscribe": mode, "late_ack": late_ack}
    async with scene(switches, upstream_connections=1) as play:
        for subject in ("ETH_USDT:0", "BTC_USDT:1", "SOL_USDT:0"):
            client = play.join(f"depth:{subject}", "lastprice:ETH_USDT")
            await client.knows(f"depth:{subject}")
            play.extra.append(client)
        await play.fine(time.time())
        for client in play.extra[:2]:
            client.stop()
        play.extra = play.extra[2:]
        wanted = {channel.removeprefix("depth:") for channel in BOOKS} | {"SOL_USDT:0"}
        await until(lambda: play.subscribed("depth") == wanted, lambda: play.subscribed("depth"))
        await play.fine(time.time())
        if mode == "replace":
            assert not +play.watcher.mirror.gaps


async def test_a_slow_rest_host() -> None:
    """It delays what needs it, and nothing else."""
    async with scene() as play:
        play.switch(rest="slow", rest_delay=6.0)
        client = play.join("ticker:ETH_USDT", "depth:LTC_USDT:0")
        play.extra.append(client)
        await client.knows("ticker:ETH_USDT")
        known = play.join("depth:BTC_USDT:2")  # of a market whose scales are known
        play.extra.append(known)
        await known.knows("depth:BTC_USDT:2")
        assert "depth:LTC_USDT:0" not in client.mirror.at
        await client.knows("depth:LTC_USDT:0")
        await play.fine(time.time())
        assert not +play.watcher.mirror.gaps


async def test_a_rest_host_that_is_slow_from_the_start() -> None:
    switches = {"rest": "slow", "rest_delay": 1.0}
    async with scene(switches) as play:
        await play.fine(time.time())


async def test_the_exchange_away_and_back() -> None:
    async with scene() as play:
        play.switch(away=True)
        await down_and_stale(play)
        held = await play.answers()
        assert held
        assert all(one["stale"] for one in held)
        late = play.join("ticker:BTC_USDT", *BOOKS)
        play.extra.append(late)
        await late.knows("ticker:BTC_USDT")
        assert late.mirror.statuses()[-1] == "down"
        play.switch(away=False)
        await play.fine(time.time())
        for client in (play.watcher, late):
            assert client.connections == 1
            assert client.mirror.gaps["ticker:BTC_USDT"] == 1
            assert all(client.mirror.gaps[book] == 1 for book in BOOKS)


async def test_trades_replayed_after_a_reconnect_are_told_once() -> None:
    async with scene({"duplicate_after_reconnect": True}, upstream_connections=1) as play:
        play.act("cut")
        play.nudge()  # missed
        await play.fine(time.time())
        for channel in play.channels:
            if channel.startswith("trade:"):
                rows = play.watcher.mirror.state(channel)
                ours = [row["quantity"] for row in rows if row["price"] == "0.5"]
                assert len(ours) == len(set(ours)) > 0
