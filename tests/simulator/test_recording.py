"""Recordings are read as they are, and moved on in time for another pass."""

import gzip
from pathlib import Path

import pytest

from app.simulator.listing import Market
from app.simulator.recording import read, scan, shifted

BOOK = (
    '{"at": 0.5, "message": {"id":0,"method":"depth_update","data":{"symbol":"BTC_USDT",'
    '"timestamp":7,"full_reload":true,"scale_index":1,"asks":[["101.50","1"]],'
    '"bids":[["100","1.000"]]},"error":null}}'
)
TRADE = (
    '{"at":1,"message":{"id":0,"method":"trade_update","data":{"symbol":"ETH_USDT","timestamp": 8,'
    '"trades":[{"price":2683.80,"quantity":9e-05,"timestamp":8,"direction":"buy"}]},"error":null}}'
)
MONEY = (
    '{"at":2,"message":{"id":"4","method":"balance_update","data":{"info":{"walletId":"01",'
    '"currencyCode":"USDT","amount":"1","oldBalance":"1","newBalance":"2"}},"error":null}}'
)


@pytest.fixture(name="path", params=["market.jsonl", "market.jsonl.gz"])
def _path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / str(request.param)
    text = f"{BOOK}\n{TRADE}\n{MONEY}".encode()
    path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)
    return path


def test_the_text_stays_as_it_is(path: Path) -> None:
    first, second, _ = read(path)
    assert (first.at, first.text.decode()) == (0.5, BOOK[len('{"at": 0.5, "message": ') : -1])
    assert b'"price":2683.80,"quantity":9e-05' in second.text


def test_markets_and_scales_are_found(path: Path) -> None:
    contents = scan(path)
    assert contents.duration == 2.0
    assert contents.markets == (Market("BTC_USDT", ("1", "0.01")), Market("ETH_USDT", ("1",)))


def test_a_broken_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "broken.jsonl"
    path.write_text(f"{BOOK}\n{{}}\n")
    with pytest.raises(ValueError, match=r"broken\.jsonl line 2"):
        list(read(path))


def test_only_times_move(path: Path) -> None:
    _, trade, _ = read(path)
    assert shifted(trade.text, 0) is trade.text
    later = trade.text.replace(b'"timestamp": 8', b'"timestamp": 18')
    assert shifted(trade.text, 10) == later.replace(b'"timestamp":8', b'"timestamp":18')
