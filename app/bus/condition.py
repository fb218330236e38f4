"""What keeps a Redis from being the broker, or from being a good one."""

import time
from collections.abc import AsyncIterator
from typing import NamedTuple

from app.bus import scripts
from app.bus.link import Link

OLDEST = 7
"""The first version of Redis with sharded pub/sub."""
SKEW = 1.0
"""Seconds by which clocks may differ: ``age`` and ``stale`` set one's times against another's."""


class Trouble(NamedTuple):
    """One thing about it; ``grave`` if it cannot do the work so."""

    text: str
    grave: bool


async def troubles(link: Link) -> AsyncIterator[Trouble]:
    """What was seen, and what to do, a sentence each; raises BrokerUnavailable.

    At last a probe is written, as the gateway would write: it fails where rights are missing.
    """
    asked = time.time()
    told = await link.call("INFO")
    answered = time.time()
    version = str(told.get("redis_version", ""))
    if int(version.partition(".")[0] or 0) < OLDEST:
        yield Trouble(f"its version is {version}, {OLDEST}.0 or newer is needed", True)
    if told.get("role") == "slave":
        yield Trouble(
            "it is a replica, which takes no writes: name the primary, or the sentinels", True
        )
    policy = str(told.get("maxmemory_policy", ""))
    if policy not in {"", "noeviction"}:
        yield Trouble(
            f"it evicts keys when memory is short (maxmemory-policy {policy}): set noeviction",
            policy.startswith("allkeys"),
        )
    if not int(told.get("aof_enabled", 1)):
        yield Trouble(
            "it keeps no log (appendonly no), so after a restart of it clients may have to start "
            "over: set appendonly yes",
            False,
        )
    if "server_time_usec" in told:
        theirs = int(told["server_time_usec"]) / 1e6
        skew = max(asked - theirs, theirs - answered)
        if skew > SKEW:
            yield Trouble(
                f"its clock differs from this machine's by {skew:.1f} s, at most {SKEW:g} s was "
                "expected: keep both by NTP, as ages are told wrongly else",
                False,
            )
    await link.run(scripts.PROBE, ("probe", "events"))
