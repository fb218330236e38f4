"""What a gateway says of itself."""

from typing import Any

STATUS: dict[str, Any] = {
    "version": "0.1.0",
    "process": "one",
    "upstream": {"status": "live", "since": 1750952900.0},
    "lease": {"held": True, "epoch": 7, "leader": "one"},
    "position": "7-48213",
    "connections": [
        {
            "name": "upstream-1",
            "state": "live",
            "since": 1750952900.0,
            "following": 3,
            "reconnects": 2,
        }
    ],
    "channels": [],
    "streams": {"open": 17_000, "catching_up": 3},
    "followed": 12,
    "limits": {"streams": 20_000, "streams_per_client": 64, "followed": 1000},
    "draining": False,
    "audits": {},
}
NOW = 1750953000.0


def row(channel: str, **given: Any) -> dict[str, Any]:
    """A line of what is followed."""
    known = {"live": True, "since": 1750952900.0, "known": 1, "stale": 0, "age": 0.5}
    return {"channel": channel, **known, **given}
