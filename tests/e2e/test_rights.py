"""Keys, tokens and tickets on running processes: who reads the account, and for how long."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jwt
import pytest

from tests.e2e.gateway import Running, exchange, gateway
from tests.e2e.process import opened, run, soon, staged
from tests.oracle.sse import Block
from tests.redis.servers import server
from tests.rights.issuer import issuing
from tests.rights.test_tokens import EC, ED, RSA, signed

pytestmark = pytest.mark.e2e

SECRET = "a secret of thirty-two bytes, at least"
ACCOUNT = "/v1/stream?channels=order:*,balance:*"


class Scene(NamedTuple):
    """Two processes over one Redis, with one file of keys."""

    one: Running
    two: Running
    keys: Path

    def key(self, name: str, *more: str) -> str:
        made = self._keys("create", "--name", name, "--scopes", "market,account", *more)
        return made.split()[-1]

    def revoke(self, name: str) -> None:
        self._keys("revoke", name)

    def _keys(self, command: str, *arguments: str) -> str:
        done = run("keys", command, *arguments, "--file", str(self.keys))
        assert done.returncode == 0, done.stderr
        return done.stdout


@asynccontextmanager
async def scene(folder: Path) -> AsyncIterator[Scene]:
    keys = folder / "keys.json"
    settings = {"api_keys_file": keys, "jwt_secret": SECRET}
    assert run("keys", "create", "--name", "x", "--scopes", "market", "--file", str(keys)).stdout
    async with (
        server(folder) as redis,
        exchange(folder, rate=20) as source,
        gateway(source.url, folder, name="a", broker_url=redis.url, **settings) as one,
        gateway(source.url, folder, name="b", broker_url=redis.url, **settings) as two,
    ):
        yield Scene(one, two, keys)


async def reads(process: Running, key: str) -> bool:
    answer = await process.http.get("/v1/balances", headers={"x-api-key": key})
    return answer.status_code == 200


def farewell(blocks: list[Block]) -> str:
    """Why a stream was ended."""
    last = blocks[-1].json()
    assert last["type"] == "bye"
    return str(last["reason"])


async def test_the_account_is_for_who_may_see_it_while_they_may(tmp_path: Path) -> None:
    async with scene(tmp_path) as (one, two, keys):
        stage = Scene(one, two, keys)
        assert (await one.http.get("/v1/balances")).status_code == 401
        key = stage.key("owner")
        for process in (one, two):
            await soon(partial(reads, process, key), "a new key is taken")
        bearer = {"authorization": f"Bearer {key}"}
        assert (await two.http.get("/v1/orders", headers=bearer)).status_code == 200
        async with opened(one.url, ACCOUNT, headers=bearer) as stream:
            assert (await stream.data())["channel"].startswith(("order:", "balance:"))
            stage.revoke("owner")
            revoked = time.monotonic()
            assert farewell(await stream.rest()) == "expired"
            print(f"a stream ended {time.monotonic() - revoked:.1f} s after its key was revoked")  # noqa: T201 -- a figure to look at
        assert not await reads(one, key)
        assert key not in one.log + two.log


async def test_a_stream_ends_with_its_token(tmp_path: Path) -> None:
    async with scene(tmp_path) as (one, _, _):
        claims = {"exp": time.time() + 3, "scope": "market account", "channels": ["balance:*"]}
        token = jwt.encode(claims, SECRET, algorithm="HS256")
        bearer = {"authorization": f"Bearer {token}"}
        assert (await one.http.get("/v1/orders", headers=bearer)).status_code == 403
        async with opened(one.url, ACCOUNT.replace("order:*,", ""), headers=bearer) as stream:
            blocks = await stream.rest()
        assert farewell(blocks) == "expired"
        assert {block.event for block in blocks} == {"gateway", "balance"}
        assert token not in one.log


async def test_a_ticket_of_one_process_opens_one_stream_of_another(tmp_path: Path) -> None:
    async with scene(tmp_path) as (one, two, keys):
        key = Scene(one, two, keys).key("page", "--channels", "balance:*")
        for process in (one, two):
            await soon(partial(reads, process, key))
        answer = await one.http.post("/v1/tickets", headers={"x-api-key": key})
        ticket = answer.json()["ticket"]
        target = f"/v1/stream?channels=balance:*&ticket={ticket}"
        async with opened(two.url, target) as stream:
            assert stream.status == 200
            assert (await stream.data())["channel"].startswith("balance:")
        for process in (one, two):
            async with opened(process.url, target) as spent:
                assert spent.status == 200
                assert farewell(await spent.rest()) == "expired"
        assert ticket not in one.log + two.log


@pytest.mark.parametrize(
    ("key", "algorithm", "kid"), [(RSA, "RS256", "rsa"), (EC, "ES256", "ec"), (ED, "EdDSA", "ed")]
)
async def test_a_token_that_a_served_key_verifies_opens_a_stream(
    key: Any, algorithm: str, kid: str
) -> None:
    async with issuing() as issuer, staged({"account": True}, jwt_jwks_url=issuer.url) as stage:
        bearer = {"authorization": f"Bearer {signed(key, algorithm, kid)}"}
        async with stage.stream("balance:*", headers=bearer) as stream:
            assert stream.status == 200
            assert (await stream.data())["channel"].startswith("balance:")
        for cheat in (signed(), signed(EC, "ES256", "rsa"), signed(RSA, "RS256", "unknown")):
            refused = {"authorization": f"Bearer {cheat}"}
            async with stage.stream("balance:*", headers=refused) as stream:
                assert stream.status == 401
        assert issuer.asked <= 2, "the start asked, and perhaps the unknown name"


async def test_a_long_poll_ends_with_its_token() -> None:
    async with staged({"account": True}, jwt_secret=SECRET) as stage:
        token = jwt.encode({"exp": time.time() + 3, "scope": "account"}, SECRET, algorithm="HS256")
        bearer = {"authorization": f"Bearer {token}"}
        balances = (await stage.http.get("/v1/balances", headers=bearer)).json()["data"]
        target = f"/v1/balances/USDT?wait=60&after={balances[0]['position'].split('-')[0]}-999999"
        ended = await stage.http.get(target, headers=bearer)  # which waits for 10 s itself
        assert ended.status_code == 401
