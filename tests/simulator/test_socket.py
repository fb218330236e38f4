"""The WebSocket through its port: the handshake, and every way a connection can break."""

import json
from collections.abc import AsyncIterator

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, ConnectionClosedError, InvalidStatus

from app.simulator import Options, Simulator, wire
from tests.simulator.talk import Talk, talking, token, until


@pytest.fixture(name="simulator")
async def _simulator() -> AsyncIterator[Simulator]:
    async with Simulator(Options(port=0, rate=0)) as simulator:
        yield simulator


@pytest.fixture(name="talk")
async def _talk(simulator: Simulator) -> AsyncIterator[Talk]:
    async with talking(simulator) as talk:
        yield talk


def tick(simulator: Simulator, price: str) -> None:
    data = {"symbol": "BTC_USDT", "timestamp": 5, "price": price}
    simulator.exchange.publish(wire.event("lastprice", data))


async def test_a_token_opens_one_connection(simulator: Simulator) -> None:
    url = f"{simulator.ws_url}?token={await token(simulator)}"
    async with connect(url):
        with pytest.raises(InvalidStatus, match="401"):
            await connect(url)
    assert [v["what"] for v in simulator.exchange.violations] == ["token reused"]


@pytest.mark.parametrize("query", ["", "?token=", "?token=0000"])
async def test_without_a_token_nobody_enters(simulator: Simulator, query: str) -> None:
    with pytest.raises(InvalidStatus, match="401"):
        await connect(simulator.ws_url + query)
    assert simulator.control.report()["open"] == 0


async def test_an_expired_token_is_none(simulator: Simulator) -> None:
    simulator.control.set(token_lifetime=0)
    with pytest.raises(InvalidStatus, match="401"):
        await connect(f"{simulator.ws_url}?token={await token(simulator)}")


async def test_a_refusal_may_come_after_the_handshake(simulator: Simulator) -> None:
    simulator.control.set(reject_token="close")
    async with connect(simulator.ws_url) as socket:
        with pytest.raises(ConnectionClosed):
            await socket.recv()
        assert socket.close_code == 1008


async def test_other_paths_and_broken_handshakes_are_refused(simulator: Simulator) -> None:
    good = await token(simulator)
    with pytest.raises(InvalidStatus, match="404"):
        await connect(f"{simulator.ws_url}s?token={good}")
    with pytest.raises(InvalidStatus, match="400"):
        await connect(
            f"{simulator.ws_url}?token={good}", additional_headers={"Sec-WebSocket-Version": "1"}
        )


async def test_ping_subscribe_event(simulator: Simulator, talk: Talk) -> None:
    assert (await talk.ask("ping"))["method"] == "pong"
    assert (await talk.ask("lastprice_subscribe", "BTC_USDT"))["error"] is None
    tick(simulator, "7.50")
    assert (await talk.event("lastprice"))["data"]["price"] == "7.50"
    [connection] = simulator.control.report()["connections"]
    assert connection["subscriptions"] == {"lastprice": ["BTC_USDT"]}
    assert (connection["requests"], connection["events"]) == (2, 1)


async def test_a_request_may_come_in_fragments(talk: Talk) -> None:
    await talk.socket.send(iter(('{"id":1500,"meth', 'od":"ping","params":[]}')))
    assert (await talk.next())["id"] == 1500


async def test_invalid_json_ends_the_connection(talk: Talk) -> None:
    await talk.socket.send("{oops")
    await talk.socket.wait_closed()
    assert talk.socket.close_code == 1007


async def test_a_binary_message_ends_the_connection(simulator: Simulator, talk: Talk) -> None:
    await talk.socket.send(b"{}")
    await talk.socket.wait_closed()
    assert simulator.control.report()["violations"][0]["what"] == "binary frame"


async def test_idle_counts_requests_only(simulator: Simulator, talk: Talk) -> None:
    """Protocol-level pings do not keep it open."""
    await (await talk.socket.ping())
    simulator.control.set(idle_close=0.05)
    await talk.socket.wait_closed()
    assert talk.socket.close_code == 1000
    assert [v["what"] for v in simulator.exchange.violations] == ["idle"]


async def test_a_clients_close_is_noted(simulator: Simulator) -> None:
    async with talking(simulator):
        pass
    await until(lambda: not simulator.exchange.clients)
    [gone] = simulator.control.report()["connections"]
    assert (gone["state"], gone["closed"]) == ("closed", "by the client, code 1000")


async def test_cut_is_a_reset(simulator: Simulator, talk: Talk) -> None:
    assert simulator.control.act("cut", connection=1) == {"connections": 1}
    with pytest.raises(ConnectionClosedError) as caught:
        await talk.next()
    assert caught.value.rcvd is None


async def test_close_is_clean(simulator: Simulator, talk: Talk) -> None:
    simulator.control.act("close", code=4001, reason="maintenance")
    await talk.socket.wait_closed()
    assert (talk.socket.close_code, talk.socket.close_reason) == (4001, "maintenance")


async def test_a_stalled_socket_is_silent_and_gets_all_later(
    simulator: Simulator, talk: Talk
) -> None:
    await talk.ask("lastprice_subscribe", "all")
    simulator.control.set(stall=True)
    tick(simulator, "1")
    await talk.socket.send('{"id":2000,"method":"ping","params":[]}')
    async with talking(simulator) as fresh:
        assert (await fresh.ask("ping"))["method"] == "pong"
    assert simulator.control.report()["connections"][0]["state"] == "stalled"
    assert simulator.control.report()["connections"][0]["requests"] == 1
    simulator.control.set(stall=False)
    assert (await talk.next())["data"]["price"] == "1"
    assert (await talk.next())["id"] == 2000


async def test_what_a_stalled_socket_is_owed_is_bounded(
    simulator: Simulator, talk: Talk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.simulator.socket.BACKLOG", 100)
    await talk.ask("lastprice_subscribe", "all")
    simulator.control.act("stall")
    tick(simulator, "1" * 100)
    assert simulator.exchange.gone[0].closed == "aborted: does not read"
    with pytest.raises(ConnectionClosedError):
        await talk.next()


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("json", '{"id":0,"method":"ticker_upd'),
        ("text", "hello, this is not json"),
        ("array", "[1,2,3]"),
        ("binary", b"\0\1\2\3"),
    ],
)
async def test_garbage(simulator: Simulator, talk: Talk, kind: str, text: str | bytes) -> None:
    simulator.control.act("garbage", kind=kind)
    assert await talk.socket.recv() == text


async def test_invalid_utf8_is_sent_as_text(simulator: Simulator, talk: Talk) -> None:
    simulator.control.act("garbage", kind="utf8")
    with pytest.raises(ConnectionClosedError) as caught:
        await talk.socket.recv()
    assert caught.value.sent is not None
    assert caught.value.sent.code == 1007


async def test_an_oversized_message(simulator: Simulator) -> None:
    url = f"{simulator.ws_url}?token={await token(simulator)}"
    async with connect(url, max_size=1000) as socket:
        simulator.control.act("garbage", kind="oversized", size=1000)
        with pytest.raises(ConnectionClosedError) as caught:
            await socket.recv()
    assert caught.value.sent is not None
    assert caught.value.sent.code == 1009


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e999"])
@pytest.mark.parametrize("quoted", [True, False])
async def test_amounts_that_are_none(
    simulator: Simulator, talk: Talk, number: str, quoted: bool
) -> None:
    simulator.control.act("garbage", kind="event_bad_number", number=number, quoted=quoted)
    text = str(await talk.socket.recv())
    assert f'"price":{json.dumps(number) if quoted else number}}}' in text
    assert json.loads(text)["method"] == "lastprice_update"
