"""The composition root: what an application is built of, and how its background tasks end."""

import asyncio
import contextlib
import signal
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn

from app import main
from app.api.deps import State
from app.bus.memory import MemoryBroker
from app.domain.event import Entry
from app.main import create_app
from app.rights import keys
from app.settings import Settings
from app.simulator import Options, Simulator
from app.sockets import listen
from tests.e2e.process import following, opened, serving, settings_for, soon

BACKGROUND = {"follow", "lead", "hub", "recall"}


def named_tasks() -> set[str]:
    return {task.get_name() for task in asyncio.all_tasks()}


async def test_the_lifespan_runs_the_background_tasks_and_ends_them() -> None:
    async with Simulator(Options(port=0, rate=0, account=False)) as exchange:
        app = create_app(settings_for(exchange))
        async with app.router.lifespan_context(app) as state:
            assert state is not None
            assert set(state) == set(State.__annotations__)
            assert state["hub"].loaded
            assert named_tasks() >= BACKGROUND
            await soon(lambda: state["hub"].status[0] == "live", "the upstream is live")
        assert not named_tasks() & BACKGROUND
        assert app.state.failed is False


class Crashing(MemoryBroker):
    async def append(self, entry: Entry) -> None:
        raise RuntimeError("the broker broke")


async def lived(app: Any) -> None:
    """As a server goes through it, up to the end."""
    with contextlib.suppress(RuntimeError):  # the crash may come before it could serve
        async with app.router.lifespan_context(app):
            await asyncio.Event().wait()


async def test_a_crash_marks_the_process_as_failed_and_asks_it_to_stop(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(main, "MemoryBroker", Crashing)
    asked: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: asked.append(number))
    try:
        async with Simulator(Options(port=0, rate=0, account=False)) as exchange:
            app = create_app(settings_for(exchange))
            await lived(app)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert asked == [signal.SIGTERM]
    assert app.state.failed is True
    assert app.state.hub.draining
    assert not named_tasks() & BACKGROUND


class Breaking(MemoryBroker):
    """Opens an epoch, and breaks at the first event."""

    async def append(self, entry: Entry) -> None:
        if entry.envelopes:
            raise RuntimeError("the broker broke")
        await super().append(entry)


async def test_a_crash_ends_the_streams_so_that_any_server_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A plain uvicorn waits for every stream that is open, for ever."""
    monkeypatch.setattr(main, "MemoryBroker", Breaking)
    asked: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: asked.append(number))
    try:
        async with Simulator(Options(port=0, rate=0, account=False)) as exchange:
            app = create_app(settings_for(exchange))
            server = uvicorn.Server(uvicorn.Config(app, lifespan="on", log_config=None))
            with listen("127.0.0.1", 0) as sock:
                async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
                    tasks.create_task(server.serve([sock]))
                    url = f"http://127.0.0.1:{sock.getsockname()[1]}"
                    await soon(lambda: server.started, "it serves")
                    async with opened(url, following("lastprice:*")) as stream:
                        await stream.until(lambda block: block.json().get("upstream") == "live")
                        data = {"symbol": "BTC_USDT", "timestamp": 1, "price": "1"}
                        message = {"id": 0, "method": "lastprice_update", "data": data}
                        exchange.control.act("emit", message=message, publish=True)
                        (*_, goodbye) = await stream.rest()
                        assert goodbye.json()["reason"] == "drain"
                        assert stream.ended, "cut off"
    finally:
        signal.signal(signal.SIGTERM, before)
    assert asked, "it was not told why it ended"
    assert app.state.failed is True


def test_without_settings_they_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLUICE_HISTORY", "7")
    assert create_app().state.settings.history == 7


def test_bad_settings_end_the_process_with_status_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SLUICE_HISTORY", "many")
    monkeypatch.setenv("SLUICE_DRAIN", "-1")
    with pytest.raises(SystemExit) as ended:
        create_app()
    assert ended.value.code == 2
    told = capsys.readouterr().err
    assert "SLUICE_HISTORY" in told
    assert "SLUICE_DRAIN" in told


async def status(app: Any, path: str, **headers: str) -> httpx.Response:
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://gateway"
    ) as http:
        return await http.get(path, headers=headers)


async def test_hosts() -> None:
    app = create_app(Settings.model_construct(), bound="10.1.2.3")
    for host in ("10.1.2.3", "10.1.2.3:8000", "localhost:8000", "127.0.0.1"):
        assert (await status(app, "/openapi.json", host=host)).status_code == 200, host
    for host in ("evil.example", "10.1.2.4", ""):
        assert (await status(app, "/openapi.json", host=host)).status_code == 421, host
    app = create_app(Settings.model_construct(allowed_hosts=("gate.example",)))
    assert (await status(app, "/openapi.json", host="gate.example")).status_code == 200
    assert (await status(app, "/openapi.json", host="localhost")).status_code == 421
    app = create_app(Settings.model_construct(allowed_hosts=("*",)))
    assert (await status(app, "/openapi.json", host="anything")).status_code == 200


async def test_origins() -> None:
    app = create_app(Settings.model_construct(cors_origins=("https://a.example",)))
    answer = await status(app, "/openapi.json", host="localhost", origin="https://a.example")
    assert answer.headers["access-control-allow-origin"] == "https://a.example"
    answer = await status(app, "/openapi.json", host="localhost", origin="https://b.example")
    assert "access-control-allow-origin" not in answer.headers
    app = create_app(Settings.model_construct())
    answer = await status(app, "/openapi.json", host="localhost", origin="https://a.example")
    assert "access-control-allow-origin" not in answer.headers


def test_nothing_else_is_served() -> None:
    app = create_app(Settings.model_construct())
    paths = set(app.openapi()["paths"])
    assert paths == {
        "/livez",
        "/metrics",
        "/readyz",
        "/v1/balances",
        "/v1/balances/{currency}",
        "/v1/deals",
        "/v1/depth/{symbol}",
        "/v1/lastprice",
        "/v1/lastprice/{symbol}",
        "/v1/markets",
        "/v1/markets/{symbol}",
        "/v1/markets/{symbol}/scales",
        "/v1/orders",
        "/v1/orders/{id}",
        "/v1/state",
        "/v1/status",
        "/v1/stream",
        "/v1/ticker",
        "/v1/ticker/{symbol}",
        "/v1/tickets",
        "/v1/session",
        "/v1/trades/{symbol}",
    }


DESCRIPTIONS = ("/docs", "/docs/assets/swagger-ui.css", "/docs/oauth2-redirect", "/openapi.json")


async def test_where_anonymous_callers_read_nothing_the_service_does_not_describe_itself(
    tmp_path: Path,
) -> None:
    given: dict[str, dict[str, str]] = {"nobody": {}}
    for scope in ("market", "account", "metrics", "admin"):
        text, key = keys.create(scope, [scope])
        given[scope] = {"x-api-key": text}
        with keys.changed(tmp_path / "keys.json") as known:
            known.append(key)
    async with Simulator(Options(port=0, rate=0, account=False)) as exchange:
        closed = settings_for(exchange, anonymous="none", api_keys_file=tmp_path / "keys.json")
        for settings, described in ((closed, 404), (settings_for(exchange), 200)):
            async with serving(settings) as url, httpx.AsyncClient(base_url=url) as http:
                for path in DESCRIPTIONS:
                    assert (await http.get(path)).status_code == described, path
        async with serving(closed) as url, httpx.AsyncClient(base_url=url) as http:
            for path in DESCRIPTIONS:
                assert (await http.get(path, headers=given["admin"])).status_code == 404
            for path in ("/metrics", "/v1/status"):
                found = [(await http.get(path, headers=one)).status_code for one in given.values()]
                assert found == [401, 403, 403, 200, 200], path
            for path in ("/livez", "/readyz?for=traffic"):
                assert (await http.get(path)).status_code == 200
