import pytest

from app.domain.channel import Channel
from app.domain.store import Store
from app.hub import sse
from app.hub.history import History
from app.hub.subscription import SLICE, STEPS, Subscription
from tests.fakes.outlet import FakeOutlet, Kept
from tests.given import at, made
from tests.oracle.sse import read

BTC, ETH = Channel.parse("ticker:BTC_USDT"), Channel.parse("ticker:ETH_USDT")


def subscription(*channels: str) -> Subscription:
    return Subscription(frozenset(map(Channel.parse, channels)), FakeOutlet(), Kept(), ends_at=1e9)


def store_of(*pairs: tuple[str, str]) -> Store:
    store = Store()
    for channel, position in pairs:
        store.apply(made(channel, position))
    return store


def positions(data: bytes | None) -> list[tuple[str, str | None]]:
    assert data is not None
    return [(block.json()["position"], block.id) for block in read([data])]


def test_follows_its_channels_and_all_of_a_wildcard() -> None:
    follower = subscription("ticker:*", "trade:BTC_USDT")
    assert follower.follows(BTC)
    assert follower.follows(Channel.parse("trade:BTC_USDT"))
    assert not follower.follows(Channel.parse("trade:ETH_USDT"))


@pytest.mark.parametrize(
    ("channels", "counts"),
    [(["ticker:*", "depth:X_Y:0", "lastprice:X_Y", "balance:X"], False),
     (["ticker:*", "trade:X_Y"], True), (["trade:*"], True), (["order:X_Y"], True),
     (["deal:*"], True)],
)  # fmt: skip
def test_each_event_counts_on_trade_order_and_deal(channels: list[str], *, counts: bool) -> None:
    assert counts == subscription(*channels).each_counts


def test_takes_more_until_its_outlet_is_full_or_it_is_ended() -> None:
    follower = subscription("ticker:*")
    assert follower.takes_more()
    follower.paused = True
    assert not follower.takes_more()
    follower.paused, follower.ended = False, "lifetime"
    assert not follower.takes_more()


def test_is_owed_what_it_does_not_hold_in_the_order_of_positions() -> None:
    store = store_of(
        ("ticker:BTC_USDT", "7-3"), ("ticker:ETH_USDT", "7-2"), ("lastprice:X_Y", "7-4")
    )
    follower = subscription("ticker:*")
    assert [state.channel for state in follower.owed(store)] == [ETH, BTC]
    follower.at = at("7-2")
    assert [state.channel for state in follower.owed(store)] == [BTC]


def test_in_a_run_of_snapshots_only_the_last_has_an_id() -> None:
    store = store_of(("ticker:BTC_USDT", "7-3"), ("ticker:ETH_USDT", "7-2"), ("ticker:A_B", "7-9"))
    follower = subscription("ticker:*")
    expected = [("7-2", None), ("7-3", None), ("7-9", "7-9")]
    assert expected == positions(follower.slice(store, History(10)))
    assert at("7-9") == follower.at
    assert follower.slice(store, History(10)) is None


def test_a_long_run_comes_in_slices_and_only_the_very_last_has_an_id() -> None:
    store = store_of(*((f"ticker:M{number}_USDT", f"7-{number}") for number in range(1, 1001)))
    follower = subscription("ticker:*")
    slices = list(iter(lambda: follower.slice(store, History(10)), None))
    assert len(slices) > 2
    one = len(sse.frame(made("ticker:M1000_USDT", "7-1000")))
    assert max(map(len, slices)) < SLICE + one
    seen = [pair for data in slices for pair in positions(data)]
    assert [f"7-{number}" for number in range(1, 1001)] == [position for position, _ in seen]
    assert [id_ for _, id_ in seen] == [None] * 999 + ["7-1000"]


def test_what_changes_between_two_slices_only_stays_owed() -> None:
    big = "x" * SLICE
    store = Store()
    for channel, position in (("ticker:A_B", "7-1"), ("ticker:BTC_USDT", "7-2")):
        store.apply(made(channel, position, {"price": big}))
    follower = subscription("ticker:*")
    assert positions(follower.slice(store, History(10))) == [("7-1", None)]
    store.apply(made("ticker:A_B", "7-3", {"price": "3"}, type_="update", previous="7-1"))
    store.apply(made("ticker:BTC_USDT", "7-4", {"price": "4"}, type_="update", previous="7-2"))
    expected = [("7-3", None), ("7-4", "7-4")]
    assert expected == positions(follower.slice(store, History(10)))


def test_by_history_it_gets_what_it_missed_event_by_event() -> None:
    history = History(2 * STEPS)
    for number in range(1, 5):
        channel = BTC if number % 2 else ETH
        history.add(at(f"7-{number}"), channel, sse.frame(made(str(channel), f"7-{number}")))
    follower = subscription("ticker:BTC_USDT")
    follower.at, follower.by_history = at("7-1"), True
    assert positions(follower.slice(Store(), history)) == [("7-3", "7-3")]
    assert at("7-4") == follower.at
    assert follower.slice(Store(), history) is None


def test_a_slice_of_history_without_anything_for_it_brings_it_on_all_the_same() -> None:
    history = History(2 * STEPS)
    for number in range(1, STEPS + 2):
        history.add(at(f"7-{number}"), ETH, b"x")
    follower = subscription("ticker:BTC_USDT")
    follower.by_history = True
    assert follower.slice(Store(), history) == b""
    assert follower.slice(Store(), history) == b""
    assert follower.slice(Store(), history) is None
