"""Whatever the OpenAPI document allows, and some of what it does not, is answered as it says."""

import asyncio
import sys
from pathlib import Path

import pytest

from tests.e2e.process import ROOT, product

pytestmark = pytest.mark.e2e

SETTINGS = {
    "SLUICE_RATE_LIMIT": "100000/second",
    "SLUICE_MAX_STREAMS_PER_CLIENT": "10000",
    "SLUICE_STREAM_LIFETIME": "0.3",  # a stream without an end would be read without one
}
TOOL = (
    *(sys.executable, "-m", "schemathesis.cli"),
    *("--config-file", str(ROOT / "tests/security/schemathesis.toml"), "run"),
    *("--checks", "all", "--max-examples", "10", "--seed", "1", "--request-timeout", "20"),
    *("--suppress-health-check", "all", "--no-color"),
)


async def test_the_service_keeps_to_its_document(tmp_path: Path) -> None:
    async with product(tmp_path, "demo", environment=SETTINGS) as demo:
        await demo.up("/v1/ticker/BTC_USDT")
        process = await asyncio.create_subprocess_exec(
            *TOOL,
            f"{demo.url}/openapi.json",
            cwd=tmp_path,  # it leaves files behind
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        told, _ = await process.communicate()
        assert process.returncode == 0, told.decode()
        await demo.stop()
    assert "Traceback" not in demo.output
