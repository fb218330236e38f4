"""REST's rows in the socket's names."""

from typing import Any

import pytest

from app.errors import UpstreamUnavailable
from app.upstream import rows

ID = "01K742SG00V3RS3DTR98H6BCFN"  # 2025-10-09 08:53:20 UTC
CREATED = 1_760_000_000

ACTIVE = {
    "id": ID,
    "direction": "buy",
    "symbol": "TRX_USDT",
    "price": "0.27000000",
    "quantity": "20.0",
    "value": "5.4",
    "filledQuantity": "1.50",
    "filledValue": "0.405",
    "createdAt": "2025-10-09 08:53:20",
    "clientOrderId": None,
    "stopLossPrice": None,
}
TRANSACTION = {
    "id": "01K742SG03FKJ1G1SEHGTVZ69D",
    "tradeRole": "maker",
    "filledPrice": "0.27",
    "filledQuantity": "20",
    "filledValue": "5.4",
    "fee": "-0.02",
    "feeCurrency": "TRX",
    "committedAt": "2025-10-09 08:53:27",
}
FINISHED = {
    "id": ID,
    "type": "limit",
    "direction": "buy",
    "symbol": "TRX_USDT",
    "quantity": "20.0",
    "filledQuantity": "20.00",
    "filledValue": "5.4",
    "state": "completed",
    "internalState": "filled",
    "createdAt": "2025-10-09 08:53:20",
    "finishedAt": "2025-10-09 08:54:20",
    "stopLossPrice": "0.2",
    "deal": {
        "id": "01K742SG01F3JQ64ERMF1CWVT4",
        "state": "completed",
        "createdAt": "2025-10-09 08:53:27",
        "completedAt": "2025-10-09 08:54:20",
        "averageFilledPrice": "0.27",
        "transactions": [TRANSACTION],
    },
}


def test_an_open_order_gets_the_sockets_names() -> None:
    assert rows.active_order(ACTIVE) == {
        "id": ID,
        "symbol": "TRX_USDT",
        "direction": "buy",
        "price": "0.27000000",
        "quantity": "20.0",
        "value": "5.4",
        "filledQuantity": "1.50",
        "filledValue": "0.405",
        "clientOid": None,
        "createTs": CREATED,
    }


def test_an_open_order_has_no_end_and_no_state() -> None:
    told = rows.active_order({**ACTIVE, "state": "active", "internalState": "active"})
    assert "state" not in told
    assert "internalState" not in told


def test_a_finished_order_gets_the_sockets_names() -> None:
    assert rows.finished_order(FINISHED) == {
        "id": ID,
        "symbol": "TRX_USDT",
        "orderType": "limit",
        "direction": "buy",
        "quantity": "20.0",
        "filledQuantity": "20.00",
        "filledValue": "5.4",
        "state": "completed",
        "internalState": "filled",
        "stopLossPrice": "0.2",
        "createTs": CREATED,
        "finishTs": CREATED + 60,
    }


def test_a_deal_gets_the_sockets_names() -> None:
    assert rows.deals_of(FINISHED) == [
        {
            "dealId": "01K742SG01F3JQ64ERMF1CWVT4",
            "symbol": "TRX_USDT",
            "dealState": "completed",
            "transactionId": "01K742SG03FKJ1G1SEHGTVZ69D",
            "filledPrice": "0.27",
            "filledQuantity": "20",
            "filledValue": "5.4",
            "fee": "-0.02",
            "feeCurrency": "TRX",
            "tradeRole": "maker",
            "committedAt": CREATED + 7,
        }
    ]


def test_times_are_right_in_whatever_zone_they_are_written() -> None:
    """One of the exchange's samples is four hours behind the time in its id."""
    behind = {
        **FINISHED,
        "createdAt": "2025-10-09 04:53:20",
        "finishedAt": "2025-10-09 04:54:20",
        "deal": {
            **FINISHED["deal"],  # type: ignore[dict-item]  # it is a dict
            "transactions": [{**TRANSACTION, "committedAt": "2025-10-09 04:53:27"}],
        },
    }
    assert rows.finished_order(behind) == rows.finished_order(FINISHED)
    assert rows.deals_of(behind) == rows.deals_of(FINISHED)


def test_without_a_ulid_the_text_is_believed() -> None:
    told = rows.finished_order({**FINISHED, "id": "17"})
    assert (told["createTs"], told["finishTs"]) == (CREATED, CREATED + 60)


def test_without_a_creation_text_the_rest_counts_as_utc() -> None:
    told = rows.finished_order({**FINISHED, "createdAt": None})
    assert (told["createTs"], told["finishTs"]) == (CREATED, CREATED + 60)


def test_a_finished_order_may_lack_the_time_of_its_end() -> None:
    told = rows.finished_order({**FINISHED, "finishedAt": None})
    assert "finishTs" not in told
    assert told["state"] == "completed"


@pytest.mark.parametrize(
    ("transaction", "at"), [(TRANSACTION["id"], CREATED), ("17", 0)], ids=["ulid", "other"]
)
def test_a_deal_without_a_time_has_that_of_its_id(transaction: str, at: int) -> None:
    deal = {"id": "d", "transactions": [{**TRANSACTION, "id": transaction, "committedAt": None}]}
    (told,) = rows.deals_of({**FINISHED, "deal": deal})
    assert told["committedAt"] == at


def test_an_order_without_a_deal_has_none() -> None:
    assert rows.deals_of({**FINISHED, "deal": None}) == []


def test_a_market_order_has_no_price() -> None:
    assert rows.active_order({**ACTIVE, "price": None})["price"] is None


def test_a_balance_gets_the_sockets_names() -> None:
    row = {"ticker": "USDT", "available": "1.50", "held": "0.0"}
    assert rows.balance(row) == {"currencyCode": "USDT", "available": "1.50", "held": "0.0"}


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"id": 17}, "id is not text"),
        ({"symbol": ""}, "symbol is not text"),
        ({"symbol": "*"}, "kind order is named by"),
        ({"symbol": "BTC_*"}, "kind order is named by"),
        ({"symbol": "BTC_USDT\n"}, "kind order is named by"),
        ({"quantity": "many"}, "amount"),
        ({"createdAt": "yesterday"}, "a time is not"),
        ({"createdAt": 17}, "a time is not"),
        ({"finishedAt": None, "state": None}, "nothing of its end"),
        ({"direction": ["buy"]}, "nests"),
    ],
)
def test_what_cannot_be_used_is_refused(change: dict[str, Any], what: str) -> None:
    with pytest.raises(UpstreamUnavailable, match=what):
        rows.finished_order({**FINISHED, **change})


@pytest.mark.parametrize("name", ["*", "", "usdt", "US*"])
def test_a_balance_is_of_a_currency(name: str) -> None:
    with pytest.raises(UpstreamUnavailable, match="ticker is not"):
        rows.balance({"ticker": name, "available": "1", "held": "0"})


@pytest.mark.parametrize(
    ("deal", "what"),
    [
        ([], "not an object"),
        ({"id": "d"}, "with transactions"),
        ({"id": "d", "transactions": [17]}, "transaction is not"),
        ({"id": "d", "transactions": [{**TRANSACTION, "fee": "x"}]}, "amount"),
        ({"transactions": [TRANSACTION]}, "id is not text"),
    ],
)
def test_a_deal_that_cannot_be_used_is_refused(deal: Any, what: str) -> None:
    with pytest.raises(UpstreamUnavailable, match=what):
        rows.deals_of({**FINISHED, "deal": deal})
