"""Containers without a registry: base images from Debian's packages, in a store of their own."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.tools import PLACES, ROOT, run, tool

LIMIT = 300.0
"""Seconds that one step may take: some install packages."""
TOOLS = ("debootstrap", "buildah", "podman", "runc")

# As much as a machine without a systemd and without rights over limits can give.
CONFIGURED = """\
[containers]
default_ulimits = ["nofile=4096:4096", "nproc=4096:4096"]
[network]
network_config_dir = "{folder}/networks"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "runc"
"""
STORED = """\
[storage]
driver = "{driver}"
graphroot = "{folder}/store"
runroot = "{folder}/run"
"""


class Store:
    """Images and containers that nobody else sees."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = os.environ | {
            "PATH": PLACES,
            "CONTAINERS_CONF": str(folder / "containers.conf"),
            "CONTAINERS_STORAGE_CONF": str(folder / "storage.conf"),
            "DISABLE_HC_SYSTEMD": "true",  # nobody runs health checks by the clock here
        }
        (folder / "containers.conf").write_text(CONFIGURED.format(folder=folder))
        for driver in ("overlay", "vfs"):
            stored = STORED.format(folder=folder, driver=driver)
            (folder / "storage.conf").write_text(stored)
            if self.run("podman", "info").returncode == 0:
                break
        else:
            pytest.skip("podman has no storage here")

    def run(self, *words: object, **more: str) -> subprocess.CompletedProcess[str]:
        """A program of the store's, whatever it ends with; ``more`` is environment."""
        name, *arguments = map(str, words)
        return subprocess.run(
            [tool(name), *arguments],
            cwd=ROOT,
            env=self.environment | more,
            capture_output=True,
            text=True,
            check=False,
            timeout=LIMIT,
        )

    def told(self, *words: object, **more: str) -> str:
        """The output of a program that must succeed."""
        found = self.run(*words, **more)
        assert found.returncode == 0, f"{words}: {(found.stdout + found.stderr)[-3000:]}"
        return found.stdout.strip()

    def inspect(self, name: str) -> Any:
        """What podman knows of an image or a container."""
        return json.loads(self.told("podman", "inspect", name))[0]

    def log(self, name: str) -> str:
        """What a container has written, to both of its outputs."""
        found = self.run("podman", "logs", name)
        return found.stdout + found.stderr

    def base(self, packages: tuple[str, ...]) -> str:
        """An image of this machine's Debian with some packages; its id.

        Skips the test where that cannot be installed from.
        """
        root = self.folder / "root"
        mirrors = run("apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages")
        mirror = next(line for line in mirrors.splitlines() if line.endswith("/debian/"))
        lines = Path("/etc/os-release").read_text().splitlines()
        release = dict(line.split("=", 1) for line in lines if "=" in line)["VERSION_CODENAME"]
        included = f"--include={','.join(packages)}"
        made = self.run("debootstrap", "--variant=minbase", included, release, root, mirror)
        if made.returncode:
            pytest.skip(f"debootstrap cannot make a base image here: {made.stdout[-300:]}")
        container = self.told("buildah", "from", "scratch")
        self.told("buildah", "add", container, root, "/")
        shutil.rmtree(root)
        return self.told("buildah", "commit", "--quiet", "--rm", container).splitlines()[-1]

    def must_run(self, image: str, *options: str) -> None:
        """Skip the test where containers cannot run at all, such as within another container."""
        tried = self.run("podman", "run", "--rm", *options, image, "true")
        if tried.returncode:
            pytest.skip(f"podman cannot run a container here: {tried.stderr[-300:]}")

    def build(self, tag: str = "latest", *options: str) -> None:
        """Build the Dockerfile as ``sluice``, with this machine's network and authorities."""
        words = ["--isolation", "chroot", "--format", "docker", "--pull-never", "--quiet"]
        words += ["--network", "host", "--volume", "/etc/ssl:/etc/ssl:ro"]
        self.told(
            "buildah", "build", *words, *options, "--tag", f"docker.io/library/sluice:{tag}", "."
        )


@contextmanager
def store(folder: Path) -> Iterator[Store]:
    """A store; all that runs in it ends with the block."""
    if os.geteuid() != 0:
        pytest.skip("containers want root here")
    for name in TOOLS:
        tool(name)
    found = Store(folder)
    try:
        yield found
    finally:
        found.run("podman", "rm", "--all", "--force", "--volumes", "--time", "1")
        found.run("podman", "system", "reset", "--force")
