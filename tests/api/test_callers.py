"""Which credentials count, and from where."""

import pytest
from starlette.types import Scope

from app.api.callers import ANONYMOUS, COOKIE, Callers, Credentials, credentials
from app.errors import NotAllowed
from app.rights.keys import Keys
from app.rights.rights import Rights
from app.rights.vault import Memory, Vault

LISTED = "https://a.example"


def asked(**headers: str) -> Scope:
    pairs = [(name.replace("_", "-").encode(), text.encode()) for name, text in headers.items()]
    host = (b"host", b"gateway.example")
    return {"type": "http", "scheme": "https", "headers": [host, *pairs]}


def test_none_are_none() -> None:
    assert credentials(asked(cookie="a=b; x__Host-sluice=1")) is None
    assert Callers(Keys(None), Vault(Memory())).at_once(asked()) is ANONYMOUS


def test_a_header_comes_before_the_cookie() -> None:
    given = credentials(asked(cookie=f"a=b; {COOKIE}=s", authorization="bearer k"))
    assert given == Credentials(bearer="k")
    assert credentials(asked(cookie=f"a=b; {COOKIE}=s")) == Credentials(session="s")


@pytest.mark.parametrize("text", ["", "Bearer", "Bearer ", "Basic abc", "Token abc"])
def test_another_scheme_is_no_credential(text: str) -> None:
    with pytest.raises(NotAllowed) as caught:
        credentials(asked(authorization=text))
    assert caught.value.status == 401


def test_two_credentials_are_too_many() -> None:
    with pytest.raises(NotAllowed):
        credentials(asked(authorization="Bearer a", x_api_key="b"))


async def test_behind_a_proxy_that_takes_tls_off_our_own_pages_count() -> None:
    vault = Vault(Memory())
    rights = Rights(frozenset({"account"}), holder="token:1")
    for origin in ("https://gateway.example", "http://gateway.example"):
        ticket, _ = await vault.deposit("ticket", rights, 30)
        scope = {**asked(origin=origin), "scheme": "http"}
        assert await Callers(Keys(None), vault).by_ticket(scope, ticket) == rights


@pytest.mark.parametrize(
    ("headers", "accepted"),
    [
        ({}, True),
        ({"sec_fetch_site": "same-origin"}, True),
        ({"sec_fetch_site": "none"}, True),
        ({"sec_fetch_site": "cross-site"}, False),
        ({"sec_fetch_site": "same-site"}, False),
        ({"sec_fetch_site": "cross-site", "origin": LISTED}, True),
        ({"sec_fetch_site": "cross-site", "origin": "https://b.example"}, False),
        ({"origin": LISTED}, True),
        ({"origin": "https://gateway.example"}, True),
        ({"origin": "https://b.example"}, False),
        ({"origin": "http://gateway.example"}, False),
        ({"origin": "https://gateway.example:444"}, False),
        ({"origin": f"{LISTED}:443"}, False),
        ({"origin": f"{LISTED}.evil.example"}, False),
        ({"origin": "null"}, False),
        ({"origin": ""}, False),
    ],
)
async def test_cookies_and_tickets_count_from_our_own_and_listed_origins(
    headers: dict[str, str], accepted: bool
) -> None:
    vault = Vault(Memory())
    callers = Callers(Keys(None), vault, origins=[LISTED])
    rights = Rights(frozenset({"account"}), holder="token:1")
    secret, _ = await vault.deposit("session", rights, 60)
    scope = asked(cookie=f"{COOKIE}={secret}", **headers)
    assert callers.at_once(scope) is None
    ticket, _ = await vault.deposit("ticket", rights, 30)
    if accepted:
        assert (await callers.of(scope)).scopes == {"account"}
        assert await callers.by_ticket(scope, ticket) == rights
        return
    for asked_for in (callers.of(scope), callers.by_ticket(scope, ticket)):
        with pytest.raises(NotAllowed) as caught:
            await asked_for
        assert caught.value.status == 403
    assert await callers.by_ticket(asked(), ticket) == rights, "it is not spent"
