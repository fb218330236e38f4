"""Programs that check what is in ``deploy/``: on the path, or in ``.venv-deploy``, as make does."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
PLACES = f"{ROOT / '.venv-deploy' / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}"


def tool(name: str) -> str:
    """Where a program is; the test is skipped if it is nowhere."""
    found = shutil.which(name, path=PLACES)
    if found is None:
        pytest.skip(f"no {name} here")
    return found


def run(name: str, *arguments: object, status: int = 0) -> str:
    """What a program writes, to its standard output and after that to its standard error."""
    words = [tool(name), *map(str, arguments)]
    result = subprocess.run(
        words, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60
    )
    output = result.stdout + result.stderr
    assert result.returncode == status, output
    return output
