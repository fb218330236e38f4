"""What a browser's page gets: tickets and sessions."""

import time
from pathlib import Path

import pytest

from tests.api.harness import Gateway
from tests.api.test_rights import Scene

STREAM = "/v1/stream?channels=order:*"


@pytest.fixture(name="scene")
async def _scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


async def _ticket(scene: Scene, kind: str = "account") -> str:
    body = (await scene.ask(kind, "POST /v1/tickets")).json()
    assert set(body) == {"ticket", "expires"}
    assert 25 < body["expires"] - time.time() < 30.01
    return str(body["ticket"])


async def test_a_ticket_opens_one_stream_with_its_callers_rights(scene: Scene) -> None:
    ticket = await _ticket(scene)
    first = await scene.ask("none", f"{STREAM}&ticket={ticket}")
    assert '"type":"status"' in first.text
    again = await scene.ask("none", f"{STREAM}&ticket={ticket}")
    assert again.status_code == 200
    assert again.headers["content-type"].startswith("text/event-stream")
    assert '"reason":"expired"' in again.text
    assert again.text.count("data:") == 1


async def test_a_ticket_reaches_no_farther_than_its_caller(scene: Scene) -> None:
    ticket = await _ticket(scene, "market")
    assert (await scene.ask("none", f"{STREAM}&ticket={ticket}")).status_code == 403


async def test_a_ticket_of_a_revoked_key_is_spent(scene: Scene) -> None:
    ticket = await _ticket(scene)
    scene.revoke("account")
    assert '"reason":"expired"' in (await scene.ask("none", f"{STREAM}&ticket={ticket}")).text


async def test_a_malformed_request_does_not_spend_it(scene: Scene) -> None:
    ticket = await _ticket(scene)
    assert (await scene.ask("none", f"/v1/stream?ticket={ticket}")).status_code == 400
    assert '"type":"status"' in (await scene.ask("none", f"{STREAM}&ticket={ticket}")).text


async def test_a_public_stream_with_a_ticket_is_not_remembered(scene: Scene) -> None:
    ticket = await _ticket(scene)
    target = f"/v1/stream?channels=lastprice:BTC_USDT&ticket={ticket}"
    assert '"type":"status"' in (await scene.ask("none", target)).text
    assert '"reason":"expired"' in (await scene.ask("none", target)).text


async def _cookie(scene: Scene, kind: str = "account") -> str:
    response = await scene.ask(kind, "POST /v1/session")
    given = response.headers["set-cookie"]
    for part in ("__Host-sluice=", "HttpOnly", "Secure", "SameSite=strict", "Path=/"):
        assert part in given
    assert "Domain" not in given
    return given.partition(";")[0]


async def _get(gateway: Gateway, path: str, **headers: str) -> int:
    return (await gateway.get(path, **headers)).status_code


async def test_a_session_stands_for_the_credentials(scene: Scene) -> None:
    cookie = await _cookie(scene)
    path = "/v1/lastprice/ETH_USDT"
    for _ in range(2):
        assert await _get(scene.gateway, "/v1/lastprice/BTC_USDT", cookie=cookie) == 200
        assert await _get(scene.gateway, path, cookie=cookie) == 403
        assert await _get(scene.gateway, path, cookie="other=1") == 200
    async with scene.gateway.client() as client:
        ended = await client.delete("/v1/session", headers={"cookie": cookie})
    assert ended.status_code == 204
    assert await _get(scene.gateway, path, cookie=cookie) == 401


async def test_a_session_ends_with_its_key(scene: Scene) -> None:
    cookie = await _cookie(scene)
    scene.revoke("account")
    assert await _get(scene.gateway, "/v1/lastprice/BTC_USDT", cookie=cookie) == 401


@pytest.mark.parametrize("method", ["GET", "OPTIONS", "PUT"])
async def test_other_methods_are_told_both_that_a_session_takes(scene: Scene, method: str) -> None:
    async with scene.gateway.client() as client:
        response = await client.request(method, "/v1/session")
    assert response.status_code == 405
    assert response.headers["allow"] == "DELETE, POST"
