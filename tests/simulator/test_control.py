"""The control endpoint, and being away."""

from collections.abc import AsyncIterator

import httpx
import pytest
from websockets.exceptions import ConnectionClosedError, InvalidMessage

from app.simulator import Options, Simulator
from app.simulator.actions import ActionError
from tests.simulator.talk import talking


@pytest.fixture(name="simulator")
async def _simulator() -> AsyncIterator[Simulator]:
    async with Simulator(Options(port=0, rate=0)) as simulator:
        yield simulator


@pytest.fixture(name="http")
async def _http(simulator: Simulator) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=simulator.url) as http:
        yield http


async def test_switches_are_read_and_set(http: httpx.AsyncClient) -> None:
    changed = await http.post("/control", json={"mute": True, "drop_every": 7, "idle_close": 1.5})
    assert changed.status_code == 200
    report = (await http.get("/control")).json()
    assert report["switches"] == changed.json()
    assert (report["switches"]["mute"], report["switches"]["idle_close"]) == (True, 1.5)
    assert (report["violations"], report["playing"], report["ended"]) == ([], True, False)


@pytest.mark.parametrize("body", ['{"mute":"yes"}', '{"no":1}', "[]", "{"])
async def test_wrong_switches_change_nothing(http: httpx.AsyncClient, body: str) -> None:
    before = (await http.get("/control")).json()["switches"]
    answer = await http.post("/control", content=body)
    assert (answer.status_code, list(answer.json())) == (422, ["message"])
    assert (await http.get("/control")).json()["switches"] == before


@pytest.mark.parametrize(
    ("action", "given"),
    [
        ("explode", {}),
        ("cut", {"connection": 99}),
        ("garbage", {"kind": "unheard of"}),
        ("cross", {"book": "NO_SUCH:0"}),
        ("order", {"do": "dance"}),
        ("order", {"do": "cancel", "id": "01NO"}),
        ("order", {"do": "create", "symbol": "NO_SUCH"}),
        ("order", {"do": "create", "symbol": "BTC_USDT", "direction": "buy", "quantity": "x"}),
        ("order", {"do": "create", "symbol": "BTC_USDT", "direction": "buy", "quantity": "-1"}),
        ("emit", {}),
    ],
)
async def test_wrong_actions_say_so(
    http: httpx.AsyncClient, action: str, given: dict[str, object]
) -> None:
    answer = await http.post(f"/control/{action}", json=given)
    assert (answer.status_code, list(answer.json())) == (422, ["message"])


async def test_other_verbs_are_refused(http: httpx.AsyncClient) -> None:
    assert (await http.get("/control/cut")).status_code == 405
    assert (await http.delete("/control")).status_code == 405


async def test_away_closes_every_door_but_this(
    http: httpx.AsyncClient, simulator: Simulator
) -> None:
    async with talking(simulator) as talk:
        assert (await http.post("/control", json={"away": True})).status_code == 200
        with pytest.raises(ConnectionClosedError):
            await talk.next()
    for path in ("/v1/exchange/market", "/ws"):
        with pytest.raises(httpx.RemoteProtocolError):
            await http.get(path)
    with pytest.raises((InvalidMessage, KeyError, httpx.HTTPError)):
        async with talking(simulator):
            pass
    assert (await http.get("/control")).json()["open"] == 0
    await http.post("/control", json={"away": False})
    async with talking(simulator) as talk:
        assert (await talk.ask("ping"))["method"] == "pong"


async def test_a_crossing_delta_is_told_and_not_true(simulator: Simulator) -> None:
    async with talking(simulator) as talk:
        await talk.ask("depth_subscribe", "BTC_USDT:0")
        best = (await talk.event("depth"))["data"]["asks"][0][0]
        simulator.control.act("cross", book="BTC_USDT:0")
        delta = (await talk.event("depth"))["data"]
    assert (delta["full_reload"], delta["bids"], delta["asks"]) == (False, [[best, "1"]], [])
    assert not simulator.exchange.truth.books["BTC_USDT:0"].crossed


async def test_early_deltas_are_counted(simulator: Simulator) -> None:
    simulator.control.act("early_delta", times=2)
    assert simulator.exchange.early_deltas == 2


async def test_anything_can_be_sent(http: httpx.AsyncClient, simulator: Simulator) -> None:
    data = {"symbol": "BTC_USDT", "timestamp": 5, "price": "77.70"}
    message = {"id": 0, "method": "lastprice_update", "data": data, "error": None}
    async with talking(simulator) as talk:
        await http.post("/control/emit", json={"text": "  [1.50]  "})
        assert await talk.socket.recv() == "  [1.50]  "
        await http.post("/control/emit", json={"message": message})
        assert await talk.next() == message
        await http.post("/control/emit", json={"message": message, "publish": True})
        await talk.ask("lastprice_subscribe", "all")
        assert talk.events == []
    assert simulator.exchange.truth.lastprices["BTC_USDT"]["price"] == "77.70"


async def test_an_orders_life(simulator: Simulator) -> None:
    act = simulator.control.act
    order = {"symbol": "TRX_USDT", "direction": "sell", "quantity": "50", "price": 0.22}
    async with talking(simulator) as talk:
        for kind in ("order", "deal", "balance"):
            await talk.ask(f"{kind}_subscribe", "all")
        made = act("order", do="create", **order)
        act("order", do="update", id=made["id"], quantity="20")
        assert act("order", do="finish", id=made["id"])["state"] == "completed"
        types = [(await talk.event("order"))["data"]["type"] for _ in range(3)]
        deals = [(await talk.event("deal"))["data"]["info"] for _ in range(2)]
    assert types == ["created", "updated", "finished"]
    assert [deal["filledQuantity"][:3] for deal in deals] == ["20.", "30."]
    market = {"type": "market", "filled_price": "0.25", "do": "create"}
    assert act("order", **(order | market))["state"] == "completed"
    with pytest.raises(ActionError, match="no market"):
        act("order", do="create", **(order | {"symbol": "X_Y"}))


async def test_a_balance_gap_can_be_there_from_the_start() -> None:
    assert Simulator(Options(balance_gap=True)).exchange.account.gap


async def test_a_balance_gap_can_be_switched(simulator: Simulator) -> None:
    simulator.control.set(balance_gap=True)
    order = {"symbol": "TRX_USDT", "direction": "sell", "quantity": "5", "price": "1"}
    simulator.control.act("fund", currency="TRX", amount="1")
    simulator.control.act("order", do="create", **order)
    event = simulator.exchange.truth.recent["balance:TRX"][-1]
    assert event.data["info"]["oldBalance"] == "9002.0000000000000000"


async def test_violations_can_be_forgotten(simulator: Simulator) -> None:
    simulator.exchange.blame(None, "something")
    simulator.control.act("forget")
    assert simulator.control.report()["violations"] == []


async def test_load_carries_its_time_and_number(simulator: Simulator) -> None:
    async with talking(simulator) as talk:
        await talk.ask("ticker_subscribe", "LOAD_USDT", "BTC_USDT")
        simulator.control.act("new_market", symbol="LOAD_USDT")
        await talk.ask("ticker_subscribe", "all")
        simulator.control.set(load="LOAD_USDT:1000")
        heard = [(await talk.event("ticker"))["data"] for _ in range(20)]
        simulator.control.set(load="")
    assert [int(data["volume"]) for data in heard] == list(range(1, 21))
    times = [int(data["price"]) for data in heard]
    assert times == sorted(times)
    assert times[0] // 10**9 == heard[0]["timestamp"]


async def test_load_of_many_markets_brings_all_public_kinds_in_turn(simulator: Simulator) -> None:
    simulator.control.set(load="2:1000")
    async with talking(simulator) as talk:
        symbols = ["M0_USDT", "M1_USDT"]
        while not all(symbol in simulator.exchange.listing.markets for symbol in symbols):
            await talk.ask("ping")
        for kind in ("lastprice", "ticker", "trade"):
            await talk.ask(f"{kind}_subscribe", "all")
        await talk.ask("depth_subscribe", "M0_USDT:0", "M1_USDT:0")
        depth = [(await talk.event("depth"))["data"] for _ in range(4)]
        prices = [(await talk.event(kind))["data"]["price"] for kind in ("lastprice", "ticker")]
        trade = (await talk.event("trade"))["data"]["trades"][0]["price"]
    assert [data["full_reload"] for data in depth] == [True, True, False, False]
    times = [int(data["asks"][0][1]) for data in depth[2:]]
    assert times[0] <= times[1]
    assert all(len(str(price)) == len(str(times[0])) for price in [*prices, trade])
