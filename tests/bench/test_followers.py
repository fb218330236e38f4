"""The soak's clients complain of what a gateway must never do."""

import json
import random
from typing import Any

import pytest

from bench.followers import Follower, Tally

BTC = "ticker:BTC_USDT"


def block(position: str, previous: str | None = None, *, id_: bool = True, **more: Any) -> bytes:
    kind = "snapshot" if previous is None else "update"
    envelope = {"channel": BTC, "type": kind, "position": position, "previous": previous, **more}
    head = f"id: {position}\n" if id_ else ""
    return f"event: ticker\n{head}data: {json.dumps(envelope)}".encode()


def heard(*blocks: bytes) -> Tally:
    tally = Tally()
    follower = Follower([1], [BTC], tally, random.Random(1))
    for one in blocks:
        follower._take(one, 0.0)
    return tally


GOOD = (block("7-1"), block("7-4", "7-1"), b": hb\n" + block("7-9", "7-4"))


def test_a_chain_is_well() -> None:
    tally = heard(*GOOD, block("8-1", gap=True), block("8-2", "8-1"))
    assert (tally.events, tally.violations, tally.gaps) == (5, 0, 1)


@pytest.mark.parametrize(
    "wrong",
    [
        block("7-12", "7-10"),  # one is missing
        block("7-9", "7-4"),  # it came before
        block("7-8"),  # back on a stream
    ],
)
def test_what_breaks_it_is_told(wrong: bytes) -> None:
    tally = heard(*GOOD, wrong)
    assert tally.violations == 1
    assert BTC in tally.told[0]


def test_an_update_of_what_was_never_told_is_wrong() -> None:
    assert heard(block("7-4", "7-1")).violations == 1


def test_after_a_reset_it_may_come_again() -> None:
    reset = b'event: gateway\ndata: {"type":"reset","reason":"history_expired"}'
    tally = heard(*GOOD, reset, block("7-9"), block("7-12", "7-9"))
    assert (tally.violations, tally.repeated, tally.resets) == (
        0,
        1,
        {"history_expired (after none)": 1},
    )
