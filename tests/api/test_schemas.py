"""The OpenAPI document is valid and says what the routes do."""

from typing import Any

import pytest
from openapi_spec_validator import validate

from app.api import shapes
from app.api.limiter import UNLIMITED
from app.api.schemas import REF
from tests import given
from tests.api.harness import Gateway


async def document() -> dict[str, Any]:
    found: dict[str, Any] = (await Gateway().get("/openapi.json")).json()
    return found


def references(node: Any) -> set[str]:
    if isinstance(node, dict):
        own = {node["$ref"]} if isinstance(node.get("$ref"), str) else set()
        return own.union(*map(references, node.values()))
    return set().union(*map(references, node)) if isinstance(node, list) else set()


async def test_is_valid() -> None:
    validate(await document())


async def test_every_reference_resolves() -> None:
    found = await document()
    names = {reference.removeprefix(REF) for reference in references(found)}
    assert names <= set(found["components"]["schemas"])
    assert {"TickerState", "DepthState", "Problem", "ByeEvent", "OrderUpdate"} <= names


async def test_errors_are_problems_and_nothing_else() -> None:
    found = await document()
    assert "HTTPValidationError" not in found["components"]["schemas"]
    for path, operations in found["paths"].items():
        for operation in operations.values():
            for status, response in operation["responses"].items():
                if status >= "400":
                    assert list(response["content"]) == ["application/problem+json"], path


async def test_every_private_path_says_so() -> None:
    paths = (await document())["paths"]
    for path in ("/v1/orders", "/v1/orders/{id}", "/v1/balances", "/v1/deals"):
        assert "401" in paths[path]["get"]["responses"]
    assert "401" in paths["/v1/tickets"]["post"]["responses"]


async def test_every_limited_path_says_so() -> None:
    paths = (await document())["paths"]
    for path, operations in paths.items():
        for operation in operations.values():
            told = operation["responses"].get("429", {})
            assert ("RateLimit" in told.get("headers", ())) == (path not in UNLIMITED), path


async def test_is_the_same_each_time() -> None:
    gateway = Gateway()
    assert (await gateway.get("/openapi.json")).json() == (
        await gateway.get("/openapi.json")
    ).json()


ANSWERS = {model.__name__: model for model in shapes.ANSWERS}


@pytest.mark.parametrize(
    ("path", "model"),
    [
        ("/v1/lastprice/BTC_USDT", "LastPriceState"),
        ("/v1/trades/BTC_USDT", "TradeState"),
        ("/v1/depth/BTC_USDT", "DepthState"),
        ("/v1/markets", "MarketList"),
        ("/v1/markets/BTC_USDT", "MarketAnswer"),
        ("/v1/markets/BTC_USDT/scales", "ScaleList"),
        ("/livez", "Alive"),
        ("/v1/status", "Status"),
        ("/v1/ticker/nope", "Problem"),
    ],
)
async def test_answers_have_the_shapes_documented(path: str, model: str) -> None:
    gateway = Gateway()
    gateway.hear(
        given.price("BTC_USDT", "1"),
        given.trades("BTC_USDT", [given.row("1")]),
        given.book("BTC_USDT", asks=[("2", "1")], full=True),
    )
    content = (await gateway.get(path)).content
    ANSWERS[model].model_validate_json(content, strict=True, extra="forbid")
