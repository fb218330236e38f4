"""The private paths: without credentials nobody may read them."""

from typing import Annotated, NoReturn

from fastapi import APIRouter, Path

from app.api.schemas import problems
from app.errors import NotAllowed

router = APIRouter(prefix="/v1", tags=["account"], responses=problems(401, 422))


@router.get("/orders", summary="Orders", response_model=None)
@router.get("/balances", summary="Balances", response_model=None)
@router.get("/deals", summary="Deals", response_model=None)
@router.post("/tickets", summary="A one-use ticket for a stream", response_model=None)
async def private() -> NoReturn:
    """Private: wants credentials."""
    raise NotAllowed("this path is private and needs credentials")


@router.get("/orders/{id}", summary="One order", response_model=None)
async def order(_order: Annotated[str, Path(alias="id")]) -> NoReturn:
    """Private: wants credentials."""
    await private()


@router.get("/balances/{currency}", summary="The balance of a currency", response_model=None)
async def balance(_currency: Annotated[str, Path(alias="currency")]) -> NoReturn:
    """Private: wants credentials."""
    await private()
