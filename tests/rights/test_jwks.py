"""Public keys over HTTP: cached, rotated, bounded."""

import json

import httpx
import pytest
from jwt.algorithms import RSAAlgorithm

from app.rights.jwks import LARGEST, PAUSE, Jwks, JwksUnreadable, keys_in
from app.rights.tokens import KeyWanted
from tests.rights.test_tokens import RSA, SET, jwk


class Site:
    """Answers with what it is told to, and counts."""

    def __init__(self) -> None:
        self.status = 200
        self.body = json.dumps(SET).encode()
        self.asked = 0
        self.now = 1000.0
        client = httpx.AsyncClient(transport=httpx.MockTransport(self._answer))
        self.jwks = Jwks(client, "https://keys.example/set", now=lambda: self.now)

    def _answer(self, _request: httpx.Request) -> httpx.Response:
        self.asked += 1
        return httpx.Response(
            self.status, content=self.body, headers={"location": "https://other.example/"}
        )

    def holds(self, kid: str) -> bool:
        try:
            self.jwks.key(kid)
        except KeyWanted:
            return False
        return True


async def test_an_unknown_key_is_fetched_and_then_known() -> None:
    site = Site()
    assert not site.holds("rsa")
    for _ in range(3):
        await site.jwks.want("rsa")
    assert site.holds("rsa")
    assert site.asked == 1


async def test_unknown_names_do_not_make_it_ask_again_at_once() -> None:
    site = Site()
    for number in range(50):
        await site.jwks.want(f"made-up-{number}")
    assert site.asked == 1
    site.now += PAUSE
    await site.jwks.want("made-up")
    assert site.asked == 2


async def test_rotated_keys_replace_the_old_ones() -> None:
    site = Site()
    await site.jwks.want("rsa")
    site.body = json.dumps({"keys": [jwk(RSAAlgorithm, RSA, "new")]}).encode()
    site.now += PAUSE
    await site.jwks.want("new")
    assert site.holds("new")
    assert not site.holds("rsa")
    assert site.holds("")


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (500, b""),
        (302, b""),
        (200, b"no"),
        (200, b'{"keys": []}'),
        (200, b"[" * 5000),
        (200, b" " * (LARGEST + 1)),
    ],
)
async def test_the_last_good_set_is_kept(status: int, body: bytes) -> None:
    site = Site()
    await site.jwks.want("rsa")
    site.status, site.body = status, body
    site.now += PAUSE
    await site.jwks.want("new")
    assert site.asked == 2
    assert site.holds("rsa")


@pytest.mark.parametrize("row", [{}, 5, {"kty": "oct", "k": "c2VjcmV0"}, {"kty": "RSA"}])
def test_what_cannot_be_used_is_left_out(row: object) -> None:
    with pytest.raises(JwksUnreadable):
        keys_in(json.dumps({"keys": [row]}).encode())
    assert "rsa" in keys_in(json.dumps({"keys": [row, *SET["keys"]]}).encode())
