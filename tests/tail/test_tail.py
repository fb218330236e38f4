import asyncio
import io
import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from app.tail import Screen, tail, write_lines
from app.tail.events import Cut, Item, Message, Opened
from tests.e2e.terminal import read_until
from tests.tail.gateway import CUT, HOLD, Answer, block, price, problem, serving, status

ROOT = Path(__file__).parents[2]
RUN = "import asyncio, sys; from app.tail import tail; sys.exit(asyncio.run(tail({!r}, {!r}, {})))"


async def started(
    url: str, *, as_json: bool, stdout: int = subprocess.PIPE
) -> asyncio.subprocess.Process:
    code = RUN.format(["lastprice:BTC_USDT"], url, as_json)
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", code),
        cwd=ROOT,
        stdout=stdout,
        stderr=subprocess.PIPE,
        env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "100", "LINES": "24"},
    )


SCRIPT = [
    Answer([status(), price("7-1", "1.50"), CUT]),
    Answer(
        [
            status("down"),
            block("gateway", {"type": "reset", "reason": "history_expired"}),
            price("7-2", "1.60", previous="7-1"),
            HOLD,
        ]
    ),
]


@pytest.mark.e2e
async def test_json_lines_over_a_cut_and_a_quiet_end() -> None:
    async with asyncio.timeout(20), serving(*SCRIPT) as gateway:
        process = await started(gateway.url, as_json=True)
        assert process.stdout is not None
        lines = [await process.stdout.readline() for _ in range(2)]
        process.send_signal(signal.SIGINT)
        rest, told = await process.communicate()
    assert [json.loads(line)["data"]["price"] for line in lines] == ["1.50", "1.60"]
    assert (rest, process.returncode) == (b"", 0)
    said = told.decode().splitlines()
    assert said[:2] == ["sluice tail: connected", "sluice tail: upstream is live"]
    assert said[2].endswith("trying again in 0.0 s")
    assert said[3:] == [
        "sluice tail: connected, resuming after 7-1",
        "sluice tail: upstream is down",
        "sluice tail: reset: history_expired; starting anew from snapshots",
    ]


@pytest.mark.e2e
async def test_a_closed_pipe_ends_it_quietly() -> None:
    endless = [price(f"7-{n}", "1", previous=f"7-{n - 1}") for n in range(2, 20_000)]
    async with (
        asyncio.timeout(20),
        serving(Answer([status(), price("7-1", "1"), *endless, HOLD])) as gateway,
    ):
        read, write = os.pipe()
        process = await started(gateway.url, as_json=True, stdout=write)
        os.close(write)
        with os.fdopen(read, "rb") as reader:
            assert await asyncio.to_thread(reader.readline)
        _, told = await process.communicate()
    assert process.returncode == 0
    assert told.decode().splitlines() == [
        "sluice tail: connected",
        "sluice tail: upstream is live",
    ]


@pytest.mark.e2e
async def test_a_terminal_gets_the_live_view_and_is_left_in_order() -> None:
    async with asyncio.timeout(20), serving(*SCRIPT) as gateway:
        ours, theirs = pty.openpty()
        process = await started(gateway.url, as_json=False, stdout=theirs)
        os.close(theirs)
        seen = await asyncio.to_thread(read_until, ours, lambda screen: b"1.60" in screen)
        process.terminate()
        seen += await asyncio.to_thread(read_until, ours, lambda _: False)
        await process.communicate()
        os.close(ours)
    assert process.returncode == 0
    assert b"\x1b[?1049h" in seen  # the other screen
    assert seen.rstrip().endswith(b"\x1b[?25h") or b"\x1b[?1049l" in seen[-100:]
    assert "▲".encode() in seen


async def test_a_refusal_is_one_line_and_status_one(capsys: pytest.CaptureFixture[str]) -> None:
    async with asyncio.timeout(10), serving(problem(404, "unknown market X_Y")) as gateway:
        assert await tail(["ticker:X_Y"], gateway.url, True) == 1
    out, err = capsys.readouterr()
    assert (out, err) == ("", "sluice tail: answered 404: unknown market X_Y\n")


async def test_a_refused_live_view_leaves_the_same_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    async with asyncio.timeout(10), serving(problem(413, "too many")) as gateway:
        assert await tail(["ticker:X_Y"], gateway.url) == 1
    assert capsys.readouterr().err == "sluice tail: answered 413: too many\n"


async def test_a_key_is_sent_and_not_shown(capsys: pytest.CaptureFixture[str]) -> None:
    async with asyncio.timeout(10), serving(problem(401, "unknown key")) as gateway:
        assert await tail(["order:*"], gateway.url, True, key="sluice_secret") == 1
    assert gateway.asked[0].headers["authorization"] == "bearer sluice_secret"
    assert "secret" not in "".join(capsys.readouterr())


async def test_data_over_several_lines_stands_on_one() -> None:
    out, err = io.StringIO(), io.StringIO()

    async def items() -> AsyncGenerator[Item]:
        yield Message("ticker", '{"a":\n1}', "")

    await write_lines(items(), out, err)
    assert (out.getvalue(), err.getvalue()) == ('{"a": 1}\n', "")


def test_a_screen_takes_everything_in() -> None:
    screen = Screen()
    screen.take(Opened(""), 1.0)
    assert screen.link.open
    for raw in (
        price("7-1", "1"),
        price("7-1", "1"),
        price("7-3", "2", previous="7-2"),
        b"\n\ndata: nonsense",
        b"\n\ndata: " + json.dumps({"type": "bye", "reason": "drain"}).encode(),
    ):
        kind = "gateway" if b"bye" in raw else "lastprice"
        data = raw.decode().partition("data: ")[2].strip()
        screen.take(Message(kind, data, ""), 2.0)
    screen.take(Cut("gone", 1.0), 3.0)
    assert screen.link.again_at == 4.0
    assert screen.board.prices["BTC_USDT"].data["price"] == "2"
    assert (screen.link.events, screen.link.gaps) == (2, 1)
    assert [text.partition(":")[0] for _, text in screen.link.notices] == [
        "unreadable event",
        "bye",
        "gone; trying again in 1.0 s",
    ]
