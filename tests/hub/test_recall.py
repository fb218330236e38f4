"""Streams that resume from before a process's own history: all that they missed, or a reset.

The clock is virtual; what the broker keeps is a list, given when the test says so.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import cast

import pytest

from app.domain.channel import Channel
from app.domain.position import START, Position
from app.domain.store import Store
from app.hub.history import History
from app.hub.hub import Hub, HubOptions
from app.hub.recall import LIMIT, TURN, Recall
from app.hub.subscription import Subscription
from app.telemetry import Metrics
from tests.fakes.outlet import FakeOutlet
from tests.given import at, entry, made
from tests.hub.kept import Kept, apply, entries
from tests.hub.place import BTC, ETH, Place, fields, positions, settle


@asynccontextmanager
async def process(kept: Kept, *, history: int = 1000) -> AsyncIterator[Place]:
    """A process that has come up at 7-100 and heard up to 7-110; the broker knows all from 7-0."""
    if not kept.entries:
        kept.add(entry(None, opens="7-0"), *entries(1, 110, size=2))
    store = Store()
    hub = Hub(store, HubOptions(history=history), Metrics(), older=kept.older)
    store.reload(at("7-100"), [made(BTC, "7-99"), made(ETH, "7-100")])
    hub.reload(at("7-100"))
    apply(hub, *(one for one in kept.entries if one.position > at("7-100")))
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(hub.recall.run())
        yield Place(hub)
        running.cancel()


def odd(first: int, last: int) -> list[str]:
    """The positions on the first channel."""
    return [f"7-{number}" for number in range(first, last + 1) if number % 2]


def reset(outlet: FakeOutlet) -> list[str]:
    """The reasons for which it was reset, after which it has the newest state."""
    controls = outlet.controls()
    latest = [block.json()["position"] for block in outlet.reader.blocks if block.id]
    found = [reason for reason in fields(controls, "reason") if reason]
    assert not found or latest, "a reset without a snapshot"
    return found


@pytest.mark.looptime
class TestRecall:
    async def test_what_a_client_missed_is_asked_for_and_comes_before_what_is_new(self) -> None:
        kept = Kept()
        async with process(kept) as place:
            outlet = place.join(BTC, after="7-43")
            await settle()
            assert positions(outlet) == []
            apply(place.hub, *kept.add(*entries(111, 114)))
            kept.open.set()
            await settle()
            apply(place.hub, *kept.add(*entries(115, 116)))
            assert positions(outlet) == odd(45, 116)
            assert kept.questions == [("7-43", "7-100")]

    async def test_a_thousand_that_come_over_at_once_cost_one_question(self) -> None:
        kept = Kept()
        async with process(kept) as place:
            outlets = {
                number: place.join(BTC, after=f"7-{number % 90 + 2}") for number in range(1000)
            }
            await settle()
            kept.open.set()
            await settle()
            late = place.join(BTC, after="7-50")
            await settle()
            for number, outlet in outlets.items():
                assert positions(outlet) == odd(number % 90 + 3, 110)
            assert positions(late) == odd(51, 110)
            assert kept.questions == [("7-2", "7-100")]

    async def test_one_older_than_all_others_is_asked_for_beyond_them(self) -> None:
        kept = Kept()
        kept.open.set()
        async with process(kept) as place:
            first = place.join(BTC, after="7-50")
            await settle()
            second = place.join(BTC, after="7-20")
            await settle()
            assert positions(first) == odd(51, 110)
            assert positions(second) == odd(21, 110)
            assert kept.questions == [("7-50", "7-100"), ("7-20", "7-50")]

    async def test_one_inside_an_entry_gets_the_rest_of_it(self) -> None:
        kept = Kept()
        kept.open.set()
        kept.add(entry(None, opens="7-0"), *entries(1, 110, size=10))
        async with process(kept) as place:
            outlet = place.join(BTC, ETH, after="7-45")
            await settle()
            assert positions(outlet) == [f"7-{number}" for number in range(46, 111)]

    async def test_over_a_change_of_leaders_nothing_is_missing(self) -> None:
        kept = Kept()
        kept.open.set()
        async with process(kept) as place:
            place.hub.store.reload(at("8-2"), [made(BTC, "8-1"), made(ETH, "8-2")])
            kept.add(entry("7-110", opens="8-0"), entry("8-0", made(BTC, "8-1"), made(ETH, "8-2")))
            place.hub.reload(at("8-2"))
            outlet = place.join(BTC, after="7-105")
            await settle()
            apply(place.hub, *kept.add(entry("8-2", made(BTC, "8-3"))))
            assert positions(outlet) == [*odd(107, 110), "8-1", "8-3"]

    async def test_one_that_the_broker_does_not_reach_is_reset_and_no_other(self) -> None:
        kept = Kept()
        async with process(kept) as place:
            kept.first = 21  # from 7-41 on
            old, known = place.join(BTC, after="7-39"), place.join(BTC, after="7-41")
            kept.open.set()
            await settle()
            assert reset(old) == ["history_expired"]
            assert positions(known) == odd(43, 110)
            assert old.reader.last_event_id == "7-109"

    async def test_one_that_nobody_knows_is_reset(self) -> None:
        kept = Kept()
        kept.open.set()
        async with process(kept) as place:
            outlets = [place.join(BTC, after=after) for after in ("6-9", "0-0", "0-1")]
            await settle()
            assert [reset(outlet) for outlet in outlets] == [["history_expired"]] * 3

    async def test_without_a_broker_to_ask_it_is_reset_at_once(
        self, make: Callable[..., Place]
    ) -> None:
        place = make()
        place.hub.reload(at("7-100"))
        place.tick(BTC, 101, 102)
        outlet = place.join(BTC, after="7-43")
        assert reset(outlet) == ["history_expired"]

    async def test_while_the_broker_is_away_for_long_it_is_reset(self) -> None:
        kept = Kept()
        kept.away = True
        kept.open.set()
        async with process(kept) as place:
            outlet = place.join(BTC, after="7-43")
            await asyncio.sleep(LIMIT + 1)
            assert reset(outlet) == ["history_expired"]
            kept.away = False
            again = place.join(BTC, after="7-43")
            await settle()
            assert positions(again) == odd(45, 110)

    async def test_a_long_stretch_is_had_whole(self) -> None:
        """Longer than what is put into frames at one go."""
        kept = Kept()
        kept.open.set()
        kept.add(entry(None, opens="7-0"), *entries(1, 3 * TURN, size=64))
        history = History(10 * TURN)
        history.start(at(f"7-{3 * TURN}"))
        resumed: list[Position] = []
        recall = Recall(history, kept.older, lambda _, position: resumed.append(position))
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(recall.run())
            assert recall.ask(cast("Subscription", None), at("7-1"))
            await settle()
            running.cancel()
        assert resumed == [at("7-1")]
        found, _ = history.after(at("7-1"), lambda _: True, size=10**9, steps=10**9)
        assert len(found) == 3 * TURN - 1

    async def test_a_broker_that_is_away_is_asked_until_it_is_back(self) -> None:
        kept = Kept()
        kept.away = True
        kept.open.set()
        async with process(kept) as place:
            outlet = place.join(BTC, after="7-43")
            await asyncio.sleep(LIMIT - 1)
            kept.away = False
            await asyncio.sleep(1)
            assert positions(outlet) == odd(45, 110)

    async def test_one_that_comes_while_the_broker_is_away_has_its_own_time(self) -> None:
        kept = Kept()
        kept.away = True
        kept.open.set()
        async with process(kept) as place:
            early = place.join(BTC, after="7-43")
            await asyncio.sleep(LIMIT - 1)
            late = place.join(BTC, after="7-41")
            await asyncio.sleep(2)
            assert reset(early) == ["history_expired"]
            kept.away = False
            await asyncio.sleep(1)
            assert positions(late) == odd(43, 110)

    async def test_a_broker_that_does_not_answer_holds_nobody_up_for_long(self) -> None:
        """However many there are, and wherever they resume from."""
        kept = Kept()
        async with process(kept) as place:
            outlets = [place.join(BTC, after=f"7-{number}") for number in range(1, 91)]
            await asyncio.sleep(2 * LIMIT)
            assert [reset(outlet) for outlet in outlets] == [["history_expired"]] * 90


@pytest.mark.looptime
class TestMeanwhile:
    """What happens while the broker is asked."""

    async def test_one_that_comes_and_is_older_is_asked_for_next(self) -> None:
        kept = Kept()
        async with process(kept) as place:
            first = place.join(BTC, after="7-50")
            await settle()
            second, third = place.join(BTC, after="7-20"), place.join(BTC, after="7-60")
            kept.open.set()
            await settle()
            assert positions(first) == odd(51, 110)
            assert positions(second) == odd(21, 110)
            assert positions(third) == odd(61, 110)
            assert kept.questions == [("7-50", "7-100"), ("7-20", "7-50")]

    async def test_a_history_that_moved_on_makes_no_hole(self) -> None:
        kept = Kept()
        async with process(kept, history=8) as place:
            outlet = place.join(BTC, after="7-43")
            await settle()
            apply(place.hub, *kept.add(*entries(111, 150)))
            kept.open.set()
            await settle()
            assert reset(outlet) == ["history_expired"]
            assert outlet.reader.last_event_id == "7-149"
            apply(place.hub, *kept.add(*entries(151, 152)))
            assert positions(outlet) == ["7-151"]

    @pytest.mark.parametrize("head", ["7-120", "7-100", "7-30", None])
    async def test_a_reload_makes_no_hole(self, head: str | None) -> None:
        kept = Kept()
        async with process(kept) as place:
            outlet = place.join(BTC, after="7-43")
            await settle()
            reached = None if head is None else at(head)
            place.hub.store.reload(reached or START, [made(BTC, head or "7-110")])
            place.hub.reload(reached)
            kept.open.set()
            await settle()
            blocks = [block.json() for block in outlet.take()]
            resets = [one for one in blocks if one["type"] == "reset"]
            found = [one["position"] for one in blocks if "position" in one]
            if head == "7-100":  # where it had begun: nothing else is known of what lies between
                assert (resets, found) == ([], odd(45, 100))
            else:
                assert (len(resets), found) == (1, [head or "7-110"])

    async def test_a_reload_before_anybody_was_asked_asks_nobody(self) -> None:
        kept = Kept()
        async with process(kept) as place:
            outlet = place.join(BTC, after="7-43")
            place.hub.store.reload(at("7-30"), [made(BTC, "7-29")])
            place.hub.reload(at("7-30"))
            await settle()
            assert kept.questions == []
            assert reset(outlet) == ["unknown_position"]

    async def test_a_client_that_goes_is_forgotten(self) -> None:
        kept = Kept()
        async with process(kept) as place:
            gone, other = place.join(BTC, after="7-43"), place.join(BTC, after="7-51")
            await settle()
            written = len(gone.writes)
            gone.owner.gone()
            kept.open.set()
            await settle()
            assert len(gone.writes) == written
            assert positions(other) == odd(53, 110)

    async def test_nothing_is_asked_for_one_that_has_gone_before(self) -> None:
        kept = Kept()
        async with process(kept) as place:
            place.join(BTC, after="7-43").owner.gone()
            await settle()
            assert kept.questions == []

    async def test_a_stream_that_ends_meanwhile_gets_nothing_after_its_bye(self) -> None:
        kept = Kept()
        async with process(kept) as place:
            outlet = place.join(BTC, after="7-43")
            await settle()
            async with asyncio.TaskGroup() as tasks:
                draining = tasks.create_task(place.hub.drain(0.1))
                await settle()
                kept.open.set()
                await draining
            await settle()
            blocks = outlet.take()
            assert outlet.closed
            assert blocks[-1].json()["type"] == "bye"
            assert [block.id for block in blocks if block.id] == []

    async def test_who_waits_is_told_how_the_upstream_is(self) -> None:
        kept = Kept()
        async with process(kept) as place:
            outlet = place.join(BTC, after="7-43")
            await settle()
            place.hub.report(None, "live", 1.0)
            assert fields(outlet.controls(), "upstream") == ["down", "live"]
            kept.open.set()
            await settle()
            assert positions(outlet) == odd(45, 110)

    async def test_who_cannot_take_more_while_it_waits_goes_on_when_it_can(self) -> None:
        kept = Kept()
        async with process(kept) as place:
            outlet = place.join(BTC, after="7-43", high=10)
            await settle()
            assert outlet.full
            kept.open.set()
            await settle()
            got = positions(outlet)
            while got[-1:] != ["7-109"]:
                await settle()
                got += positions(outlet)
            assert got == odd(45, 110)


async def test_who_has_nobody_to_ask_says_so(make: Callable[..., Place]) -> None:
    place = make()
    recall = Recall(place.hub._history, None, lambda _subscription, _position: None)
    subscription = place.hub.join(frozenset({Channel.parse(BTC)}), FakeOutlet(), None)
    assert not recall.ask(subscription, at("7-1"))
    assert subscription not in recall
