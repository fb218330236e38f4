"""Recorded markets: JSON lines of {"at": seconds, "message": event}, gzipped or not.

Rules: a message goes out with the very text that was recorded; only a repeated pass moves its
time stamps on. PURE but for reading the file.
"""

import gzip
import re
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple

import msgspec

from app.simulator import wire
from app.simulator.listing import Market

_TIMES = re.compile(rb'("(?:timestamp|createTs|updateTs|finishTs|committedAt)":\s*)(\d+)')


class _Line(msgspec.Struct):
    at: float
    message: msgspec.Raw


class Recorded(NamedTuple):
    at: float  # seconds since the start of the recording
    text: bytes


class Contents(NamedTuple):
    markets: tuple[Market, ...]
    duration: float


def read(path: Path) -> Iterator[Recorded]:
    """The recording, line by line. Raises `ValueError` naming the first line that is none."""
    decode = msgspec.json.Decoder(_Line).decode
    with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            try:
                recorded = decode(line)
            except msgspec.DecodeError as error:
                raise ValueError(f"{path.name} line {number}: {error}") from error
            yield Recorded(recorded.at, bytes(recorded.message))


def scan(path: Path) -> Contents:
    """Which markets and scales a recording holds; a scale's step is that of its finest price."""
    steps: dict[str, dict[int, int]] = {}
    duration = 0.0
    for recorded in read(path):
        duration = recorded.at
        event = wire.read_event(recorded.text)
        if event.kind == "balance":
            continue
        symbol = event.subject.partition(":")[0]
        scales = steps.setdefault(symbol, {})
        if event.kind == "depth":
            index = event.data["scale_index"]
            places = scales.get(index, 0)
            if event.data["full_reload"]:  # deltas are not needed to see the step
                levels = [*event.data.get("asks", ()), *event.data.get("bids", ())]
                places = max([places, *(_places(level[0]) for level in levels)])
            scales[index] = places
    return Contents(tuple(_market(symbol, steps[symbol]) for symbol in sorted(steps)), duration)


def shifted(text: bytes, seconds: int) -> bytes:
    """The same message, later."""
    if not seconds:
        return text
    return _TIMES.sub(lambda found: found[1] + str(int(found[2]) + seconds).encode(), text)


def _places(price: str) -> int:
    exponent = Decimal(price).as_tuple().exponent
    return max(0, -exponent) if isinstance(exponent, int) else 0


def _market(symbol: str, places: dict[int, int]) -> Market:
    indexes = range(max(places, default=0) + 1)
    return Market(symbol, tuple(wire.plain(Decimal(1).scaleb(-places.get(i, 0))) for i in indexes))
