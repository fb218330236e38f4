"""The file of keys: hashes only, replaced as a whole, followed while it changes."""

import threading
import time
from pathlib import Path

import pytest

from app.errors import NotAllowed
from app.rights import keys
from app.rights.keys import Key, Keys, KeysUnreadable


@pytest.fixture(name="path")
def _path(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


def added(path: Path, name: str = "one", expires: float | None = None) -> str:
    text, key = keys.create(name, ["market"], ["ticker:*"], expires)
    with keys.changed(path) as known:
        known.append(key)
    return text


def test_a_key_is_known_by_its_text_only(path: Path) -> None:
    text = added(path)
    rights = Keys(path).rights(text, time.time())
    assert rights.scopes == {"market"}
    assert rights.patterns == ("ticker:*",)
    assert text not in path.read_text()
    assert text[20:] not in path.read_text()
    other = text[:-1] + ("A" if text[-1] != "A" else "B")
    for wrong in (other, text + "A", "", "sluice_", keys.create("x", ["market"])[0]):
        with pytest.raises(NotAllowed) as caught:
            Keys(path).rights(wrong, time.time())
        assert caught.value.status == 401
        assert not wrong or wrong not in caught.value.detail


def test_the_file_is_for_its_owner_alone(path: Path) -> None:
    path.write_text('{"keys": []}')
    path.chmod(0o644)
    added(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert [path] == list(path.parent.iterdir())


def test_an_expired_key_is_refused(path: Path) -> None:
    text = added(path, expires=1000.0)
    assert Keys(path).rights(text, 999.0).ends == 1000.0
    with pytest.raises(NotAllowed, match="expired"):
        Keys(path).rights(text, 1000.0)


def test_a_change_is_seen_at_the_next_look(path: Path) -> None:
    known = Keys(path)
    text = added(path)
    known.refresh()
    rights = known.rights(text, time.time())
    assert known.still(rights)
    with keys.changed(path) as left:
        left.clear()
    known.refresh()
    assert not known.still(rights)
    with pytest.raises(NotAllowed):
        known.rights(text, time.time())


@pytest.mark.parametrize("damage", ["", "[]", '{"keys": [{"id": "1"}]}', '{"keys": 1}', "[" * 9999])
def test_a_damaged_file_takes_nobody_out(path: Path, damage: str) -> None:
    text = added(path)
    known = Keys(path)
    path.write_text(damage)
    known.refresh()
    assert known.rights(text, time.time()).scopes
    with pytest.raises(KeysUnreadable, match="no file of keys"):
        keys.read(path)


def test_a_file_that_is_gone_takes_everybody_out(path: Path) -> None:
    text = added(path)
    known = Keys(path)
    path.unlink()
    known.refresh()
    with pytest.raises(NotAllowed):
        known.rights(text, time.time())


def test_keys_made_at_once_are_all_kept(path: Path) -> None:
    threads = [threading.Thread(target=added, args=(path, f"n{number}")) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {f"n{number}" for number in range(8)} == {key.name for key in keys.read(path)}


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(KeysUnreadable), keys.changed(tmp_path / "none" / "keys.json"):
        pass


@pytest.mark.parametrize(
    ("name", "scopes"), [("", ["market"]), ("a\nb", ["market"]), ("a", []), ("a", ["all"])]
)
def test_what_makes_no_sense_makes_no_key(name: str, scopes: list[str]) -> None:
    with pytest.raises(ValueError, match="expected"):
        keys.create(name, scopes)


def test_keys_are_long_and_their_own() -> None:
    made: set[str] = set()
    for _ in range(100):
        text, key = keys.create("x", ["market"])
        assert isinstance(key, Key)
        made.add(text)
    assert len(made) == 100
