from app.domain.channel import Channel, depth
from app.domain.health import Following
from app.upstream.interest import Interest

TICKERS, PRICES, TRADES = (Channel.parse(f"{kind}:*") for kind in ("ticker", "lastprice", "trade"))
BTC = Channel.parse("ticker:BTC_USDT")
BOOKS = frozenset(depth(f"A{number}_B", 0) for number in range(10))
RUN = 1_000_000


def wanted(*channels: Channel, names: tuple[str, ...] = ("one", "two")) -> Interest:
    interest = Interest(names)
    interest.want(frozenset(channels), 100.0)
    return interest


def shares(interest: Interest) -> list[int]:
    return [len(interest.share("one")), len(interest.share("two"))]


def test_what_is_wanted_is_shared_out_evenly_and_never_twice() -> None:
    interest = wanted(*BOOKS)
    assert shares(interest) == [5, 5]
    assert interest.share("one") | interest.share("two") == BOOKS


def test_wildcards_are_heavy() -> None:
    interest = wanted(TICKERS, PRICES, TRADES, *BOOKS)
    assert sorted(shares(interest)) == [2, 11]


def test_a_wildcard_takes_the_place_of_what_it_covers() -> None:
    interest = wanted(BTC, PRICES)
    interest.want(frozenset({BTC, TICKERS}), 101.0)
    assert set(interest.following) == {TICKERS}


def test_a_channel_stays_where_it_is() -> None:
    interest = wanted(*BOOKS)
    before = interest.share("one")
    interest.want(BOOKS | {TICKERS}, 101.0)
    assert before <= interest.share("one")
    gone = next(iter(before))
    interest.want(BOOKS - {gone}, 102.0)
    assert interest.share("one") - {TICKERS} == before - {gone}


def test_the_channels_of_a_lost_connection_move_and_stay_moved() -> None:
    interest = wanted(*BOOKS)
    interest.down("one")
    assert shares(interest) == [0, 10]
    interest.up("one")
    assert shares(interest) == [0, 10]
    interest.want(BOOKS | {TICKERS}, 101.0)
    assert interest.share("one") == {TICKERS}


def test_with_no_connection_nobody_carries_anything() -> None:
    interest = wanted(*BOOKS)
    interest.down("one")
    interest.down("two")
    interest.down("two")
    assert interest.share(None) == BOOKS
    interest.want(BOOKS - {min(BOOKS, key=str)}, 101.0)
    interest.up("two")
    assert shares(interest) == [0, 9]
    assert interest.share(None) == frozenset()


# How unbroken


def test_what_was_just_wanted_is_not_live_and_broken_until_its_run_begins() -> None:
    interest = wanted(BTC)
    assert interest.following == {BTC: Following(False, 100.0, 100.0, 100.0)}
    assert interest.observe(BTC, 101 * RUN, live=False, now=101.5)
    assert interest.following[BTC] == Following(False, 100.0, 101.0, 100.0)
    assert interest.observe(BTC, 101 * RUN, live=True, now=102.0)
    assert interest.following[BTC] == Following(True, 102.0, 101.0, 100.0)
    assert not interest.observe(BTC, 101 * RUN, live=True, now=103.0)


def test_a_new_run_of_a_live_channel_ends_the_one_before() -> None:
    interest = wanted(BTC)
    interest.observe(BTC, 101 * RUN, live=True, now=101.0)
    assert interest.observe(BTC, 150 * RUN + 678, live=True, now=150.5)
    assert interest.following[BTC] == Following(True, 101.0, 150.0, 150.0)


def test_a_lost_channel_was_unbroken_until_it_was_lost() -> None:
    interest = wanted(BTC)
    interest.observe(BTC, 101 * RUN, live=True, now=101.0)
    assert interest.observe(BTC, None, live=False, now=150.0)
    assert interest.following[BTC] == Following(False, 150.0, 150.0, 150.0)
    assert interest.observe(BTC, 160 * RUN, live=True, now=161.0)
    assert interest.following[BTC] == Following(True, 161.0, 160.0, 150.0)


def test_a_run_that_breaks_while_not_live_was_broken_since_it_was_not() -> None:
    interest = wanted(BTC)
    interest.observe(BTC, 101 * RUN, live=True, now=101.0)
    interest.observe(BTC, 101 * RUN, live=False, now=120.0)
    interest.observe(BTC, 130 * RUN, live=False, now=130.0)
    interest.observe(BTC, 130 * RUN, live=True, now=140.0)
    assert interest.following[BTC] == Following(True, 140.0, 130.0, 120.0)
