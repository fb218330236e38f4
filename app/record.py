"""Writes what a live upstream sends, in the simulator's recording format: ``sluice record``.

Rules: an event's text goes into the file as it came, digit for digit; a line is written in the
turn in which its frame was read. Reconnects go on in the same file: a full reload follows.
"""

import asyncio
import gzip
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self, TextIO

import msgspec

from app.domain.channel import Channel
from app.errors import GatewayError
from app.logs import redact
from app.stopping import stopped_by_signals
from app.telemetry import Metrics
from app.upstream.pool import Pool, PoolOptions
from app.upstream.rest import Rest

FLUSH = 1.0
"""Seconds between flushes: at most so much is lost if the process is killed."""

REPORT = 30.0
"""Seconds between progress lines where they do not go to a terminal."""

_NEVER = 10 * 365 * 86_400.0


class RecordingFailed(GatewayError):
    """The file cannot be written."""


class _Frame(msgspec.Struct):
    method: str | None = None


_read = msgspec.json.Decoder(_Frame).decode


class Recording:
    """The file: ``{"at": seconds since its first event, "message": event}`` a line, gzipped if
    its name ends in ``.gz``. Takes frames, keeps events.
    """

    def __init__(self, path: Path) -> None:
        """Open a new file; raises RecordingFailed, also if there is something in it already."""
        self.events = 0
        self.skipped = 0
        self.seconds = 0.0
        self.failed = asyncio.Event()
        self._path = path
        self._failure: OSError | None = None
        self._start: float | None = None
        try:
            if path.exists() and path.stat().st_size:
                raise RecordingFailed(f"{path} is not empty: name a new file")
            self._file: BinaryIO | gzip.GzipFile = (
                gzip.open(path, "wb") if path.suffix == ".gz" else path.open("wb")  # noqa: SIM115  # closed by __exit__
            )
        except OSError as error:
            raise self._failed(error) from error

    def take(self, received: float, frame: str) -> None:
        """Write a frame read at ``received`` (Unix seconds) if it is an event. Never raises.

        Acknowledgements and pongs are left out; so is, and is counted, what is no JSON object. A
        file that cannot be written sets ``failed``; ``check`` tells why.
        """
        if self._failure is not None:
            return
        try:
            method = _read(frame).method
        except (msgspec.DecodeError, RecursionError):
            self.skipped += 1
            return
        if method is None or not method.endswith("_update"):
            return
        self._write(received, frame)

    def _write(self, received: float, frame: str) -> None:
        if self._start is None:
            self._start = received
        # the clock may step back; lines stay sorted by time
        self.seconds = max(self.seconds, round(received - self._start, 6))
        # outside of strings, where it may not stand, a line break is mere white space
        text = frame.strip().replace("\r", " ").replace("\n", " ")
        line = f'{{"at":{self.seconds:.6f},"message":{text}}}\n'
        try:
            self._file.write(line.encode())
        except OSError as error:
            self._fail(error)
            return
        self.events += 1

    def flush(self) -> None:
        """Hand everything to the operating system, readable as it is. Never raises."""
        try:
            self._file.flush()
        except OSError as error:
            self._fail(error)

    def check(self) -> None:
        """Raise RecordingFailed if the file could not be written."""
        if self._failure is not None:
            raise self._failed(self._failure)

    def _fail(self, error: OSError) -> None:
        self._failure = error
        self.failed.set()

    def _failed(self, error: OSError) -> RecordingFailed:
        return RecordingFailed(f"cannot write {self._path}: {error.strerror or error}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _tb: TracebackType | None,
    ) -> None:
        try:
            self._file.close()
        except OSError as error:
            self._fail(error)


async def record(
    out: Path, channels: Sequence[str], rest: Rest, options: PoolOptions, err: TextIO = sys.stderr
) -> int:
    """Record ``channels`` into ``out`` until stopped by Ctrl-C or SIGTERM; the exit status.

    ``options`` says where the exchange is. One connection is used, and never a planned change of
    connections, as then both would be heard for a moment. What is said goes to ``err``.
    """
    told, status = "", 0
    try:
        wanted = frozenset(map(Channel.parse, channels))
        recording = Recording(out)
        with stopped_by_signals(), recording:
            await _follow(recording, wanted, rest, options, err)
        recording.check()
        told = f"{_told(recording)} in {out}, {recording.skipped} unreadable frames left out"
    except* GatewayError as group:
        told, status = "; ".join(redact(str(error)) for error in group.exceptions), 1
    _say(err, f"sluice record: {told}\n")
    return status


async def _follow(
    recording: Recording,
    wanted: frozenset[Channel],
    rest: Rest,
    options: PoolOptions,
    err: TextIO,
) -> None:
    tapped = replace(options.socket, tap=recording.take)
    pool = Pool(rest, replace(options, connections=1, max_age=_NEVER, socket=tapped), Metrics())
    pool.want(wanted)
    async with asyncio.TaskGroup() as tasks:
        running = [
            tasks.create_task(pool.run(), name="pool"),
            tasks.create_task(_discard(pool), name="discard"),
            tasks.create_task(_report(recording, pool, err), name="report"),
        ]
        await recording.failed.wait()
        for task in running:
            task.cancel()


async def _discard(pool: Pool) -> None:
    """Take what the pool decodes, so that nothing piles up; the tap has written it already."""
    async for _ in pool.batches():
        pass


async def _report(recording: Recording, pool: Pool, err: TextIO) -> None:
    """Flush the file, and say how it goes: in place on a terminal, else now and then."""
    terminal, said = err.isatty(), time.monotonic()
    while True:
        await asyncio.sleep(FLUSH)
        recording.flush()
        line = f"{_told(recording)}, upstream {pool.connections()[0].state}"
        if terminal:
            _say(err, line)
        elif time.monotonic() - said >= REPORT:
            said = time.monotonic()
            _say(err, f"{line}\n")


def _say(err: TextIO, text: str) -> None:
    """Write over the progress line, if there is one."""
    err.write(f"\r\x1b[K{text}" if err.isatty() else text)
    err.flush()


def _told(recording: Recording) -> str:
    minutes, seconds = divmod(int(recording.seconds), 60)
    return f"{recording.events:,} events of {minutes}:{seconds:02d}"
