"""The Dockerfile, really built and run; on Debian's Python, as no image registry is asked."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.deploy.containers import Store
from tests.deploy.tools import run
from tests.e2e.waiting import until

pytestmark = [pytest.mark.deploy, pytest.mark.timeout(900)]  # base images are made first

HARDENED = (
    *("--read-only", "--read-only-tmpfs=false", "--cap-drop=ALL", "--memory=512m"),
    *("--security-opt=no-new-privileges", "--network=none"),
)
SOON = 5.0
"""Seconds that an end may take on a busy machine; a killed one would take ten."""
MOST = 110_000_000
"""Bytes over the base image."""


@contextmanager
def running(images: Store, *options: str, image: str = "sluice") -> Iterator[str]:
    name = images.told("podman", "run", "--detach", *HARDENED, *options, image).splitlines()[-1]
    try:
        yield name
    finally:
        images.told("podman", "rm", "--force", "--time", "1", name)


async def healthy(images: Store, name: str) -> None:
    def passes() -> bool:
        return images.run("podman", "healthcheck", "run", name).returncode == 0

    await until(passes, lambda: images.log(name))


def test_hadolint_finds_nothing() -> None:
    assert run("hadolint", "Dockerfile") == ""


def test_the_image_says_what_it_is_and_is_small(images: Store) -> None:
    found = images.inspect("sluice")
    assert found["Config"]["User"] == "10001:10001"
    assert found["Config"]["Entrypoint"] == ["sluice"]
    assert found["Config"]["Labels"]["org.opencontainers.image.title"] == "Sluice"
    added = found["Size"] - images.inspect("python:3.13-slim")["Size"]
    print(f"the image: {added / 1e6:.0f} MB over its base")  # noqa: T201 -- asked for with -s
    assert added < MOST


async def test_it_runs_with_next_to_no_rights_and_ends_when_told(images: Store) -> None:
    with running(images) as name:
        await healthy(images, name)

        def within(script: str) -> tuple[int, str]:
            done = images.run("podman", "exec", name, "sh", "-c", script)
            return done.returncode, done.stdout.strip()

        assert within("id -u; id -g") == (0, "10001\n10001")
        assert within("touch /here || touch /opt/sluice/here || touch /run/here")[0] != 0
        assert within("command -v pip pip3 cc gcc make")[1] == ""
        assert within("/usr/bin/python3 -m pip || python -m pip || python -m ensurepip")[0] != 0
        assert within("tr '\\0' ' ' < /proc/1/cmdline")[1].split()[1:3] == [
            "/opt/sluice/bin/sluice",
            "serve",
        ]
        asked = time.monotonic()
        images.told("podman", "stop", "--time", "10", name)
        assert time.monotonic() - asked < SOON
        assert images.inspect(name)["State"]["ExitCode"] == 0
        assert '"event": "stopping"' in images.log(name)


async def test_one_that_was_built_for_traces_sends_them(images: Store) -> None:
    images.build("traces", "--build-arg", "REQUIREMENTS=requirements-traces.txt")
    with running(images, "--env=OTEL_TRACES_EXPORTER=console", image="sluice:traces") as name:
        await healthy(images, name)
        assert '"event": "traces"' in images.log(name)
