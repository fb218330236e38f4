"""Who may read what."""

import pytest

from app.api.deps import Limits
from app.api.rights import authorise
from app.domain.channel import Channel
from app.errors import NotAllowed

PUBLIC = [Channel.parse("ticker:*"), Channel.parse("depth:BTC_USDT:0")]


def test_public_channels_are_open_to_all() -> None:
    authorise(PUBLIC, Limits())


@pytest.mark.parametrize("channel", ["order:BTC_USDT", "order:*", "balance:USDT", "deal:*"])
def test_private_channels_want_credentials(channel: str) -> None:
    with pytest.raises(NotAllowed, match="private") as caught:
        authorise([*PUBLIC, Channel.parse(channel)], Limits())
    assert caught.value.status == 401


@pytest.mark.parametrize("channels", [PUBLIC, []])
def test_anonymous_none_wants_them_for_everything(channels: list[Channel]) -> None:
    with pytest.raises(NotAllowed) as caught:
        authorise(channels, Limits(anonymous=False))
    assert caught.value.status == 401
