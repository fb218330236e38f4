"""The public keys that sign tokens (RFC 7517), fetched where the configuration says."""

import asyncio
import json
from collections.abc import Callable

import httpx
import jwt

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
            self._keys = await self.read()
        except JwksUnreadable as error:
            log.warning("no keys for tokens", reason=str(error))

    async def read(self) -> dict[str, jwt.PyJWK]:
        """What the URL gives now; raises JwksUnreadable."""
        try:
            return keys_in(await self._get())
        except (httpx.HTTPError, TimeoutError) as error:
            raise JwksUnreadable(str(error) or type(error).__name__) from None

    async def _get(self) -> bytes:
        async with (
            asyncio.timeout(LIMIT),
            self._client.stream("GET", self._url, follow_redirects=False) as response,
        ):
            if response.status_code != 200:
                raise JwksUnreadable(f"expected status 200, got {response.status_code}")
            data = bytearray()
            async for part in response.aiter_bytes(8192):
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
    found: dict[str, jwt.PyJWK] = {}
    for row in rows:
        try:
            key = jwt.PyJWK.from_dict(row)
        except (jwt.PyJWTError, ValueError, TypeError, AttributeError):
            continue  # RFC 7517, 5: a key that is not understood is left out
        if key.algorithm_name in ASYMMETRIC and key.public_key_use in {None, "sig"}:
            found[key.key_id or ""] = key
    if not found:
        raise JwksUnreadable("the set holds no key that can be used")
    return found
