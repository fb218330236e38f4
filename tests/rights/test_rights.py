"""Scopes and patterns."""

import pytest

from app.domain.channel import Channel
from app.rights.rights import Rights, readable

ORDERS = Channel.parse("order:*")


def rights(*patterns: str, scopes: str = "market account") -> Rights:
    return Rights(frozenset(scopes.split()), readable(patterns) if patterns else None, holder="x")


@pytest.mark.parametrize(
    ("patterns", "channel", "seen"),
    [
        ((), "order:BTC_USDT", True),
        (("order:BTC_*",), "order:BTC_USDT", True),
        (("order:BTC_*",), "order:ETH_USDT", False),
        (("order:BTC_*",), "deal:BTC_USDT", False),
        (("*:BTC_USDT",), "deal:BTC_USDT", True),
        (("*:BTC_USDT",), "deal:BTC_USDT2", False),
        (("*:*_USDT",), "deal:BTC_USDT", True),
        (("*:B*_U*T",), "deal:BTC_USDT", True),
        (("*:B*_U*C",), "deal:BTC_USDT", False),
        (("*",), "balance:BTC", True),
        (("depth:BTC_USDT:*",), "depth:BTC_USDT:3", True),
        (("order:BTC_*",), "order:*", False),
        (("order:*",), "order:*", True),
    ],
)
def test_patterns_say_what_is_seen(patterns: tuple[str, ...], channel: str, seen: bool) -> None:
    assert rights(*patterns).sees(Channel.parse(channel)) is seen


def test_scopes_part_public_from_private_channels() -> None:
    assert not rights(scopes="market").sees(ORDERS)
    assert not rights(scopes="account").sees(Channel.parse("ticker:BTC_USDT"))
    assert not rights("order:BTC_*", scopes="market").sees_some(ORDERS)
    assert not rights(scopes="admin metrics").sees_some(ORDERS)


def test_a_wildcard_is_narrowed_by_the_patterns() -> None:
    caller = rights("order:BTC_*", "*:ETH_USDT", "deal:*")
    found = [str(channel) for channel in caller.narrowed([ORDERS, Channel.parse("deal:*")])]
    assert found == ["order:BTC_*", "order:ETH_USDT", "deal:*"]
    assert list(caller.narrowed([Channel.parse("ticker:BTC_USDT")])) == []


def test_many_stars_take_no_time() -> None:
    assert not rights("order:" + "*A" * 30).sees(Channel.parse("order:" + "A" * 20 + "_B"))


@pytest.mark.parametrize(
    "pattern", ["", "order", "orders:*", "order:btc", "order:[A]", "order:?", "a\n:*"]
)
def test_a_malformed_pattern_is_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match="malformed"):
        readable([pattern])


def test_too_many_patterns_are_refused() -> None:
    with pytest.raises(ValueError, match="at most 100"):
        readable([f"order:A{number}_B" for number in range(101)])
