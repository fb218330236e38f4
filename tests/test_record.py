import asyncio
import gzip
import io
import json
import os
import signal
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.record import Recording, RecordingFailed, record
from app.simulator import Options, Simulator
from app.simulator import recording as simulated
from app.upstream.pool import PoolOptions
from app.upstream.rest import Credentials, Rest, RestOptions

PRICE = '{"id":0, "method":"lastprice_update","data":{"price":"%s","x":%s},"error":null}'


def lines(path: Path) -> list[bytes]:
    written = path.read_bytes()
    return (gzip.decompress(written) if path.suffix == ".gz" else written).splitlines()


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.jsonl"])
def test_writes_events_as_they_came(tmp_path: Path, name: str) -> None:
    first, second = PRICE % ("0.10", "3.547e-05"), PRICE % ("1", "61843.2400")
    with Recording(tmp_path / name) as recording:
        recording.take(1000.25, first)
        recording.take(1000.5, '{"id":1000,"method":"pong","data":null,"error":null}')
        recording.take(1000.5, '{"id":1001,"data":{"status":"success"},"error":null}')
        recording.take(1001.5000004, second)
        recording.check()
    assert lines(tmp_path / name) == [
        b'{"at":0.000000,"message":%b}' % first.encode(),
        b'{"at":1.250000,"message":%b}' % second.encode(),
    ]
    assert [(one.at, one.text.decode()) for one in simulated.read(tmp_path / name)] == [
        (0.0, first),
        (1.25, second),
    ]
    assert (recording.events, recording.skipped, recording.seconds) == (2, 0, 1.25)


def test_leaves_out_and_counts_what_is_no_event(tmp_path: Path) -> None:
    with Recording(tmp_path / "a.jsonl") as recording:
        for garbage in ("", "nonsense", "[]", '{"method":5}', PRICE % ("1", "NaN"), '"a_update"'):
            recording.take(1.0, garbage)
    assert lines(tmp_path / "a.jsonl") == []
    assert (recording.events, recording.skipped) == (0, 6)


def test_a_frame_over_several_lines_stands_on_one(tmp_path: Path) -> None:
    with Recording(tmp_path / "a.jsonl") as recording:
        recording.take(1.0, '\n{"method":"x_update",\r\n"data":"1\\n2"}\n')
    (line,) = lines(tmp_path / "a.jsonl")
    assert json.loads(line)["message"] == {"method": "x_update", "data": "1\n2"}


@given(steps=st.lists(st.floats(-5, 5), min_size=1, max_size=20))
def test_lines_are_sorted_by_time_whatever_the_clock_does(
    tmp_path_factory: pytest.TempPathFactory, steps: list[float]
) -> None:
    path = tmp_path_factory.mktemp("recording") / "a.jsonl"
    now = 1_750_000_000.0
    with Recording(path) as recording:
        for step in steps:
            now += step
            recording.take(now, PRICE % ("1", "2"))
    at = [one.at for one in simulated.read(path)]
    assert at == sorted(at)
    assert at[0] == 0.0


def test_what_is_flushed_is_readable_before_the_end(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl.gz"
    with Recording(path) as recording:
        recording.take(1.0, PRICE % ("1", "2"))
        recording.flush()
        with gzip.open(path) as file:
            assert file.read1().endswith(b"}\n")


def test_a_file_with_something_in_it_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("precious")
    with pytest.raises(RecordingFailed, match="is not empty: name a new file"):
        Recording(path)
    assert path.read_text() == "precious"


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecordingFailed, match=r"cannot write .*No such file or directory"):
        Recording(tmp_path / "nowhere" / "a.jsonl")


def test_a_full_disk_is_told_and_stops_the_writing() -> None:
    with Recording(Path("/dev/full")) as recording:
        recording.take(1.0, PRICE % ("1", "2"))
        recording.flush()
        assert recording.failed.is_set()
        recording.take(2.0, PRICE % ("1", "2"))
    assert recording.events == 1
    with pytest.raises(RecordingFailed, match="No space left on device"):
        recording.check()


def test_a_line_that_cannot_be_written_is_not_counted() -> None:
    with Recording(Path("/dev/full")) as recording:
        recording.take(1.0, PRICE % ("1", "2" * 20_000))
        assert recording.failed.is_set()
    assert recording.events == 0


class Told(io.StringIO):
    """Standard error that tells when something was written to it."""

    def __init__(self, *, terminal: bool = False) -> None:
        super().__init__()
        self.written = asyncio.Event()
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal

    def write(self, text: str) -> int:
        self.written.set()
        return super().write(text)


def written(path: Path) -> int:
    """How many lines are readable in an unfinished recording that is not compressed."""
    return path.read_bytes().count(b"\n") if path.exists() else 0


async def grown(path: Path, at_least: int) -> None:
    while written(path) < at_least:  # noqa: ASYNC110  # a file tells nobody that it has grown
        await asyncio.sleep(0.02)


async def stopped(
    simulator: Simulator, out: Path, *channels: str, after: int, told: Told, cut: bool = False
) -> int:
    """Record the simulator, perhaps over a cut, and stop by SIGTERM when enough is there."""
    async with asyncio.timeout(30), httpx.AsyncClient() as client, asyncio.TaskGroup() as tasks:
        rest = Rest(
            client,
            RestOptions(simulator.url, simulator.url, simulator.url),
            Credentials("demo-user", "demo-key"),
        )
        recording = tasks.create_task(
            record(out, channels, rest, PoolOptions(simulator.ws_url), told)
        )
        await grown(out, after)
        if cut:
            simulator.control.act("cut")
            await grown(out, written(out) + after)
        os.kill(os.getpid(), signal.SIGTERM)
        return await recording


async def test_records_over_a_reconnect_what_the_exchange_sends(tmp_path: Path) -> None:
    out, told = tmp_path / "market.jsonl", Told()
    async with Simulator(Options(port=0, rate=200)) as simulator:
        status = await stopped(
            simulator, out, "depth:BTC_USDT:0", "trade:*", after=20, told=told, cut=True
        )
        assert simulator.control.report()["violations"] == []
    assert status == 0
    assert f"in {out}, 0 unreadable frames left out" in told.getvalue()
    messages = [json.loads(one.text) for one in simulated.read(out)]
    assert {one["method"] for one in messages} == {"depth_update", "trade_update"}
    books = [one["data"] for one in messages if one["method"] == "depth_update"]
    assert sum(one["full_reload"] for one in books) >= 2  # one for each connection
    assert simulated.scan(out).duration > 0


async def test_progress_is_told_in_place_on_a_terminal(tmp_path: Path) -> None:
    out, told = tmp_path / "market.jsonl", Told(terminal=True)
    async with Simulator(Options(port=0, rate=200)) as simulator:
        await stopped(simulator, out, "ticker:*", after=5, told=told)
    assert "upstream live" in told.getvalue()
    assert told.getvalue().startswith("\r\x1b[K")


async def refused(out: Path, *channels: str) -> tuple[int, str]:
    told = Told()
    async with asyncio.timeout(30), httpx.AsyncClient() as client:
        rest = Rest(client, RestOptions("http://[::1]:9", "http://[::1]:9", "http://[::1]:9"), None)
        return await record(out, channels, rest, PoolOptions("ws://[::1]:9"), told), told.getvalue()


async def test_a_malformed_channel_is_named_and_nothing_written(tmp_path: Path) -> None:
    status, told = await refused(tmp_path / "a.jsonl", "ticker:btc")
    assert status == 1
    assert told.startswith("sluice record: channel 'ticker:btc' is malformed")
    assert not (tmp_path / "a.jsonl").exists()


async def test_a_used_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("x")
    status, told = await refused(tmp_path / "a.jsonl", "ticker:*")
    assert (status, told.count("\n")) == (1, 1)
    assert "is not empty" in told


async def test_a_full_disk_ends_the_recording() -> None:
    told = Told()
    async with (
        asyncio.timeout(30),
        Simulator(Options(port=0, rate=100)) as simulator,
        httpx.AsyncClient() as client,
    ):
        options = RestOptions(simulator.url, simulator.url, simulator.url)
        rest = Rest(client, options, Credentials("demo-user", "demo-key"))
        pool = PoolOptions(simulator.ws_url)
        assert await record(Path("/dev/full"), ["ticker:*"], rest, pool, told) == 1
    assert "cannot write /dev/full: No space left on device" in told.getvalue()
