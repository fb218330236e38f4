"""A listener's inbox: bounded, and of each sender only the newest notice."""

import pytest

from app.bus.broker import Wish
from app.bus.listener import Inbox
from app.bus.messages import Packed, dump_notice
from app.domain.channel import Channel
from app.domain.event import Entry
from app.domain.health import Health
from app.errors import Unreadable
from tests.bus.road import ticks
from tests.given import at

HEALTH = Health(7, 1.0, "live", 0.5)


def wish(process: str, channels: str = "ticker:*") -> Wish:
    return Wish(process, frozenset({Channel.parse(channels)}))


def told(notice: Health | Wish) -> bytes:
    """As it is published."""
    data = dump_notice(notice)
    return b"W" + data if isinstance(notice, Wish) else b"H7-3\n" + data


def packed(one: Entry) -> bytes:
    return b"E" + Packed.of(one).dumps()


class TestInbox:
    def test_gives_entries_in_the_order_of_their_coming(self) -> None:
        inbox = Inbox(100)
        for one in ticks(1, 9, size=3):
            inbox.put(packed(one))
        assert [Packed.of(one) for one in ticks(1, 9, size=3)] == [inbox.take() for _ in range(3)]
        assert not inbox.entries

    def test_holds_no_more_events_than_it_may_and_says_that_it_is_behind(self) -> None:
        inbox = Inbox(10)
        inbox.behind = False
        for one in ticks(1, 9, size=3):
            inbox.put(packed(one))
        assert len(inbox.entries) == 3
        assert not inbox.behind
        inbox.put(packed(ticks(10, 12, size=3)[0]))
        assert len(inbox.entries) == 0
        assert inbox.behind

    def test_has_room_again_for_what_was_taken_or_lost(self) -> None:
        inbox = Inbox(10)
        inbox.behind = False
        for number in range(10):
            inbox.put(packed(ticks(1, 10, size=10)[0]))
            if number % 2:
                inbox.take()
            else:
                inbox.lose()
            inbox.behind = False
            inbox.put(packed(ticks(1, 10, size=10)[0]))
            assert not inbox.behind
            inbox.take()

    def test_keeps_the_newest_notice_of_each_sender(self) -> None:
        inbox = Inbox(10)
        old, new = Health(7, 1.0, "down", 0.5), HEALTH
        for one in (wish("a", "trade:*"), old, wish("b"), wish("a"), new):
            inbox.put(told(one))
        inbox.keep(wish("a", "trade:*"), newest=False)
        inbox.keep(wish("c"), newest=False)
        found = [notice for notice, _ in inbox.take_notices()]
        assert len(found) == 4
        assert all(one in found for one in (new, wish("a"), wish("b"), wish("c")))

    def test_a_health_says_where_the_journal_ended(self) -> None:
        inbox = Inbox(10)
        inbox.put(told(HEALTH))
        assert list(inbox.take_notices()) == [(HEALTH, at("7-3"))]

    @pytest.mark.parametrize(
        "message", [b"Egarbage", b"Wgarbage", b"Hgarbage", b"H7-3\ngarbage", b"", b"X"]
    )
    def test_garbage_is_unreadable_and_changes_nothing(self, message: bytes) -> None:
        inbox = Inbox(10)
        inbox.put(packed(ticks(1, 1)[0]))
        inbox.put(told(HEALTH))
        with pytest.raises(Unreadable):
            inbox.put(message)
        assert [Packed.of(*ticks(1, 1))] == [inbox.take()]
        assert [notice for notice, _ in inbox.take_notices()] == [HEALTH]
