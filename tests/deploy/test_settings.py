"""What ``deploy/`` says to the gateway is something that the gateway knows."""

import re
from pathlib import Path

import pytest

from app.settings import Settings
from tests.deploy.tools import DEPLOY, ROOT

KNOWN = {f"SLUICE_{name.upper()}" for name in Settings.model_fields}
FILES = sorted(path for path in DEPLOY.rglob("*") if path.is_file())


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_variable_is_a_setting(path: Path) -> None:
    named = set(re.findall(r"\bSLUICE_[A-Z0-9_]*[A-Z0-9]\b", path.read_text()))
    assert named <= KNOWN
