"""The market list and what can be subscribed to."""

import json

from app.simulator.listing import Listing, Market, ulid

ROW = """{"id": "01HSBPVS17CT2GN2FV34K3AMP9", "symbol": "BTC_USDT", "baseCurrency": "BTC",
"quoteCurrency": "USDT", "baseMinSize": "0.0000100000000000", "quoteMinSize": "0.1000000000000000",
"baseMaxSize": "10000000000.0000000000000000", "quoteMaxSize": "99999999.0000000000000000",
"basePrec": "8", "quotePrec": "6", "baseCurrencyFullName": "Bitcoin",
"quoteCurrencyFullName": "Tether USD"}"""


def test_a_row_is_the_pages_but_for_its_id() -> None:
    row = Market("BTC_USDT").row(names=True)
    page = json.loads(ROW)
    assert list(row) == list(page)
    assert row | {"id": ""} == page | {"id": ""}
    assert len(row["id"]) == 26
    assert list(Market("BTC_USDT").row(names=False)) == list(page)[:-2]


def test_scales_are_text_and_indexes_are_integers() -> None:
    rows = Market("BTC_USDT", ("0.01", "1")).scale_rows()
    assert rows == [{"scale": "0.01", "index": 0}, {"scale": "1", "index": 1}]


def test_each_kind_has_its_subjects() -> None:
    listing = Listing((Market("BTC_USDT", ("0.01", "1")),))
    known = {
        "ticker": ("BTC_USDT", "all"),
        "depth": ("BTC_USDT:1", "BTC_USDT:2"),
        "balance": ("USDT", "BTC_USDT"),
        "deal": ("BTC_USDT", "btc_usdt"),
    }
    for kind, (good, bad) in known.items():
        assert (listing.knows(kind, good), listing.knows(kind, bad)) == (True, False)
    assert not listing.knows("depth", "ETH_USDT:0")
    assert not listing.knows("depth", "BTC_USDT")


def test_a_ulid_begins_with_its_time() -> None:
    made = ulid(1_750_696_376_000 + 7, 5)
    assert (made[:6], len(made), made[-1]) == ("01JYET", 26, "5")
    assert made < ulid(1_750_696_376_000 + 8, 0)
