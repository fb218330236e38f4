"""The private paths: without credentials nobody may read them."""

from fastapi import APIRouter
from starlette.responses import Response

from app.api.schemas import problems
from app.errors import NotAllowed

router = APIRouter(prefix="/v1", tags=["account"], responses=problems(401))


@router.get("/orders", summary="Orders")
@router.get("/orders/{id}", summary="One order")
@router.get("/balances", summary="Balances")
@router.get("/balances/{currency}", summary="The balance of a currency")
@router.get("/deals", summary="Deals")
@router.post("/tickets", summary="A one-use ticket for a stream")
async def private() -> Response:
    """Private: wants credentials."""
    raise NotAllowed("this path is private and needs credentials")
