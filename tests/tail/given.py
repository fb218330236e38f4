"""Plain envelopes and rows."""

from typing import Any, Literal

from app.tail.board import Board, Envelope


def made(
    channel: str,
    position: str,
    data: dict[str, Any],
    *,
    previous: str | None = None,
    gap: bool = False,
    received: float = 1000.0,
) -> Envelope:
    """A snapshot; with ``previous`` an update."""
    kind: Literal["snapshot", "update"] = "snapshot" if previous is None else "update"
    return Envelope(channel, kind, position, previous, received, data, time=900, gap=gap)


def price(text: str, position: str, **more: Any) -> Envelope:
    data = {"symbol": "BTC_USDT", "timestamp": 900, "price": text}
    return made("lastprice:BTC_USDT", position, data, **more)


def row(text: str, *, time: int = 900, direction: str = "buy") -> dict[str, Any]:
    return {"price": text, "quantity": "0.00009", "timestamp": time, "direction": direction}


def trades(market: str, position: str, *rows: dict[str, Any], **more: Any) -> Envelope:
    return made(f"trade:{market}", position, {"symbol": market, "trades": list(rows)}, **more)


def book(
    position: str,
    asks: list[tuple[str, str]],
    bids: list[tuple[str, str]],
    *,
    market: str = "BTC_USDT",
    **more: Any,
) -> Envelope:
    data = {"symbol": market, "scale_index": 0, "timestamp": 900, "asks": asks, "bids": bids}
    return made(f"depth:{market}:0", position, data, **more)


def order(id_: str, *, market: str = "BTC_USDT", created: int = 900, **more: Any) -> dict[str, Any]:
    return {
        "id": id_,
        "symbol": market,
        "direction": "sell",
        "price": "27123.4500000000000000",
        "quantity": "1.0000000000000000",
        "filledQuantity": "0.2500000000000000",
        "createTs": created,
        **more,
    }


def deal(id_: str, *, market: str = "BTC_USDT", time: int = 900) -> dict[str, Any]:
    return {
        "transactionId": id_,
        "symbol": market,
        "filledPrice": "27123.45",
        "filledQuantity": "0.5",
        "fee": "0.01",
        "feeCurrency": "USDT",
        "tradeRole": "maker",
        "committedAt": time,
    }


def board(*envelopes: Envelope, now: float = 1000.0) -> Board:
    made_of = Board()
    for envelope in envelopes:
        assert made_of.apply(envelope, now)
    return made_of
