"""The metrics of one process, and of workers over their real sockets."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from app.api import exposition
from app.api.exposition import Exposition
from app.telemetry import Metrics

Samples = dict[tuple[str, ...], float]


def samples(text: bytes) -> Samples:
    """What a scrape holds, by name and label values."""
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


@asynccontextmanager
async def worker(path: Path, events: int) -> AsyncIterator[Exposition]:
    metrics = Metrics()
    metrics.events.labels("trade").inc(events)
    metrics.delivery_age.observe(0.003)
    one = Exposition(metrics.registry, path)
    async with one.answering():
        yield one


async def test_a_process_by_itself_tells_its_own() -> None:
    metrics = Metrics()
    metrics.events.labels("trade").inc(3)
    alone = Exposition(metrics.registry)
    async with alone.answering():
        found = samples(await alone.text())
    assert found["sluice_events_total", "trade"] == 3
    assert ("sluice_worker_up",) not in {name[:1] for name in found}


async def test_any_worker_tells_of_all(tmp_path: Path) -> None:
    async with worker(tmp_path / "0", 3) as one, worker(tmp_path / "1", 5) as other:
        for asked in (one, other):
            text = await asked.text()
            found = samples(text)
            assert found["sluice_events_total", "trade", "0"] == 3
            assert found["sluice_events_total", "trade", "1"] == 5
            assert found["sluice_delivery_age_seconds_bucket", "+Inf", "1"] == 1
            assert {found["sluice_worker_up", name] for name in "01"} == {1}
            # a family is told once, else Prometheus refuses the whole scrape
            assert text.count(b"# TYPE sluice_events_total ") == 1


async def test_one_that_is_gone_is_not_up(tmp_path: Path) -> None:
    async with worker(tmp_path / "0", 3) as one:
        async with worker(tmp_path / "1", 5):
            pass
        (tmp_path / "1").touch()  # as a process that was killed leaves it
        found = samples(await one.text())
        assert found["sluice_worker_up", "1"] == 0
        assert found["sluice_events_total", "trade", "0"] == 3


async def test_one_that_hangs_is_not_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exposition, "PATIENCE", 0.1)
    asked = asyncio.Event()

    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.set()
        writer.write(b"\x90")
        await reader.read()  # until whoever asked has given up
        writer.close()

    server = await asyncio.start_unix_server(hang, tmp_path / "1")
    try:
        async with worker(tmp_path / "0", 3) as one:
            found = samples(await one.text())
    finally:
        server.close()
    assert asked.is_set()
    assert (found["sluice_worker_up", "0"], found["sluice_worker_up", "1"]) == (1, 0)


async def test_an_asker_that_has_given_up_troubles_nobody(tmp_path: Path) -> None:
    troubles: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, trouble: troubles.append(trouble))
    async with worker(tmp_path / "0", 3), worker(tmp_path / "1", 5) as one:
        with socket.socket(socket.AF_UNIX) as asker:
            asker.connect(str(tmp_path / "0"))
        found = samples(await one.text())  # which waits in line behind it
    assert found["sluice_worker_up", "0"] == 1
    assert troubles == []


async def test_one_that_comes_again_takes_its_place(tmp_path: Path) -> None:
    async with worker(tmp_path / "0", 1) as one:
        for events in (5, 7):
            async with worker(tmp_path / "1", events):
                assert samples(await one.text())["sluice_events_total", "trade", "1"] == events
