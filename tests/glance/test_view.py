from dataclasses import replace
from typing import Any

import msgspec
from rich.console import Console

from app.glance.figures import Look, Status
from app.glance.view import render
from tests.glance.given import NOW, STATUS, row

RATES = {"events": 213.4, "deliveries": 41_203.0, "requests": None}


def look(**given: Any) -> Look:
    return Look(1.0, msgspec.convert(STATUS | given, Status))


def drawn(seen: Look, *, width: int = 100, height: int | None = None) -> str:
    console = Console(width=width, height=height or 50, color_system=None)
    with console.capture() as kept:
        console.print(
            render(seen, RATES, url="http://here:8000", now=NOW, width=width, height=height)
        )
    return kept.get()


def line(text: str, begin: str) -> str:
    (found,) = [one for one in text.splitlines() if one.startswith(begin)]
    return " ".join(found.split())


def test_a_gateway_that_is_well() -> None:
    text = drawn(look(channels=[row("ticker:*", known=50), row("depth:BTC_USDT:0", age=200.0)]))
    assert line(text, "process") == "process one, version 0.1.0"
    assert line(text, "ready") == "ready ● fresh, and open for traffic"
    assert line(text, "upstream  ").startswith("upstream ● live for 100s, since")
    assert line(text, "lease") == "lease this process leads, epoch 7"
    assert line(text, "position") == "position 7-48213"
    assert line(text, "streams") == (
        "streams 17,000 open, of 20,000 · 64 a client at most · 3 behind"
    )
    assert line(text, "on demand") == "on demand 12 channels followed, of 1,000"
    assert line(text, "a second") == "a second events 213.4 · deliveries 41,203.0 · requests -"
    assert line(text, "upstream-1") == "upstream-1 live 100s 3 2"
    assert line(text, "ticker ") == "ticker 1/1 50 0 0.5s"
    assert text.index("depth:BTC_USDT:0") < text.index("ticker:*"), "the stalest come first"


def test_one_that_is_not() -> None:
    lease = {"held": False, "epoch": None, "leader": None}
    seen = look(
        upstream={"status": "down", "since": NOW - 10},
        lease=lease,
        connections=[],
        channels=[row("depth:BTC_USDT:0", live=False, known=0, age=None)],
    )
    text = drawn(replace(seen, unready="no process leads", away="no gateway answers"))
    assert "no gateway answers" in text
    assert line(text, "ready") == "ready ● for traffic, but not fresh: no process leads"
    assert line(text, "lease") == "lease nobody leads, epoch -"
    assert "no connection to the exchange" in text
    assert line(text, "depth:BTC_USDT:0") == "depth:BTC_USDT:0 not live 100s 0/0 -"
    closed = drawn(replace(seen, unready="x", closed="this process is shutting down"))
    assert line(closed, "ready") == "ready ● not for traffic: this process is shutting down"


def test_another_that_leads_is_named() -> None:
    text = drawn(look(lease={"held": True, "epoch": 7, "leader": "two"}))
    assert line(text, "lease") == "lease two leads, epoch 7"
    assert "nothing is followed" in text


def test_nobody_that_was_ever_seen() -> None:
    text = drawn(Look.of_nobody("no gateway answers"))
    assert text.splitlines()[1:] == ["no gateway answers"]


def test_it_fits_the_terminal() -> None:
    many = [row(f"depth:M{number}_USDT:0") for number in range(100)]
    for width, height in ((100, 30), (80, 24), (60, 20), (100, 10)):
        text = drawn(look(channels=many), width=width, height=height)
        assert all(len(one) <= width for one in text.splitlines())
        if height >= 20:
            assert len(text.splitlines()) <= height


def test_what_comes_from_outside_does_not_steer_the_terminal() -> None:
    assert "\x1b" not in drawn(look(process="\x1b[2J", channels=[row("\x1b[31m:x")]))
