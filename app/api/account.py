"""The account over REST: orders, balances and deals, out of the replica's store.

Asking follows the account; the first answer waits for REST to have told of it.
"""

from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Path, Query, Request
from starlette.responses import Response

from app.api.parameters import After, MaxAge, Wait, channel_of, position_in
from app.api.rights import credentialed
from app.api.schemas import answers, listed_responses, problems, state_responses
from app.api.state import ReaderDep
from app.domain.account import Orders, committed_at, created_at, finished
from app.domain.channel import Channel, Kind
from app.errors import MalformedRequest, UnknownChannel

router = APIRouter(prefix="/v1", tags=["account"], dependencies=[Depends(credentialed)])

Symbol = Annotated[str | None, Query(description="Only of this market, such as `BTC_USDT`")]


@router.get("/orders", responses=listed_responses("OrderList"))
async def orders(
    request: Request,
    reader: ReaderDep,
    symbol: Symbol = None,
    state: Annotated[
        Literal["open", "finished"] | None, Query(description="Only those that are so")
    ] = None,
    max_age: MaxAge = None,
) -> Response:
    """All open orders and the last 100 finished ones of each market, newest first."""
    channel = _channel(Kind.ORDER, symbol)
    answer = await reader.answer([channel])
    found = [
        order
        for one in answer.states
        for order in one.reducer.data()["orders"]
        if state is None or finished(order) == (state == "finished")
    ]
    found.sort(key=created_at, reverse=True)
    return answer.listed(request.scope, found, max_age)


@router.get("/orders/{id}", responses=answers("OrderAnswer") | problems(401, 403, 404, 422, 503))
async def order(
    request: Request,
    reader: ReaderDep,
    order_id: Annotated[str, Path(alias="id", description="The exchange's id")],
    max_age: MaxAge = None,
) -> Response:
    """One order: an open one, or one of the last 100 finished ones of its market."""
    answer = await reader.answer([Channel(Kind.ORDER, "*")])
    for one in answer.states:
        found = one.reducer.get(order_id) if isinstance(one.reducer, Orders) else None
        if found is not None:
            return answer.of([one]).alone(request.scope, found, max_age)
    raise UnknownChannel(f"no order {order_id[:40]!r} is open or among the last finished ones")


@router.get("/balances", responses=state_responses("balance", several=True))
async def balances(request: Request, reader: ReaderDep, max_age: MaxAge = None) -> Response:
    """The balances of all currencies that the account has."""
    channel = Channel(Kind.BALANCE, "*")
    return (await reader.answer([channel])).several(request.scope, max_age)


@router.get("/balances/{currency}", responses=state_responses("balance"))
async def balance(
    reader: ReaderDep,
    currency: Annotated[str, Path(description="A currency such as `USDT`, in upper case")],
    after: After = None,
    wait: Wait = 0,
    max_age: MaxAge = None,
) -> Response:
    """The balance of a currency."""
    try:
        channel = Channel.parse(f"{Kind.BALANCE}:{currency}")
    except MalformedRequest:
        channel = Channel(Kind.BALANCE, "*")
    if channel.wildcard:
        raise UnknownChannel(f"currency {currency[:40]!r} is unknown: expected upper case")
    return await reader.single(channel, after=position_in(after), wait=wait, max_age=max_age)


@router.get("/deals", responses=listed_responses("DealList"))
async def deals(
    request: Request, reader: ReaderDep, symbol: Symbol = None, max_age: MaxAge = None
) -> Response:
    """The last 100 deals of each market, newest first."""
    channel = _channel(Kind.DEAL, symbol)
    answer = await reader.answer([channel])
    found = [deal for one in answer.states for deal in one.reducer.data()["deals"]]
    found.sort(key=committed_at, reverse=True)
    return answer.listed(request.scope, found, max_age)


def _channel(kind: Kind, symbol: str | None) -> Channel:
    return Channel(kind, "*") if symbol is None else channel_of(kind, symbol)
