"""The shapes of what the account has: orders, balances, deals; for the OpenAPI document only."""

from typing import Annotated, Literal

from pydantic import BaseModel, Field

from app.api.terms import Amount, Direction, Market, PositionText, Timestamp


class OrderInfo(BaseModel):
    """An order of the account, as the exchange tells it; there may be more fields."""

    id: Annotated[str, Field(description="ULID")]
    symbol: Market
    orderType: Annotated[
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
    filledQuantity: Annotated[Amount, Field(description="In base currency")]
    filledValue: Annotated[Amount, Field(description="In quote currency")]
    clientOid: str | None = None
    createTs: Timestamp
    updateTs: Timestamp | None = None
    finishTs: Timestamp | None = None
    state: str | None = None
    internalState: str | None = None
    stopLossPrice: Annotated[Amount | None, Field(description="Told by REST only")] = None


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

    walletId: Annotated[str | None, Field(description="ULID")] = None
    currencyCode: str
    amount: Annotated[Amount | None, Field(description="Size of the change, unsigned")] = None
    oldBalance: Amount | None = None
    newBalance: Amount | None = None


class Balance(BaseModel):
    """A balance; `available` and `held` stand in it once REST has told them."""

    info: BalanceInfo
    available: Amount | None = None
    held: Amount | None = None


class DealInfo(BaseModel):
    """A deal of the account, as the exchange tells it."""

    dealId: Annotated[str, Field(description="ULID")]
    symbol: Market
    dealState: str
    transactionId: Annotated[str, Field(description="ULID, unique")]
    filledPrice: Annotated[Amount, Field(description="In quote currency")]
    filledQuantity: Annotated[Amount, Field(description="In base currency")]
    filledValue: Annotated[Amount, Field(description="In quote currency")]
    fee: Annotated[Amount, Field(description="In `feeCurrency`")]
    feeCurrency: str
    tradeRole: Literal["taker", "maker"]
    committedAt: Timestamp


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
