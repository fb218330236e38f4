"""One panel for each thing on the board. Pure: state and ``now`` in, something to draw out."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from itertools import islice
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from app.tail.board import Board, Book, Data, Quote, finished
from app.tail.grid import Column, aligned, clean, table

LEVELS = 20
"""Levels a side that a ladder would like to show."""

FLASH = 0.7
"""Seconds for which a price that moved stands out."""

_TREND = {-1: ("▼", "red"), 0: (" ", "default"), 1: ("▲", "green")}
_SIDE = {"buy": "green", "sell": "red"}
_EIGHTHS = " ▏▎▍▌▋▊▉"


@dataclass(frozen=True, slots=True)
class Block:
    """A panel's title, the rows it would like inside, and how to draw it into (width, rows).

    ``breadth`` is the cells at which nothing of it has to be left out, roughly.
    """

    title: str
    wanted: int
    breadth: int
    draw: Callable[[int, int], RenderableType]


def blocks(board: Board, now: float) -> list[Block]:
    """A panel for everything that the board holds something of."""
    listed: list[tuple[str, int, int, Callable[[int, int], RenderableType]]] = [
        ("last prices", len(board.prices), 48, lambda w, h: _prices(board.prices, now, w, h)),
        ("tickers", len(board.tickers), 84, lambda w, h: _tickers(board.tickers, now, w, h)),
        ("balances", len(board.balances), 60, lambda w, h: _balances(board.balances, now, w, h)),
        ("orders", len(board.orders), 110, lambda w, h: _orders(board, w, h)),
        ("deals", len(board.deals), 84, lambda w, h: _deals(board, w, h)),
        ("trades", len(board.trades), 54, lambda w, h: _trades(board, w, h)),
    ]
    found = [Block(title, rows + 1, breadth, draw) for title, rows, breadth, draw in listed if rows]
    books = [_book_block(subject, book) for subject, book in sorted(board.books.items())]
    at = len(found) - bool(board.trades)
    return [*found[:at], *books, *found[at:]]


def clock(seconds: float | None) -> str:
    """A time of day, local; ``-`` for None."""
    if seconds is None:
        return "-"
    return datetime.fromtimestamp(seconds, UTC).astimezone().strftime("%H:%M:%S")


def age(seconds: float) -> str:
    """How long ago, short: ``0.4s``, ``12s``, ``3m``, ``2h``."""
    if seconds < 9.95:
        return f"{max(seconds, 0.0):.1f}s"
    if seconds < 120:
        return f"{seconds:.0f}s"
    return f"{seconds / 60:.0f}m" if seconds < 7200 else f"{seconds / 3600:.0f}h"


def _plain(value: object, style: str = "") -> Text:
    return Text(clean(value), style)


def _numbers(values: Sequence[Any]) -> list[Text]:
    return [Text(text) for text in aligned(clean(value) for value in values)]


def _price_cells(quotes: Sequence[Quote], now: float) -> list[Text]:
    cells = []
    prices = aligned(clean(quote.data.get("price")) for quote in quotes)
    for quote, text in zip(quotes, prices, strict=True):
        arrow, colour = _TREND[quote.trend]
        flash = " bold reverse" if now - quote.moved < FLASH else ""
        cells.append(Text.assemble((arrow, colour), " ", (text, colour + flash)))
    return cells


def _shown(quotes: dict[str, Quote], rows: int) -> tuple[list[str], list[Quote]]:
    names = sorted(quotes)[: max(rows - 1, 0)]
    return names, [quotes[name] for name in names]


def _prices(quotes: dict[str, Quote], now: float, width: int, rows: int) -> Table:
    names, shown = _shown(quotes, rows)
    columns = [Column("market"), Column("  price"), Column("time", rank=2), Column("age", True, 1)]
    cells = zip(names, _price_cells(shown, now), shown, strict=True)
    return table(
        columns,
        [
            [_plain(name, "bold"), price, _plain(clock(one.time)), _plain(age(now - one.received))]
            for name, price, one in cells
        ],
        width,
    )


def _tickers(quotes: dict[str, Quote], now: float, width: int, rows: int) -> Table:
    names, shown = _shown(quotes, rows)
    columns = [
        Column("market"),
        Column("  price"),
        Column("change %", True),
        Column("high", rank=2),
        Column("low", rank=3),
        Column("volume", rank=1),
        Column("age", True, 4),
    ]
    changes = [clean(one.data.get("price_change")) for one in shown]
    cells = zip(
        (_plain(name, "bold") for name in names),
        _price_cells(shown, now),
        (Text(text, _sign_colour(text)) for text in aligned(changes)),
        *(_numbers([one.data.get(field) for one in shown]) for field in ("high", "low", "volume")),
        (_plain(age(now - one.received)) for one in shown),
        strict=True,
    )
    return table(columns, list(cells), width)


def _sign_colour(number: str) -> str:
    if not number.strip().strip("-0."):
        return "default"
    return "red" if number.lstrip().startswith("-") else "green"


def _balances(quotes: dict[str, Quote], now: float, width: int, rows: int) -> Table:
    names, shown = _shown(quotes, rows)
    columns = [
        Column("currency"),
        Column("balance"),
        Column("available", rank=2),
        Column("held", rank=1),
        Column("age", True, 3),
    ]
    fields = ("newBalance", "available", "held")
    cells = zip(
        (_plain(name, "bold") for name in names),
        *(_numbers([_balance(one.data, field) for one in shown]) for field in fields),
        (_plain(age(now - one.received)) for one in shown),
        strict=True,
    )
    return table(columns, list(cells), width)


def _balance(data: Data, field: str) -> object:
    return data["info"].get(field, data.get(field))


def _orders(board: Board, width: int, rows: int) -> Table:
    newest = sorted(board.orders.values(), key=lambda one: -int(one.get("createTs") or 0))
    shown = sorted(newest, key=finished)[: max(rows - 1, 0)]
    columns = [
        Column("market"),
        Column("side"),
        Column("price"),
        Column("quantity", rank=1),
        Column("filled", rank=2),
        Column("state"),
        Column("time", rank=3),
    ]
    fields = ("price", "quantity", "filledQuantity")
    cells = zip(
        (_plain(one["symbol"], "bold") for one in shown),
        (_side(one) for one in shown),
        *(_numbers([one.get(field) for one in shown]) for field in fields),
        (_plain(one.get("state") or ("finished" if finished(one) else "open")) for one in shown),
        (_plain(clock(one.get("createTs"))) for one in shown),
        strict=True,
    )
    return table(columns, list(cells), width)


def _deals(board: Board, width: int, rows: int) -> Table:
    shown = list(islice(board.deals, max(rows - 1, 0)))
    columns = [
        Column("time"),
        Column("market"),
        Column("price"),
        Column("quantity"),
        Column("fee", rank=1),
        Column("role", rank=2),
    ]
    cells = zip(
        (_plain(clock(one.get("committedAt"))) for one in shown),
        (_plain(one["symbol"], "bold") for one in shown),
        *(
            _numbers([one.get(field) for one in shown])
            for field in ("filledPrice", "filledQuantity")
        ),
        (_plain(f"{one.get('fee')} {one.get('feeCurrency')}") for one in shown),
        (_plain(one.get("tradeRole")) for one in shown),
        strict=True,
    )
    return table(columns, list(cells), width)


def _trades(board: Board, width: int, rows: int) -> Table:
    shown = list(islice(board.trades, max(rows - 1, 0)))
    columns = [
        Column("time", rank=1),
        Column("market"),
        Column("side"),
        Column("price"),
        Column("quantity"),
    ]
    colours = [_SIDE.get(one.get("direction", ""), "default") for one in shown]
    prices, amounts = (_numbers([one.get(f) for one in shown]) for f in ("price", "quantity"))
    for price, amount, colour in zip(prices, amounts, colours, strict=True):
        price.stylize(colour)
        amount.stylize(colour)
    cells = zip(
        (_plain(clock(one.get("timestamp")), "dim") for one in shown),
        (_plain(one["symbol"], "bold") for one in shown),
        (_side(one) for one in shown),
        prices,
        amounts,
        strict=True,
    )
    return table(columns, list(cells), width)


def _side(row: Data) -> Text:
    side = row.get("direction")
    return _plain(side, _SIDE.get(str(side), "default"))


def _book_block(subject: str, book: Book) -> Block:
    market, _, scale = subject.partition(":")
    title = f"{clean(market)} depth, scale {clean(scale)}"
    levels = max(len(book.asks(LEVELS)), len(book.bids(LEVELS)))
    return Block(title, 2 * levels + 1, 46, lambda width, rows: ladder(book, width, rows))


def ladder(book: Book, width: int, rows: int) -> Group:
    """Asks above with the best lowest, bids below, the spread between them always in the middle."""
    levels = max((rows - 1) // 2, 0)
    asks, bids = book.asks(levels)[::-1], book.bids(levels)
    both = [(clean(price), clean(size)) for price, size in (*asks, *bids)]
    prices, sizes = aligned(price for price, _ in both), aligned(size for _, size in both)
    largest = max((Decimal(size) for _, size in both), default=Decimal(1))
    room = width - sum(len(column[0]) if column else 0 for column in (prices, sizes)) - 4
    lines = [
        Text.assemble(
            (price, "red" if index < len(asks) else "green"),
            "  ",
            size,
            "  ",
            (bar(Decimal(size) / largest, room), "red" if index < len(asks) else "green"),
            no_wrap=True,
            overflow="ellipsis",
        )
        for index, (price, size) in enumerate(zip(prices, sizes, strict=True))
    ]
    above = [Text()] * (levels - len(asks))
    return Group(*above, *lines[: len(asks)], _spread(book), *lines[len(asks) :])


def _spread(book: Book) -> Text:
    if book.spread is None:
        return Text("no spread: a side is empty", "dim", no_wrap=True, overflow="ellipsis")
    spread, percent = book.spread
    style = "dim" if spread > 0 else "bold red"
    word = "spread" if spread > 0 else "crossed"
    text = f"{word} {spread:f} ({percent:.4f} %)  {clock(book.time)}"
    return Text(text, style, no_wrap=True, overflow="ellipsis")


def bar(part: Decimal, room: int) -> str:
    """A bar of ``part`` (0 to 1) of ``room`` cells, in eighths of a cell."""
    full, eighths = divmod(int(part * max(room, 0) * 8), 8)
    return ("█" * full + _EIGHTHS[eighths]).rstrip()
