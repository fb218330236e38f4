"""What happens on a channel: the upstream's fact, the envelope made of it, the journal's entry.

An envelope is encoded once, when the Sequencer makes it; its bytes are what every client gets.
"""

from typing import Any, Literal

import msgspec

from app.domain.channel import Channel
from app.domain.position import Position

Type = Literal["snapshot", "update"]
Origin = Literal["reconcile"] | None
"""How a fact was learnt: over REST, or from a socket."""

Data = dict[str, Any]
"""A JSON object in the exchange's field names; amounts are text. Never changed once passed on."""


class Event(msgspec.Struct, frozen=True):
    """One decoded upstream fact.

    ``continuity`` tells runs apart: between two events of one channel with the same number nothing
    was missed; with different numbers something may have been. Of a private channel ``full`` is its
    whole state, before which something was missed for good if ``gap``.
    """

    channel: Channel
    data: Data
    time: int | None
    received: float
    continuity: int
    full: bool = False
    gap: bool = False
    origin: Origin = None


class Envelope(msgspec.Struct, frozen=True):
    """The JSON object of the contract; ``raw`` is it, encoded, on one line."""

    channel: Channel
    type: Type
    position: Position
    previous: Position | None
    time: int | None
    received: float
    data: Data
    raw: bytes
    gap: bool = False
    origin: Origin = None


class Entry(msgspec.Struct, frozen=True):
    """What the leader read in one turn: the journal's unit.

    ``previous`` is the position of the entry before, ``position`` that of the last event in it, or
    ``epoch-0`` for the entry with which a leader opens its epoch.
    """

    previous: Position | None
    position: Position
    envelopes: tuple[Envelope, ...]


class _Text(msgspec.Struct, omit_defaults=True):
    """An envelope as it is written: what has a default is absent unless it is set."""

    channel: str
    type: Type
    position: str
    previous: str | None
    time: int | None
    received: float
    data: Data
    gap: bool = False
    origin: Origin = None


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_Text).decode


def envelope(
    channel: Channel,
    type_: Type,
    *,
    position: Position,
    previous: Position | None,
    time: int | None,
    received: float,
    data: Data,
    gap: bool = False,
    origin: Origin = None,
) -> Envelope:
    """Make an envelope and encode it: the one place where its JSON is written."""
    received = round(received, 3)
    before = None if previous is None else str(previous)
    text = _Text(str(channel), type_, str(position), before, time, received, data, gap, origin)
    raw = _encode(text)
    return Envelope(channel, type_, position, previous, time, received, data, raw, gap, origin)


def decode(raw: bytes) -> Envelope:
    """Read an envelope back from its JSON, as a process does that gets it from the journal.

    Raises ValueError or MalformedRequest where it is none.
    """
    text = _decode(raw)
    position = Position.parse(text.position)
    if position is None:
        raise ValueError(f"position {text.position!r} in the journal is not one")
    return Envelope(
        Channel.parse(text.channel),
        text.type,
        position,
        None if text.previous is None else Position.parse(text.previous),
        text.time,
        text.received,
        text.data,
        raw,
        text.gap,
        text.origin,
    )
