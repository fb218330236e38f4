"""A client of the stream: Server-Sent Events read (HTML standard, 9.2), and followed over cuts.

``EventParser`` is pure. ``follow`` waits; it resumes with ``Last-Event-ID`` and honours ``retry:``.
Knows nothing of what the events say, but for the ``retry`` of a ``bye``.
"""

import asyncio
import codecs
import random
import re
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import httpx
import msgspec

from app.errors import GatewayError

RETRY = 2.0
"""Seconds until a reconnect, before the gateway has named its own."""

RETRY_MAX = 30.0
"""Seconds to which the delays grow while nothing is heard; a longer ``retry:`` is honoured."""

SILENCE = 60.0
"""Seconds without a byte after which a stream counts as dead: four heartbeats."""

BLOCK_MAX = 1 << 26
"""Characters of one block: more is no gateway of ours, and must not fill the memory."""

TIMEOUT = httpx.Timeout(10.0, read=SILENCE)

_END_OF_LINE = re.compile(r"\r\n|\n|\r")
_DIGITS = re.compile(r"[0-9]{1,9}")


@dataclass(frozen=True, slots=True)
class Message:
    """One event. ``id`` is the last event id as of this event, not necessarily its own."""

    event: str
    data: str
    id: str


@dataclass(frozen=True, slots=True)
class Opened:
    """The stream is open; ``after`` is the id it was resumed from, empty if it starts anew."""

    after: str


@dataclass(frozen=True, slots=True)
class Cut:
    """The stream is gone, or did not open; it is tried again after ``delay`` seconds."""

    reason: str
    delay: float


Item = Message | Opened | Cut


class Refused(GatewayError):
    """The gateway will not serve this request however often it is asked."""


class Away(GatewayError):
    """No stream now; worth trying again, after ``delay`` seconds if that is known."""

    def __init__(self, reason: str, delay: float | None = None) -> None:
        super().__init__(reason)
        self.delay = delay


class EventParser:
    """Bytes in, messages out. Outlives its connections: ``begin`` keeps what is to be kept."""

    def __init__(self) -> None:
        self.last_id = ""
        self.retry: float | None = None
        self.begin()

    def begin(self) -> None:
        """A new connection: an unfinished block is dropped, the last id and ``retry`` stay."""
        self._decode = codecs.getincrementaldecoder("utf-8-sig")("replace").decode
        self._line: list[str] = []
        self._after_cr = False
        self._event = ""
        self._data: list[str] = []
        self._id = self.last_id
        self._size = 0

    def feed(self, chunk: bytes) -> Iterator[Message]:
        """The messages that ``chunk`` completes. Raises Away on a block without end."""
        text = self._decode(chunk)
        if not text:
            return
        if self._after_cr:
            text = text.removeprefix("\n")
        self._after_cr = text.endswith("\r")
        self._size += len(text)
        first, *rest = _END_OF_LINE.split(text)
        self._line.append(first)
        for following in rest:
            message = self._take("".join(self._line))
            self._line = [following]
            if message is not None:
                yield message
        if self._size > BLOCK_MAX:
            raise Away(f"sent a block of more than {BLOCK_MAX} characters")

    def _take(self, line: str) -> Message | None:
        if not line:
            return self._dispatch()
        field, _, value = line.partition(":")
        self._set(field, value.removeprefix(" "))
        return None

    def _set(self, field: str, value: str) -> None:
        if field == "data":
            self._data.append(value)
        elif field == "event":
            self._event = value
        elif field == "id" and "\0" not in value:
            self._id = value
        elif field == "retry" and _DIGITS.fullmatch(value):
            self.retry = int(value) / 1000

    def _dispatch(self) -> Message | None:
        self.last_id = self._id
        event, self._event = self._event or "message", ""
        data, self._data = self._data, []
        self._size = 0
        return Message(event, "\n".join(data), self.last_id) if data else None


def delay(retry: float | None, failures: int) -> float:
    """Seconds until the next attempt: ``retry``, and after failures in a row ever longer."""
    base = RETRY if retry is None else retry
    if not failures:
        return base
    return max(base, min(RETRY_MAX, base * 2.0**failures) * random.uniform(0.5, 1.0))  # noqa: S311  # jitter


async def follow(
    client: httpx.AsyncClient, url: str, channels: Sequence[str]
) -> AsyncGenerator[Item]:
    """Follow ``channels`` at the gateway ``url`` for ever. Raises Refused on a final answer."""
    parser = EventParser()
    failures = -1
    while True:
        reason, wish = "the stream ended", None
        failures += 1
        parser.begin()
        try:
            async with aclosing(_connection(client, url, channels, parser)) as items:
                async for item in items:
                    if isinstance(item, Message):
                        failures, wish = -1, _farewell(item)
                    yield item
        except httpx.ReadTimeout:
            reason = f"nothing was heard for {SILENCE:.0f} s"
        except (httpx.TransportError, httpx.DecodingError) as error:
            reason = str(error) or type(error).__name__
        except Away as away:
            reason, wish = str(away), away.delay
        wait = delay(parser.retry, max(failures, 0)) if wish is None else wish
        yield Cut(reason, wait)
        await asyncio.sleep(wait)


async def _connection(
    client: httpx.AsyncClient, url: str, channels: Sequence[str], parser: EventParser
) -> AsyncGenerator[Item]:
    after = parser.last_id
    headers = {"accept": "text/event-stream", "cache-control": "no-store"}
    if after:
        headers["last-event-id"] = after
    query = {"channels": ",".join(channels)}
    try:
        stream = client.stream("GET", f"{url.rstrip('/')}/v1/stream", params=query, headers=headers)
        async with stream as response:
            await _check(response)
            yield Opened(after)
            async for chunk in response.aiter_bytes():
                for message in parser.feed(chunk):
                    yield message
    except (httpx.UnsupportedProtocol, httpx.InvalidURL, UnicodeError) as error:
        raise Refused(f"{url!r} is no http:// or https:// address: {error}") from None


async def _check(response: httpx.Response) -> None:
    """Raise Refused or Away unless this is an open event stream."""
    kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    status = response.status_code
    if status == httpx.codes.OK and kind == "text/event-stream":
        return
    if status == httpx.codes.OK:
        raise Refused(f"answered with {kind or 'no content type'}, expected text/event-stream")
    answer = f"answered {status}: {_detail(await response.aread(), response.reason_phrase)}"
    if response.is_server_error:
        after = response.headers.get("retry-after", "")
        raise Away(answer, float(after) if _DIGITS.fullmatch(after) else None)
    raise Refused(answer)


def _detail(body: bytes, otherwise: str) -> str:
    """The ``detail`` of a problem (RFC 9457), or its title, or the reason phrase."""
    problem = _json_object(body)
    found = problem.get("detail") or problem.get("title") or otherwise
    return " ".join(str(found).split())


def _farewell(message: Message) -> float | None:
    """The delay that a ``bye`` asks for, in seconds."""
    if message.event != "gateway":
        return None
    fields = _json_object(message.data)
    wish = fields.get("retry") if fields.get("type") == "bye" else None
    return wish / 1000 if isinstance(wish, int) and wish >= 0 else None


def _json_object(text: bytes | str) -> dict[str, Any]:
    try:
        value = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return {}
    return value if isinstance(value, dict) else {}
