"""Rules of the house that no other tool checks."""

import json
import re
import subprocess
from pathlib import Path

import pytest

from app.main import create_app
from app.settings import CLIENT_VARIABLE, Settings

ROOT = Path(__file__).parents[1]
LONGEST = 400

ELSEWHERE = {
    "app/__main__.py": "tests/e2e/test_process.py",  # commands are tried as processes
    "app/bus/broker.py": "tests/contract/test_broker.py",  # what every broker promises
    "app/errors.py": "tests/api/test_problems.py",  # a tree of names, rendered there
    "app/api/deps.py": "tests/api/test_state.py",  # no decision of its own
    "app/api/terms.py": "tests/api/test_shapes.py",  # parts of the shapes
    "app/api/holdings.py": "tests/api/test_shapes.py",  # some of them
    "app/api/admission.py": "tests/api/test_stream.py",  # its limits are seen on streams
    "app/tail/panels.py": "tests/tail/test_view.py",  # what the view is put together from
    "app/simulator/actions.py": "tests/simulator/test_control.py",  # set off through the control
    "app/simulator/load.py": "tests/simulator/test_control.py",  # the same
    "app/simulator/http.py": "tests/simulator/test_server.py",  # the two sides of one port
    "app/simulator/source.py": "tests/simulator/test_playback.py",  # what its two kinds share
    "app/simulator/flow.py": "tests/simulator/test_generated.py",  # parts of one market
    "app/simulator/market.py": "tests/simulator/test_generated.py",
    "app/simulator/trader.py": "tests/simulator/test_generated.py",
    "app/simulator/statements.py": "tests/simulator/test_account.py",  # what an account writes
}
"""Modules whose tests stand under another name, and why."""


def modules() -> list[Path]:
    return [
        path.relative_to(ROOT)
        for path in sorted((ROOT / "app").rglob("*.py"))
        if path.name != "__init__.py" or _says_something(path)
    ]


def _says_something(path: Path) -> bool:
    """Whether a package's own file holds more than its docstring and what it hands on."""
    return any(line.startswith(("def ", "async def ", "class ")) for line in _lines(path))


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines()


def tracked() -> list[Path]:
    """The files of the repository."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode:
        pytest.skip("not a checkout")
    return [ROOT / name for name in listed.stdout.splitlines() if (ROOT / name).is_file()]


@pytest.mark.parametrize("module", modules(), ids=str)
def test_every_module_has_its_tests(module: Path) -> None:
    elsewhere = ELSEWHERE.get(str(module))
    if elsewhere is not None:
        assert (ROOT / elsewhere).exists(), f"{elsewhere} is to test {module}"
        return
    inside = module.relative_to("app")
    name = inside.parent.name if inside.name == "__init__.py" else inside.stem
    wanted = Path("tests") / inside.parent / f"test_{name}.py"
    assert (ROOT / wanted).exists(), f"{module} has no {wanted}"


def test_every_exception_to_that_is_needed() -> None:
    for module in ELSEWHERE:
        assert (ROOT / module).exists(), f"{module} is no more"
        inside = Path(module).relative_to("app")
        own = ROOT / "tests" / inside.parent / f"test_{inside.stem}.py"
        assert not own.exists(), f"{own.name} is there now"


@pytest.mark.parametrize("module", modules(), ids=str)
def test_no_module_is_too_long(module: Path) -> None:
    assert len(_lines(ROOT / module)) <= LONGEST


@pytest.mark.parametrize("module", modules(), ids=str)
def test_every_module_states_its_charter(module: Path) -> None:
    assert (ROOT / module).read_text().startswith('"""')


def test_the_committed_document_is_what_the_application_says() -> None:
    committed = json.loads((ROOT / "openapi.json").read_text())
    made = create_app(Settings.model_construct()).openapi()
    assert committed == json.loads(json.dumps(made)), "run: make openapi"


def test_the_readme_tells_every_setting() -> None:
    readme = (ROOT / "README.md").read_text()
    missing = [
        variable
        for variable in (f"SLUICE_{name.upper()}" for name in Settings.model_fields)
        if not re.search(rf"\b{variable}\b", readme)
    ]
    assert not missing


def test_the_documents_tell_no_setting_that_is_not_there() -> None:
    known = {CLIENT_VARIABLE, *(f"SLUICE_{name.upper()}" for name in Settings.model_fields)}
    documents = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    for path in documents:
        told = set(re.findall(r"\bSLUICE_[A-Z_]*[A-Z]\b", path.read_text()))
        assert told <= known, f"{path.name}: {sorted(told - known)}"


def test_the_documents_name_no_test_that_is_not_there() -> None:
    for path in (ROOT / "docs").rglob("*.md"):
        for name, test in re.findall(r"(tests/[\w/]+\.py)::(\w+)", path.read_text()):
            file = ROOT / name
            found = file.exists() and re.search(rf"\bdef {test}\(", file.read_text())
            assert found, f"{path.name}: {name}::{test}"


# The words stand in pieces, so that this file is not its own finding.
PLACES = ["/" + "work/", "/" + "root/", "/" + "tmp/", "/" + "home/", "C:" + "\\\\"]
REGISTRIES = ["py" + "pi.org", "python" + "hosted", "registry." + "npm", "arti" + "factory"]
REGISTRIES += [" --index" + "-url", "--extra-index" + "-url", "nexus" + "3"]


def test_no_file_names_this_machine_or_a_registry() -> None:
    for path in tracked():
        try:
            text = path.read_text()
        except UnicodeDecodeError:
            continue
        # what a linter was told about already has its reason beside it
        text = "\n".join(line for line in text.splitlines() if "noqa: S108 -- " not in line)
        for word in PLACES + REGISTRIES:
            assert word not in text, f"{path.relative_to(ROOT)}: {word}"


def test_the_pinned_requirements_carry_hashes() -> None:
    for kind in ("", "-traces", "-build", "-dev", "-bench", "-deploy", "-scan"):
        name = f"requirements{kind}.txt"
        text = (ROOT / name).read_text()
        pinned = re.findall(r"^[a-z0-9][\w.\-\[\]]*==", text, re.MULTILINE | re.IGNORECASE)
        assert len(pinned) > 10 or kind == "-build"
        assert text.count("--hash=sha256:") >= len(pinned)
        assert "://" not in text


@pytest.mark.parametrize("folder", ["app", "tests", "bench"])
def test_every_exemption_from_a_check_names_it_and_says_why(folder: str) -> None:
    for path in sorted((ROOT / folder).rglob("*.py")):
        if path == Path(__file__):
            continue
        above = ""
        for number, line in enumerate(_lines(path), 1):
            why = above if above.strip().startswith("# ") else ""
            above = line
            where = f"{path.relative_to(ROOT)}:{number}"
            if "# noqa" in line:
                found = re.search(r"# noqa: [A-Z]+\d+(?:, ?[A-Z]+\d+)*(.*)", line)
                assert found, f"{where}: no code"
                assert re.search(r"[a-z]{3}", found[1] + why), f"{where}: no reason"
            if "# type: ignore" in line:
                found = re.search(r"# type: ignore\[[a-z-]+\](.*)", line)
                assert found, f"{where}: no code"
                assert re.search(r"[a-z]{3}", found[1] + why), f"{where}: no reason"


def test_nothing_waits_in_the_code_to_be_done() -> None:
    words = re.compile("TO" + r"DO|FIX" + r"ME|XX" + r"X\b|HA" + r"CK\b")
    for path in tracked():
        if path.suffix in {".py", ".md", ".toml"}:
            assert not words.search(path.read_text()), path.relative_to(ROOT)
