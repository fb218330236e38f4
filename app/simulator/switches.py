"""What can be set: switches (at the start and while it runs) and options (at the start only).

Rules: a switch has one name everywhere (command line, control endpoint, tests); a wrong value
changes nothing. Must not know what a switch does.
"""

import re
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Literal, Self

LOAD = re.compile(r"([A-Z0-9]+_[A-Z0-9]+|[1-9][0-9]{0,3}):([1-9][0-9]{0,5})")


class SwitchError(ValueError):
    """No such switch, or a value it cannot take."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Switches:
    """How the exchange behaves or misbehaves (protocol 10). The defaults are good behaviour.

    Seconds where a time is meant; 0 or "" is off.
    """

    subscribe: Literal["replace", "merge", "reject"] = "replace"  # a repeated subscribe of a kind
    first_depth: Literal["full", "partial"] = "full"  # the first depth event after a subscribe
    initial: bool = False  # push what is known of lastprice and ticker after a subscribe
    late_ack: bool = False  # first data before the answer to the subscribe
    omit_unchanged_side: bool = False  # a depth delta has no key for a side without changes
    drop_every: int = 0  # lose every n-th event
    drop_channel: str = ""  # lose the events of one channel, e.g. depth:BTC_USDT:0
    balance_gap: bool = False  # an unannounced deposit before each balance change
    duplicate_after_reconnect: bool = False  # a subscribe replays the last events
    token: Literal["ok", "wrapped", "401", "404", "500", "malformed", "slow"] = "ok"  # noqa: S105 - a mode
    token_lifetime: float = 300.0
    reject_token: Literal["http401", "close"] = "http401"  # noqa: S105 - how, not what
    accept: Literal["ok", "http401", "close"] = "ok"  # of a good token
    idle_close: float = 60.0  # without a request from the client
    wrapper: Literal["result", "data"] = "result"
    rest: Literal["ok", "500", "slow", "malformed"] = "ok"
    rest_delay: float = 5.0  # what slow means, for the token too
    pong: bool = True
    mute: bool = False  # connected and answering, but no event is sent
    ack: bool = True  # false: subscribes take effect but are not answered
    stall: bool = False  # the sockets open now neither send nor read
    away: bool = False  # no connection, no answer, but to the control endpoint
    load: str = ""  # MARKET:EVENTS_PER_SECOND or MARKETS:…, see load.py

    def __post_init__(self) -> None:
        for name, hint in typing.get_type_hints(type(self)).items():
            _check(name, getattr(self, name), hint)
        if self.load and not LOAD.fullmatch(self.load):
            raise SwitchError(
                f"load is {self.load!r}, expected MARKET or their number:EVENTS_PER_SECOND"
            )

    def changed(self, changes: Mapping[str, object]) -> Self:
        """The same with some switches set.

        Raises `SwitchError` for an unknown name or a wrong value.
        """
        unknown = changes.keys() - {field.name for field in fields(self)}
        if unknown:
            raise SwitchError(f"no such switch: {', '.join(sorted(unknown))}")
        # mypy cannot know the types in a free mapping; __post_init__ checks them.
        return replace(self, **changes)  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True, kw_only=True)
class Options(Switches):
    """Everything settable at the start: the switches' first values and what cannot change later."""

    host: str = "127.0.0.1"
    port: int = 9000  # 0: any free one
    user_id: str = "demo-user"
    api_key: str = "demo-key"  # the account's own; a made-up one
    seed: int = 1
    rate: float = 40.0  # events a second of the generated market, roughly; 0: it stands still
    account: bool = True  # the generated market's account trades by itself
    recording: Path | None = None  # play this instead of generating
    speed: float = 1.0  # of the recording; 0: as fast as possible
    loop: bool = False
    start: Literal["now", "on-subscribe", "paused"] = "now"  # of the recording

    def switches(self) -> Switches:
        names = (field.name for field in fields(Switches))
        return Switches(**{name: getattr(self, name) for name in names})


def _check(name: str, value: object, hint: object) -> None:
    if typing.get_origin(hint) is Literal:
        wanted = typing.get_args(hint)
        if value not in wanted:
            raise SwitchError(f"{name} is {value!r}, expected one of {', '.join(wanted)}")
    elif hint is float or (hint is int and name != "seed"):
        allowed = (int, float) if hint is float else (int,)
        if isinstance(value, bool) or not isinstance(value, allowed) or not value >= 0:
            raise SwitchError(f"{name} is {value!r}, expected a number that is not negative")
    elif not isinstance(value, hint if isinstance(hint, type | types.UnionType) else object):
        raise SwitchError(f"{name} is {value!r}, expected {hint}")
