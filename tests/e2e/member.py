"""One gateway process of several: what it says of itself, what can be done to it."""

import signal
from dataclasses import dataclass
from typing import NamedTuple

from tests.e2e.gateway import Running
from tests.e2e.reconstruct import Json
from tests.redis.proxy import Proxy


class Network(NamedTuple):
    """What lies between one process and the rest."""

    to_redis: Proxy
    to_exchange: Proxy


@dataclass
class Member:
    """One gateway process, and the network around it if that is the test's own."""

    running: Running
    _network: Network | None
    feeds_only: bool = False
    paused: bool = False

    @property
    def url(self) -> str:
        return self.running.url

    @property
    def log(self) -> str:
        return self.running.log

    @property
    def alive(self) -> bool:
        return self.running.process.returncode is None

    @property
    def network(self) -> Network:
        assert self._network is not None, "it was started without"
        return self._network

    async def status(self) -> Json:
        answer: Json = await self.running.get("/v1/status")
        return answer

    async def answers(self, *channels: str) -> list[Json]:
        """The states, with ``stale`` and ``received``; none if one of them is not served."""
        answer = await self.running.http.get("/v1/state", params={"channels": ",".join(channels)})
        found: list[Json] = [] if answer.status_code == 503 else answer.json()["data"]
        return found

    async def kill(self) -> None:
        await self.running.end(signal.SIGKILL)

    async def terminate(self) -> None:
        await self.running.end(signal.SIGTERM)

    def pause(self) -> None:
        self.running.tell(signal.SIGSTOP)
        self.paused = True

    def resume(self) -> None:
        self.running.tell(signal.SIGCONT)
        self.paused = False
