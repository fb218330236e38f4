"""``sluice demo`` in the test's own loop: it serves a market, says how, and ends at a signal."""

import asyncio
import io
import re
import signal

import httpx
import pytest

from app.demo import demo
from app.settings import SettingsError
from app.sockets import listen
from tests.e2e.process import following, opened, soon


async def test_it_serves_and_says_what_to_try() -> None:
    out = io.StringIO()
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(demo("127.0.0.1", 0, out, command="sluice-here"))
        try:
            await soon(lambda: "http://" in out.getvalue() or running.done(), "it says where")
            found = re.search(r"http://127\.0\.0\.1:\d+", out.getvalue())
            assert found
            url = found[0]
            async with opened(url, following("ticker:BTC_USDT", "trade:BTC_USDT")) as stream:
                assert (await stream.data())["type"] == "snapshot"
            async with httpx.AsyncClient(base_url=url, trust_env=False) as http:
                book = await http.get("/v1/depth/BTC_USDT", params={"limit": 5})
                assert len(book.json()["data"]["asks"]) == 5
                assert (await http.get("/docs")).status_code == 200
        finally:
            if not running.done():
                signal.raise_signal(signal.SIGTERM)
    assert running.result() == 0
    text = out.getvalue()
    assert "sluice-here tail" in text
    assert "curl -N" in text
    assert "Ctrl-C" in text


async def test_a_taken_port_is_refused_before_anything_starts() -> None:
    with listen("127.0.0.1", 0) as taken:
        out = io.StringIO()
        with pytest.raises(OSError, match="in use"):
            await demo("127.0.0.1", taken.getsockname()[1], out)
        assert out.getvalue() == ""


async def test_bad_settings_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLUICE_HISTORY", "many")
    with pytest.raises(SettingsError, match="SLUICE_HISTORY"):
        await demo("127.0.0.1", 0, io.StringIO())
