"""The private path that is not there yet: without credentials nobody may have a ticket."""

from typing import NoReturn

from fastapi import APIRouter

from app.api.schemas import problems
from app.errors import NotAllowed

router = APIRouter(prefix="/v1", tags=["account"], responses=problems(401, 422))


@router.post("/tickets", summary="A one-use ticket for a stream", response_model=None)
async def private() -> NoReturn:
    """Private: wants credentials."""
    raise NotAllowed("this path is private and needs credentials")
