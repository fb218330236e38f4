"""The metrics as Prometheus text: a process's own, or those of all workers of a supervisor.

Whichever worker is asked asks the others: each listens on a Unix socket in a directory that is
theirs alone and writes its metrics to whoever connects. So a scrape through the shared port sees
all of them, told apart by ``worker``.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric, Sample
from prometheus_client.registry import Collector

PATIENCE = 1.0
"""Seconds within which a worker has to tell its metrics."""


class _Family(msgspec.Struct, array_like=True):
    name: str
    documentation: str
    type: str
    samples: list[tuple[str, dict[str, str], float]]


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[_Family]).decode


class Exposition:
    """A process's metrics; ``worker`` is the path of a worker's socket, named by its number."""

    def __init__(self, registry: CollectorRegistry, worker: Path | None = None) -> None:
        self._registry = registry
        self._own = worker

    @asynccontextmanager
    async def answering(self) -> AsyncIterator[None]:
        """Tell a worker's metrics to the others meanwhile. Raises OSError."""
        if self._own is None:
            yield
            return
        async with await asyncio.start_unix_server(self._answer, self._own):
            yield

    def _answer(self, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(_encode(list(self._families())))
        writer.close()  # once it is taken; whoever asked may have given up, which is no matter here

    def _families(self) -> Iterator[_Family]:
        for one in self._registry.collect():
            samples = [(each.name, each.labels, float(each.value)) for each in one.samples]
            yield _Family(one.name, one.documentation, one.type, samples)

    async def text(self) -> bytes:
        """Everything there is to tell; a worker that does not answer is not ``up``."""
        if self._own is None:
            return generate_latest(self._registry)
        async with asyncio.TaskGroup() as tasks:
            told = {
                path.name: tasks.create_task(self._ask(path))
                for path in sorted(self._own.parent.iterdir())
            }
        merged = CollectorRegistry()
        merged.register(_Merged({worker: one.result() for worker, one in told.items()}))
        return generate_latest(merged)

    async def _ask(self, path: Path) -> list[_Family] | None:
        if path == self._own:
            return list(self._families())
        try:
            async with asyncio.timeout(PATIENCE):
                reader, writer = await asyncio.open_unix_connection(path)
                try:
                    return _decode(await reader.read())
                finally:
                    writer.close()
        except (OSError, TimeoutError, msgspec.DecodeError):
            return None


class _Merged(Collector):
    """Families of several workers as one each."""

    def __init__(self, told: dict[str, list[_Family] | None]) -> None:
        self._told = told

    def collect(self) -> Iterator[Metric]:
        up = GaugeMetricFamily("sluice_worker_up", "Whether a worker answers", labels=("worker",))
        merged: dict[str, Metric] = {}
        for worker, families in self._told.items():
            up.add_metric((worker,), families is not None)
            for one in families or ():
                if one.name not in merged:
                    merged[one.name] = Metric(one.name, one.documentation, one.type)
                merged[one.name].samples += [
                    Sample(name, {**labels, "worker": worker}, value)
                    for name, labels, value in one.samples
                ]
        yield up
        yield from merged.values()
