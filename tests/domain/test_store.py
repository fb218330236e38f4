import json
from typing import Any

import pytest

from app.domain.channel import Channel, Kind
from app.domain.event import Envelope
from app.domain.store import LAST, Store
from tests.given import at, made, row

BOOK = Channel.parse("depth:BTC_USDT:0")
TRADE = Channel.parse("trade:BTC_USDT")
TICKER = Channel.parse("ticker:BTC_USDT")


def depth_data(asks: list[list[str]], bids: list[list[str]], time: int = 100) -> dict[str, Any]:
    return {
        "symbol": "BTC_USDT", "scale_index": 0, "timestamp": time, "asks": asks, "bids": bids,
    }  # fmt: skip


def filled(*envelopes: Envelope) -> Store:
    store = Store()
    for one in envelopes:
        store.apply(one)
    return store


def state_of(store: Store, channel: Channel) -> Any:
    state = store.get(channel)
    assert state is not None
    return json.loads(state.snapshot().raw)


@pytest.mark.parametrize("kind", ["lastprice", "ticker"])
def test_of_a_price_the_last_object_is_the_state(kind: str) -> None:
    name = f"{kind}:BTC_USDT"
    store = filled(
        made(name, "7-1", {"price": "1", "old": "1"}),
        made(name, "7-4", {"price": "2"}, type_="update", previous="7-1"),
    )
    assert state_of(store, Channel.parse(name)) == {
        "channel": name, "type": "snapshot", "position": "7-4", "previous": None,
        "time": 100, "received": 100.5, "data": {"price": "2"},
    }  # fmt: skip


def test_of_trades_the_last_hundred_are_the_state_newest_first() -> None:
    store = filled(
        made("trade:BTC_USDT", "7-1", {"symbol": "BTC_USDT", "trades": [row("3"), row("2")]}),
        made(
            "trade:BTC_USDT", "7-2",
            {"symbol": "BTC_USDT", "timestamp": 9, "trades": [row(str(n)) for n in range(4, 104)]},
            type_="update", previous="7-1",
        ),
        made(
            "trade:BTC_USDT", "7-3", {"symbol": "BTC_USDT", "timestamp": 9, "trades": [row("104")]},
            type_="update", previous="7-2",
        ),
    )  # fmt: skip
    expected = [row(str(n)) for n in range(104, 4, -1)]
    assert state_of(store, TRADE)["data"] == {"symbol": "BTC_USDT", "trades": expected}


def test_of_a_snapshot_with_more_trades_the_newest_hundred_are_kept() -> None:
    rows = [row(str(n)) for n in range(LAST + 20, 0, -1)]
    store = filled(made("trade:BTC_USDT", "7-1", {"symbol": "BTC_USDT", "trades": rows}))
    assert rows[:LAST] == state_of(store, TRADE)["data"]["trades"]


def test_of_depth_the_whole_book_is_the_state_best_first() -> None:
    store = filled(
        made("depth:BTC_USDT:0", "7-1", depth_data([["2", "1"], ["3", "1"]], [["1", "1"]])),
        made(
            "depth:BTC_USDT:0", "7-2",
            {"symbol": "BTC_USDT", "scale_index": 0, "timestamp": 101, "full_reload": False,
             "asks": [["2.5", "4"], ["2", "0"]]},
            type_="update", previous="7-1",
        ),
    )  # fmt: skip
    expected = depth_data([["2.5", "4"], ["3", "1"]], [["1", "1"]], time=101)
    assert state_of(store, BOOK)["data"] == expected


def test_a_part_is_cut_on_each_side() -> None:
    store = filled(made("depth:BTC_USDT:0", "7-1", depth_data([["2", "1"], ["3", "1"]], [])))
    state = store.get(BOOK)
    assert state is not None
    assert state.snapshot(1).data == depth_data([["2", "1"]], [])
    assert json.loads(state.snapshot(1).raw)["data"]["asks"] == [["2", "1"]]


def test_a_part_is_encoded_once_per_change() -> None:
    store = filled(made("depth:BTC_USDT:0", "7-1", depth_data([["2", "1"], ["3", "1"]], [])))
    state = store.get(BOOK)
    assert state is not None
    part = state.snapshot(1)
    assert state.snapshot(1) is part
    assert state.snapshot(2).data == depth_data([["2", "1"], ["3", "1"]], [])
    store.apply(made("depth:BTC_USDT:0", "7-2", depth_data([["5", "1"]], [])))
    assert state.snapshot(2).data == depth_data([["5", "1"]], [])


def test_a_snapshot_replaces_everything() -> None:
    store = filled(
        made("depth:BTC_USDT:0", "7-1", depth_data([["2", "1"], ["3", "1"]], [["1", "1"]])),
        made("depth:BTC_USDT:0", "7-2", depth_data([["5", "1"]], [])),
    )
    assert state_of(store, BOOK)["data"] == depth_data([["5", "1"]], [])


def test_a_repeated_or_older_envelope_changes_nothing() -> None:
    first = made("ticker:BTC_USDT", "7-5", {"price": "5"})
    last = made("ticker:BTC_USDT", "7-9", {"price": "9"}, type_="update", previous="7-5")
    store = filled(first, last)
    older = made("ticker:BTC_USDT", "7-8", {"price": "8"})
    earlier_epoch = made("ticker:BTC_USDT", "6-99", {"price": "6"})
    assert [store.apply(one) for one in (first, last, older, earlier_epoch)] == [False] * 4
    assert state_of(store, TICKER)["data"] == {"price": "9"}
    assert at("7-9") == store.head


def test_an_update_of_an_unknown_channel_is_not_taken() -> None:
    store = Store()
    assert not store.apply(made("ticker:BTC_USDT", "7-2", type_="update", previous="7-1"))
    assert store.get(TICKER) is None
    assert at("0-0") == store.head


def test_the_head_is_the_highest_position_taken() -> None:
    store = filled(made("ticker:BTC_USDT", "7-5"), made("ticker:ETH_USDT", "7-3"))
    assert at("7-5") == store.head


def test_a_state_remembers_when_it_was_heard() -> None:
    state = filled(made("ticker:BTC_USDT", "7-5")).get(TICKER)
    assert state is not None
    assert (state.received, state.position) == (100.5, at("7-5"))


def test_a_snapshot_is_encoded_at_most_once_per_change() -> None:
    store = filled(made("ticker:BTC_USDT", "7-5"))
    state = store.get(TICKER)
    assert state is not None
    before = state.snapshot()
    assert before is state.snapshot()
    store.apply(made("ticker:BTC_USDT", "7-6", type_="update", previous="7-5"))
    assert at("7-6") == state.snapshot().position


def test_a_state_tells_the_gap_that_brought_it_there_and_only_that() -> None:
    """One position is one envelope, on streams and REST alike."""
    store = filled(made("ticker:BTC_USDT", "7-5", gap=True))
    assert state_of(store, TICKER)["gap"] is True
    store.apply(made("ticker:BTC_USDT", "7-6", type_="update", previous="7-5"))
    assert "gap" not in state_of(store, TICKER)


def test_a_reload_replaces_all_channels_and_stands_at_its_head() -> None:
    store = filled(made("ticker:BTC_USDT", "7-5"), made("ticker:ETH_USDT", "7-6"))
    store.reload(at("7-9"), [made("lastprice:BTC_USDT", "7-4")])
    assert [str(state.channel) for state in store] == ["lastprice:BTC_USDT"]
    assert at("7-9") == store.head


def test_a_forgotten_channel_is_unknown_until_its_next_snapshot() -> None:
    store = filled(made("ticker:BTC_USDT", "7-5"))
    store.forget(TICKER)
    store.forget(TICKER)
    assert store.get(TICKER) is None
    assert not store.apply(made("ticker:BTC_USDT", "7-6", type_="update", previous="7-5"))
    assert store.apply(made("ticker:BTC_USDT", "7-7", gap=True))


MANY = (
    made("ticker:BTC_USDT", "7-1"), made("ticker:ETH_USDT", "7-2"), made("lastprice:X_Y", "7-3"),
)  # fmt: skip


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ([], []),
        (["ticker:*"], ["ticker:BTC_USDT", "ticker:ETH_USDT"]),
        (["ticker:ETH_USDT"], ["ticker:ETH_USDT"]),
        (["ticker:ETH_USDT", "ticker:*"], ["ticker:BTC_USDT", "ticker:ETH_USDT"]),
        (["ticker:*", "ticker:*"], ["ticker:BTC_USDT", "ticker:ETH_USDT"]),
        (["ticker:ETH_USDT", "ticker:ETH_USDT"], ["ticker:ETH_USDT"]),
        (["lastprice:X_Y", "trade:X_Y", "depth:X_Y:0", "trade:*"], ["lastprice:X_Y"]),
    ],
)
def test_matching_gives_each_known_state_once(asked: list[str], expected: list[str]) -> None:
    channels = [Channel.parse(text) for text in asked]
    store = filled(*MANY)
    assert expected == [str(state.channel) for state in store.matching(channels)]
    assert expected == [str(state.channel) for state in store.matching(iter(channels))]


def test_of_kind_gives_one_kind() -> None:
    store = filled(*MANY)
    assert [str(state.channel) for state in store.of_kind(Kind.LASTPRICE)] == ["lastprice:X_Y"]


@pytest.mark.parametrize("kind", Kind)
def test_nothing_is_known_at_first_of_any_kind(kind: Kind) -> None:
    store = Store()
    assert list(store.of_kind(kind)) == []
    assert list(store.matching([Channel(kind, "*")])) == []
    assert store.get(Channel(kind, "X_Y")) is None


def test_an_orders_snapshot_keeps_how_it_was_learnt() -> None:
    store = Store()
    told = made("order:BTC_USDT", "7-1", {"symbol": "BTC_USDT", "orders": []}, origin="reconcile")
    assert store.apply(told)
    (state,) = store
    assert json.loads(state.snapshot().raw)["origin"] == "reconcile"
