"""What a browser's page gets for its credentials: a ticket for one stream, a session of cookies."""

from typing import Any, NoReturn

import msgspec
from fastapi import APIRouter, Depends, HTTPException, Request
from starlette.responses import Response

from app.api.callers import COOKIE, credentials
from app.api.deps import CallersDep
from app.api.rights import Caller, credentialed
from app.api.schemas import problems
from app.rights.vault import SESSION, TICKET

router = APIRouter(prefix="/v1", tags=["browsers"])


def _answers(*fields: str) -> dict[int | str, dict[str, Any]]:
    known = {
        "ticket": {"type": "string"},
        "expires": {"type": "number", "description": "Unix seconds"},
    }
    properties = {name: known[name] for name in fields}
    schema = {"type": "object", "required": list(fields), "properties": properties}
    return {200: {"content": {"application/json": {"schema": schema}}}}


_encode = msgspec.json.Encoder().encode


@router.post(
    "/tickets",
    summary="A one-use ticket for a stream",
    dependencies=[Depends(credentialed)],
    responses=_answers("ticket", "expires") | problems(401, 403, 503),
)
async def ticket(callers: CallersDep, caller: Caller) -> Response:
    """For `/v1/stream?ticket=…`: opens one stream within 30 s, with the rights of its caller."""
    text, expires = await callers.vault.deposit("ticket", caller, TICKET)
    return _json({"ticket": text, "expires": round(expires, 3)})


@router.post(
    "/session",
    summary="A session by cookie",
    dependencies=[Depends(credentialed)],
    responses=_answers("expires") | problems(401, 403, 503),
)
async def session(callers: CallersDep, caller: Caller) -> Response:
    """Sets a cookie that stands for the credentials sent, for 12 h at most."""
    secret, expires = await callers.vault.deposit("session", caller, SESSION)
    response = _json({"expires": round(expires, 3)})
    _set(response, secret, SESSION)
    return response


@router.delete(
    "/session",
    summary="End the session",
    status_code=204,
    dependencies=[Depends(credentialed)],
    responses=problems(401, 403),
)
async def leave(request: Request, callers: CallersDep) -> Response:
    """Forgets the session and takes the cookie back."""
    given = credentials(request.scope)
    if given is not None and given.session:
        await callers.vault.end(given.session)
    response = Response(status_code=204, headers={"cache-control": "no-store"})
    _set(response, "", 0)
    return response


@router.api_route(
    "/session",
    methods=["GET", "HEAD", "PUT", "PATCH", "OPTIONS", "TRACE"],
    include_in_schema=False,
    response_model=None,
)
async def other() -> NoReturn:
    """Both methods that the path takes: the framework would tell the first only."""
    raise HTTPException(405, headers={"allow": "DELETE, POST"})


def _set(response: Response, value: str, seconds: int) -> None:
    response.set_cookie(
        COOKIE, value, max_age=seconds, path="/", secure=True, httponly=True, samesite="strict"
    )


def _json(data: dict[str, Any]) -> Response:
    return Response(
        _encode(data), headers={"cache-control": "private, no-store"}, media_type="application/json"
    )
