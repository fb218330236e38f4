"""Where an event stands in the one order of all events of a deployment."""

import re
from typing import NamedTuple

_TEXT = re.compile(r"(0|[1-9][0-9]{0,15})-(0|[1-9][0-9]{0,15})")


class Position(NamedTuple):
    """``epoch-sequence``, compared in the order of events.

    It is the SSE ``id``, the REST ``ETag`` and the journal's entry id.
    """

    epoch: int
    sequence: int

    @staticmethod
    def parse(text: str) -> "Position | None":
        """Read ``epoch-sequence``; None where the text is not one in its only spelling."""
        match = _TEXT.fullmatch(text)
        return Position(int(match[1]), int(match[2])) if match else None

    def __str__(self) -> str:
        return f"{self.epoch}-{self.sequence}"


START = Position(0, 0)
"""Before everything."""


def next_epoch(highest: int, clock: float) -> int:
    """The epoch of a new leader: above every known one, and at least ``clock`` in Unix ms.

    So no restart and no lost journal ever repeats one.
    """
    return max(highest + 1, int(clock * 1000))
