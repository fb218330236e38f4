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


_encode = msgspec.json.Encoder().encode


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
    fields: dict[str, Any] = {
        "channel": str(channel),
        "type": type_,
        "position": str(position),
        "previous": None if previous is None else str(previous),
        "time": time,
        "received": received,
        "data": data,
    }
    if gap:
        fields["gap"] = True
    if origin is not None:
        fields["origin"] = origin
    return Envelope(
        channel, type_, position, previous, time, received, data, _encode(fields), gap, origin
    )


def decode(raw: bytes) -> Envelope:
    """Read an envelope back from its JSON, as a process does that gets it from the journal."""
    fields = msgspec.json.decode(raw)
    position = Position.parse(fields["position"])
    if position is None:
        raise ValueError(f"position {fields['position']!r} in the journal is not one")
    previous = fields["previous"]
    return Envelope(
        Channel.parse(fields["channel"]),
        fields["type"],
        position,
        None if previous is None else Position.parse(previous),
        fields["time"],
        fields["received"],
        fields["data"],
        raw,
        fields.get("gap", False),
        fields.get("origin"),
    )
