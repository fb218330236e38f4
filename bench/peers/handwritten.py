"""What a user would write by hand: FastAPI, sse-starlette, a queue per client, a response model.

python handwritten.py PORT
"""

import asyncio
import sys
from collections.abc import AsyncIterator

import uvicorn
from fastapi import FastAPI, Request
from pydantic import BaseModel
from sse_starlette import EventSourceResponse


class Ticker(BaseModel):
    symbol: str
    timestamp: int
    price: str
    open: str
    high: str
    low: str
    volume: str
    quote_volume: str
    price_change: str


class Envelope(BaseModel):
    """The gateway's answer, field by field."""

    channel: str
    type: str
    position: str
    previous: str | None
    time: int | None
    received: float
    data: Ticker
    age: float
    stale: bool


app = FastAPI()
queues: set[asyncio.Queue[str]] = set()
tickers = {
    "BTC_USDT": Ticker(
        symbol="BTC_USDT", timestamp=1750952911, price="1750952911482000000", open="1", high="1",
        low="1", volume="1", quote_volume="1", price_change="0",
    )
}  # fmt: skip


@app.get("/stream")
async def stream() -> EventSourceResponse:
    async def events() -> AsyncIterator[dict[str, str]]:
        queue: asyncio.Queue[str] = asyncio.Queue()
        queues.add(queue)
        try:
            while True:
                yield {"data": await queue.get()}
        finally:
            queues.discard(queue)

    return EventSourceResponse(events())


@app.post("/publish")
async def publish(request: Request) -> None:
    text = (await request.body()).decode()
    for queue in queues:
        queue.put_nowait(text)


@app.get("/ticker/{symbol}")
async def ticker(symbol: str) -> Envelope:
    return Envelope(
        channel=f"ticker:{symbol}", type="snapshot", position="1750952911482-1", previous=None,
        time=1750952911, received=1750952911.482, data=tickers[symbol], age=0.5, stale=False,
    )  # fmt: skip


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), backlog=4096, access_log=False)
