"""``sluice keys``."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from app.keys import app
from app.rights.keys import Keys


def run(*arguments: str, status: int = 0) -> str:
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == status, result.output
    return result.output


def test_a_key_is_made_listed_and_revoked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "keys.json"
    monkeypatch.setenv("SLUICE_API_KEYS_FILE", str(path))
    key = run(
        *("create", "--name", "desk", "--scopes", "market,account"),
        *("--channels", "order:BTC_*,balance:*", "--expires", "90d"),
    ).strip()
    rights = Keys(path).rights(key, 0.0)
    assert rights.scopes == {"market", "account"}
    assert rights.patterns == ("order:BTC_*", "balance:*")
    listed = run("list")
    assert "desk" in listed
    assert key not in listed
    assert "1 revoked" in run("revoke", "desk")
    assert run("list") == ""
    run("revoke", "desk", status=2)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--scopes", "all"),
        ("--expires", "yesterday"),
        ("--expires", "2001-01-01"),
        ("--channels", "x"),
    ],
)
def test_what_makes_no_sense_is_refused(tmp_path: Path, option: str, value: str) -> None:
    given = {
        "--name": "desk",
        "--scopes": "market",
        "--file": str(tmp_path / "keys"),
        option: value,
    }
    run("create", *(text for pair in given.items() for text in pair), status=2)


def test_without_a_file_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SLUICE_API_KEYS_FILE", raising=False)
    assert "SLUICE_API_KEYS_FILE" in run("list", status=2)
