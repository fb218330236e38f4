"""The public keys that sign tokens (RFC 7517), fetched where the configuration says."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import httpx
import jwt
from cryptography.exceptions import UnsupportedAlgorithm

from app.logs import logger
from app.rights.tokens import ASYMMETRIC, KeyWanted

log = logger("jwks")

LIMIT = 5.0
"""Seconds for a fetch."""
LARGEST = 256 * 1024
"""Bytes of a set of keys."""
MOST = 100
"""Keys in a set."""
FRESH = 300.0
"""Seconds after which the set is fetched again, so that a key that was taken out is forgotten."""
PAUSE = 10.0
"""Seconds between two fetches, however many unknown keys are named or however the first failed."""


_UNUSABLE = (
    *(jwt.PyJWTError, UnsupportedAlgorithm, NotImplementedError),
    *(ValueError, TypeError, AttributeError, LookupError, ArithmeticError),
)
"""What the libraries raise for a row of a set that is no key of theirs."""


class JwksUnreadable(Exception):
    """The set of keys was not to be had, or is none."""


class Jwks:
    """The last good set, by the names of its keys; it is kept while the URL is away."""

    def __init__(self, client: httpx.AsyncClient, url: str, *, now: Callable[[], float]) -> None:
        self._client = client
        self._url = url
        self._now = now
        self._keys: dict[str, jwt.PyJWK] = {}
        self._next = float("-inf")
        self._lock = asyncio.Lock()

    def key(self, kid: str) -> jwt.PyJWK:
        """A key by its name; a token without one means the only key. Raises KeyWanted."""
        if not kid and len(self._keys) == 1:
            return next(iter(self._keys.values()))
        found = self._keys.get(kid)
        if found is None:
            raise KeyWanted(kid)
        return found

    async def want(self, kid: str) -> None:
        """Fetch the set if it may hold that key, at most every ``PAUSE`` seconds."""
        async with self._lock:
            if (kid and kid in self._keys) or self._now() < self._next:
                return
            await self._fetch()

    async def run(self) -> None:
        """Fetch the set now and again until cancelled."""
        while True:
            async with self._lock:
                if self._now() >= self._next:
                    await self._fetch()
            await asyncio.sleep(FRESH if self._keys else PAUSE)

    async def _fetch(self) -> None:
        self._next = self._now() + PAUSE
        try:
            self._keys = await fetched(self._client, self._url)
        except JwksUnreadable as error:
            log.warning("no keys for tokens", reason=str(error))


async def fetched(client: httpx.AsyncClient, url: str) -> dict[str, jwt.PyJWK]:
    """The usable keys of the set at a URL; raises JwksUnreadable."""
    try:
        return keys_in(await _body(client, url))
    except TimeoutError:
        raise JwksUnreadable(f"no answer within {LIMIT:g} s") from None
    except httpx.HTTPError as error:
        raise JwksUnreadable(f"not reachable: {type(error).__name__}") from None


async def _body(client: httpx.AsyncClient, url: str) -> bytes:
    async with (
        asyncio.timeout(LIMIT),
        client.stream(
            "GET",
            url,
            headers={"accept-encoding": "identity"},
            follow_redirects=False,
            timeout=None,  # the client's own would count from one byte to the next
        ) as response,
    ):
        if response.status_code != 200:
            raise JwksUnreadable(f"expected status 200, got {response.status_code}")
        data = bytearray()
        async for part in response.aiter_raw():  # unpacked it would have no bound
            data += part
            if len(data) > LARGEST:
                raise JwksUnreadable(f"expected at most {LARGEST} bytes")
        return bytes(data)


def keys_in(data: bytes) -> dict[str, jwt.PyJWK]:
    """The usable signing keys of a set; raises JwksUnreadable if there is none."""
    try:
        rows = json.loads(data)["keys"][:MOST]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise JwksUnreadable("this is no set of keys") from None
    found = {kid: key for kid, key in map(_usable, rows) if key is not None}
    if not found:
        raise JwksUnreadable("the set holds no key that can be used")
    return found


def _usable(row: Any) -> tuple[str, jwt.PyJWK | None]:
    """A key by its name; None for what is no public key that signs, or is not understood.

    RFC 7517, 5: such are left out. So is a private key that was published: whoever reads the set
    could sign with it.
    """
    try:
        kid, use = row.get("kid", ""), row.get("use", "sig")
        if not isinstance(kid, str) or use != "sig" or "d" in row:
            return "", None
        key = jwt.PyJWK.from_dict(row)
    except _UNUSABLE:
        return "", None
    return kid, key if key.algorithm_name in ASYMMETRIC else None
