"""A reader of event streams after the HTML standard, 9.2.6, sharing nothing with the gateway.

It also tells what the standard throws away but our contract speaks of: comments, and whether a
block carried an id itself.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Block:
    """One dispatched event; ``id`` and ``retry`` are those written in this very block."""

    event: str
    data: str
    last_event_id: str
    id: str | None = None
    retry: int | None = None

    def json(self) -> Any:
        return json.loads(self.data, parse_float=str)


class Reader:
    """Takes bytes as they come, in pieces of any size."""

    def __init__(self) -> None:
        self.blocks: list[Block] = []
        self.comments: list[str] = []
        self.empty_blocks = 0
        self.last_event_id = ""
        self._raw = b""
        self._after_cr = False
        self._first = True
        self._clear()

    def _clear(self) -> None:
        self._event, self._data, self._written = "", "", False
        self._id: str | None = None
        self._retry: int | None = None

    def feed(self, data: bytes) -> list[Block]:
        """Take in bytes; gives the events they complete."""
        known = len(self.blocks)
        for byte in data:
            one = bytes((byte,))
            if self._after_cr and one == b"\n":
                self._after_cr = False
                continue
            self._after_cr = one == b"\r"
            if one in (b"\r", b"\n"):
                self._line(self._raw)
                self._raw = b""
            else:
                self._raw += one
        return self.blocks[known:]

    def _line(self, raw: bytes) -> None:
        if self._first:
            raw, self._first = raw.removeprefix(b"\xef\xbb\xbf"), False
        line = raw.decode("utf-8", "replace")
        if not line:
            self._dispatch()
        elif line.startswith(":"):
            self.comments.append(line[1:])
        else:
            name, _, value = line.partition(":")
            self._field(name, value.removeprefix(" "))

    def _field(self, name: str, value: str) -> None:
        self._written = True
        if name == "event":
            self._event = value
        elif name == "data":
            self._data += value + "\n"
        elif name == "id" and "\0" not in value:
            self._id = value
        elif name == "retry" and value.isascii() and value.isdigit():
            self._retry = int(value)

    def _dispatch(self) -> None:
        if self._id is not None:
            self.last_event_id = self._id
        if self._data:
            data = self._data.removesuffix("\n")
            self.blocks.append(
                Block(self._event or "message", data, self.last_event_id, self._id, self._retry)
            )
        elif self._written:
            self.empty_blocks += 1
        self._clear()

    @property
    def unfinished(self) -> bool:
        """Whether the stream stands in the middle of a block."""
        return bool(self._raw) or self._written


class Dechunker:
    """Takes HTTP/1.1 chunk framing off (RFC 9112, 7.1); a chunk of length zero ends the body."""

    def __init__(self) -> None:
        self.ended = False
        self._raw = b""

    def feed(self, data: bytes) -> bytes:
        self._raw += data
        body = b""
        while not self.ended:
            head, found, rest = self._raw.partition(b"\r\n")
            if not found:
                break
            size = int(head, 16)
            if len(rest) < size + 2:
                break
            assert rest[size : size + 2] == b"\r\n", "a chunk does not end where it says"
            body += rest[:size]
            self._raw = rest[size + 2 :]
            self.ended = size == 0
        return body


def read(pieces: Iterable[bytes]) -> list[Block]:
    """All events of a whole stream."""
    reader = Reader()
    for piece in pieces:
        reader.feed(piece)
    assert not reader.unfinished, "the stream ends inside a block"
    return reader.blocks
