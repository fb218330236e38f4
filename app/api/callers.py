"""From a request to its caller's rights: which credentials count, and from where.

An ``Authorization`` or ``X-API-Key`` header comes before the cookie. Credentials in a URL are none,
a one-use ticket excepted, which only the stream takes.
"""

import time
from collections.abc import Iterable
from dataclasses import dataclass

from starlette.types import Scope

from app.errors import NotAllowed
from app.rights.jwks import Jwks
from app.rights.keys import Keys, looks_like_key
from app.rights.rights import Rights
from app.rights.tokens import KeyWanted, TokenOptions, rights_of
from app.rights.vault import Vault

COOKIE = "__Host-sluice"
"""The session's cookie: the prefix makes browsers bind it to this very host, over TLS."""

_OURS = f"{COOKIE}=".encode()

ANONYMOUS = Rights(frozenset({"market"}))
NOBODY = Rights(frozenset())


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a request brought: at most one of them."""

    bearer: str = ""
    key: str = ""
    session: str = ""


class Callers:
    """Judges callers, each request anew. ``anonymous``: the rights without credentials."""

    def __init__(
        self,
        keys: Keys,
        vault: Vault,
        tokens: TokenOptions | None = None,
        *,
        jwks: Jwks | None = None,
        anonymous: Rights = ANONYMOUS,
        origins: Iterable[str] = (),
    ) -> None:
        self.vault = vault
        self.anonymous = anonymous
        self._keys = keys
        self._tokens = tokens or TokenOptions()
        self._jwks = jwks
        self._origins = frozenset(origins)

    def at_once(self, scope: Scope) -> Rights | None:
        """The rights, if they can be told without a wait; raises NotAllowed."""
        given = credentials(scope)
        if given is None:
            return self.anonymous
        if given.session:
            return None
        try:
            return self._judged(given)
        except KeyWanted:
            return None

    async def of(self, scope: Scope) -> Rights:
        """The rights; raises NotAllowed for bad credentials, BrokerUnavailable for a session."""
        given = credentials(scope)
        if given is None:
            return self.anonymous
        if given.session:
            return await self._session(scope, given.session)
        try:
            return self._judged(given)
        except KeyWanted as wanted:
            if self._jwks is not None:
                await self._jwks.want(wanted.kid)
        try:
            return self._judged(given)
        except KeyWanted:
            raise NotAllowed("the token is not valid") from None

    async def by_ticket(self, scope: Scope, ticket: str) -> Rights | None:
        """The rights behind a ticket, once; None if it, or what it was given for, has ended.

        Raises NotAllowed (403), and leaves the ticket good, where a page of a foreign origin asks.
        """
        self._require_known_origin(scope, "a ticket")
        rights = await self.vault.redeem(ticket)
        return rights if rights is not None and self.permitted(rights) else None

    def permitted(self, rights: Rights) -> bool:
        """Whether rights that were given still hold."""
        if rights.ends is not None and rights.ends <= time.time():
            return False
        return not rights.holder.startswith("key:") or self._keys.still(rights)

    def _judged(self, given: Credentials) -> Rights:
        if given.key or looks_like_key(given.bearer):
            return self._keys.rights(given.key or given.bearer, time.time())
        return rights_of(given.bearer, self._tokens)

    async def _session(self, scope: Scope, secret: str) -> Rights:
        self._require_known_origin(scope, "a cookie")
        rights = await self.vault.session(secret)
        if rights is None or not self.permitted(rights):
            raise NotAllowed("the session has ended")
        return rights

    def _require_known_origin(self, scope: Scope, what: str) -> None:
        """Raise NotAllowed for a page that is neither ours nor listed.

        What a page can send without a preflight (a cookie, a URL) is judged by fetch metadata, or
        by Origin where a browser sends none. Programs send neither.
        """
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        origin = headers.get(b"origin")
        if origin in self._origins:
            return
        site = headers.get(b"sec-fetch-site")
        if site is not None:
            known = site in {"same-origin", "none"}
        else:
            host = headers.get(b"host", "")
            # https too where a proxy does not say that it took TLS off
            known = origin in {None, f"https://{host}", f"{scope.get('scheme')}://{host}"}
        if not known:
            raise NotAllowed(f"{what} from this origin is not accepted", status=403)


def credentials(scope: Scope) -> Credentials | None:
    """What a request brought, None if nothing; raises NotAllowed for what is none, or too much."""
    found: list[Credentials] = []
    session: Credentials | None = None
    for name, value in scope["headers"]:
        if name == b"authorization":
            found.append(Credentials(bearer=_bearer(value)))
        elif name == b"x-api-key":
            found.append(Credentials(key=value.decode("latin-1").strip() or "-"))
        elif name == b"cookie" and _OURS in value:
            session = _session_in(value) or session
    if len(found) > 1:
        raise NotAllowed("more than one credential was sent")
    return found[0] if found else session


def _bearer(value: bytes) -> str:
    scheme, _, text = value.decode("latin-1").partition(" ")
    if scheme.lower() != "bearer" or not text.strip():
        raise NotAllowed("expected Authorization: Bearer and a key or token")
    return text.strip()


def _session_in(value: bytes) -> Credentials | None:
    for part in value.split(b";"):
        name, _, text = part.strip().partition(b"=")
        if name == COOKIE.encode() and text:
            return Credentials(session=text.decode("latin-1"))
    return None
