"""Who may read what: every path for every kind of caller."""

import asyncio
import re
import time
from pathlib import Path

import httpx
import jwt
import pytest

from app.api.callers import ANONYMOUS, NOBODY, Callers
from app.api.rights import authorise
from app.domain.channel import Channel
from app.errors import NotAllowed
from app.rights import keys
from app.rights.keys import Keys
from app.rights.rights import Rights
from app.rights.tokens import TokenOptions
from app.rights.vault import Memory, Vault
from tests import given
from tests.api.harness import Gateway, live, price
from tests.e2e.process import soon

SECRET = "a secret of thirty-two bytes, at least"
PUBLIC = [Channel.parse("ticker:*"), Channel.parse("depth:BTC_USDT:0")]
BTC = "lastprice:BTC_USDT"


def test_public_channels_are_open_to_all() -> None:
    authorise(PUBLIC, ANONYMOUS)


@pytest.mark.parametrize("channel", ["order:BTC_USDT", "order:*", "balance:USDT", "deal:*"])
def test_private_channels_want_credentials(channel: str) -> None:
    with pytest.raises(NotAllowed, match="private") as caught:
        authorise([*PUBLIC, Channel.parse(channel)], ANONYMOUS)
    assert caught.value.status == 401


@pytest.mark.parametrize("channels", [PUBLIC, []])
def test_nobody_may_read_nothing(channels: list[Channel]) -> None:
    with pytest.raises(NotAllowed) as caught:
        authorise(channels, NOBODY)
    assert caught.value.status == 401


@pytest.mark.parametrize("channel", ["order:ETH_USDT", "deal:*", "ticker:BTC_USDT", "balance:BTC"])
def test_what_the_credentials_do_not_reach_is_403(channel: str) -> None:
    caller = Rights(frozenset({"account"}), ("order:BTC_*",), holder="key:1")
    with pytest.raises(NotAllowed) as caught:
        authorise([Channel.parse(channel)], caller)
    assert caught.value.status == 403


def test_a_wildcard_of_which_something_matches_is_let_through() -> None:
    caller = Rights(frozenset({"account"}), ("order:BTC_*",), holder="key:1")
    authorise([Channel.parse("order:*"), Channel.parse("order:BTC_USDT")], caller)


class Scene:
    """A gateway, and credentials of every kind."""

    def __init__(self, folder: Path, *, anonymous: Rights = ANONYMOUS) -> None:
        self.path = folder / "keys.json"
        self.given: dict[str, dict[str, str]] = {"none": {}}
        self.given["wrong key"] = {"x-api-key": keys.create("x", ["market"])[0]}
        self.given["garbage"] = {"authorization": "Bearer garbage"}
        self.given["no bearer"] = {"authorization": "Basic abc"}
        self._key("expired", ["market", "account"], expires=time.time() - 1)
        self._key("revoked", ["market", "account"])
        self._key("market", ["market"])
        self._key("other pattern", ["market", "account"], ["*:ETH_*", "balance:ETH"])
        self._key("account", ["market", "account"], ["*:BTC_*", "balance:BTC"])
        self._key("all", ["market", "account"])
        self._key("operator", ["metrics"])
        self._token("token", scope="market account", channels=["*:BTC_*", "balance:BTC"])
        self._token("expired token", scope="market account", exp=time.time() - 60)
        self.keys = Keys(self.path)
        self.revoke("revoked")
        tokens = TokenOptions(secret=SECRET)
        callers = Callers(self.keys, Vault(Memory()), tokens, anonymous=anonymous)
        self.gateway = Gateway(callers=callers)
        self.gateway.hear(price("BTC_USDT", "1"), price("ETH_USDT", "2"))
        self.gateway.hear(given.ticker("BTC_USDT", "1"), given.ticker("ETH_USDT", "1"))
        self.gateway.hear(given.trades("BTC_USDT", [given.row("1")]))
        self.gateway.hear(given.book("BTC_USDT", asks=[("3", "1")], bids=[], full=True))
        for market, id_ in (("BTC_USDT", "01C"), ("ETH_USDT", "01E")):
            self.gateway.hear(given.order(market, id_), given.deal(market, id_))
        self.gateway.hear(given.balance("BTC", "1", "2"), given.balance("USDT", "1", "2"))
        self.gateway.report(
            **dict.fromkeys(("lastprice", "ticker", "trade", "order", "deal", "balance"), live())
        )

    def _key(
        self,
        name: str,
        scopes: list[str],
        channels: list[str] | None = None,
        expires: float | None = None,
    ) -> None:
        text, key = keys.create(name, scopes, channels, expires)
        with keys.changed(self.path) as known:
            known.append(key)
        self.given[name] = {"authorization": f"Bearer {text}"}

    def _token(self, name: str, **claims: object) -> None:
        text = jwt.encode({"exp": time.time() + 60, **claims}, SECRET, algorithm="HS256")
        self.given[name] = {"authorization": f"Bearer {text}"}

    def revoke(self, name: str) -> None:
        with keys.changed(self.path) as known:
            known[:] = [key for key in known if key.name != name]
        self.keys.refresh()

    async def ask(self, kind: str, path: str) -> httpx.Response:
        method, _, target = path.rpartition(" ")
        if "/v1/stream" in target:
            return await self.gateway.stream(target, **self.given[kind])
        async with self.gateway.client() as client:
            return await client.request(method or "GET", target, headers=self.given[kind])


@pytest.fixture(name="scene")
async def _scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


BAD = ("wrong key", "garbage", "no bearer", "expired", "revoked", "expired token")
KINDS = ("none", "market", "other pattern", "account", "token", "operator")

# Answers in the order of KINDS; whoever has bad credentials gets 401 everywhere but on OPEN.
MATRIX = {
    "/v1/lastprice/BTC_USDT": (200, 200, 403, 200, 200, 403),
    "/v1/lastprice": (200, 200, 200, 200, 200, 403),
    "/v1/lastprice?symbols=BTC_USDT": (200, 200, 403, 200, 200, 403),
    "/v1/ticker": (200, 200, 200, 200, 200, 403),
    "/v1/ticker/BTC_USDT": (200, 200, 403, 200, 200, 403),
    "/v1/trades/BTC_USDT": (200, 200, 403, 200, 200, 403),
    "/v1/depth/BTC_USDT": (200, 200, 403, 200, 200, 403),
    f"/v1/state?channels={BTC}": (200, 200, 403, 200, 200, 403),
    "/v1/markets": (200, 200, 200, 200, 200, 200),
    "/v1/markets/BTC_USDT": (200, 200, 200, 200, 200, 200),
    "/v1/markets/BTC_USDT/scales": (200, 200, 200, 200, 200, 200),
    f"/v1/stream?channels={BTC}": (200, 200, 403, 200, 200, 403),
    "/v1/stream?channels=lastprice:*": (200, 200, 200, 200, 200, 403),
    "/v1/stream?channels=order:BTC_USDT": (401, 403, 403, 200, 200, 403),
    "/v1/stream?channels=order:*": (401, 403, 200, 200, 200, 403),
    "/v1/stream?channels=balance:BTC": (401, 403, 403, 200, 200, 403),
    "/v1/orders": (401, 403, 200, 200, 200, 403),
    "/v1/orders?symbol=BTC_USDT&state=open": (401, 403, 403, 200, 200, 403),
    "/v1/orders/01C": (401, 403, 404, 200, 200, 403),
    "/v1/balances": (401, 403, 200, 200, 200, 403),
    "/v1/balances/BTC": (401, 403, 403, 200, 200, 403),
    "/v1/deals": (401, 403, 200, 200, 200, 403),
    "/v1/deals?symbol=BTC_USDT": (401, 403, 403, 200, 200, 403),
    "/v1/status": (200, 200, 200, 200, 200, 200),
    "/metrics": (200, 200, 200, 200, 200, 200),
    "POST /v1/tickets": (401, 200, 200, 200, 200, 200),
    "POST /v1/session": (401, 200, 200, 200, 200, 200),
    "DELETE /v1/session": (401, 204, 204, 204, 204, 204),
}
OPEN = ("/livez", "/readyz?for=traffic")

# The same with SLUICE_ANONYMOUS=none, where it differs.
CLOSED = {
    "/v1/status": (401, 403, 403, 403, 403, 200),
    "/metrics": (401, 403, 403, 403, 403, 200),
}


async def test_no_path_is_left_out(scene: Scene) -> None:
    asked = [path if " " in path else f"GET {path}" for path in (*MATRIX, *OPEN)]
    for path, operations in scene.gateway.app.openapi()["paths"].items():
        for method in operations:
            form = re.sub(r"{\w+}", "[^/?]+", f"{method.upper()} {path}")
            assert any(re.fullmatch(rf"{form}(\?.*)?", one) for one in asked), form


@pytest.mark.parametrize("path", MATRIX)
async def test_every_path_for_every_caller(scene: Scene, path: str) -> None:
    for _ in range(2):  # the second time a target may be answered ahead of the routing
        found = tuple([(await scene.ask(kind, path)).status_code for kind in KINDS])
        assert MATRIX[path] == found
        for kind in BAD:
            response = await scene.ask(kind, path)
            assert response.status_code == 401, kind
            assert response.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize("path", MATRIX)
async def test_every_path_where_anonymous_callers_read_nothing(tmp_path: Path, path: str) -> None:
    scene = Scene(tmp_path, anonymous=NOBODY)
    wanted = CLOSED.get(path, (401, *MATRIX[path][1:]))
    for _ in range(2):
        assert wanted == tuple([(await scene.ask(kind, path)).status_code for kind in KINDS])
        for kind in BAD:
            assert (await scene.ask(kind, path)).status_code == 401, kind


@pytest.mark.parametrize("path", OPEN)
@pytest.mark.parametrize("kind", [*BAD, *KINDS])
async def test_probes_never_want_credentials(tmp_path: Path, path: str, kind: str) -> None:
    scene = Scene(tmp_path, anonymous=NOBODY)
    assert (await scene.ask(kind, path)).status_code == 200


async def test_a_list_holds_only_what_the_caller_may_see(scene: Scene) -> None:
    for kind, markets in (("none", 2), ("other pattern", 1), ("account", 1)):
        response = await scene.ask(kind, "/v1/lastprice")
        assert len(response.json()["data"]) == markets
    response = await scene.ask("account", "/v1/state?channels=lastprice:*")
    assert [one["channel"] for one in response.json()["data"]] == [BTC]


async def test_the_account_shows_only_what_the_caller_may_see(scene: Scene) -> None:
    for _ in range(2):
        for kind, markets in (("all", {"BTC_USDT", "ETH_USDT"}), ("account", {"BTC_USDT"})):
            for path in ("/v1/orders", "/v1/deals"):
                found = (await scene.ask(kind, path)).json()["data"]
                assert {one["symbol"] for one in found} == markets
        balances = (await scene.ask("account", "/v1/balances")).json()["data"]
        assert [one["channel"] for one in balances] == ["balance:BTC"]
        stream = await scene.ask("account", "/v1/stream?channels=order:*,deal:*,balance:*")
        assert '"order:BTC_USDT"' in stream.text
        assert "ETH_USDT" not in stream.text
        assert "balance:USDT" not in stream.text


async def test_a_stream_holds_only_what_the_caller_may_see(scene: Scene) -> None:
    for _ in range(2):
        response = await scene.ask("account", "/v1/stream?channels=lastprice:*")
        assert BTC in response.text
        assert "ETH_USDT" not in response.text
        both = await scene.ask("none", "/v1/stream?channels=lastprice:*")
        assert "ETH_USDT" in both.text


async def test_a_stream_ends_when_its_key_is_revoked(scene: Scene) -> None:
    path = "/v1/stream?channels=lastprice:*"
    hub = scene.gateway.hub
    async with asyncio.TaskGroup() as tasks:
        asked = tasks.create_task(scene.gateway.get(path, **scene.given["account"]))
        await soon(lambda: len(hub) == 1)
        hub.tick()
        assert not asked.done()
        scene.revoke("account")
        hub.tick()
    assert '"reason":"expired"' in asked.result().text


async def test_a_key_in_a_url_is_nothing(scene: Scene) -> None:
    key = scene.given["all"]["authorization"].removeprefix("Bearer ")
    for name in ("token", "access_token", "api_key", "key", "X-API-Key"):
        response = await scene.ask("none", f"/v1/stream?channels=order:*&{name}={key}")
        assert response.status_code == 401
        assert key not in response.text


async def test_only_who_may_see_the_account_learns_when_something_happens_on_it(
    scene: Scene,
) -> None:
    for kind, told in (
        ("none", False),
        ("market", False),
        ("other pattern", False),
        ("all", True),
        ("operator", True),
    ):
        status = (await scene.ask(kind, "/v1/status")).json()
        followed = {one["channel"] for one in status["channels"]}
        assert "lastprice:*" in followed
        assert ({"order:*", "balance:*", "deal:*"} <= followed) is told, kind
        assert told or not any(one.startswith(("order", "balance", "deal")) for one in followed)
        metrics = (await scene.ask(kind, "/metrics")).text
        assert 'sluice_events_total{kind="lastprice"} 2.0' in metrics
        for private in ("order", "balance", "deal"):
            assert (f'kind="{private}"' in metrics) is told, kind


async def test_a_cache_tells_an_answer_to_nobody_with_other_credentials(scene: Scene) -> None:
    """Two lists may differ and stand at one position, so the validator alone would let them mix."""
    scene.gateway.hear(price("BTC_USDT", "9"))
    for _ in range(2):
        all_of_it, part = [await scene.ask(kind, "/v1/lastprice") for kind in ("all", "account")]
        assert all_of_it.headers["etag"] == part.headers["etag"]
        assert all_of_it.text != part.text
        single = await scene.ask("none", "/v1/lastprice/BTC_USDT")
        for answer in (all_of_it, part, single):
            assert answer.headers["vary"] == "Authorization, X-API-Key, Cookie"
