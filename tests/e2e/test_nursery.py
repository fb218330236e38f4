"""A process out of the nursery ends, and is seen to end, as one of its own start would."""

import signal
from pathlib import Path

import pytest

from tests.e2e.nursery import start
from tests.e2e.waiting import until

pytestmark = pytest.mark.e2e

SIMULATE = ("simulate", "--port", "0")


async def test_its_exit_status_its_words_and_its_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLUICE_LINGER", "none")
    log = tmp_path / "log"
    process = start(["serve"], {"SLUICE_HISTORY": "none"}, tmp_path, log)
    assert await process.wait() == 2
    assert log.read_text().startswith("SLUICE_HISTORY: ")
    assert "SLUICE_LINGER" not in log.read_text()


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGTERM, 0), (signal.SIGKILL, -signal.SIGKILL)]
)
async def test_a_signal_strikes_it_alone(tmp_path: Path, number: int, status: int) -> None:
    logs = [tmp_path / "one", tmp_path / "other"]
    one, other = (start(SIMULATE, {}, tmp_path, log) for log in logs)
    await until(lambda: all("http://" in log.read_text() for log in logs), "both are up")
    one.send_signal(number)
    assert await one.wait() == status
    assert other.returncode is None
    other.send_signal(signal.SIGTERM)
    assert await other.wait() == 0
