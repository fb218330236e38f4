"""``sluice keys``: makes, lists and revokes the API keys of a deployment."""

import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from app.rights import keys
from app.settings import SettingsError, read_settings

app = typer.Typer(help="Make, list and revoke API keys.", no_args_is_help=True)

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}

File = Annotated[
    Path | None, typer.Option("--file", help="The file of keys; SLUICE_API_KEYS_FILE by default.")
]


@app.command()
def create(
    name: Annotated[str, typer.Option(help="Whose it is, or what for.")],
    scopes: Annotated[str, typer.Option(help="market, account, metrics, admin; by commas.")],
    channels: Annotated[
        str | None, typer.Option(help="Patterns such as order:BTC_*, by commas; all by default.")
    ] = None,
    expires: Annotated[
        str | None,
        typer.Option(help="After a time such as 90d or 12h, or a date such as 2030-01-31."),
    ] = None,
    file: File = None,
) -> None:
    """Print a new key: it is told only now, as the file keeps its hash."""
    try:
        until = None if expires is None else _moment(expires, time.time())
        patterns = None if channels is None else _parts(channels)
        text, key = keys.create(name, _parts(scopes), patterns, until)
        with keys.changed(_path(file)) as known:
            known.append(key)
    except (ValueError, keys.KeysUnreadable) as error:
        _refuse(str(error))
    sys.stdout.write(f"{text}\n")


@app.command("list")
def show(file: File = None) -> None:
    """List the keys: never their text."""
    try:
        known = keys.read(_path(file))
    except keys.KeysUnreadable as error:
        _refuse(str(error))
    for key in known:
        channels = "*" if key.channels is None else ",".join(key.channels)
        until = "never" if key.expires is None else _shown(key.expires)
        over = " (expired)" if key.expires is not None and key.expires <= time.time() else ""
        sys.stdout.write(
            f"{key.id}  {key.name}  scopes {','.join(key.scopes)}  channels {channels}  "
            f"created {_shown(key.created)}  expires {until}{over}\n"
        )


@app.command()
def revoke(
    key: Annotated[str, typer.Argument(help="The key's id or name, as listed.")], file: File = None
) -> None:
    """Take keys out: a gateway on this file refuses them, and ends their streams, in seconds."""
    try:
        with keys.changed(_path(file)) as known:
            left = [one for one in known if key not in {one.id, one.name}]
            gone = len(known) - len(left)
            known[:] = left
    except keys.KeysUnreadable as error:
        _refuse(str(error))
    if not gone:
        _refuse(f"there is no key of id or name {key!r}")
    sys.stdout.write(f"{gone} revoked\n")


def _path(file: Path | None) -> Path:
    if file is not None:
        return file
    try:
        path = read_settings().api_keys_file
    except SettingsError as error:
        _refuse(str(error))
    if path is None:
        _refuse("SLUICE_API_KEYS_FILE: not set, and no --file given")
    return path


def _parts(text: str) -> list[str]:
    return [part for part in text.replace(",", " ").split() if part]


def _moment(text: str, now: float) -> float:
    """Unix seconds; raises ValueError for what is no time, or is over."""
    number, unit = text[:-1], text[-1:]
    if unit in _UNITS and number.isdecimal():
        moment = now + int(number) * _UNITS[unit]
    else:
        try:
            found = datetime.fromisoformat(text)
        except ValueError:
            raise ValueError(f"--expires: expected 90d, 12h or 2030-01-31, got {text!r}") from None
        moment = (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
    if not now < moment < 253_402_300_800:
        raise ValueError(f"--expires: expected a time to come, got {text!r}")
    return moment


def _shown(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%MZ")


def _refuse(message: str) -> NoReturn:
    sys.stderr.write(f"{message}\n")
    raise typer.Exit(2)
