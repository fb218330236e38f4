"""JSON Web Tokens (RFC 7519, 8725) as rights. Pure: the keys come from elsewhere.

Each key is bound to one algorithm by the configuration; what a token says of its algorithm must
agree with that, and nothing in its header is followed.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jwt

from app.errors import NotAllowed
from app.rights.rights import Rights, readable

LEEWAY = 10.0
"""Seconds that clocks may differ."""

LONGEST = 8192
"""Characters of a token."""

ASYMMETRIC = frozenset({"RS256", "ES256", "EdDSA"})

_NO = "the token is not valid"


class KeyWanted(Exception):
    """The key of that name is not known yet; it may be worth asking for."""

    def __init__(self, kid: str) -> None:
        super().__init__(kid)
        self.kid = kid


@dataclass(frozen=True, slots=True)
class TokenOptions:
    """What tokens are held to. ``key`` finds a public key by its name and may raise KeyWanted."""

    secret: str | None = None
    key: Callable[[str], jwt.PyJWK] | None = None
    audience: str | None = None
    issuer: str | None = None

    @property
    def accepted(self) -> bool:
        """Whether tokens are accepted at all."""
        return self.secret is not None or self.key is not None


def rights_of(token: str, options: TokenOptions) -> Rights:
    """What a token allows; raises NotAllowed (401), and KeyWanted where its key is unknown."""
    if len(token) > LONGEST or not options.accepted:
        raise NotAllowed(_NO)
    try:
        claims = _claims(token, options)
        return Rights(_scopes(claims), _channels(claims), float(claims["exp"]), _holder(token))
    except jwt.ExpiredSignatureError:
        raise NotAllowed("the token has expired") from None
    except (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError):
        raise NotAllowed(_NO) from None


def _claims(token: str, options: TokenOptions) -> dict[str, Any]:
    header = jwt.get_unverified_header(token)
    if "crit" in header:
        raise NotAllowed(_NO)  # RFC 7515, 4.1.11: no extension is understood here
    key, algorithm = _key(header, options)
    claims: dict[str, Any] = jwt.decode(
        token,
        key,
        algorithms=[algorithm],
        audience=options.audience,
        issuer=options.issuer,
        leeway=LEEWAY,
        options={
            "require": ["exp"]
            + (["aud"] if options.audience else [])
            + (["iss"] if options.issuer else []),
            "verify_aud": options.audience is not None,
            "verify_iat": False,
            "verify_sub": False,
            "verify_jti": False,
        },
    )
    return claims


def _key(header: dict[str, Any], options: TokenOptions) -> tuple[jwt.PyJWK | str, str]:
    """The key that must have signed, with the one algorithm that goes with it."""
    if header.get("alg") == "HS256" and options.secret is not None:
        return options.secret, "HS256"
    kid = header.get("kid", "")
    if options.key is None or not isinstance(kid, str) or header.get("alg") not in ASYMMETRIC:
        raise NotAllowed(_NO)
    key = options.key(kid)
    return key, key.algorithm_name


def _scopes(claims: dict[str, Any]) -> frozenset[str]:
    scope = claims.get("scope", "")
    if not isinstance(scope, str):
        raise TypeError("scope is no string")
    return frozenset(scope.split(" ")) - {""}


def _channels(claims: dict[str, Any]) -> tuple[str, ...] | None:
    channels = claims.get("channels")
    if channels is None:
        return None
    if not isinstance(channels, list) or not all(isinstance(one, str) for one in channels):
        raise TypeError("channels is no list of strings")
    return readable(channels)


def _holder(token: str) -> str:
    return f"token:{hashlib.sha256(token.encode()).hexdigest()[:16]}"
