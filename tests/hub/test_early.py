import asyncio

from app.domain.channel import Channel
from app.domain.position import Position
from app.hub.early import PATIENCE, Early
from app.hub.subscription import Subscription
from tests.fakes.outlet import FakeOutlet, Kept
from tests.given import at


class Waiting(Early):
    """Keeps who was let go on."""

    def __init__(self) -> None:
        self.resumed: list[tuple[Subscription, Position]] = []
        super().__init__(lambda *one: self.resumed.append(one))


def subscription() -> Subscription:
    channels = frozenset({Channel.parse("ticker:BTC_USDT")})
    return Subscription(channels, FakeOutlet(), Kept(), ends_at=1e9)


async def test_it_waits_until_its_position_is_heard() -> None:
    early, near, far = Waiting(), subscription(), subscription()
    early.hold(near, at("7-5"))
    early.hold(far, at("7-9"))
    early.admit(at("7-4"))
    assert early.resumed == []
    early.admit(at("7-6"))
    assert early.resumed == [(near, at("7-5"))]
    assert near not in early
    assert far in early


async def test_patience_ends() -> None:
    early, one = Waiting(), subscription()
    early.hold(one, at("7-5"))
    await asyncio.sleep(PATIENCE + 0.1)
    assert early.resumed == [(one, at("7-5"))]


async def test_who_has_gone_is_not_let_go_on() -> None:
    early, one = Waiting(), subscription()
    early.hold(one, at("7-5"))
    early.forget(one)
    await asyncio.sleep(PATIENCE + 0.1)
    early.admit(at("7-9"))
    assert early.resumed == []
