"""Rows that fit: numbers under each other by their points, columns left out where room is short.

Pure. An amount is shown whole or marked as cut, never rounded.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.table import Table
from rich.text import Text

GUTTER = 2


@dataclass(frozen=True, slots=True)
class Column:
    """``rank``: columns with the highest go first when the width does not suffice; 0 stays."""

    title: str
    right: bool = False
    rank: int = 0


def aligned(numbers: Iterable[str]) -> list[str]:
    """The numbers padded to one width, their decimal points under each other."""
    parts = [number.partition(".") for number in numbers]
    whole = max((len(left) for left, _, _ in parts), default=0)
    rest = max((len(dot) + len(right) for _, dot, right in parts), default=0)
    return [left.rjust(whole) + (dot + right).ljust(rest) for left, dot, right in parts]


def clean(value: object) -> str:
    """Text from outside, without what could steer the terminal; ``-`` for None."""
    if value is None:
        return "-"
    text = str(value)
    return text if text.isprintable() else "".join(c if c.isprintable() else "\ufffd" for c in text)


def share(wanted: Sequence[int], room: int) -> list[int]:
    """Split ``room`` so that nobody gets more than wanted and the modest are served in full."""
    given = [0] * len(wanted)
    order = sorted(range(len(wanted)), key=lambda index: wanted[index])
    for served, index in enumerate(order):
        given[index] = min(wanted[index], room // (len(wanted) - served))
        room -= given[index]
    return given


def kept(columns: Sequence[Column], widths: Sequence[int], room: int) -> list[int]:
    """The indexes of the columns that fit into ``room`` cells."""
    indexes = list(range(len(columns)))
    while sum(widths[index] + GUTTER for index in indexes) - GUTTER > room:
        last = max(indexes, key=lambda index: columns[index].rank)
        if not columns[last].rank:
            break
        indexes.remove(last)
    return indexes


def table(columns: Sequence[Column], rows: Sequence[Sequence[Text]], width: int) -> Table:
    """The rows under their titles, in ``width`` cells; the least needed columns left out."""
    widths = [
        max([len(column.title), *(row[index].cell_len for row in rows)])
        for index, column in enumerate(columns)
    ]
    indexes = kept(columns, widths, width)
    drawn = Table(box=None, padding=(0, GUTTER, 0, 0), pad_edge=False, header_style="dim")
    for index in indexes:
        column = columns[index]
        drawn.add_column(
            column.title,
            justify="right" if column.right else "left",
            no_wrap=True,
            overflow="ellipsis",
        )
    for row in rows:
        drawn.add_row(*(row[index] for index in indexes))
    return drawn
