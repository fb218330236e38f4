"""When a leader that cannot reach the exchange hands over; what it does then is test_lead's."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.feed.lead import CUT_OFF, STAY_OUT, Outage

TTL = 5.0


class TestOutage:
    def test_is_due_after_three_lease_times_without_a_live_connection(self) -> None:
        outage = Outage(TTL)
        assert not outage.due(100.0, 0.0, 100.0)
        assert not outage.due(100.0, 0.0, 114.9)
        assert outage.due(100.0, 0.0, 115.0)
        assert outage.due(100.0, 100.0, 500.0)

    def test_is_due_once_and_again_only_after_somebody_was_live(self) -> None:
        outage = Outage(TTL)
        outage.hand_over(115.0, 0.5)
        assert not outage.due(120.0, 0.0, 1_000_000.0)
        assert not outage.due(120.0, 114.9, 1_000_000.0)
        assert not outage.due(200.0, 200.0, 214.9)
        assert outage.due(200.0, 200.0, 215.0)
        outage.hand_over(215.0, 0.5)
        assert not outage.due(220.0, 200.0, 1_000_000.0)

    @pytest.mark.parametrize(("jitter", "out"), [(0.0, 60.0), (0.5, 45.0), (0.999, 30.03)])
    def test_who_has_handed_over_stays_out_for_a_jittered_minute(
        self, jitter: float, out: float
    ) -> None:
        outage = Outage(TTL)
        assert outage.patience(0.0) == 0.0
        outage.hand_over(100.0, jitter)
        assert STAY_OUT / 2 <= out <= STAY_OUT
        assert outage.patience(100.0) == TTL
        assert outage.patience(100.0 + out - 0.1) == TTL
        assert outage.patience(100.0 + out + 0.1) == 0.0

    @given(st.lists(st.tuples(st.floats(0.1, 20.0), st.booleans()), max_size=60))
    def test_never_more_often_than_somebody_was_live(self, steps: list[tuple[float, bool]]) -> None:
        outage, now, live_at, since, handed, spells = Outage(TTL), 100.0, 0.0, 100.0, 0, 0
        was_live = False
        for pause, live in steps:
            now += pause
            if live:
                live_at = since = now
            spells += live and not was_live
            was_live = live
            if outage.due(since, live_at, now):
                assert now - since >= CUT_OFF * TTL
                outage.hand_over(now, 0.5)
                handed, since = handed + 1, now
        assert handed <= spells + 1
