"""Public keys over real HTTP: cached, rotated, bounded; and what tokens they let in."""

import base64
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import RSAAlgorithm

from app.api.callers import Callers
from app.errors import NotAllowed
from app.rights import jwks
from app.rights.jwks import PAUSE, Jwks, JwksUnreadable, keys_in
from app.rights.keys import Keys
from app.rights.tokens import TokenOptions
from app.rights.vault import Memory, Vault
from tests.rights.issuer import Issuer, Mood, issuing
from tests.rights.test_tokens import EC, ED, RSA, SET, claims, jwk, part, signed

ROTATED = json.dumps({"keys": [jwk(RSAAlgorithm, RSA, "new")]}).encode()


class Gate:
    """Lets tokens in by the set of an issuer; time is told by hand."""

    def __init__(self, issuer: Issuer, client: httpx.AsyncClient) -> None:
        self.issuer = issuer
        self.now = 1000.0
        self.jwks = Jwks(client, issuer.url, now=lambda: self.now)
        tokens = TokenOptions(key=self.jwks.key)
        self._callers = Callers(Keys(None), Vault(Memory()), tokens, jwks=self.jwks)

    async def lets_in(self, token: str) -> bool:
        bearer = (b"authorization", f"Bearer {token}".encode())
        try:
            rights = await self._callers.of({"type": "http", "headers": [bearer]})
        except NotAllowed:
            return False
        return rights.scopes == {"market", "account"}


@pytest.fixture(name="gate")
async def _gate() -> AsyncIterator[Gate]:
    async with issuing() as issuer, httpx.AsyncClient(trust_env=False) as client:
        yield Gate(issuer, client)


@pytest.mark.parametrize(
    ("key", "algorithm", "kid"), [(RSA, "RS256", "rsa"), (EC, "ES256", "ec"), (ED, "EdDSA", "ed")]
)
async def test_each_algorithm_by_a_set_that_is_fetched_once(
    gate: Gate, key: Any, algorithm: str, kid: str
) -> None:
    for _ in range(10):
        assert await gate.lets_in(signed(key, algorithm, kid))
    assert gate.issuer.asked == 1


async def test_unknown_names_do_not_make_it_ask_again_at_once(gate: Gate) -> None:
    for number in range(50):
        assert not await gate.lets_in(signed(RSA, "RS256", f"made-up-{number}"))
    assert gate.issuer.asked == 1
    gate.now += PAUSE
    assert not await gate.lets_in(signed(RSA, "RS256", "made-up"))
    assert gate.issuer.asked == 2


async def test_rotated_keys_replace_the_old_ones(gate: Gate) -> None:
    assert await gate.lets_in(signed(RSA, "RS256", "rsa"))
    gate.issuer.body = ROTATED
    assert not await gate.lets_in(signed(RSA, "RS256", "new")), "asked a moment ago"
    gate.now += PAUSE
    assert await gate.lets_in(signed(RSA, "RS256", "new"))
    assert gate.issuer.asked == 2
    assert not await gate.lets_in(signed(RSA, "RS256", "rsa"))
    assert await gate.lets_in(signed(RSA, "RS256")), "without a name the only one is meant"


@pytest.mark.parametrize("mood", ["mute", "endless", "cut", "away", "moved", "compressed", "huge"])
async def test_the_last_good_set_is_kept_through_trouble(
    gate: Gate, mood: Mood, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await gate.lets_in(signed(RSA, "RS256", "rsa"))
    monkeypatch.setattr(jwks, "LIMIT", 0.3)
    gate.issuer.body, gate.issuer.mood = ROTATED, mood
    gate.now += PAUSE
    assert not await gate.lets_in(signed(RSA, "RS256", "new"))
    assert gate.issuer.asked == 2, "not twice, and nowhere else"
    assert await gate.lets_in(signed(RSA, "RS256", "rsa"))
    gate.issuer.mood = "good"
    gate.now += PAUSE
    assert await gate.lets_in(signed(RSA, "RS256", "new"))


@pytest.mark.parametrize(
    ("status", "body"),
    [
        ("500 No", ROTATED),
        ("204 None", b""),
        ("200 OK", b"no"),
        ("200 OK", b"\xff"),
        ("200 OK", b"5"),
        ("200 OK", b'{"keys": {}}'),
        ("200 OK", b'{"keys": []}'),
        ("200 OK", b"[" * 5000),
    ],
)
async def test_the_last_good_set_is_kept_where_there_is_no_other(
    gate: Gate, status: str, body: bytes
) -> None:
    assert await gate.lets_in(signed(RSA, "RS256", "rsa"))
    gate.issuer.status, gate.issuer.body = status, body
    gate.now += PAUSE
    assert not await gate.lets_in(signed(RSA, "RS256", "new"))
    assert gate.issuer.asked == 2
    assert await gate.lets_in(signed(RSA, "RS256", "rsa"))


async def test_what_is_signed_by_no_public_key_is_refused_without_asking(gate: Gate) -> None:
    """RFC 8725, 2.1: ``none``, and a public key's text as the secret of HS256."""
    pem = RSA.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    head = part(alg="HS256", kid="rsa") + "." + part(**claims())
    mac = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256)
    signature = base64.urlsafe_b64encode(mac.sign(head.encode(), pem)).rstrip(b"=").decode()
    cheats = [f"{head}.{signature}", f"{part(alg='none', kid='rsa')}.{part(**claims())}."]
    for cheat in cheats:
        assert not await gate.lets_in(cheat)
    assert gate.issuer.asked == 0
    assert await gate.lets_in(signed(RSA, "RS256", "rsa"))
    for cheat in (*cheats, signed(EC, "ES256", "rsa"), signed(RSA, "RS256", "ed")):
        assert not await gate.lets_in(cheat)
    assert gate.issuer.asked == 1


@pytest.mark.parametrize(
    "row",
    [
        {},
        5,
        {"kty": "oct", "k": "c2VjcmV0"},
        {"kty": "oct"},
        {"kty": "RSA"},
        {"kty": "RSA", "alg": "none"},
        {"kty": "OKP", "crv": "Ed25519", "x": 5},
        SET["keys"][0] | {"use": []},
        SET["keys"][0] | {"use": "enc"},
        SET["keys"][0] | {"kid": []},
        SET["keys"][0] | {"alg": "RS512"},
        {**RSAAlgorithm.to_jwk(RSA, as_dict=True), "kid": "private"},
    ],
)
def test_what_cannot_be_used_is_left_out(row: object) -> None:
    with pytest.raises(JwksUnreadable):
        keys_in(json.dumps({"keys": [row]}).encode())
    assert "rsa" in keys_in(json.dumps({"keys": [row, *SET["keys"]]}).encode())
