"""The load client sees what it is there to see: losses, repetitions and lateness."""

import asyncio
import json
import shutil
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

SOURCE = Path(__file__).parents[2] / "bench" / "load" / "sseload.c"
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"

pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="no C compiler here")


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Path:
    built = tmp_path_factory.mktemp("bin") / "sseload"
    flags = ("-O2", "-Wall", "-Wextra", "-Werror")
    subprocess.run(["gcc", *flags, "-o", built, SOURCE], check=True)
    return built


def block(data: str) -> bytes:
    return f"event: x\nid: 1\ndata: {data}\n\n".encode()


def plain(number: int, *, late: float = 0.0) -> bytes:
    return block(f'{{"s":{number},"t":{time.time_ns() - int(late * 1e9)}}}')


def chained(channel: str, position: int, previous: int | None, *, pad: str = "") -> bytes:
    names = {"channel": channel, "pad": pad, "position": f"1-{position}"}
    names["previous"] = None if previous is None else f"1-{previous}"  # type: ignore[assignment] # as on the wire
    return block(json.dumps(names, separators=(",", ":")))


async def measured(client: Path, blocks: Iterable[bytes], *options: str) -> dict[str, Any]:
    """What the client says of one stream with these blocks, cut in the middle of each."""
    ready = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(HEAD)
        await ready.wait()
        data = b"".join(blocks)
        for start in range(0, len(data), 37):
            piece = data[start : start + 37]
            writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            await writer.drain()
        writer.write(b"0\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server, asyncio.timeout(20):
        port = server.sockets[0].getsockname()[1]
        process = await asyncio.create_subprocess_exec(
            client, "-p", str(port), "-c", "1", "-t", "10", "-x", *options,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        assert process.stderr is not None
        assert (await process.stderr.readline()).startswith(b"READY 1")
        ready.set()
        output, _ = await process.communicate()
    found: dict[str, Any] = json.loads(output)
    return found


async def test_what_is_missing_twice_or_out_of_order(client: Path) -> None:
    numbers = (9, 10, 11, 14, 14, 13, 15)
    result = await measured(client, map(plain, numbers), "-q", '"s":')
    assert result["events"] == len(numbers)
    assert (result["seq_gaps"], result["seq_dup"], result["seq_ooo"]) == (2, 1, 1)
    assert result["last_min"] == result["last_max"] == 15
    assert result["conns_with_loss"] == 1


async def test_how_late_events_are(client: Path) -> None:
    blocks = [plain(number, late=5) for number in range(20)]
    result = await measured(client, blocks, "-l", '"t":')
    assert result["lat_n"] == 20
    assert 5_000 <= result["p50_ms"] < 8_000


async def test_only_what_bears_the_mark_counts_wherever_it_stands(client: Path) -> None:
    blocks = [block('{"a":1,"e":"x","s":1}'), block('{"s":7}'), block('{"e":"x","abc":1,"s":2}')]
    result = await measured(client, blocks, "-m", '"e":"x"', "-q", '"s":')
    assert (result["events"], result["matched"]) == (3, 2)
    assert (result["seq_gaps"], result["last_max"]) == (0, 2)


async def test_a_broken_chain_and_a_channel_that_begins_anew(client: Path) -> None:
    whole = [
        chained("a", 1, None),
        chained("b", 2, None, pad="elsewhere"),
        chained("a", 3, 1),
        chained("b", 4, 2),
    ]
    result = await measured(client, whole, "-C")
    assert (result["chain_breaks"], result["resyncs"], result["conns_with_loss"]) == (0, 0, 0)
    broken = [*whole, chained("a", 6, 5), chained("b", 7, None)]
    result = await measured(client, broken, "-C")
    assert (result["chain_breaks"], result["resyncs"], result["conns_with_loss"]) == (1, 1, 1)
