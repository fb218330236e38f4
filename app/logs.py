"""What the gateway says of what happens to it: log lines, without secrets."""

import logging
import re
import sys
from collections.abc import Mapping, MutableMapping
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
_QUERY = re.compile(r"((?:[a-z+]+://|/)[^\s?\"']*)\?[^\s\"']+")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")

LogFormat = Literal["console", "json"]


def redact(text: str) -> str:
    """``text`` without secret-looking query values and without control characters."""
    return _CONTROL.sub(lambda found: repr(found[0])[1:-1], _SECRET.sub(r"\1***", text))


def redact_line(text: str) -> str:
    """As ``redact``, and without cookies and query strings: what may stand in a log."""
    for pattern in (_QUERY, _COOKIE, _HEADER):
        text = pattern.sub(r"\1?***" if pattern is _QUERY else r"\1***", text)
    return redact(text)


def _redacted(
    _logger: Any, _method: str, fields: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
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


class _Silent(logging.Filter):
    """For what tells whole requests, headers and all, at its lowest level."""

    def filter(self, _record: logging.LogRecord) -> bool:
        return False


def configure_logging(log_format: LogFormat | None = None, *, level: int = logging.INFO) -> None:
    """Send every log line, the libraries' too, through one redacting formatter to stderr."""
    if log_format is None:
        log_format = "console" if sys.stderr.isatty() else "json"
    before: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
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
        processors=[*before, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.ExtraAdder(), *before],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    logging.root.handlers = [handler]
    logging.root.setLevel(level)
    for chatty in ("httpx", "httpcore", "websockets", "uvicorn"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    for name, kind in (("access", _Redacting), ("error", _Redacting), ("asgi", _Silent)):
        served = logging.getLogger(f"uvicorn.{name}")
        if not any(isinstance(one, kind) for one in served.filters):
            served.addFilter(kind())


def logger(name: str) -> structlog.stdlib.BoundLogger:
    """The logger of a room."""
    bound: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(name)
    return bound
