"""The last events a process heard, as ready frames, for streams that resume."""

from bisect import bisect_right
from collections.abc import Callable, Iterable
from typing import Literal

from app.domain.channel import Channel
from app.domain.position import START, Position

Refusal = Literal["history_expired", "unknown_position"]


class History:
    """Keeps the last ``keep`` events; older ones are dropped in lumps to keep appending cheap."""

    def __init__(self, keep: int) -> None:
        self._keep = keep
        self._slack = max(keep // 8, 1)
        self._floor = START
        self._positions: list[Position] = []
        self._channels: list[Channel | None] = []
        self._frames: list[bytes] = []

    @property
    def head(self) -> Position:
        """The last position heard."""
        return self._positions[-1] if self._positions else self._floor

    @property
    def floor(self) -> Position:
        """Events up to here are not kept."""
        return self._floor

    def start(self, at: Position) -> None:
        """Begin anew after ``at``: everything up to it is only known as state."""
        self._floor = at
        self._positions, self._channels, self._frames = [], [], []

    def mark(self, position: Position) -> None:
        """Note a position at which nothing happened: the opening of an epoch."""
        self._append(position, None, b"")

    def add(self, position: Position, channel: Channel, frame: bytes) -> None:
        """Note an event."""
        self._append(position, channel, frame)

    def prepend(self, after: Position, events: Iterable[tuple[Position, Channel, bytes]]) -> None:
        """Put those before all others that lie between ``after`` and the floor, all there are."""
        positions, channels, frames = [], [], []
        for position, channel, frame in events:
            if after < position <= self._floor:
                positions.append(position)
                channels.append(channel)
                frames.append(frame)
        self._positions[:0], self._channels[:0], self._frames[:0] = positions, channels, frames
        self._floor = after

    def refusal(self, after: Position) -> Refusal | None:
        """Why a stream cannot resume after a position; None if it can."""
        if after > self.head:
            return "unknown_position"
        if after == self._floor and after > START:
            return None
        at = bisect_right(self._positions, after)
        if at == 0:
            return "history_expired"
        return None if self._positions[at - 1] == after else "unknown_position"

    def after(
        self, position: Position, follows: Callable[[Channel], bool], *, size: int, steps: int
    ) -> tuple[list[bytes], Position]:
        """The frames after a position on the channels followed, and how far that reaches.

        Stops after about ``size`` bytes or ``steps`` events looked at.
        """
        at = bisect_right(self._positions, position)
        end = min(at + steps, len(self._positions))
        found: list[bytes] = []
        while at < end and size > 0:
            channel = self._channels[at]
            if channel is not None and follows(channel):
                found.append(self._frames[at])
                size -= len(found[-1])
            at += 1
        return found, self._positions[at - 1] if at else position

    def _append(self, position: Position, channel: Channel | None, frame: bytes) -> None:
        self._positions.append(position)
        self._channels.append(channel)
        self._frames.append(frame)
        excess = len(self._positions) - self._keep
        if excess > self._slack:
            self._floor = self._positions[excess - 1]
            del self._positions[:excess], self._channels[:excess], self._frames[:excess]
