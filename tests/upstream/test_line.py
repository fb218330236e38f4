from itertools import count

import pytest

from app.domain.channel import Channel, Kind, depth
from app.upstream.line import PACE, REFUSED_FOR, RELOAD, RELOAD_MAX, RUNS_MAX, Ask, Line, Phase
from app.upstream.wire import Update

ALL = Channel(Kind.TICKER, "*")
A = Channel(Kind.TICKER, "A_B")
B = Channel(Kind.TICKER, "B_C")
BOOK = depth("A_B", 0)
OTHER = depth("B_C", 0)
EVERY_BOOK = Channel(Kind.DEPTH, "*")
RENEWAL = 600.0


def ticker(channel: Channel) -> Update:
    return Update(channel, {}, 1, full=False)


def delta(channel: Channel = BOOK) -> Update:
    return Update(channel, {}, 1, full=False)


def reload(channel: Channel = BOOK) -> Update:
    return Update(channel, {}, 1, full=True)


def subscribe(*channels: Channel) -> Ask:
    return Ask("subscribe", frozenset(channels))


def unsubscribe(*channels: Channel) -> Ask:
    return Ask("unsubscribe", frozenset(channels))


def steady(*channels: Channel, now: float = 0.0) -> Line:
    """A line that follows ``channels``, acknowledged at ``now``."""
    line = Line(channels[0].kind, count(1))
    line.want(frozenset(channels))
    assert line.due(now) is not None
    line.answered(now, accepted=True)
    return line


def loaded(*books: Channel, now: float = 0.0) -> Line:
    """A line with books that had their full reload at ``now``."""
    line = steady(*books, now=now)
    for book in books:
        assert line.accept(reload(book), now) is not None
    return line


def merging() -> Line:
    """A line that has found the exchange to merge, with a loaded book, at 10 s."""
    line = loaded(BOOK)
    line.want(frozenset({BOOK, OTHER}))
    assert line.due(2.0) == subscribe(BOOK, OTHER)
    line.answered(2.0, accepted=True)
    line.accept(reload(OTHER), 2.0)
    assert line.due(2.0 + RELOAD) == unsubscribe(BOOK)
    line.answered(6.0, accepted=True)
    assert line.due(6.0) == subscribe(BOOK, OTHER)
    line.answered(6.0, accepted=True)
    line.accept(reload(BOOK), 6.0)
    return line


# Asking


def test_the_first_subscribe_goes_at_once_and_nothing_else_until_it_is_answered() -> None:
    line = Line(Kind.TICKER, count(1))
    line.want(frozenset({A}))
    assert line.next_wake() == 0.0
    assert line.due(100.0) == subscribe(A)
    line.want(frozenset({A, B}))
    assert line.due(200.0) is None
    assert line.next_wake() is None


def test_a_changed_set_is_sent_complete_and_a_second_apart() -> None:
    line = steady(A, now=100.0)
    line.want(frozenset({A, B}))
    assert line.due(100.1) is None
    assert line.next_wake() == 100.0 + PACE
    assert line.due(100.0 + PACE) == subscribe(A, B)


def test_the_same_set_asks_for_nothing() -> None:
    line = steady(A)
    line.want(frozenset({A}))
    assert line.due(50.0) is None
    assert line.next_wake() is None


def test_a_wildcard_stands_for_all_else() -> None:
    line = Line(Kind.TICKER, count(1))
    line.want(frozenset({ALL, A}))
    assert line.due(0.0) == subscribe(ALL)
    line.answered(0.0, accepted=True)
    assert line.whole
    assert line.confirmed(A)


def test_an_emptied_set_unsubscribes_from_all_and_the_next_one_subscribes() -> None:
    line = steady(A)
    line.want(frozenset())
    assert line.due(5.0) == unsubscribe(ALL)
    assert not line.subscribing
    line.want(frozenset({B}))
    line.answered(5.1, accepted=False)
    assert line.phase is Phase.IDLE
    assert line.due(5.2) == subscribe(B)
    assert line.subscribing


def test_a_set_emptied_before_it_was_ever_sent_asks_for_nothing() -> None:
    line = Line(Kind.TICKER, count(1))
    line.want(frozenset({A}))
    line.want(frozenset())
    assert line.due(5.0) is None


def test_a_phase_that_cannot_follow_is_a_bug() -> None:
    line = Line(Kind.TICKER, count(1))
    with pytest.raises(RuntimeError, match="idle to steady"):
        line.phase = Phase.STEADY


# Runs


def test_an_acknowledged_replacing_subscribe_keeps_the_run() -> None:
    line = steady(A)
    run = line.accept(ticker(A), 1.0)
    line.want(frozenset({A, B}))
    assert line.due(2.0) is not None
    assert line.accept(ticker(A), 2.0) == run
    line.answered(2.1, accepted=True)
    assert line.accept(ticker(A), 2.2) == run
    assert line.accept(ticker(B), 2.2) not in {None, run}


def test_events_may_come_before_the_acknowledgement() -> None:
    line = Line(Kind.TICKER, count(1))
    line.want(frozenset({A}))
    line.due(0.0)
    assert line.accept(ticker(A), 0.0) is not None
    assert not line.confirmed(A)


def test_a_refollowed_channel_starts_a_new_run() -> None:
    line = steady(A, B)
    run = line.run(B)
    line.want(frozenset({A}))
    line.want(frozenset({A, B}))
    assert line.run(B) != run


def test_a_channel_wanted_again_is_not_heard_before_it_is_asked_for_again() -> None:
    line = steady(A, B)
    line.want(frozenset({A}))
    line.due(2.0)
    line.want(frozenset({A, B}))
    assert line.accept(ticker(B), 2.1) is None
    line.answered(2.2, accepted=True)
    assert line.accept(ticker(B), 2.3) is None
    assert line.due(3.0) == subscribe(A, B)
    assert line.accept(ticker(B), 3.1) is not None


def test_a_channel_of_a_confirmed_wildcard_goes_on_in_its_run() -> None:
    line = steady(ALL)
    run = line.accept(ticker(A), 1.0)
    line.want(frozenset({A}))
    assert line.due(2.0) == subscribe(A)
    line.answered(2.0, accepted=True)
    assert line.accept(ticker(A), 2.0) == run


def test_a_wildcard_keeps_the_runs_of_what_it_covers() -> None:
    line = steady(A)
    run = line.run(A)
    line.want(frozenset({ALL, A}))
    assert line.run(A) == run
    assert line.run(B) != run


def test_runs_of_another_line_are_continued() -> None:
    line = steady(ALL)
    line.adopt({ALL: 77, A: 78})
    assert (line.run(A), line.run(B)) == (78, 77)
    assert line.runs == {ALL: 77, A: 78}


def test_a_loss_on_one_channel_starts_only_its_run_anew() -> None:
    line = steady(ALL)
    run = line.run(B)
    line.lose(A, 1.0)
    assert line.run(A) != run
    assert line.run(B) == run


def test_a_broken_run_under_a_wildcard_goes_on_by_its_name() -> None:
    line = steady(ALL)
    line.lose(A, 1.0)
    run = line.run(A)
    line.want(frozenset({ALL, A}))
    assert line.run(A) == run


def test_a_loss_on_what_nobody_wants_changes_nothing() -> None:
    line = steady(A)
    before = line.revision
    line.lose(B, 1.0)
    assert line.revision == before


@pytest.mark.parametrize("scope", [None, ALL])
def test_a_loss_on_everything_starts_all_runs_anew(scope: Channel | None) -> None:
    line = steady(A, B)
    before = {line.run(A), line.run(B)}
    line.lose(scope, 1.0)
    assert not before & {line.run(A), line.run(B)}
    assert line.confirmed(A)


def test_a_hostile_number_of_broken_runs_does_not_grow_for_ever() -> None:
    line = steady(ALL)
    for number in range(2 * RUNS_MAX):
        line.lose(Channel(Kind.TICKER, f"A{number}_B"), 1.0)
    assert len(line.runs) <= RUNS_MAX + 2


def test_asking_for_everything_anew_breaks_all_runs() -> None:
    line = steady(A)
    run = line.run(A)
    line.renew(5.0)
    assert line.run(A) != run
    assert line.due(5.0) == subscribe(A)


def test_nothing_is_asked_anew_where_nothing_is_wanted() -> None:
    line = Line(Kind.TICKER, count(1))
    line.renew(5.0)
    assert line.due(5.0) is None


# Refusals


def test_a_rejected_replacement_falls_back_to_clearing_and_loses_continuity() -> None:
    line = steady(A)
    run = line.run(A)
    line.want(frozenset({A, B}))
    line.due(2.0)
    line.answered(2.1, accepted=False)
    assert not line.confirmed(A)
    assert line.accept(ticker(A), 2.1) is None
    assert line.due(2.1) == unsubscribe(ALL)
    assert line.run(A) != run
    assert line.accept(ticker(A), 2.2) is None
    line.answered(2.2, accepted=True)
    assert line.due(2.2) is None
    assert line.due(3.0) == subscribe(A, B)
    line.answered(3.1, accepted=True)
    assert line.confirmed(A)
    assert line.confirmed(B)


def test_what_is_new_in_a_set_rejected_from_the_clean_is_left_out_for_a_while() -> None:
    line = steady(A)
    line.want(frozenset({A, B}))
    line.due(2.0)
    line.answered(2.0, accepted=False)
    line.due(2.0)
    line.answered(2.0, accepted=True)
    assert line.due(3.0) == subscribe(A, B)
    line.answered(3.0, accepted=False)
    assert line.due(3.0) == unsubscribe(ALL)
    line.answered(3.0, accepted=True)
    assert line.due(4.0) == subscribe(A)
    line.answered(4.0, accepted=True)
    assert line.confirmed(A)
    assert not line.confirmed(B)
    assert line.next_wake() == 3.0 + REFUSED_FOR
    assert line.due(3.0 + REFUSED_FOR) == subscribe(A, B)


def test_a_refused_channel_that_is_no_longer_wanted_is_forgotten() -> None:
    line = steady(A)
    line.want(frozenset({A, B}))
    for now in (2.0, 3.0):
        assert line.due(now) == subscribe(A, B)
        line.answered(now, accepted=False)
        assert line.due(now) == unsubscribe(ALL)
        line.answered(now, accepted=True)
    line.want(frozenset({B}))
    assert line.due(4.0) is None
    line.want(frozenset({A}))
    assert line.due(4.0) == subscribe(A)
    line.answered(4.0, accepted=True)
    assert line.due(3.0 + REFUSED_FOR) is None
    assert line.next_wake() is None


def test_what_was_held_is_cleared_where_only_refused_channels_are_left() -> None:
    line = steady(A)
    line.want(frozenset({A, B}))
    for now in (2.0, 3.0):
        line.due(now)
        line.answered(now, accepted=False)
        line.due(now)
        line.answered(now, accepted=True)
    line.due(4.0)
    line.answered(4.0, accepted=True)
    line.want(frozenset({B}))
    assert line.due(5.0) == unsubscribe(ALL)


def test_a_first_set_that_is_rejected_is_tried_again_ever_later() -> None:
    line = Line(Kind.TICKER, count(1))
    line.want(frozenset({A}))
    now, waits = 0.0, []
    for _ in range(7):
        assert line.due(now) == subscribe(A)
        line.answered(now, accepted=False)
        assert line.due(now) == unsubscribe(ALL)
        line.answered(now, accepted=True)
        later = line.next_wake()
        assert later is not None
        waits.append(later - now)
        now = later
    assert waits == [1, 2, 4, 8, 16, 30, 30]


# Exchanges that merge


def test_an_event_nobody_asked_for_is_dropped() -> None:
    line = steady(A)
    assert line.accept(ticker(B), 5.0) is None
    assert line.due(5.0) is None


def test_a_channel_that_goes_on_after_it_was_replaced_is_unsubscribed_once() -> None:
    line = steady(A, B)
    line.want(frozenset({A}))
    line.due(2.0)
    line.answered(2.0, accepted=True)
    run = line.run(A)
    assert line.accept(ticker(B), 2.5) is None
    assert line.due(2.5) is None  # it may have been under way
    for _ in range(3):
        assert line.accept(ticker(B), 3.5) is None
    assert line.due(3.5) == unsubscribe(B)
    assert line.accept(ticker(B), 3.6) is None
    line.answered(3.7, accepted=False)
    assert line.accept(ticker(B), 9.0) is None
    assert line.due(9.0) is None
    assert line.accept(ticker(A), 9.0) == run


def test_a_channel_wanted_again_is_not_unsubscribed() -> None:
    line = steady(A, B)
    line.want(frozenset({A}))
    line.due(2.0)
    line.answered(2.0, accepted=True)
    line.accept(ticker(B), 3.5)
    line.want(frozenset({A, B}))
    assert line.due(3.5) == subscribe(A, B)


def test_a_wildcard_that_goes_on_after_it_was_replaced_is_cleared() -> None:
    line = steady(ALL)
    line.want(frozenset({A}))
    line.due(2.0)
    line.answered(2.0, accepted=True)
    run = line.run(A)
    for _ in range(2):
        assert line.accept(ticker(B), 3.5) is None
    assert line.due(3.5) == unsubscribe(ALL)
    line.answered(3.5, accepted=True)
    assert line.due(3.5) == subscribe(A)
    line.answered(3.5, accepted=True)
    assert line.accept(ticker(A), 3.6) not in {None, run}


# Order books


def test_nothing_of_a_book_is_passed_on_before_its_full_reload() -> None:
    line = steady(BOOK)
    assert line.accept(delta(), 0.1) is None
    assert not line.confirmed(BOOK)
    run = line.accept(reload(), 0.2)
    assert run is not None
    assert line.confirmed(BOOK)
    assert line.accept(delta(), 0.3) == run


def test_a_full_reload_may_come_before_the_acknowledgement() -> None:
    line = Line(Kind.DEPTH, count(1))
    line.want(frozenset({BOOK}))
    line.due(0.0)
    assert line.accept(reload(), 0.0) is not None
    line.answered(0.1, accepted=True)
    assert line.confirmed(BOOK)
    assert line.next_wake() == 0.1 + RENEWAL


def test_after_a_replacing_subscribe_a_book_waits_for_its_reload_and_keeps_its_run() -> None:
    line = loaded(BOOK)
    run = line.run(BOOK)
    line.want(frozenset({BOOK, OTHER}))
    line.due(2.0)
    assert line.accept(delta(), 2.0) is None
    assert line.confirmed(BOOK)
    line.answered(2.1, accepted=True)
    assert line.accept(delta(), 2.2) is None
    assert line.accept(reload(), 2.3) == run
    assert line.accept(delta(), 2.4) == run


def test_a_book_that_nobody_wants_any_more_is_not_confirmed() -> None:
    line = loaded(BOOK, OTHER)
    line.want(frozenset({BOOK}))
    assert not line.confirmed(OTHER)
    assert line.accept(delta(OTHER), 0.5) is None


def test_a_book_without_its_reload_is_unsubscribed_and_subscribed_ever_later() -> None:
    line = steady(BOOK, now=1.0)
    now, waits = 1.0, []
    for _ in range(6):
        later = line.next_wake()
        assert later is not None
        waits.append(later - now)
        assert line.due(later) == unsubscribe(BOOK)
        line.answered(later, accepted=True)
        assert line.due(later) == subscribe(BOOK)
        line.answered(later, accepted=True)
        now = later
    assert waits == [3, 6, 12, 24, 48, 60]
    line.accept(reload(), now)
    assert line.confirmed(BOOK)
    assert line.next_wake() == now + RENEWAL


def test_a_calm_book_gets_its_patience_back() -> None:
    line = steady(BOOK)
    line.due(RELOAD)
    line.answered(RELOAD, accepted=True)
    line.due(RELOAD)
    line.answered(RELOAD, accepted=True)
    line.accept(reload(), RELOAD)
    line.accept(reload(), 2 * RELOAD + RELOAD_MAX)
    line.lose(BOOK, 100.0)
    assert line.due(100.0) == subscribe(BOOK)
    line.answered(100.0, accepted=True)
    assert line.next_wake() == 100.0 + 2 * RELOAD


def test_an_exchange_that_brings_no_reload_for_a_repeat_is_found_to_merge() -> None:
    line = merging()
    run = line.run(BOOK)
    third = depth("C_D", 0)
    line.want(frozenset({BOOK, OTHER, third}))
    assert line.due(10.0) == subscribe(BOOK, OTHER, third)
    assert line.accept(delta(), 10.0) == run
    line.answered(10.0, accepted=True)
    assert line.accept(delta(), 10.1) == run
    assert line.accept(delta(third), 10.1) is None
    assert line.accept(reload(third), 10.2) is not None
    assert line.due(10.0 + RELOAD) is None


def test_a_book_that_lost_its_reload_to_a_merge_starts_a_new_run() -> None:
    line = loaded(BOOK)
    run = line.run(BOOK)
    line.want(frozenset({BOOK, OTHER}))
    line.due(2.0)
    line.answered(2.0, accepted=True)
    line.accept(delta(), 2.1)
    line.due(2.0 + RELOAD)
    assert line.run(BOOK) != run
    assert not line.confirmed(BOOK)


def test_a_lost_book_is_subscribed_again_and_the_others_keep_their_runs() -> None:
    line = loaded(BOOK, OTHER)
    lost, kept = line.run(BOOK), line.run(OTHER)
    line.lose(BOOK, 5.0)
    assert not line.confirmed(BOOK)
    assert line.accept(delta(), 5.0) is None
    assert line.due(5.0) == subscribe(BOOK, OTHER)
    line.answered(5.0, accepted=True)
    assert line.accept(reload(), 5.1) not in {None, lost}
    assert line.accept(reload(OTHER), 5.1) == kept


def test_on_a_merging_exchange_a_lost_book_is_unsubscribed_first() -> None:
    line = merging()
    line.lose(OTHER, 20.0)
    assert line.due(20.0) == unsubscribe(OTHER)
    line.answered(20.0, accepted=True)
    assert line.due(20.0) == subscribe(BOOK, OTHER)


def test_a_book_that_is_lost_again_and_again_is_asked_for_ever_later() -> None:
    line = loaded(BOOK)
    now, asked = 5.0, []
    for _ in range(6):
        line.lose(BOOK, now)
        later = line.next_wake()
        assert later is not None
        asked.append(later - now)
        now = later
        assert line.due(now) == subscribe(BOOK)
        line.answered(now, accepted=True)
        line.accept(reload(), now)
    assert asked == [0, 3, 6, 12, 24, 48]


def test_a_book_lost_before_it_was_held_waits_for_the_subscribe_under_way() -> None:
    line = Line(Kind.DEPTH, count(1))
    line.want(frozenset({BOOK}))
    line.due(0.0)
    line.lose(EVERY_BOOK, 0.1)
    line.answered(0.2, accepted=True)
    assert line.next_wake() == 0.2 + RELOAD


# At an interval


def test_books_are_subscribed_anew_at_an_interval_and_keep_their_runs() -> None:
    line = loaded(BOOK, OTHER)
    run = line.run(BOOK)
    assert line.next_wake() == 600.0
    assert line.due(599.9) is None
    assert line.due(600.0) == subscribe(BOOK, OTHER)
    assert line.accept(delta(), 600.0) is None
    line.answered(600.1, accepted=True)
    assert line.accept(reload(), 600.2) == run
    assert line.accept(reload(OTHER), 600.2) is not None
    assert line.next_wake() == 1200.1
    assert line.renewals == 1


def test_an_exchange_that_merges_is_told_no_before_its_books_are_subscribed_anew() -> None:
    line = merging()
    run = line.run(BOOK)
    later = 700.0
    assert line.due(later) == unsubscribe(BOOK, OTHER)
    line.answered(later, accepted=True)
    assert line.due(later) == subscribe(BOOK, OTHER)
    line.answered(later, accepted=True)
    renewed = line.accept(reload(), later)
    assert renewed is not None
    assert renewed != run


def test_nothing_but_books_is_subscribed_anew_at_an_interval() -> None:
    line = steady(A)
    assert line.next_wake() is None
    assert line.due(10_000.0) is None
