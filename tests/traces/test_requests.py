"""Requests as spans: on a real server, what they are called, when they end, what is not in them."""

import json
from collections.abc import AsyncIterator

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind, StatusCode

from app.main import create_app
from app.settings import Settings
from tests.e2e.process import ROOT, Stage, soon, staged
from tests.traces.seen import Seen, child, place, told

PLANTED = "hush-4f1c-hush"
TRACE = "a1" * 16
CALLER = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01", "x-request-id": "abc-1"}


@pytest.fixture(name="seen")
def _seen(monkeypatch: pytest.MonkeyPatch) -> Seen:
    seen = Seen()
    monkeypatch.setattr("app.main.traces.begin", lambda _environ: seen.traces)
    return seen


@pytest.fixture(name="stage")
async def _stage(seen: Seen) -> AsyncIterator[Stage]:
    async with staged() as stage:
        yield stage


def server(seen: Seen, name: str) -> list[ReadableSpan]:
    return [span for span in seen.spans(name) if span.kind is SpanKind.SERVER]


async def test_a_request_has_a_span_on_either_road(stage: Stage, seen: Seen) -> None:
    await stage.priced("1")
    before = len(server(seen, "GET /v1/lastprice/{symbol}"))
    for _ in range(2):
        answer = await stage.http.get(f"/v1/lastprice/BTC_USDT?a={PLANTED}", headers=CALLER)
        assert answer.status_code == 200
    name = "GET /v1/lastprice/{symbol}"
    await soon(lambda: len(server(seen, name)) == before + 2)
    for span in server(seen, name)[before:]:
        fields = told(span)
        assert fields["http.route"] == "/v1/lastprice/{symbol}"
        assert fields["http.response.status_code"] == 200
        assert fields["url.path"] == "/v1/lastprice/BTC_USDT"
        assert fields["url.query"] == "REDACTED"
        assert fields["sluice.request_id"] == "abc-1"
        assert f"{place(span).trace_id:032x}" == TRACE, "the caller's trace goes on"
        assert span.status.status_code is StatusCode.UNSET


async def test_a_sample_of_requests_is_what_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_traceidratio")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", "0.5")
    seen = Seen()
    monkeypatch.setattr("app.main.traces.begin", lambda _environ: seen.traces)
    async with staged() as stage:
        before = len(server(seen, "GET /v1/markets"))
        for _ in range(200):
            await stage.http.get("/v1/markets")
        assert 60 < len(server(seen, "GET /v1/markets")) - before < 140, "and not a quarter"
        found = server(seen, "GET /v1/markets")
        assert len({place(span).trace_id for span in found}) == len(found)
        for _ in range(20):
            await stage.http.get("/v1/markets", headers=CALLER)
        await soon(lambda: len(server(seen, "GET /v1/markets")) == len(found) + 20)
        unsampled = {"traceparent": CALLER["traceparent"][:-1] + "0"}
        for _ in range(20):
            await stage.http.get("/v1/markets", headers=unsampled)
    assert len(server(seen, "GET /v1/markets")) == len(found) + 20


async def test_what_is_at_no_path_is_not_told(stage: Stage, seen: Seen) -> None:
    assert (await stage.http.get(f"/{PLANTED}?ticket={PLANTED}")).status_code == 404
    await soon(lambda: server(seen, "GET"))
    (span,) = server(seen, "GET")
    assert told(span)["url.path"] == "REDACTED"
    assert PLANTED not in span.to_json()


async def test_probes_have_none(stage: Stage, seen: Seen) -> None:
    for path in ("/livez", "/readyz", "/metrics"):
        await stage.http.get(path)
    await stage.http.get("/v1/markets")
    await soon(lambda: server(seen, "GET /v1/markets"))
    assert not [span for span in seen.spans() if told(span).get("url.path") == "/livez"]


async def test_a_stream_has_a_span_for_its_opening_and_one_for_its_end(
    stage: Stage, seen: Seen
) -> None:
    async with stage.stream("lastprice:*", headers=CALLER, ticket=PLANTED) as stream:
        await stream.block()
        assert stream.status == 200
    # a spent ticket: told, and over; now one that lasts
    async with stage.stream("lastprice:*", headers=CALLER) as stream:
        await stage.priced("1")
        await stream.data()
        spent, opened = server(seen, "GET /v1/stream")
        assert opened.end_time is not None, "while it is open"
        assert seen.spans("stream ended") == []
    await soon(lambda: seen.spans("stream ended"))
    ended = seen.one("stream ended")
    assert child(ended, opened)
    assert ended.end_time is not None
    assert ended.start_time is not None
    assert opened.end_time <= ended.start_time
    assert told(ended)["sluice.reason"] == "gone"
    assert told(ended)["sluice.events"] == 1
    for span in (spent, opened):
        assert f"{place(span).trace_id:032x}" == TRACE
        assert told(span)["http.response.status_code"] == 200
        assert told(span)["sluice.request_id"] == "abc-1"
        assert span.status.status_code is StatusCode.UNSET
    assert PLANTED not in json.dumps([span.to_json() for span in seen.spans()])


async def test_a_stream_through_plain_asgi_has_them_too(
    seen: Seen, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.api.stream.connection", lambda _scope: None)
    async with staged() as stage:
        async with stage.stream("lastprice:*") as stream:
            await stage.priced("1")
            await stream.data()
            await soon(lambda: server(seen, "GET /v1/stream"))
        await soon(lambda: seen.spans("stream ended"))
    assert child(seen.one("stream ended"), server(seen, "GET /v1/stream")[0])


async def test_a_price_is_followed_from_the_socket_to_the_stream(stage: Stage, seen: Seen) -> None:
    async with stage.stream("lastprice:*") as stream:
        await stream.gateway("status")
        stage.price("7")
        position = (await stream.data())["position"]
        await soon(
            lambda: [s for s in seen.spans("hear") if told(s)["sluice.position"] == position]
        )
    road = [span for span in seen.spans() if told(span).get("sluice.position") == position]
    frame, hear, deliver = (
        next(span for span in road if span.name == name) for name in ("frame", "hear", "deliver")
    )
    assert len({place(span).trace_id for span in road}) == 1
    assert child(deliver, hear)
    assert told(deliver)["sluice.deliveries"] == 1
    assert frame.start_time is not None
    assert hear.start_time is not None
    assert deliver.end_time is not None
    assert frame.start_time <= hear.start_time <= deliver.end_time


def test_the_documents_are_the_same(seen: Seen) -> None:
    traced = create_app(Settings.model_construct()).openapi()
    assert traced == json.loads((ROOT / "openapi.json").read_text())
