from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.channel import Channel
from app.hub.groups import Group, Groups, chunk
from app.hub.subscription import Subscription
from tests.fakes.outlet import FakeOutlet
from tests.oracle.sse import Dechunker

BTC, ETH = Channel.parse("ticker:BTC_USDT"), Channel.parse("ticker:ETH_USDT")
TRADE = Channel.parse("trade:BTC_USDT")


def subscription(
    *channels: Channel, framed: bool = False, high: int = 10**6
) -> tuple[Subscription, FakeOutlet]:
    outlet = FakeOutlet(framed=framed, high=high)
    return Subscription(frozenset(channels), outlet, ends_at=1e9), outlet


@given(st.binary(min_size=1, max_size=5000))
def test_a_chunk_carries_its_bytes(data: bytes) -> None:
    assert data == Dechunker().feed(chunk(data))


def test_members_with_the_same_channels_share_the_same_bytes() -> None:
    groups = Groups()
    pairs = [subscription(BTC, framed=framed) for framed in (False, True, False, True)]
    for member, _ in pairs:
        groups.join(member, 5.0)
    (group,) = groups
    assert (len(group), group.written) == (4, 5.0)
    group.write(b"data", 6.0)
    assert group.written == 6.0
    plain, framed, also_plain, also_framed = (outlet.writes[0] for _, outlet in pairs)
    assert plain == b"data"
    assert plain is also_plain
    assert framed is also_framed
    assert Dechunker().feed(framed) == plain


def test_a_group_is_found_by_each_of_its_channels() -> None:
    groups = Groups()
    for channels in ((BTC,), (BTC, TRADE), (ETH,)):
        groups.join(subscription(*channels)[0], 0.0)
    assert [len(list(groups.following(one))) for one in (BTC, ETH, TRADE)] == [2, 1, 1]
    assert list(groups.following(Channel.parse("lastprice:BTC_USDT"))) == []


def test_a_group_with_a_wildcard_is_found_by_every_channel_of_the_kind() -> None:
    groups = Groups()
    groups.join(subscription(BTC.everything, TRADE)[0], 0.0)
    assert [len(list(groups.following(one))) for one in (BTC, ETH, TRADE)] == [1, 1, 1]
    assert list(groups.following(Channel.parse("trade:ETH_USDT"))) == []


def test_a_channel_that_a_wildcard_of_the_same_stream_covers_counts_once() -> None:
    groups = Groups()
    member, _ = subscription(BTC.everything, BTC)
    groups.join(member, 0.0)
    assert len(list(groups.following(BTC))) == 1
    groups.leave(member)
    assert list(groups.following(BTC)) == []


@pytest.mark.parametrize("framed", [False, True])
def test_a_group_goes_with_its_last_member(*, framed: bool) -> None:
    groups = Groups()
    first, _ = subscription(BTC, framed=framed)
    second, _ = subscription(BTC, framed=framed)
    groups.join(first, 0.0)
    groups.join(second, 0.0)
    groups.leave(first)
    assert [len(group) for group in groups] == [1]
    groups.leave(second)
    assert list(groups) == []
    assert list(groups.following(BTC)) == []


def test_another_group_keeps_its_place_when_one_goes() -> None:
    groups = Groups()
    one, _ = subscription(BTC)
    other, _ = subscription(BTC, ETH)
    groups.join(one, 0.0)
    groups.join(other, 0.0)
    groups.leave(other)
    assert [len(list(groups.following(channel))) for channel in (BTC, ETH)] == [1, 0]


@pytest.mark.parametrize("framed", [False, True])
def test_a_member_may_leave_while_it_is_written_to(*, framed: bool) -> None:
    group = Group(0.0)
    pairs = [subscription(BTC, framed=framed, high=0) for _ in range(3)]
    for member, outlet in pairs:
        members = group.members(member)
        members[member] = None
        outlet.on_full = partial(members.__delitem__, member)
    group.write(b"data", 1.0)
    assert [len(outlet.writes) for _, outlet in pairs] == [1, 1, 1]
    assert len(group) == 0
