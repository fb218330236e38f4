"""JSON Web Tokens: what is accepted, and every known way to cheat."""

import base64
import json
import time
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from app.errors import NotAllowed
from app.rights.jwks import keys_in
from app.rights.tokens import LONGEST, KeyWanted, TokenOptions, rights_of

SECRET = "a secret of thirty-two bytes, at least"
RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC = ec.generate_private_key(ec.SECP256R1())
ED = ed25519.Ed25519PrivateKey.generate()


def jwk(algorithm: Any, private: Any, kid: str) -> dict[str, Any]:
    return {**algorithm.to_jwk(private.public_key(), as_dict=True), "kid": kid}


SET = {
    "keys": [
        jwk(jwt.algorithms.RSAAlgorithm, RSA, "rsa"),
        jwk(jwt.algorithms.ECAlgorithm, EC, "ec"),
        jwk(jwt.algorithms.OKPAlgorithm, ED, "ed"),
        {"kty": "oct", "k": "c2VjcmV0", "kid": "oct", "alg": "HS256"},
    ]
}


def _key(kid: str) -> jwt.PyJWK:
    try:
        return KEYS[kid]
    except KeyError:
        raise KeyWanted(kid) from None


KEYS = keys_in(json.dumps(SET).encode())
BY_SECRET = TokenOptions(secret=SECRET)
BY_KEYS = TokenOptions(key=_key)
BOTH = TokenOptions(secret=SECRET, key=_key)


def claims(**more: Any) -> dict[str, Any]:
    return {"exp": time.time() + 60, "scope": "market account", **more}


def signed(key: Any = SECRET, algorithm: str = "HS256", kid: str = "", **more: Any) -> str:
    return jwt.encode(claims(**more), key, algorithm, {"kid": kid} if kid else None)


def refused(token: str, options: TokenOptions = BOTH) -> str:
    with pytest.raises(NotAllowed) as caught:
        rights_of(token, options)
    assert caught.value.status == 401
    return caught.value.detail


def part(**fields: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(fields).encode()).rstrip(b"=").decode()


def test_claims_become_rights() -> None:
    rights = rights_of(signed(channels=["order:BTC_*"], exp=2e9), BY_SECRET)
    assert rights.scopes == {"market", "account"}
    assert rights.patterns == ("order:BTC_*",)
    assert rights.ends == 2e9
    assert rights.holder


@pytest.mark.parametrize(
    ("key", "algorithm", "kid"), [(RSA, "RS256", "rsa"), (EC, "ES256", "ec"), (ED, "EdDSA", "ed")]
)
def test_public_keys_verify(key: Any, algorithm: str, kid: str) -> None:
    assert rights_of(signed(key, algorithm, kid), BY_KEYS).scopes


def test_an_unknown_key_is_worth_asking_for() -> None:
    with pytest.raises(KeyWanted):
        rights_of(signed(RSA, "RS256", "new"), BY_KEYS)


def test_a_public_key_is_no_secret() -> None:
    """RFC 8725, 2.1: HS256 with the public key's text."""
    pem = RSA.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    head = part(alg="HS256", kid="rsa") + "." + part(**claims())
    mac = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256)
    signature = base64.urlsafe_b64encode(mac.sign(head.encode(), pem)).rstrip(b"=").decode()
    for options in (BY_KEYS, BOTH):
        refused(f"{head}.{signature}", options)


@pytest.mark.parametrize("alg", ["none", "None", "HS512", "PS256", "", None, 5, ["HS256"]])
def test_no_other_algorithm_is_taken(alg: Any) -> None:
    refused(f"{part(alg=alg, kid='rsa')}.{part(**claims())}.")


def test_an_algorithm_goes_with_one_key() -> None:
    refused(signed(EC, "ES256", "rsa"), BY_KEYS)
    refused(signed(RSA, "RS256", "ec"), BY_KEYS)
    refused(signed(), BY_KEYS.__class__(key=_key))


@pytest.mark.parametrize("name", ["jwk", "jku", "x5u"])
def test_keys_in_the_header_are_not_followed(name: str) -> None:
    own = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    header = {"kid": "rsa", name: jwk(jwt.algorithms.RSAAlgorithm, own, "rsa")}
    refused(jwt.encode(claims(), own, "RS256", header), BY_KEYS)


def test_an_extension_that_must_be_understood_is_refused() -> None:
    refused(jwt.encode(claims(), SECRET, "HS256", {"crit": ["b64"], "b64": True}))


@pytest.mark.parametrize(
    "more",
    [
        {"exp": None},
        {"exp": "soon"},
        {"exp": float("inf")},
        {"nbf": time.time() + 3600},
        {"scope": 5},
        {"scope": ["market"]},
        {"channels": "order:*"},
        {"channels": ["order:?"]},
        {"channels": [1]},
    ],
)
def test_claims_that_do_not_hold_are_refused(more: dict[str, Any]) -> None:
    left = {name: value for name, value in claims(**more).items() if value is not None}
    refused(jwt.encode(left, SECRET, "HS256"))


def test_clocks_may_differ_a_little() -> None:
    assert rights_of(signed(exp=time.time() - 5), BY_SECRET).scopes
    assert refused(signed(exp=time.time() - 20)) == "the token has expired"


def test_audience_and_issuer_are_held_to_when_set() -> None:
    options = TokenOptions(secret=SECRET, audience="us", issuer="them")
    assert rights_of(signed(aud="us", iss="them"), options).scopes
    for more in ({}, {"aud": "us"}, {"iss": "them"}, {"aud": "you", "iss": "them"}):
        refused(signed(**more), options)
    assert rights_of(signed(aud="anyone", iss="anyone"), BY_SECRET).scopes


@pytest.mark.parametrize(
    "token", ["", "a", "a.b.c", "é.é.é", "." * 5000, "x" * (LONGEST + 1), "W" * 4000 + ".a.b"]
)
def test_garbage_is_refused(token: str) -> None:
    refused(token)


def test_a_deep_header_is_refused() -> None:
    deep = base64.urlsafe_b64encode(b"[" * 5000).rstrip(b"=").decode()
    refused(f"{deep}.{deep}.")


def test_no_tokens_unless_they_are_wanted() -> None:
    refused(signed(), TokenOptions())


def test_a_wrong_signature_is_refused() -> None:
    refused(signed("another secret of more than 32 bytes"))
