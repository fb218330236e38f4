from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from rich.text import Text

from app.tail.grid import Column, aligned, clean, kept, share, table

COLUMNS = [Column("a"), Column("b", right=True, rank=1), Column("c", rank=2)]


def test_numbers_stand_with_their_points_under_each_other() -> None:
    assert aligned(["61843.24", "0.05347", "12", "-"]) == [
        "61843.24   ",
        "    0.05347",
        "   12      ",
        "    -      ",
    ]
    assert aligned([]) == []


@given(st.lists(st.decimals(allow_nan=False, allow_infinity=False, places=4), max_size=8))
def test_aligning_changes_no_digit(numbers: list[object]) -> None:
    texts = [f"{number}" for number in numbers]
    padded = aligned(texts)
    assert [text.strip() for text in padded] == texts
    assert len({len(text) for text in padded}) <= 1


def test_nothing_from_outside_steers_the_terminal() -> None:
    assert clean("\x1b[31mred\x07\u202e") == "\ufffd[31mred\ufffd\ufffd"
    assert clean(None) == "-"
    assert clean("BTC_USDT") == "BTC_USDT"


@given(st.lists(st.integers(0, 50), max_size=8), st.integers(0, 200))
def test_room_is_shared_out_fairly(wanted: list[int], room: int) -> None:
    given_ = share(wanted, room)
    assert all(0 <= got <= want for got, want in zip(given_, wanted, strict=True))
    assert sum(given_) <= room
    least = min((got for got, want in zip(given_, wanted, strict=True) if got < want), default=0)
    if least:
        assert max(given_) - least <= 1  # nobody has more than one who is short
        assert sum(given_) == room


def test_the_least_needed_columns_go_first() -> None:
    assert kept(COLUMNS, [5, 5, 5], 19) == [0, 1, 2]
    assert kept(COLUMNS, [5, 5, 5], 18) == [0, 1]
    assert kept(COLUMNS, [5, 5, 5], 11) == [0]
    assert kept(COLUMNS, [5, 5, 5], 1) == [0]


def test_a_table_marks_what_it_cuts() -> None:
    console = Console(record=True, width=6, height=4, file=None, quiet=False)
    with console.capture() as captured:
        console.print(table(COLUMNS, [[Text("12345678"), Text("x"), Text("y")]], 6))
    assert captured.get().splitlines()[1].strip() == "12345…"
