"""A clean Debian that boots here, in a container of systemd's: for what a unit file promises."""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.deploy.tools import ROOT, run, tool

BOOTED = 60.0
"""Seconds that a boot may take."""
LIMIT = 600.0
"""Seconds that a command within may take: one installs packages."""
CHECKOUT = "/usr/src/sluice"
AUTHORITIES = Path("/etc/ssl/certs/ca-certificates.crt")


class Machine:
    """A root folder with Debian in it; ``booted`` while its systemd runs."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._init: str | None = None

    def install(self, packages: list[str]) -> None:
        """Put the Debian of this machine's mirror there, with packages, and the checkout."""
        mirrors = run("apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages")
        mirror = next(line for line in mirrors.splitlines() if line.endswith("/debian/"))
        release = dict(
            line.split("=", 1) for line in Path("/etc/os-release").read_text().splitlines()
        )
        words = ["debootstrap", "--variant=minbase", f"--include={','.join(packages)}"]
        words += [release["VERSION_CODENAME"], str(self.root), mirror]
        told = subprocess.run(words, capture_output=True, text=True, check=False, timeout=LIMIT)
        assert told.returncode == 0, told.stdout[-2000:] + told.stderr[-2000:]
        listed = run("git", "ls-files", "--cached", "--others", "--exclude-standard")
        for name in listed.splitlines():
            to = self.root / CHECKOUT.lstrip("/") / name
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, to)

    def prepare(self, script: str) -> str:
        """Run a script before it boots: with this machine's network, as pip is set up here."""
        words = [*self._nspawn, "--resolv-conf=copy-host", "--as-pid2"]
        words += [f"--setenv={name}" for name in os.environ if name.startswith("PIP_")]
        for place in ("/etc/pip.conf", "/etc/xdg/pip", "/opt/wheels"):
            words += [f"--bind-ro={place}"] if Path(place).exists() else []
        if AUTHORITIES.exists():
            words += [f"--bind-ro={AUTHORITIES}:/etc/pip.crt", "--setenv=PIP_CERT=/etc/pip.crt"]
        return _checked([*words, *_shell(script)])

    @property
    def _nspawn(self) -> list[str]:
        return [
            tool("systemd-nspawn"),
            "--quiet",
            f"--directory={self.root}",
            "--register=no",
            "--keep-unit",
        ]

    @contextmanager
    def booted(self, log: Path) -> Iterator[None]:
        """Its systemd runs, on a loopback of its own."""
        words = [*self._nspawn, "--boot", "--private-network", "--console=pipe"]
        with log.open("wb") as output:
            process = subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )
        try:
            within = time.monotonic() + BOOTED
            while not self._up(process.pid):
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < within, log.read_text()
                time.sleep(0.1)
            yield
        finally:
            self._init = None
            process.terminate()
            process.wait(30)

    def _up(self, nspawn: int) -> bool:
        children = Path(f"/proc/{nspawn}/task/{nspawn}/children").read_text().split()
        self._init = children[0] if children else None
        words = ["systemctl", "is-system-running"]
        return self._init is not None and self._within(words).stdout.strip() == "running"

    def _within(self, words: list[str]) -> subprocess.CompletedProcess[str]:
        assert self._init is not None
        enter = [tool("nsenter"), "--target", self._init, "--all"]
        return subprocess.run(
            enter + words, capture_output=True, text=True, check=False, timeout=LIMIT
        )

    def sh(self, script: str) -> str:
        """Run a script as root in the checkout, once it is booted; what it writes."""
        result = self._within(_shell(script))
        assert result.returncode == 0, f"{script}\n{result.stdout}{result.stderr}"
        return result.stdout


def _shell(script: str) -> list[str]:
    return ["/bin/sh", "-euc", f"cd {CHECKOUT}; {script}"]


def _checked(words: list[str]) -> str:
    result = subprocess.run(words, capture_output=True, text=True, check=False, timeout=LIMIT)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def needed() -> None:
    """Skip the test where no machine can be made."""
    if os.geteuid() != 0:
        pytest.skip("only root can boot a machine")
    for name in ("debootstrap", "systemd-nspawn", "nsenter"):
        tool(name)
