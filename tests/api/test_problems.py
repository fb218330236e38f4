"""Errors as problem+json: one shape for all."""

import json
from urllib.parse import quote

import httpx
import pytest
from fastapi import FastAPI
from hypothesis import given, settings
from hypothesis import strategies as st

from app.api import problems
from app.errors import (
    BrokerUnavailable,
    ClientError,
    MalformedRequest,
    NotAllowed,
    NotReady,
    TooManyChannels,
    TooManyStreams,
    UnknownChannel,
    UpstreamUnavailable,
)
from app.logs import configure_logging
from tests.api.harness import Gateway, is_problem

ERRORS = [
    (MalformedRequest("x"), 400, "malformed request"),
    (MalformedRequest("x", status=422), 422, "malformed request"),
    (NotAllowed("x"), 401, "not allowed"),
    (NotAllowed("x", status=403), 403, "not allowed"),
    (UnknownChannel("x"), 404, "unknown channel"),
    (TooManyChannels("x"), 413, "too many channels"),
    (TooManyStreams("x", status=429, retry_after=9), 429, "too many streams"),
    (NotReady("x", retry_after=3), 503, "not ready"),
    (ClientError("x"), 400, "bad request"),
]


@pytest.mark.parametrize(("error", "status", "title"), ERRORS)
def test_every_client_error_has_its_problem(error: ClientError, status: int, title: str) -> None:
    response = problems.problem(error)
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["cache-control"] == "no-store"
    assert json.loads(bytes(response.body)) == {
        "type": "/problems/" + title.replace(" ", "-"),
        "title": title,
        "status": status,
        "detail": "x",
    }
    retry = None if error.retry_after is None else str(error.retry_after)
    assert response.headers.get("retry-after") == retry
    assert response.headers.get("www-authenticate") == ("Bearer" if status == 401 else None)


def test_a_detail_is_cut_and_cleaned() -> None:
    error = UnknownChannel("a\r\n\x1b[31m\u2028\ud800 token=abc123 " + "x" * 1000)
    detail = json.loads(bytes(problems.problem(error).body))["detail"]
    assert detail.startswith("a\\r\\n\\x1b[31m\\u2028\\ud800 token=*** xxx")
    assert len(detail) == problems.LONGEST


async def test_a_path_that_is_not_there() -> None:
    response = await Gateway().get("/v1/%0d%0anothing")
    assert "nothing" in is_problem(response, 404, "not found")
    assert response.json()["type"] == "about:blank"


async def test_a_method_that_is_not_taken() -> None:
    async with Gateway().client() as client:
        response = await client.post("/v1/ticker")
    is_problem(response, 405, "method not allowed")
    assert response.headers["allow"] == "GET"


def failing(error: Exception) -> httpx.AsyncClient:
    app = FastAPI()
    problems.install(app)

    @app.get("/")
    async def fail() -> None:
        raise error

    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://gateway")


@pytest.mark.parametrize("error", [UpstreamUnavailable("inside"), BrokerUnavailable("inside")])
async def test_what_is_away_is_503(error: Exception) -> None:
    async with failing(error) as client:
        response = await client.get("/")
    assert "inside" not in is_problem(response, 503, "not ready")
    assert response.headers["retry-after"] == "2"


async def test_only_the_log_tells_why_the_broker_could_not_be_asked(
    capsys: pytest.CaptureFixture[str], logging_as_before: None
) -> None:
    configure_logging("json")
    async with failing(BrokerUnavailable("NOPERM no permissions")) as client:
        await client.get("/")
    line = json.loads(capsys.readouterr().err)
    assert (line["event"], line["level"]) == ("no broker for a request", "warning")
    assert line["reason"] == "NOPERM no permissions"


async def test_a_bug_is_500_and_tells_nothing() -> None:
    async with failing(RuntimeError("inside")) as client:
        response = await client.get("/")
    assert "inside" not in response.text
    is_problem(response, 500, "internal server error")


PARAMETERS = ["symbols", "max_age", "after", "wait", "limit", "scale", "channels", "for"]
PATHS = [
    "/v1/ticker",
    "/v1/trades/BTC_USDT",
    "/v1/depth/BTC_USDT",
    "/v1/state",
    "/v1/markets",
    "/readyz",
]


@settings(max_examples=60)
@given(
    st.sampled_from(PATHS),
    st.dictionaries(st.sampled_from(PARAMETERS), st.text(st.characters(codec="utf-8")), max_size=3),
    st.binary(max_size=8),
)
@pytest.mark.looptime
async def test_any_parameters_get_an_answer(
    path: str, parameters: dict[str, str], tail: bytes
) -> None:
    """Never a 500, and never a control character."""
    query = "&".join(f"{name}={quote(value)}" for name, value in parameters.items())
    gateway = Gateway()
    gateway.markets.away = b"a" in tail
    response = await gateway.get(f"{path}?{query}{quote(tail)}")
    assert response.status_code in {200, 404, 413, 422, 503}
    if response.status_code != 200:
        is_problem(response, response.status_code, response.json()["title"])


@settings(max_examples=30)
@given(st.binary(min_size=1, max_size=30).filter(lambda raw: raw not in {b".", b".."}))
@pytest.mark.looptime
async def test_any_symbol_gets_an_answer(raw: bytes) -> None:
    """But for dot segments: a client takes these out of a path (RFC 3986, 5.2.4)."""
    response = await Gateway().get(f"/v1/ticker/{quote(raw, safe='')}")
    is_problem(response, 404, response.json()["title"])
