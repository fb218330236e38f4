"""When there are traces, and where they go."""

import asyncio
import json
import subprocess
import sys

import pytest

from app import traces
from app.logs import configure_logging
from app.traces.traces import FLUSH, Traces
from tests.e2e.process import ROOT, clean_environment
from tests.traces.seen import Seen

OTLP = "OTEL_EXPORTER_OTLP_ENDPOINT"
HERE = "http://127.0.0.1:9"


@pytest.mark.parametrize(
    ("environ", "wanted"),
    [
        ({}, False),
        ({OTLP: HERE}, True),
        ({OTLP: ""}, False),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": HERE}, True),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, True),
        ({"OTEL_TRACES_EXPORTER": "console"}, True),
        ({"OTEL_TRACES_EXPORTER": "none", OTLP: HERE}, False),
        ({"OTEL_SDK_DISABLED": "True", OTLP: HERE}, False),
        ({"OTEL_TRACES_SAMPLER": "always_on"}, False),
    ],
)
def test_are_made_where_they_are_to_be_sent(environ: dict[str, str], wanted: bool) -> None:
    assert traces.wanted(environ) is wanted
    if not wanted:
        assert traces.begin(environ) is None


@pytest.mark.parametrize(
    ("environ", "reason"),
    [
        (
            {"OTEL_TRACES_EXPORTER": "zipkin"},
            "OTEL_TRACES_EXPORTER is 'zipkin', expected otlp, console or none",
        ),
        (
            {OTLP: HERE, "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
            "OTEL_EXPORTER_OTLP_PROTOCOL is 'grpc', expected http/protobuf",
        ),
    ],
)
def test_what_cannot_be_had_is_told_and_served_without(
    environ: dict[str, str],
    reason: str,
    capsys: pytest.CaptureFixture[str],
    logging_as_before: None,
) -> None:
    configure_logging("json")
    assert traces.begin(environ) is None
    line = json.loads(capsys.readouterr().err)
    assert (line["event"], line["level"], line["reason"]) == ("no traces", "warning", reason)


def test_without_the_extra_it_says_what_to_install(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, logging_as_before: None
) -> None:
    monkeypatch.setitem(sys.modules, "app.traces.traces", None)
    configure_logging("json")
    assert traces.begin({OTLP: HERE}) is None
    assert "install requirements-traces.txt" in json.loads(capsys.readouterr().err)["reason"]


def test_where_none_are_wanted_nothing_of_it_is_loaded() -> None:
    """redis-py loads the SDK's metrics by itself, wherever they are installed."""
    code = (
        "import sys; from app.main import create_app; from app.settings import Settings;"
        "create_app(Settings.model_construct());"
        "assert 'app.traces.traces' not in sys.modules;"
        "assert 'opentelemetry.exporter' not in sys.modules"
    )
    environment = {
        name: text for name, text in clean_environment().items() if not name.startswith("OTEL_")
    }
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, check=True)


async def test_the_service_is_called_sluice_unless_it_is_called_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def named() -> object:
        seen = Seen()
        seen.traces._tracer.start_span("one").end()
        return seen.one("one").resource.attributes["service.name"]

    assert named() == "sluice"
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "service.name=mine")
    assert named() == "mine"
    monkeypatch.setenv("OTEL_SERVICE_NAME", "prices")
    assert named() == "prices"


async def test_a_receiver_that_does_not_answer_keeps_nobody_from_ending(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = asyncio.Event()

    async def silent(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.set()
        await over.wait()
        writer.close()

    over = asyncio.Event()
    async with await asyncio.start_server(silent, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        monkeypatch.setenv(OTLP, f"http://127.0.0.1:{port}")
        made = Traces.to({})
        made._tracer.start_span("one").end()
        async with asyncio.timeout(FLUSH + 5):  # it may take ten, and tries again
            await made.close()
        assert asked.is_set()
        over.set()


def test_its_sampling_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_off")
    assert Seen().traces.sampling == "AlwaysOffSampler"
