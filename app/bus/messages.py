"""What goes between processes as bytes: entries, health and wishes. Pure.

An entry is a line with its place in the chain, then the envelopes, a line each, as the leader
encoded them: nobody encodes them again, and its place is read without decoding them.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import msgspec

from app.bus.broker import Notice, Wish
from app.domain.channel import Channel
from app.domain.event import Entry, Envelope, decode
from app.domain.health import ConnectionHealth, Following, Health, Upstream
from app.domain.position import Position
from app.errors import MalformedRequest, Unreadable


class Packed(NamedTuple):
    """An entry whose envelopes are bytes."""

    previous: Position | None
    position: Position
    raws: tuple[bytes, ...]

    @staticmethod
    def of(entry: Entry) -> "Packed":
        """The same entry, packed."""
        raws = tuple(envelope.raw for envelope in entry.envelopes)
        return Packed(entry.previous, entry.position, raws)

    @staticmethod
    def loads(data: bytes) -> "Packed":
        """Read what ``dumps`` wrote; raises Unreadable."""
        head, *raws = data.split(b"\n")
        before, _, at = head.decode("latin-1").partition(" ")
        position, previous = Position.parse(at), Position.parse(before)
        if position is None or (previous is None and before):
            raise Unreadable(f"an entry begins with {head[:40]!r}, expected two positions")
        return Packed(previous, position, tuple(raws))

    def dumps(self) -> bytes:
        """``previous position``, then the envelopes, a line each."""
        head = f"{self.previous or ''} {self.position}".encode()
        return b"\n".join((head, *self.raws))

    def entry(self) -> Entry:
        """The entry, decoded; raises Unreadable."""
        return Entry(self.previous, self.position, tuple(map(load_envelope, self.raws)))


class _PlaceText(msgspec.Struct):
    position: str
    channel: str


class _HealthText(msgspec.Struct):
    epoch: int
    at: float
    upstream: Upstream
    since: float
    connections: tuple[ConnectionHealth, ...]
    following: dict[str, Following]
    audits: dict[str, float]
    leader: str


class _WishText(msgspec.Struct):
    process: str
    channels: list[str]


_place = msgspec.json.Decoder(_PlaceText)
_health = msgspec.json.Decoder(_HealthText)
_wish = msgspec.json.Decoder(_WishText)


@contextmanager
def _readable(what: str) -> Iterator[None]:
    """Whatever reading garbage may raise is Unreadable."""
    try:
        yield
    except (
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        RecursionError,
        MalformedRequest,
    ) as error:
        raise Unreadable(f"no {what}: {error}") from error


def load_envelope(raw: bytes) -> Envelope:
    """Read an envelope back; raises Unreadable."""
    with _readable("envelope"):
        return decode(raw)


def place_of(raw: bytes) -> tuple[Position, Channel]:
    """Where an encoded envelope stands, without the rest of it; raises Unreadable."""
    with _readable("envelope"):
        text = _place.decode(raw)
        position = Position.parse(text.position)
        if position is None:
            raise ValueError(f"position {text.position[:40]!r} is not one")
        return position, Channel.parse(text.channel)


def dump_notice(notice: Notice) -> bytes:
    """A notice as JSON."""
    if isinstance(notice, Wish):
        wish = _WishText(notice.process, sorted(map(str, notice.channels)))
        return msgspec.json.encode(wish)
    health = _HealthText(
        epoch=notice.epoch,
        at=notice.at,
        upstream=notice.upstream,
        since=notice.since,
        connections=notice.connections,
        following={str(channel): one for channel, one in notice.following.items()},
        audits={str(channel): share for channel, share in notice.audits.items()},
        leader=notice.leader,
    )
    return msgspec.json.encode(health)


def load_health(data: bytes) -> Health:
    """Read a health back; raises Unreadable."""
    with _readable("health"):
        text = _health.decode(data)
        return Health(
            epoch=text.epoch,
            at=text.at,
            upstream=text.upstream,
            since=text.since,
            connections=text.connections,
            following={Channel.parse(name): one for name, one in text.following.items()},
            audits={Channel.parse(name): share for name, share in text.audits.items()},
            leader=text.leader,
        )


def load_wish(data: bytes) -> Wish:
    """Read a wish back; raises Unreadable."""
    with _readable("wish"):
        text = _wish.decode(data)
        return Wish(text.process, frozenset(map(Channel.parse, text.channels)))
