"""Pages of other origins, on the running service: what they may ask, read and bring along."""

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from app.api.callers import COOKIE
from app.rights import keys
from tests.e2e.process import Stage, following, opened, staged

LISTED = "https://app.example"
ALLOW = "access-control-allow-origin"
FOREIGN = (
    "https://evil.example",
    "https://app.example.evil.example",
    "https://app.example:444",
    "http://app.example",
    "https://APP.example",
    "null",
)
HEADERS: dict[str, dict[str, str]] = {"none": {}} | {
    origin: {"origin": origin} for origin in (LISTED, *FOREIGN)
}
CROSS = {"sec-fetch-site": "cross-site"}


class Scene:
    """A gateway with one listed origin, and a session on it."""

    def __init__(self, stage: Stage, key: str, session: str) -> None:
        self.stage = stage
        self.key = {"x-api-key": key}
        self.cookie = {"cookie": f"{COOKIE}={session}"}

    async def ticket(self) -> str:
        answer = await self.stage.http.post("/v1/tickets", headers=self.key)
        return str(answer.json()["ticket"])

    async def asks(self, what: str, headers: dict[str, str]) -> tuple[int, dict[str, str]]:
        """What one private thing answers, and with which headers."""
        if what == "stream by cookie":
            return await self._stream(following("balance:*"), headers | self.cookie)
        if what == "stream by ticket":
            target = following("balance:*", ticket=await self.ticket())
            return await self._stream(target, headers)
        method, path = what.split()
        answer = await self.stage.http.request(method, path, headers=headers | self.cookie)
        return answer.status_code, dict(answer.headers)

    async def _stream(self, target: str, headers: dict[str, str]) -> tuple[int, dict[str, str]]:
        async with opened(self.stage.url, target, headers=headers) as stream:
            return stream.status, stream.headers


@pytest.fixture(name="scene")
async def _scene(tmp_path: Path) -> AsyncIterator[Scene]:
    text, key = keys.create("page", ["market", "account"])
    with keys.changed(tmp_path / "keys.json") as known:
        known.append(key)
    async with staged(
        {"account": True}, cors_origins=LISTED, api_keys_file=tmp_path / "keys.json"
    ) as stage:
        answer = await stage.http.post("/v1/session", headers={"x-api-key": text})
        yield Scene(stage, text, answer.cookies[COOKIE])


PRIVATE = (
    "GET /v1/balances",
    "GET /v1/orders",
    "POST /v1/tickets",
    "POST /v1/session",
    "DELETE /v1/session",
    "stream by cookie",
    "stream by ticket",
)


async def test_what_is_private_for_every_origin(scene: Scene) -> None:
    for what in sorted(PRIVATE, key=lambda one: one.startswith("DELETE")):  # which ends the session
        for origin in FOREIGN:
            for more in ({}, CROSS):
                status, headers = await scene.asks(what, {"origin": origin} | more)
                assert status == 403, (what, origin)
                assert ALLOW not in headers, (what, origin)
        if not what.startswith("DELETE"):
            assert (await scene.asks(what, {}))[0] == 200, what
        status, headers = await scene.asks(what, {"origin": LISTED} | CROSS)
        assert status in {200, 204}, what
        assert headers[ALLOW] == LISTED
        assert headers["access-control-allow-credentials"] == "true"
        assert "Origin" in headers["vary"].title()


@pytest.mark.parametrize("path", ["/v1/balances", "/v1/stream?channels=order:*", "/v1/tickets"])
async def test_preflights(scene: Scene, path: str) -> None:
    async def preflight(origin: str, **more: str) -> httpx.Response:
        wanted = {"access-control-request-method": "GET", "origin": origin}
        named = {f"access-control-request-{name}": text for name, text in more.items()}
        return await scene.stage.http.request("OPTIONS", path, headers=wanted | named)

    allowed = await preflight(LISTED, headers="authorization, x-api-key", method="POST")
    assert allowed.status_code == 200
    assert allowed.headers[ALLOW] == LISTED
    refusals = [await preflight(origin, headers="authorization") for origin in FOREIGN]
    refusals += [await preflight(LISTED, method="PUT"), await preflight(LISTED, headers="x-other")]
    for refused in refusals:
        assert refused.status_code == 400
        assert refused.headers["content-type"] == "application/problem+json"
        assert refused.json()["status"] == 400
        assert ALLOW not in refused.headers


async def test_what_is_public_is_answered_and_not_for_a_foreign_page_to_read(scene: Scene) -> None:
    for origin, headers in HEADERS.items():
        answer = await scene.stage.http.get("/v1/markets", headers=headers)
        assert answer.status_code == 200
        assert answer.headers.get(ALLOW) == (LISTED if origin == LISTED else None)
