"""Streams that resume at a process which has come up lately, whatever happens to it and to the
broker that it asks: each gets all that it missed, or is told that it cannot.
"""

from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.channel import Channel
from app.domain.event import Entry
from app.domain.store import Store
from app.hub.hub import Hub, HubOptions
from app.hub.recall import LIMIT
from app.telemetry import Metrics
from tests.fakes.clock import StillLoop
from tests.fakes.outlet import FakeOutlet
from tests.given import entry, made
from tests.hub.kept import Kept, apply
from tests.hub.place import BTC, ETH


class World:
    """A process with a short history, a broker with a longer one, and clients that resume."""

    def __init__(self) -> None:
        self.loop = StillLoop()
        self.kept = self.loop.do(Kept)
        self.store = Store()
        options = HubOptions(history=8, lifetime=10**9)
        self.hub = self.loop.do(lambda: Hub(self.store, options, Metrics(), older=self.kept.older))
        self.running = self.loop.create_task(self.hub.recall.run())
        self.epoch, self.number = 7, 0
        self.kept.add(entry(None, opens="7-0"))
        self.loop.do(lambda: self.hub.reload(None))
        self.clients: list[tuple[FakeOutlet, str]] = []
        self.do("publish", 6)

    @property
    def log(self) -> list[str]:
        """Every position on the first channel, in order."""
        made_ = (envelope for one in self.kept.entries for envelope in one.envelopes)
        return [str(one.position) for one in made_ if str(one.channel) == BTC]

    def _next(self, size: int) -> Entry:
        before, self.number = f"{self.epoch}-{self.number}", self.number + size
        numbers = range(self.number - size + 1, self.number + 1)
        made_ = (made(BTC if one % 2 else ETH, f"{self.epoch}-{one}") for one in numbers)
        return self.kept.add(entry(before, *made_))[0]

    def do(self, what: str, number: int) -> None:
        self.loop.do(lambda: getattr(self, f"_{what}")(number))

    def _publish(self, number: int) -> None:
        for size in range(1, number % 4 + 2):
            apply(self.hub, self._next(size))

    def _open(self, _number: int) -> None:
        before = f"{self.epoch}-{self.number}"
        self.epoch, self.number = self.epoch + 1, 0
        apply(self.hub, *self.kept.add(entry(before, opens=f"{self.epoch}-0")))

    def _miss(self, number: int) -> None:
        """The process falls behind, and is told everything anew by snapshots."""
        for size in range(1, number % 4 + 2):
            for envelope in self._next(size).envelopes:
                self.store.apply(envelope)
        self.hub.reload(self.kept.entries[-1].position)

    def _join(self, number: int) -> None:
        after = self.log[-1 - number % len(self.log)]
        outlet = FakeOutlet()
        channels = frozenset({Channel.parse(BTC)})
        self.hub.join(channels, outlet, after)
        self.clients.append((outlet, after))

    def _trim(self, number: int) -> None:
        """The broker forgets its oldest entries."""
        self.kept.first = min(self.kept.first + number, len(self.kept.entries) - 1)

    def _answer(self, _number: int) -> None:
        self.kept.open.set()

    def _hang(self, _number: int) -> None:
        self.kept.open.clear()

    def _away(self, number: int) -> None:
        self.kept.away = bool(number % 2)

    def close(self) -> None:
        self.do("answer", 0)
        for _ in self.clients:
            self.loop.now += LIMIT  # a broker that is away is asked for so long
            self.loop.settle()
        self.do("publish", 0)
        self.loop.settle()
        self.running.cancel()
        self.loop.settle(3)
        self.loop.close()

    def judge(self) -> None:
        for outlet, after in self.clients:
            blocks = outlet.take()
            missed = self.log[self.log.index(after) + 1 :]
            told = [block.json() for block in blocks if block.event == "gateway"]
            got = [block.json()["position"] for block in blocks if block.event != "gateway"]
            if not any(one["type"] == "reset" for one in told):
                assert got == missed, f"a hole after {after}"
                continue
            kinds = [block.json().get("type") for block in blocks]
            before = kinds.index("reset") - kinds[: kinds.index("reset")].count("status")
            assert got[:before] == missed[:before], f"a hole before the reset after {after}"
            assert got[-1] == self.log[-1], "not up to date after a reset"


STEPS = st.tuples(
    st.sampled_from(["publish"] * 3 + ["join"] * 3 + ["settle"] * 3)
    | st.sampled_from(["open", "miss", "trim", "answer", "hang", "away"]),
    st.integers(0, 50),
)


@settings(max_examples=300)
@given(st.lists(STEPS, max_size=40))
def test_every_stream_gets_all_that_it_missed_or_a_reset(steps: list[tuple[str, int]]) -> None:
    world = World()
    try:
        for what, number in steps:
            if what == "settle":
                world.loop.settle(20)
            else:
                world.do(what, number)
    finally:
        world.close()
    world.judge()
