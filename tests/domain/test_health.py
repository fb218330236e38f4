"""Staleness follows confirmation, never one quiet channel's own age (contract, REST)."""

from app.domain.channel import Channel
from app.domain.health import Following, Health

TICKER = Channel.parse("ticker:BTC_USDT")
BOOK = Channel.parse("depth:BTC_USDT:0")
AFTER = 30.0


def health(**following: Following) -> Health:
    channels = {"every": TICKER.everything, "one": TICKER, "book": BOOK}
    named = {channels[name]: one for name, one in following.items()}
    return Health(7, 1000.0, "live", 900.0, following=named)


def test_a_channel_is_followed_by_itself_before_its_wildcard() -> None:
    one = Following(True, 5.0, 5.0, 4.0)
    every = Following(True, 1.0, 1.0, 0.5)
    assert one == health(one=one, every=every).following_of(TICKER)
    assert every == health(every=every).following_of(TICKER)
    assert health(every=every).following_of(BOOK) is None


def test_what_nobody_follows_is_stale() -> None:
    assert health().stale(TICKER, 999.0, 1000.0, AFTER)


def test_a_quiet_channel_that_is_confirmed_live_is_never_stale() -> None:
    following = health(every=Following(True, 10.0, 10.0, 9.0))
    assert not following.stale(TICKER, 11.0, 1_000_000.0, AFTER)


def test_an_unconfirmed_channel_is_stale_only_after_the_grace() -> None:
    following = health(book=Following(False, 1000.0, 900.0, 800.0))
    assert not following.stale(BOOK, 999.0, 1029.9, AFTER)
    assert following.stale(BOOK, 999.0, 1030.0, AFTER)


def test_after_a_break_a_channel_stays_stale_until_its_first_event() -> None:
    """The outage began at 1000 and ended at 1050; nothing was heard on the channel since."""
    following = health(every=Following(True, 1050.0, 1050.0, 1000.0))
    assert following.stale(TICKER, 999.0, 1051.0, AFTER)
    assert not following.stale(TICKER, 1050.0, 1051.0, AFTER)


def test_an_event_in_the_millisecond_in_which_the_run_began_belongs_to_it() -> None:
    """Envelopes tell milliseconds, so what came right after may look as if it came before."""
    following = health(every=Following(True, 1050.1234, 1050.1234, 1000.0))
    assert not following.stale(TICKER, 1050.123, 1051.0, AFTER)
    assert following.stale(TICKER, 1050.122, 1051.0, AFTER)


def test_a_short_break_makes_a_quiet_channel_stale_when_its_grace_is_over() -> None:
    following = health(every=Following(True, 1001.0, 1001.0, 1000.0))
    assert not following.stale(TICKER, 999.0, 1029.0, AFTER)
    assert following.stale(TICKER, 999.0, 1030.0, AFTER)


def test_a_wildcard_or_a_channel_without_any_event_is_as_live_as_its_subscription() -> None:
    following = health(every=Following(True, 1050.0, 1050.0, 1000.0))
    assert not following.stale(TICKER.everything, None, 2000.0, AFTER)
