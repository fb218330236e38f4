"""The screen of ``sluice status``. Pure."""

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from app.glance.figures import Look, Row, Status, by_kind, stalest
from app.tail.grid import Column, clean, table
from app.tail.panels import age, clock

COLOURS = {"live": "green", "degraded": "yellow", "down": "red"}
SHOWN = 10
"""Channels of the stalest that are shown where no height is given."""
NEAR = 0.8
"""The part of a limit from which on it is marked."""


def render(
    look: Look,
    rates: dict[str, float | None],
    *,
    url: str,
    now: float,
    width: int,
    height: int | None = None,
) -> RenderableType:
    """All of it in ``width`` cells, and ``height`` lines, at ``now`` in Unix seconds."""
    head = Text.assemble(("sluice", "bold"), f"  {clean(url)}  {clock(now)}", no_wrap=True)
    away = [Text(clean(look.away), "bold red")] if look.away else []
    status = look.status
    if status is None:
        return Group(head, *away)
    facts = _facts(look, status, rates, now)
    parts: list[RenderableType] = [head, *away, facts, Text()]
    parts += [_connections(status, now, width), Text(), _kinds(status, width)]
    kinds = len(by_kind(status.channels))
    used = 1 + len(away) + facts.row_count + 1 + (1 + len(status.connections)) + 1 + (1 + kinds)
    room = SHOWN if height is None else min(SHOWN, height - used - 2)
    rows = stalest(status.channels)[: max(room, 0)]
    if rows:
        parts += [Text(), _channels(rows, now, width)]
    return Group(*parts)


def _facts(look: Look, status: Status, rates: dict[str, float | None], now: float) -> Table:
    lease, upstream = status.lease, status.upstream
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="dim", no_wrap=True)
    facts.add_column(no_wrap=True, overflow="ellipsis")
    facts.add_row("process", Text(clean(f"{status.process}, version {status.version}")))
    facts.add_row("ready", _readiness(look))
    facts.add_row(
        "upstream",
        Text.assemble(
            (f"● {clean(upstream.status)}", COLOURS.get(upstream.status, "default")),
            f" for {age(now - upstream.since)}, since {clock(upstream.since)}",
        ),
    )
    leader = "this process" if lease.leader == status.process else clean(lease.leader)
    facts.add_row(
        "lease",
        Text(f"{leader} leads, epoch {lease.epoch}")
        if lease.held
        else Text(f"nobody leads, epoch {clean(lease.epoch)}", "red"),
    )
    facts.add_row("position", Text(clean(status.position)))
    most, streams = status.limits, status.streams
    facts.add_row(
        "streams",
        Text(" · ").join(
            [
                _of("open", streams.open, most.streams),
                Text(f"{most.streams_per_client:,} a client at most"),
                Text(f"{streams.catching_up:,} behind", "yellow" if streams.catching_up else ""),
            ]
        ),
    )
    facts.add_row("on demand", _of("channels followed", status.followed, most.followed))
    facts.add_row("a second", Text(" · ".join(_rate(*one) for one in rates.items())))
    return facts


def _readiness(look: Look) -> Text:
    if look.closed:
        return Text(f"● not for traffic: {clean(look.closed)}", "red")
    if look.unready:
        return Text(f"● for traffic, but not fresh: {clean(look.unready)}", "yellow")
    return Text("● fresh, and open for traffic", "green")


def _of(what: str, count: int, most: int) -> Text:
    return Text(f"{count:,} {what}, of {most:,}", "yellow" if count >= NEAR * most else "")


def _rate(name: str, value: float | None) -> str:
    return f"{name} {'-' if value is None else f'{value:,.1f}'}"


def _connections(status: Status, now: float, width: int) -> RenderableType:
    if not status.connections:
        return Text("no connection to the exchange", "red")
    columns = [
        Column("connection"),
        Column("state"),
        Column("for", right=True),
        Column("follows", right=True),
        Column("reconnects", right=True, rank=1),
    ]
    rows = [
        [
            Text(clean(one.name)),
            Text(clean(one.state), "green" if one.state == "live" else "yellow"),
            Text(age(now - one.since)),
            Text(f"{one.following:,}"),
            Text(f"{one.reconnects:,}"),
        ]
        for one in status.connections
    ]
    return table(columns, rows, width)


def _kinds(status: Status, width: int) -> RenderableType:
    if not status.channels:
        return Text("nothing is followed", "yellow")
    columns = [
        Column("kind"),
        Column("live", right=True),
        Column("states", right=True, rank=1),
        Column("stale", right=True),
        Column("newest", right=True),
    ]
    rows = [
        [
            Text(clean(kind.kind)),
            Text(
                f"{kind.live}/{kind.followed}", "green" if kind.live == kind.followed else "yellow"
            ),
            Text(f"{kind.known:,}"),
            Text(f"{kind.stale:,}", "red" if kind.stale else ""),
            Text("-" if kind.age is None else age(kind.age)),
        ]
        for kind in by_kind(status.channels)
    ]
    return table(columns, rows, width)


def _channels(rows: list[Row], now: float, width: int) -> RenderableType:
    columns = [
        Column("stalest"),
        Column(""),
        Column("for", right=True),
        Column("stale", right=True, rank=1),
        Column("newest", right=True),
    ]
    drawn = [
        [
            Text(clean(row.channel)),
            Text("live", "green") if row.live else Text("not live", "red"),
            Text(age(now - row.since)),
            Text(f"{row.stale:,}/{row.known:,}"),
            Text("-" if row.age is None else age(row.age)),
        ]
        for row in rows
    ]
    return table(columns, drawn, width)
