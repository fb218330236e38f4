"""The HTTP server that ``sluice serve`` runs: uvicorn, on a socket of ours.

Streams are ended before uvicorn waits for open responses.
"""

import asyncio
import gc
import resource
import socket
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import FrameType

import uvicorn
from fastapi import FastAPI

from app.api.protocol import MOST_WAITING, Crowd, StreamProtocol
from app.api.replies import Outbox
from app.hub.hub import Hub
from app.logs import logger
from app.main import create_app
from app.settings import Settings
from app.sockets import BACKLOG

log = logger("server")

GRACE = 3
"""Seconds that requests still answered after the drain are given: more than a first state takes."""
AT_ONCE = 1
"""Seconds that the background tasks are given after a second signal."""
SELDOM = (50_000, 20, 50)
"""Garbage collection thresholds: next to nothing here is cyclic, and a pause shows in the p99."""
GLANCE = 0.1
"""Seconds between two looks at whether the drain is to be cut short."""


class Server(uvicorn.Server):
    """Ends the streams first when it is told to stop.

    Told again it ends at once, unless it is ``supervised``: then that is for its supervisor to do,
    and a service manager may have told both.
    """

    def __init__(
        self,
        app: FastAPI,
        config: uvicorn.Config,
        *,
        drain: float,
        ready: Callable[[], None],
        supervised: bool = False,
    ) -> None:
        super().__init__(config)
        self._app = app
        self._drain = drain
        self._ready = ready
        self._supervised = supervised

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start serving; what lives now lives long, so the collector need not look at it again."""
        await super().startup(sockets)
        for sock in sockets or () if self.started else ():
            self._ready()
            host, port = sock.getsockname()[:2]
            log.info("serving", host=host, port=port)
        gc.collect()
        gc.freeze()
        gc.set_threshold(*SELDOM)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Be ready no more, end the streams in time, let uvicorn do the rest.

        An answer is the last on its connection from here on, so that the client turns elsewhere.
        """
        hub: Hub = self._app.state.hub
        log.info("stopping", streams=len(hub))
        hub.draining = True
        for connection in self.server_state.connections:
            if isinstance(connection, StreamProtocol):
                connection.answer_last()
        self._hand_over()
        if self.started and not self._app.state.failed:
            await self._end_streams()
        await super().shutdown(sockets)
        if self.force_exit:  # uvicorn would have the background tasks cut off, with a traceback
            with suppress(TimeoutError):
                async with asyncio.timeout(AT_ONCE):
                    await self.lifespan.shutdown()

    async def _end_streams(self) -> None:
        """Drain, but no longer than until a second signal."""
        async with asyncio.TaskGroup() as tasks:
            draining = tasks.create_task(self._dismiss(self._app.state.hub), name="drain")
            while not draining.done() and not self.force_exit:
                await asyncio.wait({draining}, timeout=GLANCE)
            draining.cancel()

    async def _dismiss(self, hub: Hub) -> None:
        """Serve for all of the drain, streams or not: a load balancer is to see that it ends."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(hub.drain(self._drain), name="drain-streams")
            tasks.create_task(asyncio.sleep(self._drain), name="drain-time")
        await hub.flush()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop at a signal; a second one does not wait. The exit status is ours to give.

        The lease goes at once: uvicorn looks every 0.1 s, and a sibling that is told at the same
        time could take the lease before it looks, to lead for nothing.
        """
        if self.should_exit and not self._supervised:
            self.force_exit = True
        self.should_exit = True
        asyncio.get_running_loop().call_soon_threadsafe(self._hand_over)

    def _hand_over(self) -> None:
        """Let go of the lease, once: a second cancellation would cut its release off."""
        hand_over, self._app.state.hand_over = self._app.state.hand_over, lambda: None
        hand_over()


def _take_descriptors() -> None:
    """Every stream is one: take as many as the system lets this process have."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError):  # macOS calls its own hard limit too much
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _most_waiting() -> int:
    """Connections without a request that leave descriptors for everything else."""
    return min(MOST_WAITING, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2)


async def serve(
    settings: Settings,
    sock: socket.socket,
    *,
    worker: Path | None = None,
    ready: Callable[[], None] | None = None,
) -> int:
    """Serve until told to stop; the exit status: 0, or 1 if the process had to give up.

    A supervisor's ``ready`` is called as soon as connections are answered; ``worker`` is the
    path of the socket on which this one of its workers tells its metrics.
    """
    _take_descriptors()
    app = create_app(settings, bound=sock.getsockname()[0], worker=worker)
    protocol = partial(StreamProtocol, crowd=Crowd(_most_waiting()), outbox=Outbox())
    config = uvicorn.Config(
        app,
        http=protocol,  # type: ignore[arg-type] # called like the class it wants
        backlog=BACKLOG,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        forwarded_allow_ips=settings.forwarded_allow_ips,
        timeout_graceful_shutdown=GRACE,
    )
    server = Server(
        app,
        config,
        drain=settings.drain,
        ready=ready or (lambda: None),
        supervised=ready is not None,
    )
    await server.serve(sockets=[sock])
    return 1 if app.state.failed or not server.started else 0
