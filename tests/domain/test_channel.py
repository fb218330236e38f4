import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from app.domain.channel import PRIVATE, Channel, Kind, depth, like
from app.errors import MalformedRequest

CODES = st.from_regex(r"[A-Z0-9]{1,10}", fullmatch=True)
MARKETS = st.builds("{}_{}".format, CODES, CODES)


@st.composite
def channels(draw: st.DrawFn) -> Channel:
    kind = draw(st.sampled_from(Kind))
    if kind is Kind.DEPTH:
        return depth(draw(MARKETS), draw(st.integers(0, 99)))
    subject = CODES if kind is Kind.BALANCE else MARKETS
    return Channel(kind, draw(st.one_of(subject, st.just("*"))))


@given(channels())
def test_is_read_as_it_was_written(channel: Channel) -> None:
    assert channel == Channel.parse(str(channel))


@given(st.text(max_size=60))
def test_reads_one_spelling_or_complains(text: str) -> None:
    try:
        channel = Channel.parse(text)
    except MalformedRequest:
        return
    assert text == str(channel)


@pytest.mark.parametrize(
    "text",
    ["lastprice:BTC_USDT", "ticker:BTC_USDT", "trade:BTC_USDT", "depth:BTC_USDT:0",
     "order:BTC_USDT", "balance:USDT", "deal:BTC_USDT", "lastprice:*", "ticker:*", "trade:*",
     "order:*", "balance:*", "deal:*", "depth:1INCH_USDT:12"],
)  # fmt: skip
def test_reads_what_the_contract_lists(text: str) -> None:
    assert text == str(Channel.parse(text))


@pytest.mark.parametrize(
    "text",
    ["", ":", "ticker", "ticker:", "ticker:btc_usdt", "ticker:BTC", "ticker:BTC_", "ticker:_USDT",
     "ticker:BTC_USDT:0", "ticker:BTC_*", "ticker:**", "depth:*", "depth:BTC_USDT",
     "depth:BTC_USDT:", "depth:BTC_USDT:*", "depth:BTC_USDT:01", "depth:BTC_USDT:-1",
     "depth:BTC_USDT:100", "depth:BTC_USDT:0:0", "balance:BTC_USDT", "balance:usdt", "candles:X_Y",
     "TICKER:BTC_USDT", " ticker:BTC_USDT", "ticker:BTC_USDT ", "ticker:BTC_USDT\n",
     "ticker:BTC_USDT,trade:BTC_USDT", "gateway:*", "error:*", "ticker:BTC\u005fUSDT\0"],
)  # fmt: skip
def test_what_is_malformed_is_named(text: str) -> None:
    with pytest.raises(MalformedRequest) as caught:
        Channel.parse(text)
    assert caught.value.status == 400
    assert repr(text) in caught.value.detail
    assert "expected" in caught.value.detail


def test_the_complaint_about_a_long_text_is_short_and_on_one_line() -> None:
    with pytest.raises(MalformedRequest) as caught:
        Channel.parse("ticker:\r\n" + "x" * 10_000)
    assert len(caught.value.detail) < 300
    assert caught.value.detail.isprintable()


def test_the_complaint_about_a_subject_says_what_is_expected() -> None:
    for text, expected in {
        "depth:*": "depth:BASE_QUOTE:SCALE_INDEX",
        "balance:usdt": "balance:CURRENCY",
        "trade:btc_usdt": "trade:BASE_QUOTE",
    }.items():
        with pytest.raises(MalformedRequest, match=expected):
            Channel.parse(text)


def test_private_are_order_balance_and_deal() -> None:
    assert {"order", "balance", "deal"} == PRIVATE
    assert Channel.parse("order:*").private
    assert not Channel.parse("trade:*").private


def test_market_and_scale() -> None:
    book = Channel.parse("depth:BTC_USDT:3")
    assert (book.market, book.scale) == ("BTC_USDT", 3)
    trade = Channel.parse("trade:BTC_USDT")
    assert (trade.market, trade.scale) == ("BTC_USDT", None)
    balance = Channel.parse("balance:USDT")
    assert (balance.market, balance.scale) == (None, None)


@pytest.mark.parametrize("kind", Kind)
def test_a_wildcard_has_neither_market_nor_scale(kind: Kind) -> None:
    everything = Channel(kind, "X_Y:0" if kind is Kind.DEPTH else "X_Y").everything
    assert everything.wildcard
    assert (everything.market, everything.scale) == (None, None)


def test_covers_itself_and_under_a_wildcard_all_of_its_kind() -> None:
    one, other = Channel.parse("ticker:BTC_USDT"), Channel.parse("ticker:ETH_USDT")
    assert one.covers(one)
    assert not one.covers(other)
    assert one.everything.covers(other)
    assert not one.covers(one.everything)
    assert not one.everything.covers(Channel.parse("trade:BTC_USDT"))


def _like(pattern: str, text: str) -> bool:
    """The same, letter by letter."""
    if not pattern:
        return not text
    if pattern[0] == "*":
        return any(_like(pattern[1:], text[at:]) for at in range(len(text) + 1))
    return bool(text) and pattern[0] == text[0] and _like(pattern[1:], text[1:])


@given(st.text("AB_*", max_size=6), st.text("AB_", max_size=6))
@example("A_B", "A_B")
@example("", "")
@example("A*A", "A")
def test_a_pattern_matches_as_letter_by_letter(pattern: str, text: str) -> None:
    assert like(pattern, text) == _like(pattern, text)
