"""What requests may say, read."""

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from app.api import parameters
from app.domain.channel import Channel, Kind, depth
from app.domain.position import Position
from app.errors import ClientError, MalformedRequest, TooManyChannels, UnknownChannel

POSITIONS = st.builds(Position, st.integers(0, 10**15), st.integers(0, 10**15))


def test_reads_the_channel_of_a_path() -> None:
    assert parameters.channel_of(Kind.TICKER, "BTC_USDT") == Channel(Kind.TICKER, "BTC_USDT")
    assert parameters.channel_of(Kind.DEPTH, "BTC_USDT", 2) == depth("BTC_USDT", 2)


MARKET = re.compile(r"[A-Z0-9]{1,20}_[A-Z0-9]{1,20}")
"""How a market is spelt."""


@given(
    st.text().filter(lambda name: MARKET.fullmatch(name) is None),
    st.sampled_from([None, 0, 1, 99, 10**40]),
)
@example("*", None)
@example("BTC_USDT:0", None)
@example("BTC_USDT\n", None)
@example("\ud800", None)
def test_any_other_name_is_an_unknown_channel(name: str, scale: int | None) -> None:
    kind = Kind.TICKER if scale is None else Kind.DEPTH
    with pytest.raises(UnknownChannel) as caught:
        parameters.channel_of(kind, name, scale)
    assert caught.value.detail.isprintable()
    assert len(caught.value.detail) < 600


@given(st.lists(st.text(), max_size=3))
@example(["ticker:BTC_USDT,ticker:btc_usdt"])
@example(["ticker:\x1b"])
def test_any_channels_are_read_or_refused(texts: list[str]) -> None:
    refusal: ClientError | None = None
    try:
        parameters.channels_in(texts)
    except ClientError as error:
        refusal = error
    assert refusal is None or refusal.status in {404, 413, 422}
    assert refusal is None or refusal.detail.isprintable()


def test_reads_each_channel_once_in_order() -> None:
    texts = ["ticker:B_U,ticker:A_U", "ticker:B_U", "order:*"]
    found = [str(channel) for channel in parameters.channels_in(texts)]
    assert found == ["ticker:B_U", "ticker:A_U", "order:*"]


def test_two_hundred_names_are_the_most() -> None:
    names = [f"X{number}_U" for number in range(200)]
    assert len(parameters.channels_of(Kind.TICKER, [",".join(names)])) == 200
    with pytest.raises(TooManyChannels, match="201 names"):
        parameters.channels_of(Kind.TICKER, [*names, "Y_U"])


@given(POSITIONS)
def test_reads_any_position(position: Position) -> None:
    assert parameters.position_in(str(position)) == position
    assert parameters.position_in(None) is None


@pytest.mark.parametrize("text", ["", "7", "7-", "-7", "07-1", "7-1 ", "7-1\n", "7_1", "\u0667-1"])
def test_refuses_what_is_no_position(text: str) -> None:
    with pytest.raises(MalformedRequest) as caught:
        parameters.position_in(text)
    assert caught.value.status == 422


@given(POSITIONS, st.lists(st.tuples(POSITIONS, st.booleans())), st.booleans())
def test_if_none_match_names_the_position_or_not(
    position: Position, others: list[tuple[Position, bool]], weak: bool
) -> None:
    spelt = [f'{"W/" if is_weak else ""}"{other}"' for other, is_weak in others]
    known = position in {other for other, _ in others}
    assert parameters.unchanged([", ".join(spelt).encode()], position) is known
    spelt.insert(len(spelt) // 2, f'{"W/" if weak else ""}"{position}"')
    assert parameters.unchanged([",".join(spelt).encode()], position)
    assert parameters.unchanged([tag.encode() for tag in spelt], position)


@given(st.binary())
def test_any_if_none_match_is_judged(line: bytes) -> None:
    assert parameters.unchanged([line], Position(7, 1)) == (
        line.strip() == b"*" or b'"7-1"' in line
    )
