import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.channel import Channel
from app.domain.event import Entry, decode, envelope
from tests.given import at

TEXTS = st.text(st.characters(codec="utf-8"))


def told(**fields: Any) -> dict[str, Any]:
    """The JSON of an envelope, read by somebody else's parser."""
    given_: dict[str, Any] = {
        "position": at("7-48213"), "previous": at("7-48190"), "time": 1750952911,
        "received": 1750952911.482, "data": {"price": "27123.450"},
    }  # fmt: skip
    made = envelope(Channel.parse("ticker:BTC_USDT"), "update", **(given_ | fields))
    told_: dict[str, Any] = json.loads(made.raw)
    return told_


def test_is_the_json_object_of_the_contract() -> None:
    assert told() == {
        "channel": "ticker:BTC_USDT",
        "type": "update",
        "position": "7-48213",
        "previous": "7-48190",
        "time": 1750952911,
        "received": 1750952911.482,
        "data": {"price": "27123.450"},
    }


def test_what_is_unknown_is_null_not_absent() -> None:
    fields = told(previous=None, time=None)
    assert fields["previous"] is None
    assert fields["time"] is None


@pytest.mark.parametrize("name", ["gap", "origin"])
def test_marks_are_absent_unless_set(name: str) -> None:
    assert name not in told()


def test_marks_are_told() -> None:
    fields = told(gap=True, origin="reconcile")
    assert (fields["gap"], fields["origin"]) == (True, "reconcile")


def test_received_has_milliseconds() -> None:
    assert told(received=1750952911.4826)["received"] == 1750952911.483


@given(st.dictionaries(TEXTS, st.one_of(TEXTS, st.none(), st.integers(-(2**53), 2**53))))
def test_is_encoded_on_one_line_for_any_text(data: dict[str, Any]) -> None:
    made = envelope(
        Channel.parse("trade:X_Y"), "snapshot", position=at("1-1"), previous=None, time=1,
        received=1.0, data=data,
    )  # fmt: skip
    assert not {b"\r", b"\n", b"\0"} & {made.raw[i : i + 1] for i in range(len(made.raw))}
    assert json.loads(made.raw)["data"] == data


@given(
    data=st.dictionaries(TEXTS, TEXTS | st.none() | st.integers(-(2**53), 2**53)),
    previous=st.none() | st.just(at("7-48190")),
    time=st.none() | st.integers(0, 2**53),
    received=st.floats(0, 2**31),
    gap=st.booleans(),
    origin=st.sampled_from([None, "reconcile"]),
)
def test_is_read_as_it_was_made(**given_: Any) -> None:
    channel = Channel.parse("depth:BTC_USDT:0")
    made = envelope(channel, "update", position=at("7-48213"), **given_)
    assert made == decode(made.raw)


def test_a_position_that_is_none_is_a_fault_of_the_journal() -> None:
    raw = envelope(
        Channel.parse("trade:X_Y"), "snapshot", position=at("7-1"), previous=None, time=1,
        received=1.0, data={},
    ).raw  # fmt: skip
    with pytest.raises(ValueError, match="position '7' in the journal"):
        decode(raw.replace(b'"7-1"', b'"7"'))


def test_what_is_encoded_is_what_the_fields_say() -> None:
    made = envelope(
        Channel.parse("trade:X_Y"), "snapshot", position=at("1-1"), previous=None, time=1,
        received=1.0, data={}, gap=True,
    )  # fmt: skip
    assert made.gap
    assert made.origin is None
    assert Entry(None, at("1-1"), (made,)).envelopes[0] is made
