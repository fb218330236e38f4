import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.channel import Channel
from app.hub.groups import Groups, chunk
from app.hub.subscription import Subscription
from tests.fakes.outlet import FakeOutlet, Kept
from tests.oracle.sse import Dechunker

BTC, ETH = Channel.parse("ticker:BTC_USDT"), Channel.parse("ticker:ETH_USDT")
TRADE = Channel.parse("trade:BTC_USDT")


def subscription(
    *channels: Channel, framed: bool = False, high: int = 10**6, keeper: Kept | None = None
) -> tuple[Subscription, FakeOutlet]:
    outlet = FakeOutlet(framed=framed, high=high)
    made = Subscription(frozenset(channels), outlet, keeper or Kept(), ends_at=1e9)
    outlet.owner = made
    return made, outlet


def found(groups: Groups, *channels: Channel) -> list[int]:
    """How many groups follow each."""
    return [len(list(groups.following(channel))) for channel in channels]


@given(st.binary(min_size=1, max_size=5000))
def test_a_chunk_carries_its_bytes(data: bytes) -> None:
    assert data == Dechunker().feed(chunk(data))


def test_members_with_the_same_channels_share_the_same_bytes() -> None:
    groups = Groups()
    pairs = [subscription(BTC, framed=framed) for framed in (False, True, False, True)]
    for member, _ in pairs:
        groups.join(member, 5.0)
    assert [(len(group.members), group.written) for group in groups] == [(2, 5.0), (2, 5.0)]
    groups.collect(BTC, b"data")
    chunked = len(chunk(b"data"))
    assert groups.write(6.0) == (4, 2 * len(b"data") + 2 * chunked)
    assert [group.written for group in groups] == [6.0, 6.0]
    plain, framed, also_plain, also_framed = (outlet.writes[0] for _, outlet in pairs)
    assert plain == b"data"
    assert plain is also_plain
    assert framed is also_framed
    assert Dechunker().feed(framed) == plain


@pytest.mark.parametrize("framed", [False, True])
def test_what_is_collected_is_written_in_one_piece_in_its_order(*, framed: bool) -> None:
    groups = Groups()
    both, both_outlet = subscription(BTC, ETH, framed=framed)
    one, one_outlet = subscription(ETH, framed=framed)
    idle, idle_outlet = subscription(TRADE, framed=framed)
    for member in (both, one, idle):
        groups.join(member, 0.0)
    for channel, frame in ((BTC, b"a"), (ETH, b"b"), (BTC, b"c")):
        groups.collect(channel, frame)
    assert both_outlet.writes == []
    frames, _ = groups.write(1.0)
    assert frames == 4
    assert not groups.due
    assert [len(outlet.writes) for outlet in (both_outlet, one_outlet, idle_outlet)] == [1, 1, 0]
    both_outlet.take()
    one_outlet.take()
    assert (both_outlet.body, one_outlet.body) == (b"abc", b"b")
    assert groups.write(2.0) == (0, 0)


def test_a_frame_is_made_ready_once_for_all_groups() -> None:
    groups = Groups()
    pairs = [subscription(*channels, framed=True) for channels in ((BTC,), (BTC, ETH))]
    for member, _ in pairs:
        groups.join(member, 0.0)
    groups.collect(BTC, b"data")
    groups.write(1.0)
    assert pairs[0][1].writes[0] is pairs[1][1].writes[0]


def test_a_group_whose_members_went_is_owed_nothing() -> None:
    groups = Groups()
    member, outlet = subscription(BTC)
    groups.join(member, 0.0)
    groups.collect(BTC, b"data")
    groups.leave(member)
    assert groups.write(1.0) == (0, 0)
    assert outlet.writes == []


def test_a_group_is_found_by_each_of_its_channels() -> None:
    groups = Groups()
    for channels in ((BTC,), (BTC, TRADE), (ETH,)):
        groups.join(subscription(*channels)[0], 0.0)
    assert found(groups, BTC, ETH, TRADE) == [2, 1, 1]
    assert found(groups, Channel.parse("lastprice:BTC_USDT")) == [0]


def test_a_group_with_a_wildcard_is_found_by_every_channel_of_the_kind() -> None:
    groups = Groups()
    groups.join(subscription(BTC.everything, TRADE)[0], 0.0)
    assert found(groups, BTC, ETH, TRADE) == [1, 1, 1]
    assert found(groups, Channel.parse("trade:ETH_USDT")) == [0]


def test_a_channel_that_a_wildcard_of_the_same_stream_covers_counts_once() -> None:
    groups = Groups()
    member, _ = subscription(BTC.everything, BTC)
    groups.join(member, 0.0)
    assert found(groups, BTC) == [1]
    groups.leave(member)
    assert found(groups, BTC) == [0]


@pytest.mark.parametrize("framed", [False, True])
def test_a_group_goes_with_its_last_member(*, framed: bool) -> None:
    groups = Groups()
    first, _ = subscription(BTC, framed=framed)
    second, _ = subscription(BTC, framed=framed)
    groups.join(first, 0.0)
    groups.join(second, 0.0)
    groups.leave(first)
    assert [len(group.members) for group in groups] == [1]
    groups.leave(second)
    assert list(groups) == []
    assert found(groups, BTC) == [0]


def test_another_group_keeps_its_place_when_one_goes() -> None:
    groups = Groups()
    one, _ = subscription(BTC)
    other, _ = subscription(BTC, ETH)
    groups.join(one, 0.0)
    groups.join(other, 0.0)
    groups.leave(other)
    assert found(groups, BTC, ETH) == [1, 0]


@pytest.mark.parametrize("framed", [False, True])
def test_a_member_may_leave_while_it_is_written_to(*, framed: bool) -> None:
    groups, keeper = Groups(), Kept()
    keeper.on_pause = groups.leave
    pairs = [subscription(BTC, framed=framed, high=0, keeper=keeper) for _ in range(3)]
    for member, _ in pairs:
        groups.join(member, 0.0)
    groups.collect(BTC, b"data")
    groups.write(1.0)
    assert [len(outlet.writes) for _, outlet in pairs] == [1, 1, 1]
    assert list(groups) == []
