import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.channel import Channel
from app.domain.position import Position
from app.hub.history import History
from tests.given import at

TICKER = Channel.parse("ticker:BTC_USDT")
TRADE = Channel.parse("trade:BTC_USDT")
ALL = {"size": 10**9, "steps": 10**9}


def everything(_channel: Channel) -> bool:
    return True


def filled(keep: int, *positions: str) -> History:
    history = History(keep)
    for position in positions:
        history.add(at(position), TICKER, position.encode())
    return history


def test_the_head_is_the_last_position_heard() -> None:
    history = History(10)
    assert at("0-0") == history.head
    history.start(at("7-5"))
    assert at("7-5") == history.head
    history.add(at("7-6"), TICKER, b"x")
    assert at("7-6") == history.head
    history.mark(at("8-0"))
    assert at("8-0") == history.head


def test_gives_exactly_what_came_after_a_position_on_the_channels_followed() -> None:
    history = filled(10, "7-1", "7-2")
    history.add(at("7-3"), TRADE, b"trade")
    history.mark(at("8-0"))
    history.add(at("8-1"), TICKER, b"8-1")
    frames, reached = history.after(at("7-1"), TICKER.__eq__, **ALL)
    assert ([b"7-2", b"8-1"], at("8-1")) == (frames, reached)


def test_at_the_head_there_is_nothing_more() -> None:
    assert ([], at("7-2")) == filled(10, "7-1", "7-2").after(at("7-2"), everything, **ALL)
    assert ([], at("0-0")) == History(10).after(at("0-0"), everything, **ALL)


def test_a_slice_ends_after_its_size_and_after_its_steps() -> None:
    history = filled(10, "7-1", "7-2", "7-3", "7-4")
    assert ([b"7-2", b"7-3"], at("7-3")) == history.after(at("7-1"), everything, size=4, steps=10)
    assert ([], at("7-3")) == history.after(at("7-1"), TRADE.__eq__, size=4, steps=2)


@given(st.lists(st.booleans(), max_size=60), st.integers(1, 9), st.integers(1, 9))
def test_slices_put_together_are_the_whole(own: list[bool], size: int, steps: int) -> None:
    history = History(1000)
    for number, mine in enumerate(own, 1):
        history.add(at(f"7-{number}"), TICKER if mine else TRADE, b"%03d" % number)
    frames, reached = list[bytes](), at("0-0")
    while reached != history.head:
        before = reached
        found, reached = history.after(reached, TICKER.__eq__, size=size, steps=steps)
        assert reached > before
        frames += found
    assert frames == [b"%03d" % number for number, mine in enumerate(own, 1) if mine]


@pytest.mark.parametrize("keep", [1, 2, 8, 100])
def test_the_last_events_are_kept_and_memory_is_bounded(keep: int) -> None:
    history = filled(keep, *(f"7-{number}" for number in range(1, 401)))
    oldest_kept = at(f"7-{400 - keep}")
    assert history.refusal(oldest_kept) is None
    frames, _ = history.after(oldest_kept, everything, **ALL)
    assert keep == len(frames)
    assert history.refusal(at("7-1")) == "history_expired"
    frames, _ = history.after(at("0-0"), everything, **ALL)
    assert len(frames) <= keep * 9 // 8 + 1


def test_a_position_above_the_end_is_unknown() -> None:
    history = filled(10, "7-1", "7-2")
    assert history.refusal(at("7-3")) == "unknown_position"
    assert history.refusal(at("8-0")) == "unknown_position"


def test_a_position_that_no_event_had_is_unknown() -> None:
    """A tail that the journal lost: the client heard what nobody knows any more."""
    history = filled(10, "7-1", "7-2")
    history.mark(at("8-0"))
    history.add(at("8-1"), TICKER, b"x")
    assert history.refusal(at("7-3")) == "unknown_position"
    assert history.refusal(at("7-2")) is None
    assert history.refusal(at("8-0")) is None


def test_a_position_of_a_former_life_has_expired() -> None:
    """The first leader's epoch is larger than any position of before its journal began."""
    assert filled(10, "7-1", "7-2").refusal(at("6-9")) == "history_expired"
    assert History(10).refusal(at("0-0")) == "history_expired"
    assert filled(10, "7-1", "7-2").refusal(at("0-0")) == "history_expired"


def test_a_position_before_the_start_has_expired_and_the_start_itself_has_not() -> None:
    history = filled(10, "7-1", "7-2")
    history.start(at("7-9"))
    assert history.refusal(at("7-2")) == "history_expired"
    assert history.refusal(at("7-9")) is None
    assert history.refusal(at("7-10")) == "unknown_position"
    history.add(at("7-11"), TICKER, b"x")
    assert history.refusal(at("7-9")) is None
    assert ([b"x"], at("7-11")) == history.after(at("7-9"), everything, **ALL)


class TestPrepending:
    """What the broker still has from before goes in front, so that it can be resumed from."""

    @staticmethod
    def older(*texts: str) -> list[tuple[Position, Channel, bytes]]:
        return [(at(text), TICKER, text.encode()) for text in texts]

    def test_a_stream_may_resume_from_there_and_gets_all(self) -> None:
        history = History(10)
        history.start(at("7-4"))
        history.add(at("7-5"), TICKER, b"7-5")
        history.prepend(at("7-1"), self.older("7-2", "7-3", "7-4"))
        assert history.refusal(at("7-1")) is None
        assert history.refusal(at("7-3")) is None
        assert history.refusal(at("7-4")) is None
        assert history.floor == at("7-1")
        found = history.after(at("7-1"), everything, **ALL)
        assert ([b"7-2", b"7-3", b"7-4", b"7-5"], at("7-5")) == found
        assert ([b"7-4", b"7-5"], at("7-5")) == history.after(at("7-3"), everything, **ALL)

    def test_what_is_not_between_is_left_out(self) -> None:
        """Entries are told as a whole: their first and last events may be known."""
        history = filled(10)
        history.start(at("7-4"))
        history.add(at("7-5"), TICKER, b"7-5")
        history.prepend(at("7-2"), self.older("7-1", "7-2", "7-3", "7-4", "7-5", "7-6"))
        found = history.after(at("7-2"), everything, **ALL)
        assert ([b"7-3", b"7-4", b"7-5"], at("7-5")) == found

    def test_before_it_everything_has_still_expired(self) -> None:
        history = History(10)
        history.start(at("7-4"))
        history.prepend(at("7-2"), self.older("7-3", "7-4"))
        assert history.refusal(at("7-1")) == "history_expired"
        history.prepend(at("7-0"), self.older("7-1", "7-2"))
        assert history.refusal(at("7-1")) is None
        found = history.after(at("7-1"), everything, **ALL)
        assert ([b"7-2", b"7-3", b"7-4"], at("7-4")) == found

    def test_nothing_may_have_happened_between(self) -> None:
        history = History(10)
        history.start(at("8-0"))
        history.prepend(at("7-9"), [])
        assert history.refusal(at("7-9")) is None
        assert ([], at("7-9")) == history.after(at("7-9"), everything, **ALL)

    def test_it_is_dropped_first(self) -> None:
        history = filled(8)
        history.start(at("7-100"))
        history.prepend(at("7-96"), self.older("7-97", "7-98", "7-99", "7-100"))
        for number in range(101, 120):
            history.add(at(f"7-{number}"), TICKER, b"%d" % number)
        assert history.refusal(at("7-98")) == "history_expired"
        assert history.refusal(at("7-111")) is None
        frames, _ = history.after(at("7-111"), everything, **ALL)
        assert frames == [b"%d" % number for number in range(112, 120)]
