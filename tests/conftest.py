"""What tests of several rooms are given, no event loop but those that tests run in, and no haste.

pytest-asyncio asks for the current loop before the first test has one; where none was ever set,
that makes one which nobody closes. How long an example takes says more of the machine than of it.
"""

import asyncio
import functools
import logging
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import hypothesis
import pytest
import structlog

asyncio.set_event_loop(None)
hypothesis.settings.register_profile(
    "unhurried", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("unhurried")

# Every one of the hundreds of clients that tests open would read this machine's authorities anew.
_authorities_once = functools.cache(httpx.create_ssl_context)
pytest.MonkeyPatch().setattr("httpx._transports.default.create_ssl_context", _authorities_once)


@pytest.fixture(name="logging_as_before")
def _logging_as_before() -> Iterator[None]:
    """For a test that configures the logging: undone after it."""
    handlers, level = logging.root.handlers, logging.root.level
    yield
    logging.root.handlers, logging.root.level = handlers, level
    structlog.reset_defaults()


@pytest.fixture(name="certificate")
def _certificate(tmp_path: Path) -> tuple[Path, Path]:
    """A self-signed certificate for this host, and its key."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl to make a certificate with")
    found = (tmp_path / "own.crt", tmp_path / "own.key")
    words = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    words += ["-subj", "/CN=sluice", "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"]
    words += ["-out", str(found[0]), "-keyout", str(found[1])]
    subprocess.run(words, check=True, capture_output=True)
    return found
