"""Ids of spans: random, but those of an entry's road, which every process makes alike.

So a trace goes on behind the broker, and nothing of it is in the broker's messages (ADR 27).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from hashlib import blake2b
from typing import NamedTuple

from opentelemetry.sdk.trace.id_generator import RandomIdGenerator

from app.domain.position import Position


class Name(NamedTuple):
    """A span by its ids."""

    trace: int
    span: int


def names(position: Position) -> tuple[Name, Name]:
    """The span of an entry's frames, and the one of its append.

    Hashed, as samplers look at some bits of a trace's id and expect them to be random.
    """
    found = blake2b(str(position).encode(), digest_size=32).digest()
    trace = int.from_bytes(found[:16])
    return Name(trace, int.from_bytes(found[16:24])), Name(trace, int.from_bytes(found[24:]))


_named: ContextVar[Name | None] = ContextVar("named", default=None)
_next: ContextVar[int | None] = ContextVar("next", default=None)


class Ids(RandomIdGenerator):
    """Random ids, unless the one span that begins now is named."""

    def generate_trace_id(self) -> int:
        """Sixteen bytes; only a span without a parent asks for them."""
        name, chosen = _named.get(), _next.get()
        if name is not None:
            return name.trace
        if chosen is not None:
            _next.set(None)
            return chosen
        return super().generate_trace_id()

    def generate_span_id(self) -> int:
        """Eight bytes."""
        name = _named.get()
        return super().generate_span_id() if name is None else name.span

    def choose(self, trace: int) -> None:
        """The next trace that begins in this task has this id."""
        _next.set(trace)

    @contextmanager
    def named(self, name: Name) -> Iterator[None]:
        """What begins within is called so."""
        token = _named.set(name)
        try:
            yield
        finally:
            _named.reset(token)
