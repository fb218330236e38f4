"""What the gateway says of what happens to it: log lines, without secrets."""

import logging
import re
import sys
import time
from collections.abc import Hashable, Mapping, MutableMapping
from contextvars import ContextVar
from typing import Any, Literal

import structlog

_NAME = r"(?:x-api-|api_?|access_)?(?:token|ticket|key|sign|authorization|password)"
_SECRET = re.compile(
    rf"(?i)((?:\b{_NAME}="
    r"|\b(?:authorization|x-api-key)['\"]?:\s*['\"]?"
    rf"|['\"]{_NAME}['\"]:\s*['\"])(?:(?:bearer|basic)\s+)?)[^\s&\"']+"
)
_NAMED = re.compile(rf"(?i){_NAME}|(?:set_?)?cookies?|secret|query_?string")
_COOKIE = re.compile(r"(?i)(\b(?:set-)?cookie['\"]?[:,]\s*b?['\"]?)[^\r\n'\"]+")
_HEADER = re.compile(r"(?i)(['\"](?:proxy-)?(?:authorization|x-api-key)['\"],\s*b?['\"])[^'\"]*")
_QUERY = re.compile(r"(/[^\s?/\"']*)\?[^\s\"']+")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")

LogFormat = Literal["console", "json"]
LogLevel = Literal["debug", "info", "warning", "error"]
Fields = MutableMapping[str, Any]

REQUEST: ContextVar[str] = ContextVar("request")
"""The id of the request that is being answered: it stands in every line told meanwhile."""

MOST = 20
WINDOW = 10.0
"""Lines of one kind that are written at most, in so many seconds; debug lines always are."""
KINDS = 1024
"""Kinds that are counted at once."""
_APART = ("channel", "connection", "route", "status")
"""Fields whose values make lines of one event kinds of their own."""
_ENDINGS = frozenset({"stream ended", "request refused"})
"""Events whose ``reason`` does so too: it is one of a few words, where others' is free text."""


class Repeats:
    """Which lines are held back as there were too many of their kind. Pure: monotonic seconds.

    Beyond ``kinds`` the one whose window began first is forgotten, with what was held back of it.
    """

    def __init__(self, most: int = MOST, window: float = WINDOW, kinds: int = KINDS) -> None:
        self._most = most
        self._window = window
        self._kinds = kinds
        self._seen: dict[Hashable, tuple[float, int]] = {}

    def __len__(self) -> int:
        return len(self._seen)

    def admit(self, kind: Hashable, now: float) -> int | None:
        """How many were held back since the last that was not; None if this one is held back."""
        began, count = self._seen.get(kind, (now, 0))
        if now - began < self._window:
            self._seen[kind] = began, count + 1
            if len(self._seen) > self._kinds:
                del self._seen[next(iter(self._seen))]
            return 0 if count < self._most else None
        del self._seen[kind]  # so that the oldest window stays the first
        self._seen[kind] = now, 1
        return max(0, count - self._most)


def redact(text: str) -> str:
    """``text`` without secret-looking query values and without control characters."""
    return _CONTROL.sub(lambda found: repr(found[0])[1:-1], _SECRET.sub(r"\1***", text))


def redact_line(text: str) -> str:
    """As ``redact``, and without cookies and query strings: what may stand in a log."""
    for pattern in (_QUERY, _COOKIE, _HEADER):
        text = pattern.sub(r"\1?***" if pattern is _QUERY else r"\1***", text)
    return redact(text)


def _limited(repeats: Repeats) -> structlog.typing.Processor:
    def limited(_logger: Any, method: str, fields: Fields) -> Fields:
        if method == "debug":
            return fields
        event = fields["event"]
        reason = fields.get("reason") if event in _ENDINGS else None
        kind = (event, reason, *(fields.get(name) for name in _APART))
        held = repeats.admit(kind, time.monotonic())
        if held is None:
            raise structlog.DropEvent
        if held:
            fields["suppressed"] = held
        return fields

    return limited


def _of_request(_logger: Any, _method: str, fields: Fields) -> Fields:
    request = REQUEST.get(None)
    if request is not None:
        fields.setdefault("request_id", request)
    fields.pop("color_message", None)  # uvicorn's, of its own text
    return fields


def _redacted(_logger: Any, _method: str, fields: Fields) -> Fields:
    for name, value in fields.items():
        fields[name] = _clean(name, value)
    return fields


def _clean(name: str, value: Any) -> Any:
    """A field as it may stand in a log, and what is in it."""
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if _NAMED.fullmatch(name):
        return "***"
    if isinstance(value, Mapping):
        return {redact_line(str(key)): _clean(str(key), one) for key, one in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_clean("", one) for one in value]
    return redact_line(str(value))


class _Redacting(logging.Filter):
    """For loggers with handlers of their own: their lines are redacted as ours are."""

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, tuple):  # uvicorn's formatter wants them one by one
            record.args = tuple(
                redact_line(one) if isinstance(one, str) else one for one in record.args
            )
        return True


class _Limiting(logging.Filter):
    """Limits the warnings of libraries as ours are; what they tell below was asked for."""

    def __init__(self, repeats: Repeats) -> None:
        super().__init__()
        self._repeats = repeats

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.msg, Mapping) or record.levelno < logging.WARNING:
            return True
        held = self._repeats.admit((record.name, record.msg), time.monotonic())
        if held:
            record.suppressed = held
        return held is not None


class _Silent(logging.Filter):
    """For what tells whole requests, headers and all, at its lowest level."""

    def filter(self, _record: logging.LogRecord) -> bool:
        return False


def configure_logging(log_format: LogFormat | None = None, level: LogLevel = "info") -> None:
    """Send every log line, the libraries' too, through one redacting formatter to stderr."""
    repeats = Repeats()
    if log_format is None:
        log_format = "console" if sys.stderr.isatty() else "json"
    before: list[structlog.typing.Processor] = [
        _of_request,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        _redacted,
    ]
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
        if log_format == "console"
        else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            _limited(repeats),
            *before,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.ExtraAdder(), *before],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    handler.addFilter(_Limiting(repeats))
    logging.root.handlers = [handler]
    logging.root.setLevel(level.upper())
    for chatty in ("httpx", "httpcore", "websockets", "uvicorn"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    for name in ("uvicorn", "uvicorn.access", "uvicorn.error"):  # it gives them handlers itself
        served = logging.getLogger(name)
        served.handlers, served.propagate = [], True
    for name, kind in (("access", _Redacting), ("error", _Redacting), ("asgi", _Silent)):
        served = logging.getLogger(f"uvicorn.{name}")
        if not any(isinstance(one, kind) for one in served.filters):
            served.addFilter(kind())


def logger(name: str) -> structlog.stdlib.BoundLogger:
    """The logger of a room."""
    bound: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(name)
    return bound
