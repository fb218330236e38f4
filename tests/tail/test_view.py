import io
import re
from decimal import Decimal
from itertools import product

import pytest
from rich.console import Console

from app.tail.board import Board
from app.tail.events import Cut, Message, Opened
from app.tail.link import Link
from app.tail.panels import age, bar, clock
from app.tail.view import render
from tests.tail.given import board, book, deal, made, order, price, row, trades

NOW = 1000.0

ASKS = [("27123.5", "0.75"), ("27124", "10"), ("27125.25", "0.125")]
BIDS = [("27123.45", "1.5"), ("27122", "3")]


def drawn(
    shown: Board, link: Link, *, width: int = 100, height: int = 30, now: float = NOW
) -> list[str]:
    """The lines of the screen, as text."""
    console = Console(record=True, width=width, height=height, file=io.StringIO())
    console.print(render(shown, link, now=now, width=width, height=height))
    return console.export_text().splitlines()


def live() -> Link:
    link = Link()
    link.opened(Opened(""), NOW)
    link.control(Message("gateway", '{"type":"status","upstream":"live","since":900}', ""), NOW)
    return link


def full() -> Board:
    ticker = {"price": "27123.5", "price_change": "-0.04", "high": "28000", "low": "26000.5"}
    rising = {**ticker, "price_change": "1.25", "volume": "123.456"}
    return board(
        price("27123.45", "7-1"),
        price("27123.50", "7-2", previous="7-1", received=995.0),
        made("ticker:BTC_USDT", "7-3", ticker),
        made("ticker:ETH_USDT", "7-4", rising),
        made("ticker:TRX_USDT", "7-5", {"price": "0.1", "price_change": "0.00"}),
        book("7-6", ASKS, BIDS),
        trades("BTC_USDT", "7-7", row("27123.5"), row("27123.45", direction="sell")),
        made("order:BTC_USDT", "7-8", {"orders": [order("a", state="completed", finishTs=1)]}),
        made("order:ETH_USDT", "7-9", {"orders": [order("b", market="ETH_USDT")]}),
        made("balance:USDT", "7-10", {"info": {"newBalance": "5.0"}, "available": "4"}),
        made("deal:BTC_USDT", "7-11", {"deals": [deal("t")]}),
    )


def test_a_price_is_shown_with_its_digits_its_move_and_its_age() -> None:
    lines = drawn(full(), live(), width=140)
    (line,) = [line for line in lines if "▲" in line]
    assert re.search(rf"BTC_USDT +▲ 27123\.50 +{clock(900)} +5\.0s", line)


def test_a_price_that_just_moved_stands_out() -> None:
    shown = board(price("1.5", "7-1"))
    shown.apply(price("1.4", "7-2", previous="7-1"), NOW)

    def styled(now: float) -> str:
        console = Console(record=True, width=60, height=8, file=io.StringIO())
        console.print(render(shown, live(), now=now, width=60, height=8))
        return console.export_text(styles=True)

    assert "\x1b[1;7;31m1.4" in styled(NOW)
    assert "\x1b[31m1.4" in styled(NOW + 5)


def test_a_ladder_has_asks_above_bids_and_the_spread_between() -> None:
    lines = drawn(board(book("7-1", ASKS, BIDS)), live(), width=50, height=12)
    inside = [line.strip("│ ").rstrip() for line in lines if line.startswith("│")]
    assert [line.split()[:2] for line in inside if line] == [
        ["27125.25", "0.125"],
        ["27124", "10"],
        ["27123.5", "0.75"],
        ["spread", "0.05"],
        ["27123.45", "1.5"],
        ["27122", "3"],
    ]
    points = {line.index(".") for line in lines if re.search(r"27\d+\.", line)}
    assert len(points) == 1
    assert lines[2].count("█") == max(line.count("█") for line in lines)


def test_a_ladder_without_room_keeps_the_best_levels() -> None:
    lines = drawn(board(book("7-1", ASKS, BIDS)), live(), width=50, height=6)
    assert [line.split()[1] for line in lines[1:4]] == ["27123.5", "spread", "27123.45"]
    assert "4 more" in lines[4]


def test_an_empty_side_and_a_crossed_book_are_told() -> None:
    assert any("a side is empty" in line for line in drawn(board(book("7-1", ASKS, [])), live()))
    crossed = board(book("7-1", [("1", "1")], [("2", "1")]))
    assert any("crossed -1" in line for line in drawn(crossed, live()))


def test_sides_of_trades_have_words_and_colours() -> None:
    console = Console(record=True, width=60, height=8, file=io.StringIO())
    shown = board(trades("A_B", "7-1", row("2.5"), row("2.4", direction="sell")))
    console.print(render(shown, live(), now=NOW, width=60, height=8))
    styled = console.export_text(styles=True)
    assert "\x1b[32mbuy" in styled
    assert "\x1b[31msell" in styled
    assert "\x1b[32m2.5" in styled


def test_open_orders_stand_above_finished_ones() -> None:
    done = order("a", created=950, state="completed", finishTs=960)
    shown = board(
        made("order:BTC_USDT", "7-1", {"orders": [done]}),
        made("order:ETH_USDT", "7-2", {"orders": [order("b", market="ETH_USDT")]}),
    )
    lines = drawn(shown, live())
    assert re.search(r"ETH_USDT +sell +27123\.4500000000000000 .* open", lines[2])
    assert re.search(r"BTC_USDT +sell +27123\.4500000000000000 .* completed", lines[3])


@pytest.mark.parametrize(("width", "height"), list(product((20, 46, 100, 200), (1, 2, 5, 12, 50))))
def test_the_screen_is_filled_exactly(width: int, height: int) -> None:
    link = live()
    link.note("something happened", NOW)
    for shown in (Board(), full()):
        lines = drawn(shown, link, width=width, height=height)
        assert len(lines) <= height
        assert all(len(line) <= width for line in lines)
        assert "upstream live"[: width - 3] in lines[-1]


def test_what_does_not_fit_is_told() -> None:
    assert "panels hidden: enlarge the terminal" in drawn(full(), live(), height=6)[-1]
    many = board(*(made(f"lastprice:M{n:02}_X", f"7-{n + 1}", {"price": "1"}) for n in range(30)))
    lines = drawn(many, live(), width=60, height=13)
    assert "21 more" in lines[-2]
    assert "M08_X" in lines[-3]


def test_before_anything_came() -> None:
    lines = drawn(Board(), Link(), width=60, height=9)
    assert "waiting for the first snapshot" in lines[4]
    assert lines[-1].startswith("● connecting · 0.0 events/s")


def test_the_status_line_tells_how_the_stream_fares() -> None:
    link = live()
    for second in range(5):
        link.heard("7-99", NOW - 5 + second)
    link.gap("trade:A_B", NOW - 3)
    assert drawn(Board(), link)[-1].strip() == (
        f"● upstream live since {clock(900)} · 7-99 · 1.0 events/s · 1 gap"
    )
    link.gap("trade:A_B", NOW - 2)
    link.cut(Cut("broken off", 3.0), NOW)
    lines = drawn(Board(), link, now=NOW + 0.5)
    assert lines[-1].startswith("● gateway away, again in 3 s · 7-99 · ")
    assert "2 gaps · 1 cut" in lines[-1]
    assert lines[-2].strip() == "0.5s ago  broken off; trying again in 3.0 s"
    assert lines[-3].strip() == "2.5s ago  gap on trade:A_B"
    link.cut(Cut("broken off", 3.0), NOW)
    assert "2 cuts" in drawn(Board(), link)[-1]
    assert "ago" not in "".join(drawn(Board(), link, now=NOW + 60))


def test_an_upstream_state_nobody_knows_is_shown_as_it_is() -> None:
    link = live()
    link.control(Message("gateway", '{"type":"status","upstream":"odd"}', ""), NOW)
    assert drawn(Board(), link)[-1].startswith("● upstream odd · ")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-3.0, "0.0s"), (0.44, "0.4s"), (12.4, "12s"), (150.0, "2m"), (7300.0, "2h")],
)
def test_ages_are_short(seconds: float, text: str) -> None:
    assert age(seconds) == text


def test_bars_are_drawn_in_eighths() -> None:
    assert bar(Decimal(1), 3) == "███"
    assert bar(Decimal("0.5"), 3) == "█▌"
    assert bar(Decimal("0.01"), 3) == ""
    assert bar(Decimal(1), -2) == ""
