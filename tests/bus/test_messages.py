"""Everything that goes between processes arrives as it was sent, and garbage is only Unreadable."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from app.bus.broker import Wish
from app.bus.messages import Packed, dump_notice, load_health, load_wish
from app.domain.channel import Channel, Kind
from app.domain.event import Entry, Envelope, envelope
from app.domain.health import ConnectionHealth, Following, Health
from app.domain.position import Position
from app.errors import Unreadable
from tests.given import at, entry, made

NUMBERS = st.integers(0, 10**16 - 1)
POSITIONS = st.builds(Position, NUMBERS, NUMBERS)
TIMES = st.floats(0, 1e11)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
CODES = st.text("ABCXYZ019", min_size=1, max_size=20)
MARKETS = st.builds("{}_{}".format, CODES, CODES)
SUBJECTS: dict[Kind, st.SearchStrategy[str]] = {
    Kind.DEPTH: st.builds("{}:{}".format, MARKETS, st.integers(0, 99)),
    Kind.BALANCE: CODES | st.just("*"),
}
CHANNELS = st.sampled_from(Kind).flatmap(
    lambda kind: SUBJECTS.get(kind, MARKETS | st.just("*")).map(lambda text: Channel(kind, text))
)
JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | TIMES | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)


@st.composite
def envelopes(draw: st.DrawFn) -> Envelope:
    return envelope(
        draw(CHANNELS),
        draw(st.sampled_from(["snapshot", "update"])),
        position=draw(POSITIONS),
        previous=draw(st.none() | POSITIONS),
        time=draw(st.none() | st.integers(0, 10**12)),
        received=draw(TIMES),
        data=draw(st.dictionaries(TEXTS, JSON, max_size=4)),
        gap=draw(st.booleans()),
        origin=draw(st.sampled_from([None, "reconcile"])),
    )


ENTRIES = st.builds(
    Entry, st.none() | POSITIONS, POSITIONS, st.lists(envelopes(), max_size=4).map(tuple)
)
FOLLOWING = st.builds(Following, st.booleans(), TIMES, TIMES, TIMES)
CONNECTIONS = st.builds(ConnectionHealth, TEXTS, TEXTS, TIMES, NUMBERS, NUMBERS)
HEALTHS = st.builds(
    Health,
    epoch=NUMBERS,
    at=TIMES,
    upstream=st.sampled_from(["live", "degraded", "down"]),
    since=TIMES,
    connections=st.lists(CONNECTIONS, max_size=3).map(tuple),
    following=st.dictionaries(CHANNELS, FOLLOWING, max_size=3),
    audits=st.dictionaries(CHANNELS, st.floats(0, 1), max_size=3),
    leader=TEXTS,
)
WISHES = st.builds(Wish, TEXTS, st.frozensets(CHANNELS, max_size=5))


def load_entry(data: bytes) -> Entry:
    return Packed.loads(data).entry()


@given(ENTRIES)
def test_an_entry_arrives_as_it_was_sent(sent: Entry) -> None:
    data = Packed.of(sent).dumps()
    assert sent == load_entry(data)
    packed = Packed.loads(data)
    assert (sent.previous, sent.position) == (packed.previous, packed.position)
    assert tuple(one.raw for one in sent.envelopes) == packed.raws


@given(HEALTHS)
def test_a_health_arrives_as_it_was_sent(sent: Health) -> None:
    assert sent == load_health(dump_notice(sent))


@given(WISHES)
def test_a_wish_arrives_as_it_was_sent(sent: Wish) -> None:
    assert sent == load_wish(dump_notice(sent))


def test_notices_are_one_line_each() -> None:
    """The journal's end stands on the line before them."""
    wish = Wish("a\nb", frozenset({Channel.parse("ticker:*")}))
    assert b"\n" not in dump_notice(wish)
    assert b"\n" not in dump_notice(Health(7, 1.0, "live", 0.5, leader="a\nb"))


def test_an_opening_is_nothing_but_its_place_in_the_chain() -> None:
    assert Packed.of(entry("7-5", opens="8-0")).dumps() == b"7-5 8-0"
    assert Packed.of(entry(None, opens="8-0")).dumps() == b" 8-0"


def test_what_the_envelopes_hold_is_read_only_when_they_are_wanted() -> None:
    packed = Packed.loads(b"7-4 7-5\nnot JSON")
    assert (at("7-4"), at("7-5")) == (packed.previous, packed.position)
    with pytest.raises(Unreadable):
        packed.entry()


# Garbage

LOADERS = [load_entry, load_health, load_wish]
WHOLE = [
    Packed.of(entry("7-0", made("ticker:BTC_USDT", "7-1"), made("trade:A_B", "7-2"))).dumps(),
    dump_notice(Health(7, 1.0, "live", 0.5, (ConnectionHealth("a", "live", 1.0, 2, 3),))),
    dump_notice(Wish("a", frozenset({Channel.parse("ticker:*"), Channel.parse("trade:A_B")}))),
]
DEEP = b"[" * 100_000


def read_or_refused(data: bytes) -> None:
    for load in LOADERS:
        try:
            assert isinstance(load(data), Entry | Health | Wish)
        except Unreadable:
            pass


@given(st.binary() | st.builds(b"7-4 7-5\n".__add__, st.binary()))
@example(b"")
@example(b"\xff")
@example(b'{"process":"\xff","channels":[]}')
@example(b'{"epoch":1,"at":1,"upstream":"live","since":1,"connections":[],"leader":"\xff"}')
@example(b'{"process":"a","channels":["ticker"]}')
@example(DEEP)
@example(b'{"more":' + DEEP)
@example(b"7-4 7-5\n" + DEEP)
def test_garbage_is_unreadable_and_nothing_worse(data: bytes) -> None:
    read_or_refused(data)


@given(st.sampled_from(WHOLE), st.data())
def test_what_was_damaged_on_the_way_is_unreadable_and_nothing_worse(
    whole: bytes, data: st.DataObject
) -> None:
    start = data.draw(st.integers(0, len(whole)))
    stop = data.draw(st.integers(start, min(len(whole), start + 8)))
    read_or_refused(whole[:start] + data.draw(st.binary(max_size=4)) + whole[stop:])


@pytest.mark.parametrize(
    ("whole", "prefix"),
    [(WHOLE[0].split(b"\n")[1], b"7-4 7-5\n"), (WHOLE[1], b""), (WHOLE[2], b"")],
    ids=["entry", "health", "wish"],
)
@given(data=st.data())
def test_a_field_of_another_kind_is_unreadable_and_nothing_worse(
    whole: bytes, prefix: bytes, data: st.DataObject
) -> None:
    fields = json.loads(whole)
    name = data.draw(st.sampled_from(sorted(fields)))
    fields[name] = data.draw(JSON)
    read_or_refused(prefix + json.dumps(fields).encode())


@pytest.mark.parametrize("data", [b"", b"7-5", b"7-4  7-5", b"7 7-5", b"7-4 7-5 ", b"7-4 07-5"])
def test_an_entry_without_its_place_in_the_chain_is_unreadable(data: bytes) -> None:
    with pytest.raises(Unreadable, match="two positions"):
        Packed.loads(data)


@pytest.mark.parametrize(
    ("load", "data"),
    [
        (load_wish, b'{"process":"a"}'),
        (load_wish, b'{"process":"a","channels":["everything:*"]}'),
        (load_wish, b'{"process":1,"channels":[]}'),
        (load_health, dump_notice(Health(7, 1.0, "live", 0.5)).replace(b"live", b"fine")),
        (load_health, dump_notice(Health(7, 1.0, "live", 0.5)).replace(b"7", b'"7"')),
        (load_health, dump_notice(Wish("a", frozenset()))),
    ],
)
def test_a_notice_that_says_something_else_is_unreadable(
    load: Callable[[bytes], object], data: bytes
) -> None:
    with pytest.raises(Unreadable):
        load(data)
