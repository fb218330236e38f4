"""States as answers, without HTTP."""

import json

import pytest

from app.api.answers import Answer, is_stale
from app.domain.channel import Channel
from app.domain.store import State
from app.errors import NotReady
from tests import given
from tests.api.harness import Gateway, lost, price


def states(gateway: Gateway, *channels: str) -> list[State]:
    return list(gateway.hub.store.matching(map(Channel.parse, channels)))


async def test_stands_at_the_greatest_position() -> None:
    gateway = Gateway()
    gateway.hear(price("BTC_USDT", "1"), price("ETH_USDT", "1"))
    known = states(gateway, "lastprice:*")
    assert Answer(gateway.hub, known, stale_after=30).position == given.at("7-2")
    assert Answer(gateway.hub, known[::-1], stale_after=30).position == given.at("7-2")


async def test_an_unchanged_answer_may_be_too_old() -> None:
    gateway = Gateway()
    gateway.hear(price("BTC_USDT", "1", age=3))
    answer = Answer(gateway.hub, states(gateway, "lastprice:BTC_USDT"), stale_after=30)
    assert answer.unchanged(60).status_code == 304
    assert answer.unchanged(None).status_code == 304
    with pytest.raises(NotReady, match="at most 1 s"):
        answer.unchanged(1)


async def test_what_no_leader_follows_is_stale() -> None:
    gateway = Gateway()
    gateway.hear(price("BTC_USDT", "1"))
    gateway.report(ticker=lost(0))
    [state] = states(gateway, "lastprice:BTC_USDT")
    assert is_stale(gateway.hub, state, state.received, 30)


async def test_one_answer_is_of_one_moment() -> None:
    """Every age in it is judged at the same time."""
    gateway = Gateway()
    received = price("BTC_USDT", "1", age=5).received
    gateway.hear(
        given.price("BTC_USDT", "1", received=received),
        given.price("ETH_USDT", "1", received=received),
    )
    body = json.loads((await gateway.get("/v1/lastprice")).content)
    first, second = body["data"]
    assert first["age"] == second["age"]
