import gzip
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.channel import Channel, Kind, depth
from app.errors import ProtocolViolation
from app.upstream import wire
from app.upstream.wire import BadEvent, Foreign, Pong, Reply, Update

RECORDING = Path(__file__).parents[3] / "shared" / "recordings" / "market.jsonl.gz"

ORDER = {
    "id": "01JZ0000000000000000000000",
    "symbol": "BTC_USDT",
    "orderType": "limit",
    "direction": "buy",
    "price": "1.0000000000000000",
    "quantity": "2.0000000000000000",
    "value": "2.0000000000000000",
    "filledQuantity": "0.0000000000000000",
    "filledValue": "0.0000000000000000",
    "clientOid": None,
    "createTs": 100,
}
TICKER = {
    "symbol": "BTC_USDT",
    "timestamp": 5,
    "price": "2",
    "open": "1",
    "high": "3",
    "low": "1",
    "volume": "10",
    "quote_volume": "20",
    "price_change": "-0.50",
}
TRADE = {"price": 1.5, "quantity": 2, "timestamp": 9, "direction": "buy"}
DEPTH = {"symbol": "BTC_USDT", "timestamp": 5, "full_reload": True, "scale_index": 1}


def event(kind: str, data: Any) -> str:
    return json.dumps({"id": 0, "method": f"{kind}_update", "data": data, "error": None})


def update(kind: str, data: Any) -> Update:
    read = wire.read(event(kind, data))
    assert isinstance(read, Update)
    return read


def trade(price: str, quantity: str = "1") -> str:
    return (
        '{"id":0,"method":"trade_update","data":{"symbol":"BTC_USDT","timestamp":9,"trades":'
        f'[{{"price":{price},"quantity":{quantity},"timestamp":9,"direction":"sell"}}]}}}}'
    )


def test_a_request_is_what_the_protocol_says() -> None:
    sent = wire.request(1000, wire.method(Kind.DEPTH, "subscribe"), ["BTC_USDT:0"])
    assert json.loads(sent) == {"id": 1000, "method": "depth_subscribe", "params": ["BTC_USDT:0"]}
    assert json.loads(wire.ping(7)) == {"id": 7, "method": "ping", "params": []}


def test_params_are_subjects_or_all() -> None:
    books = [depth("ETH_USDT", 0), depth("BTC_USDT", 1)]
    assert wire.params(books) == ["BTC_USDT:1", "ETH_USDT:0"]
    assert wire.params([Channel(Kind.TICKER, "*"), Channel(Kind.TICKER, "BTC_USDT")]) == ["all"]


@pytest.mark.parametrize(
    ("frame", "read"),
    [
        ('{"id":7,"method":"pong","data":null,"error":null}', Pong()),
        ('{"id":1000,"method":"x_subscribe","data":{"status":"success"}}', Reply(1000, None)),
        ('{"id":"1000","data":{"status":"success"},"error":null}', Reply(1000, None)),
        ('{"id":1000,"data":null,"error":null}', Reply(1000, None)),
        ('{"id":1000,"data":{"status":"failed"}}', Reply(1000, (None, "status is not success"))),
        ('{"id":1,"error":{"message":"no","code":2}}', Reply(1, (2, "no"))),
        ('{"id":1,"error":{"message":7,"code":"2"}}', Reply(1, (None, "unspecified"))),
        ('{"id":1,"error":"broken"}', Reply(1, (None, "unspecified"))),
        ('{"id":null,"error":{"message":"no","code":1}}', Reply(None, (1, "no"))),
        ('{"id":"1","method":"candles_update","data":[]}', Foreign()),
    ],
)
def test_what_is_no_event_is_told_apart(frame: str, read: object) -> None:
    assert wire.read(frame) == read
    assert wire.read(frame.encode()) == read


@pytest.mark.parametrize("id_", [0, "1", "3", None, 1000])
def test_an_event_is_known_by_its_method_whatever_its_id_is(id_: object) -> None:
    data = {"symbol": "BTC_USDT", "timestamp": 5, "price": "2683.80"}
    read = wire.read(json.dumps({"id": id_, "method": "lastprice_update", "data": data}))
    assert read == Update(Channel(Kind.LASTPRICE, "BTC_USDT"), data, 5, full=False)


@pytest.mark.parametrize(
    ("written", "text"),
    [
        ("0.00009", "0.00009"),
        ("61728.010", "61728.010"),
        ("61728", "61728"),
        ("0.1e1", "1"),
        ("2.319e-05", "0.00002319"),
        ("3.547E-5", "0.00003547"),
        ("1.50e+3", "1500"),
        ("123456789012345678901234567890.5", "123456789012345678901234567890.5"),
        ("0.000", "0.000"),
        ("1e30", "1" + "0" * 30),
        ('"3.547e-05"', "0.00003547"),
        ('"2683.80"', "2683.80"),
    ],
)
def test_trade_numbers_keep_their_digits(written: str, text: str) -> None:
    read = wire.read(trade(written, written))
    assert isinstance(read, Update)
    row = read.data["trades"][0]
    assert row == {"price": text, "quantity": text, "timestamp": 9, "direction": "sell"}


@pytest.mark.parametrize(
    "written",
    [
        *(
            "-1",
            '"-1.5"',
            "1e31",
            "1e-31",
            "1e999",
            '"NaN"',
            '"Infinity"',
            '"1e5000"',
            '""',
            '"1."',
        ),
        *('".5"', '"+1"', '" 1"', '"1_0"', '"٣"', "true", "null", "[]", "{}", f'"{"9" * 65}"'),
        *("9" * 65, f"0.{'9' * 65}", '"0x10"', '"1\\n"'),
    ],
)
def test_a_number_that_is_no_amount_makes_the_event_bad(written: str) -> None:
    with pytest.raises(BadEvent) as caught:
        wire.read(trade(written))
    assert caught.value.scope == Channel(Kind.TRADE, "BTC_USDT")


@pytest.mark.parametrize("written", ["NaN", "Infinity", "-Infinity", "01", "1.", "0x1"])
def test_what_json_does_not_know_is_not_json(written: str) -> None:
    with pytest.raises(ProtocolViolation, match="not json"):
        wire.read(trade(written))


@pytest.mark.parametrize(
    "frame",
    [
        *(b"", b"\xff\xfe", b'{"a":"\xff"}', b"[]", b"1", b'"x"', b"null", b"{} x", b"[" * 100_000),
        *("\ud800", '{"method":"pong"', "{}", '{"id":true}', '{"id":"x"}', '{"id":1.5}'),
        *('{"id":[]}', '{"method":"pong_","data":1}'),
    ],
)
def test_a_frame_outside_the_protocol_is_a_violation(frame: str | bytes) -> None:
    with pytest.raises(ProtocolViolation) as caught:
        wire.read(frame)
    assert not isinstance(caught.value, BadEvent)


def test_a_deep_tree_is_a_violation_or_fine() -> None:
    frame = '{"id":0,"method":"ticker_update","data":{"x":' + "[" * 5000 + "]" * 5000 + "}}"
    with pytest.raises(ProtocolViolation):
        wire.read(frame)


def test_a_ticker_is_read() -> None:
    read = update("ticker", TICKER)
    assert read == Update(Channel(Kind.TICKER, "BTC_USDT"), TICKER, 5, full=False)


def test_fields_nobody_knows_pass_through() -> None:
    read = update("ticker", {**TICKER, "future": {"a": [1, None, "x"]}, "flag": True})
    assert read.data["future"] == {"a": [1, None, "x"]}


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("ticker", {"symbol": "btc_usdt"}),
        ("ticker", {"symbol": "*"}),
        ("trade", {"symbol": "BTC-PERP"}),
        ("depth", {"symbol": "BTC_USDT", "scale_index": -1}),
    ],
)
def test_a_market_that_no_channel_can_name_is_nobodys_loss(kind: str, data: Any) -> None:
    assert isinstance(wire.read(event(kind, data)), wire.Foreign)


def test_a_young_markets_ticker_may_lack_its_day() -> None:
    read = update("ticker", {**TICKER, "open": None, "price_change": None})
    assert read.data["open"] is None
    assert update("ticker", {"symbol": "BTC_USDT", "timestamp": 5, "price": "1"}).time == 5


def test_an_unknown_fraction_is_never_a_float() -> None:
    frame = event("ticker", {**TICKER, "future": "@"}).replace('"@"', "0.10000000000000000001")
    read = wire.read(frame)
    assert isinstance(read, Update)
    assert read.data["future"] == "0.10000000000000000001"


def test_depth_is_read_by_market_and_scale() -> None:
    data = {**DEPTH, "asks": [["2.0", "1"]], "bids": [["1.9", "0"], [1.8, 3]]}
    read = update("depth", data)
    assert read.channel == depth("BTC_USDT", 1)
    assert (read.full, read.time) == (True, 5)
    assert read.data["bids"] == [["1.9", "0"], ["1.8", "3"]]


def test_a_level_may_be_as_long_as_its_amounts_may() -> None:
    level = ["9" * 64, f"0.{'9' * 62}"]
    assert update("depth", {**DEPTH, "asks": [level]}).data["asks"] == [level]


@pytest.mark.parametrize("side", [[["1,2", "3"]], [["1,2;3", "4"]], [["1", "2;3,4"], ["5", "6"]]])
def test_no_amount_hides_another_level(side: list[list[str]]) -> None:
    with pytest.raises(BadEvent, match="not a decimal"):
        update("depth", {**DEPTH, "asks": side})


def test_a_missing_side_of_a_book_stays_missing() -> None:
    read = update("depth", {**DEPTH, "full_reload": False, "asks": None})
    assert (read.full, "asks" in read.data, "bids" in read.data) == (False, False, False)


def test_trades_come_with_text_amounts() -> None:
    read = update("trade", {"symbol": "BTC_USDT", "timestamp": 9, "trades": [TRADE, TRADE]})
    row = {"price": "1.5", "quantity": "2", "timestamp": 9, "direction": "buy"}
    assert read.data["trades"] == [row, row]
    assert read.time == 9


@pytest.mark.parametrize(
    ("times", "latest"),
    [({}, 100), ({"updateTs": 120}, 120), ({"finishTs": 130, "updateTs": None}, 130)],
)
def test_an_orders_time_is_its_latest(times: dict[str, Any], latest: int) -> None:
    read = update("order", {"type": "updated", "info": {**ORDER, **times}})
    assert read.channel == Channel(Kind.ORDER, "BTC_USDT")
    assert read.time == latest
    assert read.data["info"]["price"] == "1.0000000000000000"


def test_a_market_order_may_lack_its_price_and_times() -> None:
    info = {**ORDER, "price": None, "createTs": None, "state": "a state nobody knows"}
    del info["value"]
    read = update("order", {"type": "finished", "info": info})
    assert read.time is None
    assert read.data["info"]["price"] is None


def test_a_balance_belongs_to_its_currency_and_has_no_time() -> None:
    info = {"walletId": "w", "currencyCode": "USDT", "amount": "1", "newBalance": "-1.00000000"}
    read = update("balance", {"info": info})
    assert (read.channel, read.time) == (Channel(Kind.BALANCE, "USDT"), None)
    assert read.data == {"info": info}


def test_a_deals_time_is_when_it_was_committed() -> None:
    info = {"symbol": "BTC_USDT", "transactionId": "t", "fee": "-0.1", "committedAt": 77}
    read = update("deal", {"info": info})
    assert (read.channel, read.time) == (Channel(Kind.DEAL, "BTC_USDT"), 77)


@pytest.mark.parametrize(
    ("kind", "data", "scope"),
    [
        ("ticker", None, "ticker:*"),
        ("ticker", [], "ticker:*"),
        ("order", {"type": "created", "info": None}, "order:*"),
        ("ticker", {"symbol": 5}, "ticker:*"),
        ("balance", {"info": {"symbol": "BTC_USDT"}}, "balance:*"),
        ("depth", {"symbol": "BTC_USDT", "scale_index": "0"}, "depth:*"),
        ("depth", {"symbol": "BTC_USDT", "scale_index": True}, "depth:*"),
        ("depth", {**DEPTH, "full_reload": 1}, "depth:BTC_USDT:1"),
        ("depth", {**DEPTH, "asks": {}}, "depth:BTC_USDT:1"),
        ("depth", {**DEPTH, "asks": [["1"]]}, "depth:BTC_USDT:1"),
        ("depth", {**DEPTH, "asks": ["12"]}, "depth:BTC_USDT:1"),
        ("depth", {**DEPTH, "asks": [["1", "-2"]]}, "depth:BTC_USDT:1"),
        ("depth", {**DEPTH, "asks": [["1,2", "3"]]}, "depth:BTC_USDT:1"),
        ("depth", {**DEPTH, "asks": [["1,2"]]}, "depth:BTC_USDT:1"),
        ("depth", {**DEPTH, "asks": [["", "1,2"]]}, "depth:BTC_USDT:1"),
        ("depth", {**DEPTH, "timestamp": "5"}, "depth:BTC_USDT:1"),
        ("ticker", {**TICKER, "timestamp": -1}, "ticker:BTC_USDT"),
        ("ticker", {**TICKER, "timestamp": 2**60}, "ticker:BTC_USDT"),
        ("ticker", {**TICKER, "timestamp": True}, "ticker:BTC_USDT"),
        ("ticker", {"symbol": "BTC_USDT", "timestamp": 5}, "ticker:BTC_USDT"),
        ("ticker", {**TICKER, "future": [[[[[[[[[[]]]]]]]]]]}, "ticker:BTC_USDT"),
        ("lastprice", {"symbol": "BTC_USDT", "timestamp": 5}, "lastprice:BTC_USDT"),
        ("trade", {"symbol": "BTC_USDT", "timestamp": 5}, "trade:BTC_USDT"),
        ("trade", {"symbol": "BTC_USDT", "timestamp": 5, "trades": [1]}, "trade:BTC_USDT"),
        ("order", {"type": "revived", "info": ORDER}, "order:BTC_USDT"),
        ("order", {"type": "created", "info": {**ORDER, "id": 5}}, "order:BTC_USDT"),
        ("order", {"type": "finished", "info": ORDER}, "order:BTC_USDT"),
        ("deal", {"info": {"symbol": "BTC_USDT", "transactionId": "t"}}, "deal:BTC_USDT"),
    ],
)
def test_a_bad_event_names_what_it_was_lost_on(kind: str, data: Any, scope: str) -> None:
    with pytest.raises(BadEvent) as caught:
        wire.read(event(kind, data))
    assert str(caught.value.scope) == scope


def test_a_trade_of_unknown_direction_is_bad() -> None:
    row = {**TRADE, "direction": "sideways"}
    with pytest.raises(BadEvent):
        wire.read(event("trade", {"symbol": "BTC_USDT", "timestamp": 9, "trades": [row]}))


def test_amount_reads_numbers_of_rest_too() -> None:
    assert wire.amount("-1.50") == "-1.50"
    assert wire.amount(7) == "7"
    with pytest.raises(ProtocolViolation):
        wire.amount("seven")


@given(st.text() | st.binary())
def test_any_frame_is_read_or_is_a_violation(frame: str | bytes) -> None:
    try:
        wire.read(frame)
    except ProtocolViolation:
        pass  # the only way to fail


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just("BTC_USDT"),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)
FIELDS = st.sampled_from(
    [
        *("symbol", "timestamp", "price", "asks", "bids", "trades", "info", "full_reload", "type"),
        *("scale_index", "currencyCode", "newBalance", "transactionId", "committedAt", "id"),
    ]
)


@given(st.sampled_from([*Kind, "pong", "other"]), JSON | st.dictionaries(FIELDS, JSON))
def test_any_data_is_read_or_is_a_violation(kind: str, data: Any) -> None:
    try:
        read = wire.read(event(kind, data))
    except ProtocolViolation:
        return
    assert isinstance(read, Update | Foreign)


@given(st.decimals(min_value=0, allow_nan=False, allow_infinity=False, places=8, max_value=10**20))
def test_an_amount_is_the_same_number_however_it_is_written(number: Decimal) -> None:
    for written in (str(number), format(number, "f"), f"{number:e}"):
        for frame in (trade(written), trade(f'"{written}"')):
            read = wire.read(frame)
            assert isinstance(read, Update)
            text = read.data["trades"][0]["price"]
            assert Decimal(text) == number
            assert "e" not in text.lower()


@pytest.mark.skipif(not RECORDING.exists(), reason="the recordings are not beside the project")
def test_a_recording_is_read_whole() -> None:
    with gzip.open(RECORDING, "rt") as lines:
        for line in lines:
            message = json.loads(line)["message"]
            read = wire.read(json.dumps(message))
            assert isinstance(read, Update)
            assert message["method"] == f"{read.channel.kind}_update"
