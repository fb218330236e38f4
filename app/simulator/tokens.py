"""The one-use socket tokens and the signature that buys them (protocol 1, 4.1). PURE."""

import base64
import hashlib
import hmac
import secrets
from dataclasses import dataclass

REMEMBERED = 10_000


@dataclass(slots=True)
class _Token:
    issued: float
    presented: bool = False


class Tokens:
    """Which tokens were given out, and to whom they are still good: the first who comes in time."""

    def __init__(self) -> None:
        self._tokens: dict[str, _Token] = {}
        self.issued = 0

    def issue(self, now: float) -> str:
        token = secrets.token_hex(32)
        self._tokens[token] = _Token(now)
        self.issued += 1
        if len(self._tokens) > REMEMBERED:  # the oldest is forgotten, so it counts as unknown
            del self._tokens[next(iter(self._tokens))]
        return token

    def present(self, token: str, now: float, lifetime: float) -> str | None:
        """Spend a token. None if it was good, else what was wrong with it."""
        known = self._tokens.get(token)
        if known is None:
            return "unknown token"
        if known.presented:
            return "token reused"
        known.presented = True
        return "expired token" if now - known.issued > lifetime else None


def sign(body: bytes, api_key: str) -> str:
    """md5(base64(body) + key); for the bodyless calls made here that is md5(key) (protocol 4.1)."""
    return hashlib.md5(base64.b64encode(body) + api_key.encode(), usedforsecurity=False).hexdigest()


def signed(sign_header: str, api_key: str) -> bool:
    return hmac.compare_digest(sign_header.encode(), sign(b"", api_key).encode())
