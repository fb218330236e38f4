"""Collecting, over a clock on which writing takes as long as the test says."""

from collections.abc import Iterator

import pytest

from app.domain.channel import Channel
from app.domain.event import Entry
from app.hub.collector import REST, Collector
from app.hub.groups import Groups
from app.hub.subscription import Subscription
from app.telemetry import Metrics
from tests.fakes.clock import StillLoop
from tests.fakes.outlet import FakeOutlet, Kept
from tests.given import at, made

BTC = Channel.parse("ticker:BTC_USDT")


class SlowOutlet(FakeOutlet):
    """Taking bytes takes time; for ``steal`` more the processor is another program's."""

    def __init__(self, loop: StillLoop, seconds: float) -> None:
        super().__init__()
        self._loop = loop
        self.seconds = seconds
        self.steal = self.stolen = 0.0

    def write(self, data: bytes) -> None:
        self.before_write()
        self._loop.now += self.seconds + self.steal
        self.stolen += self.steal
        super().write(data)

    def before_write(self) -> None:
        """For who wants to look."""


class Desk:
    """A collector with one member, to whom a write takes some seconds."""

    def __init__(self, seconds: float) -> None:
        self.loop = StillLoop()
        self.groups = Groups()
        self.metrics = Metrics()
        self.written: list[str] = []
        self.collector = self.loop.do(
            lambda: Collector(
                self.groups,
                self.metrics,
                on_written=lambda: self.written.append(str(self.collector.sent)),
                cpu=lambda: self.loop.now - self.outlet.stolen,
            )
        )
        self.outlet = SlowOutlet(self.loop, seconds)
        channels = frozenset({BTC})
        self.groups.join(Subscription(channels, self.outlet, Kept(), ends_at=1e9), 0.0)

    def publish(self, number: int) -> None:
        one = made(str(BTC), f"7-{number}")

        def act() -> None:
            self.groups.collect(BTC, b"%d " % number)
            self.collector.publish(Entry(None, one.position, (one,)))

        self.loop.do(act)

    def pass_time(self, seconds: float) -> None:
        self.loop.now += seconds
        self.loop.settle(3)


@pytest.fixture(name="desk")
def _desk(request: pytest.FixtureRequest) -> Iterator[Desk]:
    desk = Desk(request.param)
    yield desk
    desk.loop.close()


@pytest.mark.parametrize("desk", [0.008], indirect=True)
def test_a_lone_event_is_written_at_once(desk: Desk) -> None:
    for number in (1, 2, 3):
        desk.publish(number)
        desk.pass_time(0.009)
    assert desk.outlet.writes == [b"1 ", b"2 ", b"3 "]
    assert desk.written == ["7-1", "7-2", "7-3"]


@pytest.mark.parametrize("desk", [0.008], indirect=True)
def test_a_few_in_a_row_are_written_at_once(desk: Desk) -> None:
    desk.publish(1)
    desk.publish(2)
    assert desk.outlet.writes == [b"1 ", b"2 "]


@pytest.mark.parametrize("desk", [0.008], indirect=True)
def test_what_follows_waits_until_enough_is_paid_off_and_goes_out_together(desk: Desk) -> None:
    for number in (1, 2, 3, 4, 5):
        desk.publish(number)
    assert desk.outlet.writes == [b"1 ", b"2 ", b"3 "]  # for 24 ms of rest, of which 20 are owed
    assert desk.collector.sent == at("7-3")
    desk.pass_time(0.003)
    assert len(desk.outlet.writes) == 3
    desk.pass_time(0.0015)
    assert desk.outlet.writes[3:] == [b"4 5 "]
    assert desk.collector.sent == at("7-5")


@pytest.mark.parametrize("desk", [0.008], indirect=True)
def test_in_a_flood_it_rests_as_long_as_it_writes(desk: Desk) -> None:
    began = desk.loop.now
    for number in range(1, 1001):
        desk.publish(number)
        desk.pass_time(0.001)
    spent = 0.008 * len(desk.outlet.writes)
    assert 0.4 < spent / (desk.loop.now - began) < 0.55


@pytest.mark.parametrize("desk", [0.008], indirect=True)
def test_what_another_program_took_is_not_owed(desk: Desk) -> None:
    desk.outlet.steal = 0.05
    desk.publish(1)
    desk.outlet.steal = 0.0
    desk.publish(2)
    assert desk.outlet.writes == [b"1 ", b"2 "]


@pytest.mark.parametrize("desk", [0.008], indirect=True)
def test_the_age_of_a_delivery_counts_its_writing(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts: list[float | None] = []

    def look() -> None:
        name = "sluice_delivery_age_seconds_count"
        counts.append(desk.metrics.registry.get_sample_value(name))

    monkeypatch.setattr(desk.outlet, "before_write", look)
    desk.publish(1)
    look()
    assert counts == [0, 1]


@pytest.mark.parametrize("desk", [0.008], indirect=True)
def test_who_wants_to_know_of_a_write_is_told_what_it_held(desk: Desk) -> None:
    told: list[tuple[str, str, int, float]] = []
    desk.collector.told = lambda after, upto, frames, seconds: told.append(
        (str(after), str(upto), frames, round(seconds, 6))
    )
    for number in (1, 2, 3, 4, 5):
        desk.publish(number)
    desk.pass_time(0.01)
    assert told[0] == ("0-0", "7-1", 1, 0.008)
    assert told[-1] == ("7-3", "7-5", 2, 0.008)


@pytest.mark.parametrize("desk", [1.0], indirect=True)
def test_however_long_the_writing_takes_the_rest_is_short(desk: Desk) -> None:
    desk.publish(1)
    desk.publish(2)
    desk.pass_time(REST + 0.001)
    assert desk.outlet.writes == [b"1 ", b"2 "]


@pytest.mark.parametrize("desk", [0.008], indirect=True)
def test_what_nobody_follows_is_sent_as_soon_as_it_is_heard(desk: Desk) -> None:
    one = made("ticker:ETH_USDT", "7-5")
    desk.loop.do(lambda: desk.collector.publish(Entry(None, one.position, (one,))))
    assert desk.collector.sent == at("7-5")
    assert desk.written == []


@pytest.mark.parametrize("desk", [0.03], indirect=True)
def test_it_can_be_made_to_write_before_its_time(desk: Desk) -> None:
    desk.publish(1)
    desk.publish(2)
    assert desk.outlet.writes == [b"1 "]
    desk.loop.do(desk.collector.write)
    assert desk.outlet.writes == [b"1 ", b"2 "]
    desk.pass_time(1.0)
    assert len(desk.outlet.writes) == 2


@pytest.mark.parametrize("desk", [0.03], indirect=True)
def test_written_before_its_time_it_forgets_that_time(desk: Desk) -> None:
    desk.publish(1)
    desk.publish(2)  # to be written 10 ms later
    desk.outlet.seconds = 0.002
    desk.loop.do(desk.collector.write)
    desk.publish(3)
    desk.pass_time(0.0095)
    assert desk.outlet.writes == [b"1 ", b"2 "]
    desk.pass_time(0.003)
    assert desk.outlet.writes == [b"1 ", b"2 ", b"3 "]


@pytest.mark.parametrize("desk", [0.008], indirect=True)
def test_it_can_begin_anew(desk: Desk) -> None:
    desk.loop.do(lambda: desk.collector.start(at("8-0")))
    assert desk.collector.sent == at("8-0")
