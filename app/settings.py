"""The settings: from ``SLUICE_*`` environment variables or a ``.env`` file, checked all at once."""

import os
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import httpx
from pydantic import (
    AfterValidator,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, DotEnvSettingsSource, NoDecode, SettingsConfigDict

from app.api.rate import Rate
from app.bus.link import Address
from app.domain.channel import Channel
from app.errors import MalformedRequest
from app.logs import LogFormat, LogLevel

MEMORY = "memory://"
"""The broker inside one process."""

Seconds = Annotated[float, Field(gt=0, le=86_400)]


def _url(*schemes: str) -> AfterValidator:
    def check(value: str) -> str:
        expected = f"expected {' or '.join(schemes)}://host or host:port"
        try:
            parts = urlsplit(value)
            port = parts.port
            _ = httpx.URL(value).host  # reads what a host's part in Punycode stands for
        except (ValueError, httpx.InvalidURL):  # its text may quote a password
            raise ValueError(expected) from None
        if parts.scheme not in schemes or not parts.hostname or port == 0:
            raise ValueError(expected)
        if parts.query or parts.fragment or parts.username or parts.password:
            raise ValueError("a URL without user, password, query and fragment was expected")
        return value.rstrip("/")

    return AfterValidator(check)


def _spelt_as_by_browsers(origin: str) -> bool:
    try:
        parts = urlsplit(origin)
        port = parts.port
    except ValueError:
        return False
    own = {"http": 80, "https": 443}.get(parts.scheme)
    host = parts.netloc if port is None else parts.netloc.removesuffix(f":{port}")
    return (
        origin == f"{parts.scheme}://{parts.netloc}" == origin.lower()
        and own is not None
        and port not in {own, 0}
        and bool(host)
        and not set(host) & set("*@ ")
        and not host.endswith(":")
    )


WebSocketUrl = Annotated[str, _url("ws", "wss")]
HttpUrl = Annotated[str, _url("http", "https")]
Texts = Annotated[tuple[str, ...], NoDecode]


class Settings(BaseSettings):
    """Every setting of the gateway; frozen. A secret is never printed."""

    model_config = SettingsConfigDict(
        env_prefix="SLUICE_",
        env_file=".env",
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
    )

    broker_url: SecretStr = SecretStr(MEMORY)
    role: Literal["all", "feed", "serve"] = "all"
    upstream_ws_url: WebSocketUrl = "wss://api-ws.cryptomus.com/ws"
    upstream_api_url: HttpUrl = "https://api.cryptomus.com"
    upstream_markets_url: HttpUrl = "https://api-app.cryptomus.com"
    upstream_scales_url: HttpUrl = "https://exchange-ws.cryptomus.com"
    upstream_user_id: SecretStr | None = None
    upstream_api_key: SecretStr | None = None
    upstream_connections: Annotated[int, Field(ge=1, le=32)] = 2
    upstream_ping_interval: Annotated[float, Field(gt=0, le=50)] = 20
    upstream_pong_timeout: Annotated[float, Field(gt=0, le=60)] = 10
    channels: Texts = ("lastprice:*", "ticker:*", "trade:*")
    max_followed: Annotated[int, Field(ge=1)] = 1000
    linger: Seconds = 60
    history: Annotated[int, Field(ge=1, le=10_000_000)] = 100_000
    heartbeat: Seconds = 15
    stream_lifetime: Seconds = 3600
    drain: Annotated[float, Field(ge=0, le=3600)] = 1
    stale_after: Seconds = 30
    mute_after: Seconds = 60
    lease_ttl: Seconds = 5
    anonymous: Literal["market", "none"] = "market"
    api_keys_file: Path | None = None
    jwt_jwks_url: HttpUrl | None = None
    jwt_secret: SecretStr | None = None
    jwt_audience: str | None = None
    jwt_issuer: str | None = None
    cors_origins: Texts = ()
    allowed_hosts: Texts | None = None
    forwarded_allow_ips: str = "127.0.0.1"
    max_streams: Annotated[int, Field(ge=1)] = 20_000
    max_streams_per_client: Annotated[int, Field(ge=1)] = 64
    rate_limit: str = "100/second"
    log_format: LogFormat | None = None
    log_level: LogLevel = "info"

    @field_validator("channels", "cors_origins", "allowed_hosts", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("channels")
    @classmethod
    def _readable(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for text in value:
            try:
                Channel.parse(text)
            except MalformedRequest as error:
                raise ValueError(error.detail) from None
        return value

    @field_validator("cors_origins")
    @classmethod
    def _exact_origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for origin in value:
            if not _spelt_as_by_browsers(origin):
                raise ValueError(
                    "expected exact origins as browsers send them, such as https://example.org: "
                    f"lower case, no path, no port that is the scheme's own; got {origin!r}"
                )
        return value

    @field_validator("allowed_hosts")
    @classmethod
    def _names(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        for host in value or ():
            if host != "*" and set(host) & set("/*@ "):
                raise ValueError(f"expected names such as gate.example.org, or *, got {host!r}")
        return value

    @field_validator("forwarded_allow_ips")
    @classmethod
    def _networks(cls, value: str) -> str:
        for part in map(str.strip, value.split(",")):
            try:
                if part not in {"", "*"}:
                    ip_network(part)
            except ValueError as error:  # uvicorn would take it for a name that nobody has
                raise ValueError(f"expected addresses, networks or *: {error}") from None
        return value

    @field_validator("rate_limit")
    @classmethod
    def _rate_limit(cls, value: str) -> str:
        Rate.parse(value)
        return value

    @field_validator("broker_url")
    @classmethod
    def _broker(cls, value: SecretStr) -> SecretStr:
        if value.get_secret_value() != MEMORY:
            Address(value.get_secret_value())  # its ValueErrors quote nothing that may be secret
        return value

    @field_validator("jwt_secret")
    @classmethod
    def _strong(cls, value: SecretStr | None) -> SecretStr | None:
        text = "" if value is None else value.get_secret_value()
        if value is not None and len(text.encode()) < 32:
            raise ValueError("expected at least 32 bytes (RFC 7518, 3.2)")
        if "-----BEGIN" in text:
            raise ValueError("a public key is no secret: expected random bytes")
        return value

    @model_validator(mode="after")
    def _consistent(self) -> "Settings":
        found = []
        if (self.upstream_user_id is None) != (self.upstream_api_key is None):
            found.append(
                "SLUICE_UPSTREAM_USER_ID and SLUICE_UPSTREAM_API_KEY go together: set both or none"
            )
        if self.role != "all" and not self.shared:
            found.append(
                f"SLUICE_ROLE {self.role} needs other processes, and SLUICE_BROKER_URL is {MEMORY}"
            )
        if not self.tokens and (self.jwt_audience or self.jwt_issuer):
            found.append(
                "SLUICE_JWT_AUDIENCE and SLUICE_JWT_ISSUER do nothing without SLUICE_JWT_SECRET or "
                "SLUICE_JWT_JWKS_URL"
            )
        if self.anonymous == "none" and self.api_keys_file is None and not self.tokens:
            found.append(
                "SLUICE_ANONYMOUS none shuts everybody out without SLUICE_API_KEYS_FILE, "
                "SLUICE_JWT_SECRET or SLUICE_JWT_JWKS_URL"
            )
        if self.upstream_pong_timeout + self.upstream_ping_interval >= 60:
            found.append(
                "SLUICE_UPSTREAM_PING_INTERVAL plus SLUICE_UPSTREAM_PONG_TIMEOUT must stay under "
                "60 s: the exchange closes a connection after 60 s without a request"
            )
        if found:
            raise ValueError("\n".join(found))
        return self

    @property
    def shared(self) -> bool:
        """Whether other processes may share the broker."""
        return self.broker_url.get_secret_value() != MEMORY

    @property
    def rate(self) -> Rate:
        """The requests that one client may make."""
        return Rate.parse(self.rate_limit)

    @property
    def tokens(self) -> bool:
        """Whether JWTs are accepted."""
        return self.jwt_secret is not None or self.jwt_jwks_url is not None

    @property
    def pinned(self) -> frozenset[Channel]:
        """The channels that are followed always."""
        return frozenset(map(Channel.parse, self.channels))


CLIENT_VARIABLE = "SLUICE_CLIENT_KEY"
"""What ``sluice tail`` and ``status`` send: an API key or a JWT (secret). A gateway has no use for
it."""


def unknown_settings() -> list[str]:
    """The ``SLUICE_*`` variables that set nothing, here or in ``.env``: misspelt, most likely."""
    known = {CLIENT_VARIABLE, *(f"SLUICE_{name}".upper() for name in Settings.model_fields)}
    given = {name.upper() for name in (*os.environ, *DotEnvSettingsSource(Settings).env_vars)}
    return sorted(name for name in given - known if name.startswith("SLUICE_"))


class SettingsError(Exception):
    """Everything that is wrong with the settings, a line each, naming the variable."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


def read_settings(**given: Any) -> Settings:
    """The settings of this process; raises SettingsError with all that is wrong, at once.

    What is ``given`` wins over the environment.
    """
    try:
        return Settings(**given)
    except ValidationError as error:
        problems, defaults = [], {}
        for found in error.errors(include_url=False, include_input=False, include_context=False):
            problems += _lines(found["loc"], found["msg"])
            if found["loc"]:
                name = str(found["loc"][0])
                defaults[name] = Settings.model_fields[name].default
        if defaults:
            # what contradicts only shows once every single value can be read, and nothing
            # contradicts one that cannot
            broken = [_variable(name) for name in defaults]
            try:
                Settings(**(given | defaults))
            except ValidationError as again:
                lines = [line for found in again.errors() for line in _lines((), found["msg"])]
                problems += [one for one in lines if not any(name in one for name in broken)]
        raise SettingsError(problems) from None


def _lines(place: tuple[int | str, ...], message: str) -> list[str]:
    message = message.removeprefix("Value error, ")
    return [f"{_variable(place[0])}: {message}"] if place else message.splitlines()


def _variable(name: int | str) -> str:
    return f"SLUICE_{name}".upper()
