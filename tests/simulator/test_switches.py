"""Switches take what they may take and nothing else."""

import pytest

from app.simulator import Options, SwitchError, Switches


def test_the_defaults_are_good_behaviour() -> None:
    assert Options().switches() == Switches()


def test_a_change_leaves_the_rest() -> None:
    changed = Switches(mute=True).changed({"idle_close": 1, "subscribe": "merge"})
    assert (changed.mute, changed.idle_close, changed.subscribe) == (True, 1, "merge")


@pytest.mark.parametrize(
    "change",
    [
        {"nothing": 1},
        {"subscribe": "perhaps"},
        {"mute": 1},
        {"drop_every": -1},
        {"drop_every": 1.5},
        {"drop_every": True},
        {"idle_close": "60"},
        {"idle_close": float("nan")},
        {"drop_channel": None},
        {"load": "BTC_USDT"},
    ],
)
def test_a_wrong_change_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(SwitchError):
        Switches().changed(change)


def test_options_are_checked_too() -> None:
    with pytest.raises(SwitchError, match="start is 'later'"):
        Options(start="later")  # type: ignore[arg-type] # that is the point


def test_a_seed_may_be_negative() -> None:
    assert Options(seed=-1).seed == -1
