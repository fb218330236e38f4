import pytest

from app.domain.channel import Channel
from app.errors import NotReady
from app.hub.wishes import Wishes

TICKERS = Channel.parse("ticker:*")
BTC = Channel.parse("depth:BTC_USDT:0")
ETH = Channel.parse("depth:ETH_USDT:0")
LTC = Channel.parse("depth:LTC_USDT:0")


@pytest.fixture(name="wishes")
def _wishes() -> Wishes:
    return Wishes([TICKERS], linger=60.0, limit=2)


@pytest.fixture(name="rung")
def _rung(wishes: Wishes) -> list[int]:
    """Grows each time that something more is wanted."""
    rung: list[int] = []
    wishes.on_more = lambda: rung.append(1)
    return rung


def test_the_pinned_are_wanted_always(wishes: Wishes) -> None:
    assert {TICKERS} == wishes.wanted(0.0)
    assert set() == wishes.own(0.0)


def test_a_channel_is_wanted_while_any_stream_holds_it_and_lingers_after(wishes: Wishes) -> None:
    wishes.hold([BTC])
    wishes.hold([BTC])
    wishes.release([BTC], 100.0)
    assert BTC in wishes.wanted(1_000_000.0)
    wishes.release([BTC], 1_000_000.0)
    assert BTC in wishes.wanted(1_000_059.9)
    assert BTC not in wishes.wanted(1_000_060.0)


def test_a_channel_that_is_held_again_while_it_lingers_stays(wishes: Wishes) -> None:
    wishes.hold([BTC])
    wishes.release([BTC], 100.0)
    wishes.hold([BTC])
    assert BTC in wishes.wanted(1_000_000.0)


def test_a_request_makes_a_channel_wanted_for_a_while(wishes: Wishes) -> None:
    wishes.touch([BTC], 100.0)
    wishes.touch([BTC], 110.0)
    assert BTC in wishes.wanted(169.9)
    assert BTC not in wishes.wanted(170.0)


def test_what_a_pinned_account_may_not_have_is_a_wish() -> None:
    """Where there is nothing, the leader says so only if it hears that someone asks."""
    orders, btc = Channel.parse("order:*"), Channel.parse("order:BTC_USDT")
    wishes = Wishes([orders], linger=60.0, limit=2)
    wishes.hold([orders, btc])
    assert {btc} == wishes.own(0.0)


def test_what_is_pinned_is_no_wish(wishes: Wishes) -> None:
    wishes.hold([TICKERS, Channel.parse("ticker:BTC_USDT")])
    wishes.touch([Channel.parse("ticker:ETH_USDT")], 0.0)
    assert set() == wishes.own(0.0)
    wishes.release([TICKERS, Channel.parse("ticker:BTC_USDT")], 0.0)
    assert set() == wishes.own(0.0)


def test_other_processes_are_believed_as_long_as_they_are_heard(wishes: Wishes) -> None:
    wishes.heard("b", frozenset({BTC}), 100.0)
    wishes.heard("c", frozenset({ETH}), 130.0)
    assert {TICKERS, BTC, ETH} == wishes.wanted(159.9)
    assert {TICKERS, ETH} == wishes.wanted(160.0)
    assert set() == wishes.own(100.0)


def test_the_latest_word_of_a_process_replaces_the_one_before(wishes: Wishes) -> None:
    wishes.heard("b", frozenset({BTC}), 100.0)
    wishes.heard("b", frozenset({ETH}), 101.0)
    assert {TICKERS, ETH} == wishes.wanted(102.0)


def test_more_than_the_limit_is_not_admitted_and_says_when_to_come_again(wishes: Wishes) -> None:
    wishes.hold([BTC])
    wishes.admit([ETH], 0.0)
    wishes.hold([ETH])
    with pytest.raises(NotReady, match="2 channels are followed on demand") as caught:
        wishes.admit([LTC], 0.0)
    assert (caught.value.status, caught.value.retry_after) == (503, 60)


def test_the_wishes_of_other_processes_count_for_the_limit(wishes: Wishes) -> None:
    wishes.heard("b", frozenset({BTC, ETH}), 0.0)
    with pytest.raises(NotReady):
        wishes.admit([LTC], 0.0)
    wishes.admit([LTC], 61.0)


def test_at_the_limit_what_is_followed_already_is_still_admitted(wishes: Wishes) -> None:
    wishes.hold([BTC, ETH])
    wishes.admit([BTC, ETH, BTC, TICKERS, Channel.parse("ticker:X_Y")], 0.0)


def test_all_of_one_request_count_together(wishes: Wishes) -> None:
    with pytest.raises(NotReady):
        wishes.admit([BTC, ETH, LTC], 0.0)
    assert {TICKERS} == wishes.wanted(0.0)


def test_retry_after_is_at_least_a_second() -> None:
    with pytest.raises(NotReady) as caught:
        Wishes([], linger=0.1, limit=0).admit([BTC], 0.0)
    assert caught.value.retry_after == 1


def test_the_bell_rings_when_more_is_wanted_only(wishes: Wishes, rung: list[int]) -> None:
    wishes.hold([TICKERS])
    assert rung == []
    wishes.hold([BTC])
    assert len(rung) == 1
    wishes.hold([BTC])
    wishes.release([BTC], 0.0)
    assert len(rung) == 1
    wishes.touch([ETH], 0.0)
    wishes.touch([ETH], 1.0)
    assert len(rung) == 2
    wishes.heard("b", frozenset({LTC}), 0.0)
    wishes.heard("b", frozenset({LTC}), 1.0)
    wishes.heard("b", frozenset(), 2.0)
    assert len(rung) == 3


def test_the_bell_rings_for_a_wish_that_had_run_out(wishes: Wishes, rung: list[int]) -> None:
    wishes.touch([BTC], 0.0)
    wishes.touch([BTC], 60.0)
    assert len(rung) == 2


def test_nobody_needs_to_listen_to_the_bell(wishes: Wishes) -> None:
    wishes.hold([BTC])
    assert BTC in wishes.own(0.0)
