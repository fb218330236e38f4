"""The shapes of what the account has: orders, balances, deals; for the OpenAPI document only."""

from typing import Annotated, Literal

from pydantic import BaseModel, Field

from app.api.terms import Amount, Direction, Market, PositionText, Timestamp


class OrderInfo(BaseModel):
    """An order of the account, as the exchange tells it; there may be more fields."""

    id: Annotated[str, Field(description="ULID")]
    symbol: Market
    orderType: Annotated[  # noqa: N815 -- the exchange's name
        str | None, Field(description="REST does not tell it of an open order")
    ] = None
    direction: Direction
    price: Annotated[
        Amount | None, Field(description="In quote currency; REST tells none of a finished order")
    ] = None
    quantity: Annotated[Amount, Field(description="In base currency")]
    value: Annotated[
        Amount | None, Field(description="In quote currency; REST tells none of a finished order")
    ] = None
    filledQuantity: Annotated[Amount, Field(description="In base currency")]  # noqa: N815 -- same
    filledValue: Annotated[Amount, Field(description="In quote currency")]  # noqa: N815 -- same
    clientOid: str | None = None  # noqa: N815 -- same
    createTs: Timestamp  # noqa: N815 -- same
    updateTs: Timestamp | None = None  # noqa: N815 -- same
    finishTs: Timestamp | None = None  # noqa: N815 -- same
    state: str | None = None
    internalState: str | None = None  # noqa: N815 -- same
    stopLossPrice: Annotated[  # noqa: N815 -- same
        Amount | None, Field(description="Told by REST only")
    ] = None


class Orders(BaseModel):
    """Open orders and the last 100 finished ones of a market, newest first."""

    symbol: Market
    orders: list[OrderInfo]


class OrderChange(BaseModel):
    """What happened to an order."""

    type: Literal["created", "updated", "finished"]
    info: OrderInfo


class BalanceInfo(BaseModel):
    """A balance of the account; amounts in the currency itself."""

    walletId: Annotated[str | None, Field(description="ULID")] = None  # noqa: N815 -- same
    currencyCode: str  # noqa: N815 -- same
    amount: Annotated[Amount | None, Field(description="Size of the change, unsigned")] = None
    oldBalance: Amount | None = None  # noqa: N815 -- same
    newBalance: Amount | None = None  # noqa: N815 -- same


class Balance(BaseModel):
    """A balance; `available` and `held` stand in it once REST has told them."""

    info: BalanceInfo
    available: Amount | None = None
    held: Amount | None = None


class DealInfo(BaseModel):
    """A deal of the account, as the exchange tells it."""

    dealId: Annotated[str, Field(description="ULID")]  # noqa: N815 -- same
    symbol: Market
    dealState: str  # noqa: N815 -- same
    transactionId: Annotated[str, Field(description="ULID, unique")]  # noqa: N815 -- same
    filledPrice: Annotated[Amount, Field(description="In quote currency")]  # noqa: N815 -- same
    filledQuantity: Annotated[Amount, Field(description="In base currency")]  # noqa: N815 -- same
    filledValue: Annotated[Amount, Field(description="In quote currency")]  # noqa: N815 -- same
    fee: Annotated[Amount, Field(description="In `feeCurrency`")]
    feeCurrency: str  # noqa: N815 -- same
    tradeRole: Literal["taker", "maker"]  # noqa: N815 -- same
    committedAt: Timestamp  # noqa: N815 -- same


class Deals(BaseModel):
    """The last 100 deals of a market, newest first."""

    symbol: Market
    deals: list[DealInfo]


class DealChange(BaseModel):
    """A deal that was made."""

    info: DealInfo


class _Told(BaseModel):
    position: Annotated[PositionText, Field(description="The greatest of the channels asked about")]
    age: Annotated[float, Field(ge=0, description="Seconds since the oldest was received")]
    stale: Annotated[bool, Field(description="Whether the upstream does not confirm any of it")]


class OrderList(_Told):
    """Orders of the account, newest first."""

    data: list[OrderInfo]


class OrderAnswer(BaseModel):
    """One order."""

    data: OrderInfo


class DealList(_Told):
    """Deals of the account, newest first."""

    data: list[DealInfo]
