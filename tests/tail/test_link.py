import json
from typing import Any

import pytest

from app.tail.events import Cut, Message, Opened
from app.tail.link import Link, Rate, read_control, say


def control(**fields: Any) -> Message:
    return Message("gateway", json.dumps(fields), "")


def test_the_rate_is_averaged_over_whole_seconds() -> None:
    rate = Rate()
    for now in (100.0, 100.5, 101.0, 103.9, 104.0):
        rate.count(now)
    assert rate.at(104.5) == 4 / 5
    assert rate.at(105.0) == 1.0
    assert rate.at(106.0) == 3 / 5
    assert rate.at(200.0) == 0.0


def test_status_changes_are_noted_and_the_first_is_not() -> None:
    link = Link()
    link.opened(Opened(""), 1.0)
    link.control(control(type="status", upstream="live", since=5), 1.0)
    link.control(control(type="status", upstream="live", since=5), 2.0)
    assert (link.upstream, link.since, list(link.notices)) == ("live", 5.0, [])
    link.control(control(type="status", upstream="down", since=None), 3.0)
    assert (link.upstream, link.since) == ("down", None)
    assert list(link.notices) == [(3.0, "upstream is down")]


def test_cuts_and_resumptions_are_counted_and_noted() -> None:
    link = Link()
    link.cut(Cut("the stream ended", 2.0), 10.0)
    assert (link.open, link.again_at, link.cuts) == (False, 12.0, 1)
    link.opened(Opened("7-1"), 12.0)
    assert (link.open, link.again_at) == (True, None)
    link.opened(Opened(""), 13.0)
    assert [text for _, text in link.notices] == [
        "the stream ended; trying again in 2.0 s",
        "resumed after 7-1",
        "started anew",
    ]


def test_events_and_gaps_are_counted() -> None:
    link = Link()
    link.heard("7-2", 1.0)
    link.gap("depth:BTC_USDT:0", 1.0)
    assert (link.events, link.position, link.gaps) == (1, "7-2", 1)
    assert list(link.notices) == [(1.0, "gap on depth:BTC_USDT:0")]


@pytest.mark.parametrize(
    ("item", "text"),
    [
        (Opened(""), "connected"),
        (Opened("7-1"), "connected, resuming after 7-1"),
        (Cut("no", 1.25), "no; trying again in 1.2 s"),
        (control(type="status", upstream="live"), "upstream is live"),
        (
            control(type="reset", reason="history_expired"),
            "reset: history_expired; starting anew from snapshots",
        ),
        (control(type="bye", reason="drain", retry=5), "bye: drain"),
        (Message("gateway", "nonsense", ""), "gateway says nonsense"),
    ],
)
def test_says_it_in_one_line(item: Opened | Cut | Message, text: str) -> None:
    assert say(item) == text


def test_what_is_no_object_has_no_fields() -> None:
    assert read_control(Message("gateway", "[1]", "")) == {}
