"""Requests read, answers and events written, against the literals of the exchange's page."""

import json
from decimal import Decimal

import pytest

from app.simulator import wire
from app.simulator.wire import Malformed, NotJson, Request


def test_a_request_is_read() -> None:
    text = b'{"id":7,"method":"trade_subscribe","params":["BTC_USDT","BTC_USDT"]}'
    assert wire.read_request(text) == Request(7, "trade_subscribe", ("BTC_USDT", "BTC_USDT"))


@pytest.mark.parametrize("text", [b"", b"{", b"hello", b'{"id":1} x', b'{"m":"\xff"}', b"NaN"])
def test_what_is_no_json_is_told_apart(text: bytes) -> None:
    with pytest.raises(NotJson):
        wire.read_request(text)


@pytest.mark.parametrize(
    ("text", "request_id"),
    [
        (b"[]", 0),
        (b"7", 0),
        (b"{}", 0),
        (b'{"id":"7","method":"ping","params":[]}', 0),
        (b'{"id":true,"method":"ping","params":[]}', 0),
        (b'{"id":7,"method":8,"params":[]}', 7),
        (b'{"id":7,"method":"ping"}', 7),
        (b'{"id":7,"method":"ping","params":{}}', 7),
        (b'{"id":7,"method":"ping","params":[1]}', 7),
    ],
)
def test_json_that_is_no_request_keeps_its_id(text: bytes, request_id: int) -> None:
    with pytest.raises(Malformed) as caught:
        wire.read_request(text)
    assert caught.value.id == request_id


def test_the_pong_is_the_pages() -> None:
    literal = '{"id": 0, "method": "pong", "data": null, "error": null}'
    assert json.loads(wire.pong(Request(0, "ping", ()))) == json.loads(literal)


@pytest.mark.parametrize("kind", ["lastprice", "depth", "ticker", "trade", "order", "balance"])
def test_six_subscribes_are_answered_with_their_method(kind: str) -> None:
    literal = f'{{"id":0,"method":"{kind}_subscribe","data":{{"status":"success"}},"error":null}}'
    assert wire.ack(Request(0, f"{kind}_subscribe", ())).decode() == literal


@pytest.mark.parametrize("method", ["deal_subscribe", *(f"{k}_unsubscribe" for k in wire.KINDS)])
def test_the_other_answers_have_no_method(method: str) -> None:
    assert wire.ack(Request(9, method, ())) == b'{"id":9,"data":{"status":"success"},"error":null}'


def test_a_failure_has_its_message_and_code_one_level_down() -> None:
    literal = b'{"id":5,"data":null,"error":{"message":"no","code":2}}'
    assert wire.failure(5, wire.OTHER_ERROR, "no") == literal


def test_an_event_keeps_its_text_and_its_digits() -> None:
    text = (
        b'{"id":0,"method":"trade_update","data":{"symbol":"BTC_USDT","timestamp":1750953177,'
        b'"trades":[{"price":107100.010,"quantity":9e-05,"timestamp":1750953177,'
        b'"direction":"buy"}]},"error":null}'
    )
    event = wire.read_event(text)
    assert (event.channel, event.text) == ("trade:BTC_USDT", text)
    row = event.data["trades"][0]
    assert (wire.plain(row["price"]), wire.plain(row["quantity"])) == ("107100.010", "0.00009")


@pytest.mark.parametrize(
    ("kind", "data", "subject"),
    [
        ("ticker", {"symbol": "BTC_USDT"}, "BTC_USDT"),
        ("depth", {"symbol": "BTC_USDT", "scale_index": 1}, "BTC_USDT:1"),
        ("order", {"info": {"symbol": "BTC_USDT"}}, "BTC_USDT"),
        ("deal", {"info": {"symbol": "BTC_USDT"}}, "BTC_USDT"),
        ("balance", {"info": {"currencyCode": "USDT"}}, "USDT"),
    ],
)
def test_an_event_knows_its_subject(kind: str, data: dict[str, object], subject: str) -> None:
    assert wire.event(kind, data).subject == subject


@pytest.mark.parametrize(
    "text",
    [
        b"[]",
        b'{"id":1,"data":null}',
        b'{"method":"candles_update","data":{}}',
        b'{"method":"ticker_update","data":[]}',
        b'{"method":"ticker_update","data":{}}',
        b'{"method":"balance_update","data":{"info":[]}}',
    ],
)
def test_what_is_no_event_is_refused(text: bytes) -> None:
    with pytest.raises(ValueError, match=r"event|update"):
        wire.read_event(text)


@pytest.mark.parametrize(
    ("value", "literal"),
    [
        ("107100.01", b"107100.01"),
        ("100.00", b"100"),
        ("0", b"0"),
        ("0.0001", b"0.0001"),
        ("0.00009", b"9e-05"),
        ("0.00002319", b"2.319e-05"),
        ("0.00000001", b"1e-08"),
    ],
)
def test_small_numbers_get_an_exponent_and_keep_their_value(value: str, literal: bytes) -> None:
    assert bytes(wire.number(Decimal(value))) == literal
    assert Decimal(literal.decode()) == Decimal(value)
