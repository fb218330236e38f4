"""Server-Sent Events on the wire (HTML standard, 9.2): the only room that writes them.

Ids and event names come from closed alphabets and data is JSON on one line, so nothing can break
out of its field. No block is written without ``data:``, as many clients hand an empty message to
their JSON parser.
"""

from typing import Any

import msgspec

from app.domain.channel import Channel
from app.domain.event import Envelope
from app.domain.position import Position

HEARTBEAT = b": hb\n"
"""A comment line without a blank line after it: it keeps proxies awake and ends no block."""

_encode = msgspec.json.Encoder().encode


def frame(envelope: Envelope, *, identified: bool = True) -> bytes:
    """One event as a block; ``identified`` puts its position as the id."""
    if identified:
        return block(envelope.channel, envelope.position, envelope.raw)
    return b"event: %b\ndata: %b\n\n" % (envelope.channel.kind.encode(), envelope.raw)


def block(channel: Channel, position: Position, raw: bytes) -> bytes:
    """One encoded envelope as a block with its position as the id."""
    return b"event: %b\nid: %b\ndata: %b\n\n" % (
        channel.kind.encode(),
        str(position).encode(),
        raw,
    )


def control(fields: dict[str, Any], *, retry: int | None = None) -> bytes:
    """A ``gateway`` event, without an id; ``retry`` is the reconnection time in ms."""
    block = b"event: gateway\ndata: %b\n\n" % _encode(fields)
    return block if retry is None else b"retry: %d\n%b" % (retry, block)
