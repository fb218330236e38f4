"""The errors of the gateway, drawn once. Anything outside this tree is a bug and ends the process.

GatewayError
├── UpstreamError            the exchange or the road to it
│   ├── TokenRefused         the token endpoint said no, or gave nothing usable
│   ├── HandshakeFailed      the socket did not open
│   ├── ConnectionLost       the socket closed, or its peer counts as dead
│   ├── ProtocolViolation    they broke the protocol; counted loudly
│   └── UpstreamUnavailable  a REST host did not answer, or not usably
├── BusError
│   ├── BrokerUnavailable    the broker cannot be reached now, or takes nothing
│   ├── LeaseLost            this process leads no more; not a failure: step down
│   └── Unreadable           something stands on the road that no Sluice of this version wrote
├── NoTraces                 what the OTEL_ variables ask for cannot be had: served without
└── ClientError              rendered as problem+json with its status
    ├── MalformedRequest     400 or 422
    ├── RefusedRequest       400, 408, 413, 414 or 431, before the request is read whole
    ├── NotAllowed           401 or 403
    ├── UnknownChannel       404
    ├── TooManyChannels      413
    ├── TooManyStreams       429 (this client's limit) or 503 (the process's)
    ├── TooManyRequests      429, with retry-after
    └── NotReady             503 with retry-after
"""

from typing import ClassVar


class GatewayError(Exception):
    """Every expected trouble."""


class UpstreamError(GatewayError):
    """The exchange, or the road to it."""


class TokenRefused(UpstreamError):
    """No usable socket token was to be had."""


class HandshakeFailed(UpstreamError):
    """The WebSocket did not open; the token may be spent."""


class ConnectionLost(UpstreamError):
    """The WebSocket closed, or its peer counts as dead."""


class ProtocolViolation(UpstreamError):
    """A frame that the exchange's protocol does not allow."""


class UpstreamUnavailable(UpstreamError):
    """A REST host of the exchange did not answer, or not usably."""


class BusError(GatewayError):
    """The road between the processes."""


class BrokerUnavailable(BusError):
    """The broker cannot be reached now, or takes nothing."""


class LeaseLost(BusError):
    """Leading is over: the journal has moved on without this process, or its time has passed."""


class Unreadable(BusError):
    """Something stands on the road that no Sluice of this version wrote."""


class NoTraces(GatewayError):
    """The traces that are asked for cannot be had."""


class ClientError(GatewayError):
    """A request that cannot be served; rendered as ``application/problem+json`` (RFC 9457)."""

    status: int = 400
    title: ClassVar[str] = "bad request"

    def __init__(self, detail: str, *, retry_after: int | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.retry_after = retry_after


class MalformedRequest(ClientError):
    """A parameter, header or channel that cannot be read."""

    title = "malformed request"

    def __init__(self, detail: str, *, status: int = 400) -> None:
        super().__init__(detail)
        self.status = status


class RefusedRequest(ClientError):
    """A request that is too long, too slow or no HTTP; refused before it is read whole."""

    title = "request refused"

    def __init__(self, detail: str, *, status: int) -> None:
        super().__init__(detail)
        self.status = status


class NotAllowed(ClientError):
    """Credentials are missing (401) or carry too few rights (403)."""

    title = "not allowed"

    def __init__(self, detail: str, *, status: int = 401) -> None:
        super().__init__(detail)
        self.status = status


class UnknownChannel(ClientError):
    """A market, scale or thing the exchange does not have."""

    status = 404
    title = "unknown channel"


class TooManyChannels(ClientError):
    """More channels than one stream may follow."""

    status = 413
    title = "too many channels"


class TooManyStreams(ClientError):
    """A limit on open streams: 429 this client's, 503 the process's."""

    title = "too many streams"

    def __init__(self, detail: str, *, status: int, retry_after: int) -> None:
        super().__init__(detail, retry_after=retry_after)
        self.status = status


class TooManyRequests(ClientError):
    """More requests than one client may make; worth trying again after so many seconds."""

    status = 429
    title = "too many requests"

    def __init__(self, detail: str, retry_after: int) -> None:
        super().__init__(detail, retry_after=retry_after)


class NotReady(ClientError):
    """Nothing to serve yet; worth trying again after ``retry_after`` seconds."""

    status = 503
    title = "not ready"

    def __init__(self, detail: str, *, retry_after: int = 1) -> None:
        super().__init__(detail, retry_after=retry_after)


def retryable(error: BaseException) -> bool:
    """Whether trying again may help: the only judge of it."""
    return isinstance(error, (UpstreamError, BrokerUnavailable))
