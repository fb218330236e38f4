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
    return {"type": "http", "headers": [(b"host", b"gateway.example"), *pairs]}


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
        ({"origin": "null"}, False),
    ],
)
async def test_cookies_count_from_our_own_and_listed_origins(
    headers: dict[str, str], accepted: bool
) -> None:
    vault = Vault(Memory())
    callers = Callers(Keys(None), vault, origins=[LISTED])
    rights = Rights(frozenset({"account"}), holder="token:1")
    secret, _ = await vault.deposit("session", rights, 60)
    scope = asked(cookie=f"{COOKIE}={secret}", **headers)
    assert callers.at_once(scope) is None
    if accepted:
        assert (await callers.of(scope)).scopes == {"account"}
        return
    with pytest.raises(NotAllowed) as caught:
        await callers.of(scope)
    assert caught.value.status == 403
