"""The commands. Each builds what it needs and runs it; what they do is in other rooms.

The gateway takes most of a start to load, so only the commands that run it do.
"""

import asyncio
import contextlib
import inspect
import json
import os
import socket
import sys
from collections.abc import Callable, Coroutine
from dataclasses import fields
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, NoReturn, get_type_hints

import httpx
import typer
import uvloop

from app import simulator
from app.keys import app as keys_commands
from app.logs import configure_logging
from app.settings import CLIENT_VARIABLE, Settings, SettingsError, read_settings
from app.stopping import stopped_by_signals

app = typer.Typer(
    help="Sluice: exchange market data as Server-Sent Events and cached REST.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Host = Annotated[str, typer.Option(help="Address to serve on.")]
Port = Annotated[int, typer.Option(min=0, max=65535, help="Port to serve on; 0 takes a free one.")]


@app.command()
def demo(port: Port = 8000) -> None:
    """Serve a simulated exchange with a lifelike market: no network, no set-up."""
    from app.demo import demo as run_demo

    configure_logging("console")
    try:
        command = "python -m app" if sys.argv[0].endswith("__main__.py") else sys.argv[0]
        _finish(run_demo("127.0.0.1", port, sys.stdout, command=command))
    except SettingsError as error:
        _refuse(str(error))
    except OSError as error:
        _refuse(f"port {port} cannot be served on: {error.strerror}")


@app.command()
def serve(
    host: Host = "127.0.0.1",
    port: Port = 8000,
    workers: Annotated[int, typer.Option(min=1, help="Processes; above 1 needs Redis.")] = 1,
    worker: Annotated[Path | None, typer.Option(hidden=True)] = None,
) -> None:
    """Serve the gateway, from the SLUICE_* settings."""
    settings = _settings()
    if workers > 1 and not settings.shared:
        _refuse("--workers above 1 needs a Redis broker, and SLUICE_BROKER_URL is memory://")
    from app.sockets import bind, listen, reserve

    configure_logging(settings.log_format, settings.log_level)
    if workers > 1 and worker is None:
        _finish(_supervise(_taken(reserve, host, port), workers))
    # before the port is taken: nobody is to connect and wait for it
    from app.server import serve as run_server
    from app.workers import supervised

    sock = _taken(listen if worker is None else partial(bind, shared=True), host, port)

    async def run() -> int:
        if worker is None:
            return await run_server(settings, sock)
        with supervised() as ready:
            return await run_server(settings, sock, worker=worker, ready=ready)

    _finish(run())


async def _supervise(sock: socket.socket, workers: int) -> int:
    """Run the same command line again for each worker; of an option given twice the last counts."""
    from app.workers import Supervisor

    again = [sys.executable, *sys.orig_argv[1:], "--port", str(sock.getsockname()[1])]
    with _folder() as folder:
        return await Supervisor(
            lambda number: [*again, "--worker", f"{folder}/{number}"], workers
        ).run()


def _taken(take: Callable[[str, int], socket.socket], host: str, port: int) -> socket.socket:
    try:
        return take(host, port)
    except OSError as error:
        _refuse(f"{host}:{port} cannot be served on: {error.strerror}")


@app.command()
def tail(
    channels: Annotated[list[str], typer.Argument(help="Channels, such as ticker:BTC_USDT.")],
    url: Annotated[str, typer.Option(help="Where the gateway is.")] = "http://127.0.0.1:8000",
    as_json: Annotated[
        bool, typer.Option("--json", help="One envelope a line, for pipes.")
    ] = False,
) -> None:
    """Follow channels in the terminal. SLUICE_CLIENT_KEY is the API key or JWT to send, if any."""
    from app.tail import tail as follow_channels

    _finish(follow_channels(channels, url, as_json, key=os.environ.get(CLIENT_VARIABLE)))


@app.command()
def status(
    url: Annotated[str, typer.Option(help="Where the gateway is.")] = "http://127.0.0.1:8000",
    once: Annotated[bool, typer.Option("--once", help="One snapshot, then end.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One snapshot as a JSON object.")] = False,
) -> None:
    """Show how a running gateway stands. SLUICE_CLIENT_KEY is the API key or JWT to send."""
    from app.glance import status as show_status

    _finish(show_status(url, once=once, as_json=as_json, key=os.environ.get(CLIENT_VARIABLE)))


@app.command()
def record(
    out: Annotated[Path, typer.Option(help="File to write; .gz is compressed.")],
    channels: Annotated[
        list[str] | None, typer.Argument(help="Channels; the SLUICE_CHANNELS by default.")
    ] = None,
) -> None:
    """Write what the live upstream sends, in the simulator's recording format."""
    settings = _settings()
    if settings.upstream_api_key is None:
        _refuse("SLUICE_UPSTREAM_USER_ID, SLUICE_UPSTREAM_API_KEY: needed to open a socket")
    from app.main import pool_options, rest_of
    from app.record import record as write_recording

    configure_logging(settings.log_format, settings.log_level)

    async def run() -> int:
        async with httpx.AsyncClient(trust_env=False) as client:
            rest, options = rest_of(settings, client), pool_options(settings)
            return await write_recording(out, channels or settings.channels, rest, options)

    _finish(run())


@app.command()
def check(
    host: Host = "127.0.0.1",
    workers: Annotated[int, typer.Option(min=1, help="Processes that are to serve.")] = 1,
) -> None:
    """Tell all that is wrong with an installation, a line each, and what is worth knowing.

    Ends with status 1 if anything is wrong; a warning is nothing wrong.
    """
    try:
        settings = read_settings()
    except SettingsError as error:
        sys.stdout.write(f"{error}\n")
        raise typer.Exit(1) from None
    from app.check import check as check_installation

    found = asyncio.run(check_installation(settings, host=host, workers=workers))
    wrong = any(finding.wrong for finding in found)
    last = [] if wrong else ["nothing is wrong" if found else "all is well"]
    sys.stdout.write("\n".join([*map(str, found), *last]) + "\n")
    raise typer.Exit(1 if wrong else 0)


@app.command()
def openapi() -> None:
    """Print the OpenAPI document."""
    from app.main import create_app

    document = create_app(Settings.model_construct()).openapi()
    sys.stdout.write(json.dumps(document, indent=2, ensure_ascii=False) + "\n")


def _simulate(**given: Any) -> None:
    """Run the exchange simulator: token endpoint, REST and WebSocket on one port."""
    try:
        options = simulator.Options(**given)
    except simulator.SwitchError as error:
        _refuse(str(error))

    def ready(port: int) -> None:
        url = f"http://{options.host}:{port}"
        sys.stdout.write(f"simulating the exchange on {url}, control on {url}/control\n")
        sys.stdout.flush()

    async def run() -> int:
        with stopped_by_signals():
            await simulator.serve(options, ready=ready)
        return 0

    try:
        _finish(run())
    except (OSError, UnicodeError) as error:  # Unicode: no host's name, told before it is looked up
        why = error.strerror if isinstance(error, OSError) else error
        _refuse(f"{options.host}:{options.port} cannot be served on: {why}")


def _simulate_command() -> None:
    """Give ``simulate`` an option for each of the simulator's, under the same name."""
    hints = get_type_hints(simulator.Options)
    _simulate.__signature__ = inspect.Signature(  # type: ignore[attr-defined] # read by typer
        [
            inspect.Parameter(
                field.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=field.default,
                annotation=hints[field.name],
            )
            for field in fields(simulator.Options)
        ]
    )
    _simulate.__annotations__ = hints
    app.command("simulate")(_simulate)


def _settings() -> Settings:
    try:
        return read_settings()
    except SettingsError as error:
        _refuse(str(error))


def _refuse(message: str) -> NoReturn:
    sys.stderr.write(f"{message}\n")
    raise typer.Exit(2)


def _folder() -> TemporaryDirectory[str]:
    """Where workers are to have their sockets."""
    try:
        return TemporaryDirectory(prefix="sluice-")
    except OSError as error:
        _refuse(
            "--workers above 1 needs a temporary directory for their sockets "
            f"({error.strerror}): let one be written to, such as a tmpfs on /tmp, or name one in "
            "TMPDIR"
        )


def _finish(work: Coroutine[Any, Any, int]) -> NoReturn:
    """Run to the end and exit with its status."""
    with (
        contextlib.suppress(KeyboardInterrupt),
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        raise typer.Exit(runner.run(work))
    raise typer.Exit(130)


_simulate_command()
app.add_typer(keys_commands, name="keys")


def main() -> None:
    """The console script."""
    app(prog_name="sluice")


if __name__ == "__main__":
    main()
