"""The whole screen: as many columns of panels as fit, a status line below. Pure."""

import math
from itertools import pairwise

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from app.tail.board import Board
from app.tail.grid import clean, share
from app.tail.link import Link
from app.tail.panels import Block, age, blocks, clock

COLUMN = 46
"""Cells below which a second column of panels is not worth it."""

FRAME = 2
SMALLEST = FRAME + 2
"""Rows of a panel with a single line under its titles."""

NOTICE = 20.0
"""Seconds for which a notice is shown."""

_COLOURS = {"live": "green", "degraded": "yellow", "down": "red"}


def render(board: Board, link: Link, *, now: float, width: int, height: int) -> RenderableType:
    """The screen of ``width`` by ``height`` cells at ``now``, Unix seconds."""
    notices = _notices(link, now)
    foot = notices[max(len(notices) - max(height - 1 - SMALLEST, 0), 0) :]
    room = height - 1 - len(foot)
    columns, hidden = arrange(blocks(board, now), width, room)
    body: list[RenderableType] = []
    if columns:
        body = [_body(columns, width, room)]
    elif room > 0:
        body = _waiting(room)
    return Group(*body, *foot, _status(link, now, hidden))


def _waiting(height: int) -> list[RenderableType]:
    lines: list[RenderableType] = [Text() for _ in range(height)]
    lines[height // 2] = Text(
        "waiting for the first snapshot", "dim", justify="center", no_wrap=True
    )
    return lines


def arrange(
    found: list[Block], width: int, height: int
) -> tuple[list[list[tuple[Block, int]]], int]:
    """Columns of (panel, its rows), each put where there is most room; and how many do not fit."""
    per_column = max(height // SMALLEST, 0)
    count = min(len(found), max(1, width // COLUMN))
    fitting = found[: per_column * count]
    columns: list[list[Block]] = [[] for _ in range(min(count, len(fitting)))]
    for block in fitting:
        open_ones = [column for column in columns if len(column) < per_column]
        min(open_ones, key=_wanted).append(block)
    placed = [list(zip(column, _heights(column, height), strict=True)) for column in columns]
    return placed, len(found) - len(fitting)


def _wanted(column: list[Block]) -> int:
    return sum(block.wanted + FRAME for block in column)


def _heights(column: list[Block], height: int) -> list[int]:
    """Everyone the smallest; what is left as it is wanted."""
    spare = share(
        [max(block.wanted + FRAME - SMALLEST, 0) for block in column],
        height - SMALLEST * len(column),
    )
    return [SMALLEST + more for more in spare]


def _body(columns: list[list[tuple[Block, int]]], width: int, height: int) -> Table:
    grid = Table.grid()
    drawn = []
    for column, wide in zip(columns, _widths(columns, width), strict=True):
        grid.add_column(width=wide)
        used = sum(rows for _, rows in column)
        panels: list[RenderableType] = [_panel(block, wide, rows) for block, rows in column]
        drawn.append(Group(*panels, *[Text()] * (height - used)))
    grid.add_row(*drawn)
    return grid


def _widths(columns: list[list[tuple[Block, int]]], width: int) -> list[int]:
    """The width split in proportion to what the broadest panel of each column would like."""
    wishes = [max(block.breadth for block, _ in column) for column in columns]
    edges = [width * sum(wishes[:count]) // sum(wishes) for count in range(len(wishes) + 1)]
    return [right - left for left, right in pairwise(edges)]


def _panel(block: Block, width: int, rows: int) -> Panel:
    inside = block.draw(width - 4, rows - FRAME)
    missing = block.wanted + FRAME - rows
    return Panel(
        inside,
        title=Text(block.title, "bold"),
        title_align="left",
        subtitle=Text(f"{missing} more", "dim") if missing > 0 else None,
        subtitle_align="right",
        width=width,
        height=rows,
        border_style="dim",
    )


def _status(link: Link, now: float, hidden: int) -> Text:
    parts = [_upstream(link, now)]
    if link.position:
        parts.append(Text(clean(link.position)))
    parts.append(Text(f"{link.rate.at(now):.1f} events/s"))
    if link.gaps:
        parts.append(Text(f"{link.gaps} gaps" if link.gaps > 1 else "1 gap", "yellow"))
    if link.cuts:
        parts.append(Text(f"{link.cuts} cuts" if link.cuts > 1 else "1 cut", "yellow"))
    if hidden:
        parts.append(Text(f"{hidden} panels hidden: enlarge the terminal", "yellow"))
    line = Text(" · ", "dim").join(parts)
    line.no_wrap, line.overflow = True, "ellipsis"
    return line


def _upstream(link: Link, now: float) -> Text:
    if link.again_at is not None:
        left = math.ceil(max(link.again_at - now, 0.0))
        return Text(f"● gateway away, again in {left} s", "bold red")
    if not link.open:
        return Text("● connecting", "yellow")
    since = f" since {clock(link.since)}" if link.since is not None else ""
    return Text(f"● upstream {clean(link.upstream)}{since}", _COLOURS.get(link.upstream, "default"))


def _notices(link: Link, now: float) -> list[Text]:
    return [
        Text(f"{age(now - at)} ago  {clean(text)}", "dim", no_wrap=True, overflow="ellipsis")
        for at, text in link.notices
        if now - at < NOTICE
    ]
