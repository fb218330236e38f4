"""API keys: 256 random bits each, of which the file of keys holds only a hash.

A file is replaced as a whole, so whoever reads it sees it before or after a change.
"""

import asyncio
import fcntl
import hashlib
import hmac
import json
import os
import re
import secrets
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from app.errors import NotAllowed
from app.logs import logger
from app.rights.rights import SCOPES, Rights, readable

log = logger("keys")

LARGEST = 4 * 1024 * 1024
"""Bytes of a file of keys."""

LOOK = 0.5
"""Seconds between two looks at the file."""

_KEY = re.compile(r"sluice_([0-9a-f]{12})_([A-Za-z0-9_-]{43})")


class KeysUnreadable(Exception):
    """The file of keys cannot be read or written, or holds something else."""


@dataclass(frozen=True, slots=True)
class Key:
    """What is kept of a key. ``created`` and ``expires`` are Unix seconds."""

    id: str
    name: str
    hash: str
    scopes: tuple[str, ...]
    channels: tuple[str, ...] | None
    created: float
    expires: float | None

    @property
    def rights(self) -> Rights:
        """What it allows."""
        return Rights(frozenset(self.scopes), self.channels, self.expires, f"key:{self.id}")


def looks_like_key(text: str) -> bool:
    """Whether a bearer's text is an API key, and no token."""
    return text.startswith("sluice_")


def create(
    name: str,
    scopes: Iterable[str],
    channels: Iterable[str] | None = None,
    expires: float | None = None,
) -> tuple[str, Key]:
    """A new key's text, told only now, and what is kept of it; raises ValueError."""
    known = tuple(sorted(set(scopes)))
    if not known or not SCOPES.issuperset(known):
        raise ValueError(f"expected scopes among {', '.join(sorted(SCOPES))}")
    if not name or len(name) > 100 or not name.isprintable():
        raise ValueError("expected a name of at most 100 printable characters")
    patterns = None if channels is None else readable(channels)
    name_of_key = secrets.token_hex(6)
    text = f"sluice_{name_of_key}_{secrets.token_urlsafe(32)}"
    return text, Key(name_of_key, name, _hash(text), known, patterns, time.time(), expires)


class Keys:
    """The keys that are valid, read anew when the file has changed."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._stamp: tuple[int, ...] | None = None
        self._keys: dict[str, Key] = {}
        self.refresh()

    async def run(self) -> None:
        """Look at the file twice a second until cancelled."""
        while True:
            await asyncio.sleep(LOOK)
            self.refresh()

    def refresh(self) -> None:
        """Look at the file; a damaged one is logged and changes nothing, one that is gone is empty.

        It is small and near, so this does not wait.
        """
        if self._path is None:
            return
        stamp = _stamp(self._path)
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._keys = {key.id: key for key in read(self._path)}
        except KeysUnreadable as error:
            log.warning("keys unreadable: those from before stay valid", reason=str(error))
        else:
            log.info("keys", count=len(self._keys))

    def rights(self, text: str, now: float) -> Rights:
        """What a key allows at ``now``, Unix seconds; raises NotAllowed (401)."""
        found = _KEY.fullmatch(text)
        key = self._keys.get(found[1]) if found else None
        # one that is unknown takes as long as one that is wrong
        same = hmac.compare_digest(_hash(text), key.hash if key else "0" * 64)
        if key is None or not same:
            raise NotAllowed("the API key is not known")
        if key.expires is not None and key.expires <= now:
            raise NotAllowed("the API key has expired")
        return key.rights

    def still(self, rights: Rights) -> bool:
        """Whether the key behind these rights is there, and allows the same scopes and channels."""
        key = self._keys.get(rights.holder.removeprefix("key:"))
        return (
            key is not None
            and frozenset(key.scopes) == rights.scopes
            and key.channels == rights.patterns
        )


def read(path: Path) -> list[Key]:
    """The keys in a file, none if there is no file; raises KeysUnreadable."""
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST + 1)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise KeysUnreadable(f"{path}: {error.strerror}") from None
    if len(data) > LARGEST:
        raise KeysUnreadable(f"{path}: expected at most {LARGEST} bytes")
    try:
        return [_key(one) for one in json.loads(data)["keys"]]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise KeysUnreadable(f"{path}: this is no file of keys") from None


@contextmanager
def changed(path: Path) -> Iterator[list[Key]]:
    """The keys to be changed in place, and written back as one; one at a time does so.

    Raises KeysUnreadable.
    """
    try:
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            keys = read(path)
            yield keys
            _write(path, keys)
        finally:
            os.close(folder)
    except OSError as error:
        raise KeysUnreadable(f"{path}: {error.strerror}") from None


def _write(path: Path, keys: list[Key]) -> None:
    text = json.dumps({"keys": [asdict(key) for key in keys]}, indent=1) + "\n"
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # of mode 0600
    try:
        with os.fdopen(handle, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink()
        raise


def _key(one: dict[str, Any]) -> Key:
    """Raises ValueError, KeyError or TypeError for what is no key."""
    channels, expires = one["channels"], one["expires"]
    key = Key(
        id=str(one["id"]),
        name=str(one["name"]),
        hash=str(one["hash"]),
        scopes=tuple(map(str, one["scopes"])),
        channels=None if channels is None else readable(map(str, channels)),
        created=float(one["created"]),
        expires=None if expires is None else float(expires),
    )
    if not re.fullmatch("[0-9a-f]{64}", key.hash) or isinstance(one["scopes"], str):
        raise ValueError("no hash of a key")
    return key


def _stamp(path: Path) -> tuple[int, ...] | None:
    try:
        found = path.stat()
    except OSError:
        return ()
    return found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode(errors="replace")).hexdigest()
