"""The generated market: reproducible, never crossed, and its deltas add up."""

import re
from collections.abc import Iterator
from decimal import Decimal

import pytest

from app.simulator import Options
from app.simulator.exchange import Exchange
from app.simulator.flow import Flow
from app.simulator.generated import SPECS, Generated
from app.simulator.market import GeneratedMarket, gathered, short
from app.simulator.matching import Side
from app.simulator.statements import fixed
from app.simulator.truth import Level, Truth
from app.simulator.wire import Event
from tests.simulator.talk import Clock

DIGITS = re.compile(r"0|[1-9]\d*(\.\d*[1-9])?|0\.\d*[1-9]")


def events(seed: int, turns: int) -> tuple[list[Event], Exchange]:
    exchange = Exchange(Options(seed=seed), now=Clock())
    told: list[Event] = []
    tell = exchange.publish

    def publish(event: Event) -> None:
        told.append(event)
        tell(event)

    exchange.publish = publish  # type: ignore[method-assign] # listens in
    source = Generated(Options(seed=seed, rate=100.0), exchange)
    for currency in exchange.listing.currencies:
        exchange.account.fund(currency, Decimal(10**6), exchange.now())
    for _ in range(turns):
        for event in source.turn():
            exchange.publish(event)
    return told, exchange


@pytest.fixture(scope="module")
def heard() -> tuple[list[Event], Exchange]:
    """Half a minute of every market."""
    return events(7, 8 * 10 * 30)


def of_kind(heard: tuple[list[Event], Exchange], kind: str) -> Iterator[Event]:
    return (event for event in heard[0] if event.kind == kind)


def test_the_same_seed_gives_the_same_market() -> None:
    first, second = (list(events(3, 400)[0]) for _ in range(2))
    assert [event.text for event in first] == [event.text for event in second]
    assert [event.text for event in events(4, 400)[0]] != [event.text for event in first]


def test_every_kind_of_event_comes(heard: tuple[list[Event], Exchange]) -> None:
    kinds = {event.kind for event in heard[0]}
    assert kinds == {"lastprice", "depth", "ticker", "trade", "order", "balance", "deal"}


def test_no_book_is_ever_crossed(heard: tuple[list[Event], Exchange]) -> None:
    truth = Truth()
    for event in of_kind(heard, "depth"):
        truth.apply(event)
        book = truth.books[event.subject]
        assert not book.crossed, event.text
        assert book.asks
        assert book.bids


def test_first_reload_and_deltas_always_give_the_whole_book() -> None:
    """After every turn of over a minute what was told equals what the matching book holds."""
    market = GeneratedMarket(SPECS[5], 3, 0.0)
    truth = Truth()
    reloads = 0
    for turn in range(700):
        fills = market.flow.step(0.1, 0.0, turn % 3)
        for event in market.told(fills, turn / 10):
            truth.apply(event)
            reloads += event.kind == "depth" and event.data["full_reload"]
        for index, scale in enumerate(market.spec.scales):
            asks, bids = truth.books[f"DOGE_USDT:{index}"].best_first()
            sides: tuple[tuple[Side, list[Level]], ...] = (("sell", asks), ("buy", bids))
            for side, told in sides:
                levels = gathered(market.flow.matching.levels(side), scale, side)
                held = {market.price(price): market.size(size) for price, size in levels.items()}
                assert {Decimal(price): Decimal(size) for price, size in told} == held
    assert reloads == 2 * len(market.spec.scales)


def test_no_digit_is_a_floats(heard: tuple[list[Event], Exchange]) -> None:
    places = {spec.symbol: spec.places for spec in SPECS}
    for event in of_kind(heard, "depth"):
        price_places, size_places = places[event.data["symbol"]]
        for price, size in [*event.data["asks"], *event.data["bids"]]:
            assert DIGITS.fullmatch(price)
            assert DIGITS.fullmatch(size)
            assert len(price.partition(".")[2]) <= price_places
            assert len(size.partition(".")[2]) <= size_places


def test_the_ticker_agrees_with_itself(heard: tuple[list[Event], Exchange]) -> None:
    for event in of_kind(heard, "ticker"):
        data = {name: Decimal(event.data[name]) for name in list(event.data)[2:]}
        assert data["low"] <= min(data["open"], data["price"])
        assert data["high"] >= max(data["open"], data["price"])
        change = 100 * (data["price"] - data["open"]) / data["open"]
        assert abs(change - data["price_change"]) < Decimal("0.01")
        assert data["low"] <= data["quote_volume"] / data["volume"] <= data["high"]


def test_trades_happen_at_the_last_price(heard: tuple[list[Event], Exchange]) -> None:
    exchange = heard[1]
    for symbol, trades in exchange.truth.trades.items():
        times = [trade.timestamp for trade in trades]
        assert times == sorted(times)
        assert {trade.direction for trade in trades} <= {"buy", "sell"}
        assert symbol in exchange.listing.markets


def test_the_account_keeps_its_books(heard: tuple[list[Event], Exchange]) -> None:
    account = heard[1].account
    assert account.finished
    chains: dict[str, Decimal] = {}
    for event in of_kind(heard, "balance"):
        info = event.data["info"]
        old, new = Decimal(info["oldBalance"]), Decimal(info["newBalance"])
        assert abs(new - old) == Decimal(info["amount"])
        assert chains.setdefault(info["walletId"], old) == old
        chains[info["walletId"]] = new
    for balance in account.balances.values():
        assert chains.get(balance.wallet, balance.available) == balance.available
        assert balance.held >= 0
    for event in of_kind(heard, "order"):
        info = event.data["info"]
        if info["price"] is not None:
            value = Decimal(info["price"]) * Decimal(info["quantity"])
            assert info["value"] == fixed(value)


def test_depths_are_reached_and_kept() -> None:
    flow = Flow(SPECS[0], 1)
    for _ in range(300):
        flow.step(0.1, 0.0, 3)
    assert min(flow.matching.count("buy"), flow.matching.count("sell")) > 20


def test_coarse_books_round_away_from_each_other() -> None:
    levels = {101: 1, 109: 2, 110: 4}
    assert gathered(levels, 10, "buy") == {100: 3, 110: 4}
    assert gathered(levels, 10, "sell") == {110: 7}
    assert gathered(levels, 1, "sell") == levels


def test_short_digits() -> None:
    shown = [short(Decimal(text)) for text in ("1.500", "100", "1E+2", "0.00")]
    assert shown == ["1.5", "100", "100", "0"]


def test_markets_move_together() -> None:
    """What moves one market by the common factor moves the others, in the same turns' span."""
    exchange = Exchange(Options(), now=Clock())
    source = Generated(Options(rate=0, account=False), exchange)
    btc, eth = source.markets[:2]
    together = 0
    for _ in range(200):
        before = (btc.flow.fair, eth.flow.fair)
        for _ in range(8 * 10):
            list(source.turn())
        together += (btc.flow.fair > before[0]) == (eth.flow.fair > before[1])
    assert together > 130
