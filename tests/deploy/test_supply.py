"""What is installed at run time, as ``make sbom`` and ``make licences`` tell it."""

import importlib.metadata
import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.tools import ROOT, tool

pytestmark = pytest.mark.e2e

VALID = """
import pathlib, sys
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
found = JsonStrictValidator(SchemaVersion.V1_6).validate_str(pathlib.Path(sys.argv[1]).read_text())
sys.exit(found and str(found))
"""
PINNED = re.compile(
    r"^([a-z0-9][\w.-]*)(?:\[.*?\])?==([^ ]+).*\\\n((?: +--hash=sha256:.*\n)+)", re.MULTILINE
)

GUIDES = (ROOT / "README.md", *(ROOT / "docs").glob("*.md"))


def commands() -> Iterator[str]:
    """What the project gives to pip or uv to install, or tells others to."""
    texts = [(ROOT / name).read_text() for name in ("Makefile", "Dockerfile")]
    for guide in GUIDES:
        texts += re.findall(r"^```sh\n(.*?)^```$", guide.read_text(), re.MULTILINE | re.DOTALL)
    for text in texts:
        joined = re.sub(r"\\\n\s*", "", text)
        installing = r"\bpip\b.*? install .*?(?=&&|\|\||$)|\$\(call install,.*"
        found = re.findall(installing, joined, re.MULTILINE)
        yield from (command for command in found if "$(2)" not in command)  # what is called is told


def pinned(file: str = "requirements.txt") -> dict[str, tuple[str, set[str]]]:
    """The version and the hashes of every requirement, by name."""
    text = (ROOT / file).read_text()
    found = {
        name: (version, set(re.findall(r"sha256:([0-9a-f]{64})", hashes)))
        for name, version, hashes in PINNED.findall(text)
    }
    assert len(found) == len(re.findall(r"^\S+==", text, re.MULTILINE)) > 20
    return found


def make(*words: str) -> str:
    """What a target of the Makefile writes."""
    tool("cyclonedx-py")
    result = subprocess.run(
        ["make", "--no-print-directory", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def hashes(component: dict[str, Any]) -> set[str]:
    return {
        one["content"]
        for reference in component["externalReferences"]
        for one in reference["hashes"]
        if one["alg"] == "SHA-256"
    }


def test_nothing_is_installed_without_hashes() -> None:
    found = list(commands())
    assert len(found) >= 8
    itself = {"--no-deps", "--no-build-isolation"}  # and what builds it is installed already
    for command in found:
        words = set(re.split(r"[ ,()]", command))
        assert "--require-hashes" in words or itself <= words, command


def test_the_bill_of_materials_names_all_that_is_pinned(tmp_path: Path) -> None:
    path = tmp_path / "sbom.json"
    make("sbom", f"SBOM={path}")
    python = Path(tool("cyclonedx-py")).with_name("python")
    subprocess.run([str(python), "-c", VALID, str(path)], check=True)
    bill = json.loads(path.read_text())
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    assert bill["metadata"]["component"]["name"] == "sluice"
    told = {one["name"]: (one["version"], hashes(one)) for one in bill["components"]}
    assert told == pinned()


def test_every_licence_was_looked_at() -> None:
    told = {
        line.split()[0].lower().replace("_", "-")
        for line in make("licences").splitlines()
        if line.startswith(" ")
    }
    here = {
        one.metadata["Name"].lower().replace("_", "-") for one in importlib.metadata.distributions()
    }
    assert told >= set(pinned()) & here


def test_what_traces_want_comes_to_the_rest_as_it_is() -> None:
    traced = pinned("requirements-traces.txt")
    assert traced.items() >= pinned().items()
    assert "opentelemetry-sdk" in traced
