"""An order's life as events and as rows, against the shapes of the exchange's page."""

import json
from decimal import Decimal
from typing import Any

import pytest

from app.simulator.account import Account, Refused
from app.simulator.statements import Order, active_row, finished_row
from app.simulator.wire import Event

NOW = 1_750_696_376.5
ORDER = {
    "id": "01JYET5DQ772MPYHHE417FQF1J",
    "symbol": "TRX_USDT",
    "orderType": "limit",
    "direction": "sell",
    "price": "0.2200000000000000",
    "quantity": "50.0000000000000000",
    "value": "11.0000000000000000",
    "filledQuantity": "0.0000000000000000",
    "filledValue": "0.0000000000000000",
    "clientOid": None,
    "createTs": 1750696376,
}


@pytest.fixture(name="account")
def _account() -> Account:
    account = Account(1)
    account.fund("TRX", Decimal(100), NOW)
    account.fund("USDT", Decimal(40000), NOW)
    return account


def sell(account: Account) -> tuple[Order, list[Event]]:
    order = account.new_order("TRX_USDT", "sell", Decimal(50), price=Decimal("0.22"), now=NOW)
    return order, account.place(order, at=Decimal("0.22"))


def sent(event: Event) -> Any:
    return json.loads(event.text)


def test_a_created_order_is_the_pages(account: Account) -> None:
    order, [created, balance] = sell(account)
    page = {"id": "1", "method": "order_update", "error": None}
    page["data"] = {"type": "created", "info": ORDER | {"id": order.id}}  # type: ignore[assignment] # one page, values of many types
    assert sent(created) == page
    info = sent(balance)["data"]["info"]
    assert list(info) == ["walletId", "currencyCode", "amount", "oldBalance", "newBalance"]
    assert sent(balance)["id"] == "4"
    assert (info["oldBalance"], info["newBalance"]) == ("100.0000000000000000", "50.00000000")
    assert order.id[:6] == "01JYET"


def test_a_fill_updates_and_the_last_one_finishes(account: Account) -> None:
    order, _ = sell(account)
    price = Decimal("0.22")
    updated, deal, balance = account.fill(order.id, Decimal(20), price, role="maker", now=NOW + 111)
    info = sent(updated)["data"]["info"]
    assert (sent(updated)["id"], sent(updated)["data"]["type"]) == ("3", "updated")
    assert list(info) == [*ORDER, "updateTs"]
    assert (info["filledQuantity"], info["filledValue"], info["updateTs"]) == (
        "20.0000000000000000", "4.4000000000000000", 1750696487,
    )  # fmt: skip
    dealt = sent(deal)["data"]["info"]
    assert sent(deal)["id"] == "4"
    assert list(dealt) == [
        "dealId", "symbol", "dealState", "transactionId", "filledPrice", "filledQuantity",
        "filledValue", "fee", "feeCurrency", "tradeRole", "committedAt",
    ]  # fmt: skip
    assert (dealt["feeCurrency"], dealt["tradeRole"], dealt["committedAt"]) == (
        "USDT", "maker", 1750696487,
    )  # fmt: skip
    assert sent(balance)["data"]["info"]["newBalance"] == "40004.39560000"

    finished, second, _ = account.fill(order.id, order.left, price, role="taker", now=NOW + 200)
    info = sent(finished)["data"]["info"]
    assert list(info) == [*ORDER, "finishTs", "state", "internalState"]
    assert (info["state"], info["internalState"]) == ("completed", "filled")
    assert sent(second)["data"]["info"]["dealId"] == dealt["dealId"]
    assert sent(second)["data"]["info"]["transactionId"] != dealt["transactionId"]
    assert account.balances["TRX"].held == 0


def test_a_cancelled_order_gives_its_money_back(account: Account) -> None:
    order, _ = sell(account)
    finished, balance = account.cancel(order.id, NOW + 1)
    assert sent(finished)["data"]["info"]["state"] == "cancelled"
    assert sent(balance)["data"]["info"]["newBalance"] == "100.00000000"


def test_a_cheaper_buy_gives_the_difference_back(account: Account) -> None:
    order = account.new_order("TRX_USDT", "buy", Decimal(10), price=Decimal(2), now=NOW)
    account.place(order, at=Decimal(2))
    account.fill(order.id, Decimal(10), Decimal(1), role="taker", now=NOW)
    assert account.balances["USDT"].available == 40000 - 10
    assert account.balances["TRX"].available == Decimal("109.99")


def test_a_market_order_has_only_an_end(account: Account) -> None:
    order = account.new_order("TRX_USDT", "buy", Decimal(10), price=None, now=NOW)
    assert account.place(order, at=Decimal("0.25")) == []
    finished, *_ = account.fill(order.id, Decimal(10), Decimal("0.25"), role="taker", now=NOW)
    info = sent(finished)["data"]["info"]
    assert (info["orderType"], info["price"], info["value"]) == (
        "market", None, "2.5000000000000000",
    )  # fmt: skip


def test_what_cannot_be_is_refused(account: Account) -> None:
    order, _ = sell(account)
    with pytest.raises(Refused, match="no active order"):
        account.cancel("01NOSUCH", NOW)
    with pytest.raises(Refused, match="51 where 50 is left"):
        account.fill(order.id, Decimal(51), Decimal(1), role="maker", now=NOW)
    with pytest.raises(Refused, match="balance too low"):
        account.place(
            account.new_order("TRX_USDT", "sell", Decimal(51), price=Decimal(1), now=NOW),
            at=Decimal(1),
        )


def test_a_gap_breaks_the_chain_of_balances(account: Account) -> None:
    order, events = sell(account)
    before = Decimal(sent(events[-1])["data"]["info"]["newBalance"])
    account.gap = True
    *_, balance = account.cancel(order.id, NOW)
    assert Decimal(sent(balance)["data"]["info"]["oldBalance"]) == before + 1


def test_rest_rows_have_their_own_names(account: Account) -> None:
    order, _ = sell(account)
    row = active_row(order)
    assert list(row) == [
        "id", "direction", "symbol", "price", "quantity", "value", "filledQuantity",
        "filledValue", "createdAt", "clientOrderId", "stopLossPrice",
    ]  # fmt: skip
    assert row["createdAt"] == "2025-06-23 16:32:56"
    account.fill(order.id, order.left, Decimal("0.23"), role="maker", now=NOW + 5)
    done = finished_row(order)
    assert {"price", "value", "clientOrderId"}.isdisjoint(done)
    assert (done["type"], done["state"], done["internalState"]) == ("limit", "completed", "filled")
    assert done["finishedAt"] == "2025-06-23 16:33:01"
    deal = done["deal"]
    assert deal["averageFilledPrice"] == "0.2300000000000000"
    [transaction] = deal["transactions"]
    assert transaction["committedAt"] == "2025-06-23 16:33:01"


def test_an_unfilled_order_has_no_deal(account: Account) -> None:
    order, _ = sell(account)
    account.cancel(order.id, NOW)
    assert finished_row(order)["deal"] is None
