"""What the routes say of their answers in the OpenAPI document.

``responses=`` of the routes refer to the shapes by name; ``install`` puts the shapes themselves
into the document.
"""

from functools import cache
from typing import Any

from fastapi import FastAPI
from pydantic import TypeAdapter
from pydantic.json_schema import models_json_schema

from app.api.limiter import UNLIMITED
from app.api.parameters import ChannelsText
from app.api.shapes import ANSWERS, DATA, EVENTS
from app.domain.channel import Kind

REF = "#/components/schemas/"

TROUBLES = {
    400: "No channels, or one that cannot be read; the problem names it",
    401: "Credentials are needed",
    403: "The credentials carry too few rights",
    404: "The exchange has no such market or scale",
    413: "More channels or symbols than one request may name",
    422: "A parameter that cannot be read",
    429: "As many streams as one client may open are open; see `retry-after`",
    503: "Nothing to serve yet, or no room; see `retry-after`",
}


def _too_many() -> dict[str, Any]:
    """The 429 of the limit that stands before the routes."""
    numbers = {
        "Retry-After": ("Seconds after which one more is let through", "integer"),
        "RateLimit": ("What is left: `r` requests within `t` seconds", "string"),
        "RateLimit-Policy": ("The quota: `q` requests in `w` seconds", "string"),
    }
    headers = {
        name: {"description": text, "schema": {"type": kind}}
        for name, (text, kind) in numbers.items()
    }
    text = "More requests than one client may make; see `retry-after`"
    return {"description": text, "headers": headers, **_PROBLEM}


_OPEN = {"/livez", "/readyz"}

_SECURITY = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "An API key, or a JWT"},
    "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    "session": {"type": "apiKey", "in": "cookie", "name": "__Host-sluice"},
}
"""All optional: what a caller without credentials may read is a setting."""


def answers(model: str) -> dict[int | str, dict[str, Any]]:
    """``responses=`` of a route that answers with a model of this room."""
    return {200: {"content": {"application/json": {"schema": _ref(model)}}}}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """``responses=`` for errors."""
    return {status: {"description": TROUBLES[status], **_PROBLEM} for status in statuses}


def state_responses(kind: str | None, *, several: bool = False) -> dict[int | str, dict[str, Any]]:
    """``responses=`` of a path that serves one state, or several; None for any kind."""
    names = _states(kind)
    schema = _ref(names[0]) if len(names) == 1 else {"anyOf": [_ref(name) for name in names]}
    if several:
        schema = {
            "type": "object",
            "required": ["data"],
            "properties": {"data": {"type": "array", "items": schema}},
        }
    errors = (401, 403, 404, 413, 422, 503) if several else (401, 403, 404, 422, 503)
    return {
        200: {"content": {"application/json": {"schema": schema}}, "headers": _HEADERS},
        304: {"description": "Not Modified", "headers": _HEADERS},
        **problems(*errors),
    }


def listed_responses(model: str) -> dict[int | str, dict[str, Any]]:
    """``responses=`` of a path that lists what stands in several states."""
    return {
        200: {"content": {"application/json": {"schema": _ref(model)}}, "headers": _HEADERS},
        304: {"description": "Not Modified", "headers": _HEADERS},
        **problems(401, 403, 404, 422, 503),
    }


def install(app: FastAPI) -> None:
    """Put the models that ``responses=`` refer to into the application's OpenAPI document."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        document = generate()
        for path, operations in document["paths"].items():
            for operation in operations.values():
                if path not in UNLIMITED:
                    operation["responses"]["429"] = _too_many()
                if path not in _OPEN:
                    operation["security"] = [{}, *({name: []} for name in _SECURITY)]
                for parameter in operation.get("parameters", ()):
                    if parameter["name"] == "channels":
                        parameter |= _REQUIRED
        components = document.setdefault("components", {})
        components.setdefault("schemas", {}).update(_components())
        components["securitySchemes"] = _SECURITY
        return document

    app.openapi = openapi  # type: ignore[method-assign]  # the way FastAPI documents


@cache
def _components() -> dict[str, Any]:
    models = [(model, "serialization") for model in ANSWERS + EVENTS]
    _, schema = models_json_schema(models, ref_template=REF + "{model}")  # type: ignore[arg-type] # pydantic types the pairs more narrowly than it reads them
    components: dict[str, Any] = schema["$defs"]
    return components


def _states(kind: str | None) -> list[str]:
    kinds = [Kind(kind)] if kind else list(DATA)
    return [f"{DATA[kind][0]}State" for kind in kinds]


def _ref(model: str) -> dict[str, Any]:
    return {"$ref": REF + model}


_REQUIRED: dict[str, Any] = {
    "required": True,
    "schema": {
        "type": "array",
        "minItems": 1,
        "items": TypeAdapter(ChannelsText).json_schema(),
    },
}
"""The stream refuses a request without channels itself, as FastAPI would give it another status."""

_PROBLEM: dict[str, Any] = {"content": {"application/problem+json": {"schema": _ref("Problem")}}}

_HEADERS: dict[str, Any] = {
    "ETag": {
        "description": "The position in quotes; of a list the greatest in it",
        "schema": {"type": "string"},
    },
    "Age": {
        "description": "Whole seconds since the (oldest) state was received",
        "schema": {"type": "integer"},
    },
    "Sluice-Stale": {
        "description": "Whether the upstream does not confirm it (any of it)",
        "schema": {"type": "string", "enum": ["true", "false"]},
    },
}

_STREAM_EVENT: dict[str, Any] = {
    "type": "object",
    "required": ["event", "data"],
    "properties": {
        "event": {"type": "string", "enum": [*Kind, "gateway"]},
        "id": {
            "type": "string",
            "description": "The position; absent on `gateway` events and within a run of snapshots",
        },
        "retry": {"type": "integer", "minimum": 0, "description": "Milliseconds"},
        "data": {
            "type": "string",
            "description": "JSON on one line",
            "contentMediaType": "application/json",
            "contentSchema": {"anyOf": [_ref(model.__name__) for model in EVENTS]},
        },
    },
}

STREAM_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Server-Sent Events: a `gateway` `status` first, then snapshots and updates",
        "content": {"text/event-stream": {"schema": _STREAM_EVENT}},
    },
    **problems(400, 401, 403, 404, 413, 429, 503),
    "default": {"description": "Any other error", **_PROBLEM},
}
"""``responses=`` of the stream. OpenAPI 3.1 has no word for one: its schema is that of each event.

With a default FastAPI does not add its own 422, which cannot happen here.
"""
