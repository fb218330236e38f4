"""Wildcards narrowed to what a caller may see: live, resuming, starting, and after a lag."""

from app.domain.channel import Channel, Kind
from app.domain.store import Store
from app.hub.groups import Groups
from app.hub.subscription import Subscription
from tests.fakes.outlet import FakeOutlet, Kept
from tests.given import made
from tests.hub.place import Place, settle

BTC, ETH, BTC_EUR = (
    Channel.parse(f"ticker:{name}") for name in ("BTC_USDT", "ETH_USDT", "BTC_EUR")
)
SOME = Channel(Kind.TICKER, "BTC_*")


def following(*channels: Channel) -> Subscription:
    return Subscription(frozenset(channels), FakeOutlet(), Kept(), ends_at=100.0)


def test_a_subscription_follows_what_matches() -> None:
    narrowed = following(SOME, ETH)
    assert narrowed.follows(BTC)
    assert narrowed.follows(ETH)
    assert not narrowed.follows(Channel.parse("ticker:XRP_USDT"))
    assert not narrowed.follows(Channel.parse("trade:BTC_USDT"))
    assert not following(SOME).follows(ETH)


def test_a_group_is_found_by_what_matches_and_once() -> None:
    groups = Groups()
    narrowed, whole, both = following(SOME), following(BTC.everything), following(SOME, BTC, ETH)
    for subscription in (narrowed, whole, both):
        groups.join(subscription, 0.0)
    assert len(list(groups.following(BTC))) == 3
    assert len(list(groups.following(ETH))) == 2
    assert len(list(groups.following(Channel.parse("ticker:XRP_USDT")))) == 1
    for subscription in (narrowed, whole, both):
        groups.leave(subscription)
    assert list(groups.following(BTC)) == []


def test_the_store_gives_what_matches_and_once() -> None:
    store = Store()
    for number, channel in enumerate((BTC, ETH, BTC_EUR), 1):
        assert store.apply(made(str(channel), f"7-{number}"))
    assert [one.channel for one in store.matching([SOME])] == [BTC, BTC_EUR]
    assert [one.channel for one in store.matching([SOME, BTC, ETH])] == [BTC, ETH, BTC_EUR]
    assert len(list(store.matching([SOME, BTC.everything]))) == 3


def test_it_is_over_when_it_is_not_permitted_any_more() -> None:
    permitted = True
    subscription = Subscription(
        frozenset({BTC}), FakeOutlet(), Kept(), ends_at=100.0, permitted=lambda: permitted
    )
    assert subscription.over(99.0) is None
    permitted = False
    assert subscription.over(99.0) == "expired"
    assert subscription.over(100.0) == "lifetime"
    subscription.ended = "lifetime"
    assert subscription.over(100.0) is None


FOUR = ("ticker:BTC_USDT", "ticker:ETH_USDT", "ticker:BTC_EUR", "ticker:ETH_BTC")


def round_of(place: Place, first: int) -> None:
    """An event on each channel, one after the other."""
    for number, channel in enumerate(FOUR, first):
        place.tick(channel, number)


def narrowed(place: Place, *, after: str | None = None, high: int = 64 * 1024) -> FakeOutlet:
    outlet = FakeOutlet(high=high)
    place.hub.join(frozenset({SOME}), outlet, after)
    return outlet


def seen(outlet: FakeOutlet) -> list[tuple[str, str]]:
    return [(event["channel"], event["position"]) for event in outlet.events()]


async def test_a_stream_begins_and_goes_on_with_what_matches(place: Place) -> None:
    round_of(place, 1)
    outlet = narrowed(place)
    await settle()
    assert seen(outlet) == [(FOUR[0], "7-1"), (FOUR[2], "7-3")]
    round_of(place, 5)
    await settle()
    assert seen(outlet) == [(FOUR[0], "7-5"), (FOUR[2], "7-7")]


async def test_a_stream_resumes_with_what_matches(place: Place) -> None:
    round_of(place, 1)
    round_of(place, 5)
    outlet = narrowed(place, after="7-2")
    await settle()
    assert seen(outlet) == [(FOUR[2], "7-3"), (FOUR[0], "7-5"), (FOUR[2], "7-7")]


async def test_a_stream_that_lags_catches_up_with_what_matches(place: Place) -> None:
    round_of(place, 1)
    outlet = narrowed(place, high=500)
    await settle()
    outlet.take()
    for first in range(5, 45, 4):
        round_of(place, first)
        await settle()
    assert outlet.full
    found = []
    while batch := seen(outlet):
        found += batch
        await settle()
    assert {channel for channel, _ in found} == {FOUR[0], FOUR[2]}
    assert found[-2:] == [(FOUR[0], "7-41"), (FOUR[2], "7-43")]
