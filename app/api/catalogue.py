"""The exchange's market list and depth scales, as the exchange gives them, cached."""

from typing import Any

import msgspec
from fastapi import APIRouter, Depends
from starlette.responses import Response

from app.api.deps import MarketsDep
from app.api.parameters import Symbol, channel_of
from app.api.rights import signed_in
from app.api.schemas import answers, problems
from app.domain.channel import Kind
from app.errors import UnknownChannel

router = APIRouter(
    prefix="/v1/markets",
    tags=["markets"],
    dependencies=[Depends(signed_in)],
    responses=problems(401, 422, 503),
)

_encode = msgspec.json.Encoder().encode


@router.get("", responses=answers("MarketList"))
async def markets(markets: MarketsDep) -> Response:
    """All markets of the exchange."""
    return _data(await markets.all())


@router.get("/{symbol}", responses=answers("MarketAnswer") | problems(404))
async def market(markets: MarketsDep, symbol: Symbol) -> Response:
    """One market."""
    channel_of(Kind.TICKER, symbol)
    found = await markets.market(symbol)
    if found is None:
        raise UnknownChannel(f"the exchange has no market {symbol}")
    return _data(found)


@router.get("/{symbol}/scales", responses=answers("ScaleList") | problems(404))
async def scales(markets: MarketsDep, symbol: Symbol) -> Response:
    """The depth scales of a market: an index of them is part of a depth channel's name."""
    await markets.require(channel_of(Kind.TICKER, symbol))
    return _data(await markets.scales(symbol))


def _data(data: Any) -> Response:
    return Response(
        _encode({"data": data}),
        headers={"cache-control": "no-cache"},
        media_type="application/json",
    )
