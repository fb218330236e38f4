"""The terms that the documented shapes share."""

from typing import Annotated, Literal

from pydantic import Field

Amount = Annotated[
    str, Field(description="Decimal text with the exchange's own digits", examples=["27123.45"])
]
PositionText = Annotated[
    str,
    Field(
        description="`<epoch>-<sequence>`; grows over all events of a deployment",
        pattern=r"^(0|[1-9][0-9]{0,15})-(0|[1-9][0-9]{0,15})$",
        examples=["1795335123456-48213"],
    ),
]
Market = Annotated[str, Field(description="The market", examples=["BTC_USDT"])]
Timestamp = Annotated[int, Field(description="The exchange's time in Unix seconds")]
Levels = Annotated[
    list[tuple[Amount, Amount]],
    Field(description="`[price, value]`: price in quote currency, value in base currency"),
]
Direction = Literal["buy", "sell"]
