"""Plain values that many tests start from."""

from collections.abc import Iterable
from typing import Any, Literal

from app.domain.channel import Channel, Kind, depth
from app.domain.event import Entry, Envelope, Event, Type, envelope
from app.domain.position import Position


def at(text: str) -> Position:
    position = Position.parse(text)
    assert position is not None
    return position


def price(
    market: str, text: str, *, time: int | None = 100, continuity: int = 1, received: float = 100.5
) -> Event:
    """A last price."""
    data = {"symbol": market, "timestamp": time, "price": text}
    return Event(Channel(Kind.LASTPRICE, market), data, time, received, continuity)


def ticker(market: str, text: str, *, time: int = 100, continuity: int = 1) -> Event:
    data = {"symbol": market, "timestamp": time, "price": text, "price_change": "-0.10"}
    return Event(Channel(Kind.TICKER, market), data, time, time + 0.25, continuity)


def row(text: str, *, time: int = 100, direction: str = "buy") -> dict[str, Any]:
    """One trade."""
    return {"price": text, "quantity": "0.00009", "timestamp": time, "direction": direction}


def trades(
    market: str, rows: Iterable[dict[str, Any]], *, time: int = 100, continuity: int = 1
) -> Event:
    data = {"symbol": market, "timestamp": time, "trades": list(rows)}
    return Event(Channel(Kind.TRADE, market), data, time, time + 0.25, continuity)


def book(
    market: str,
    asks: Iterable[tuple[str, str]] | None = (),
    bids: Iterable[tuple[str, str]] | None = (),
    *,
    full: bool,
    time: int = 100,
    continuity: int = 1,
    scale: int = 0,
) -> Event:
    """A depth event; a side of None is absent, as in a delta that does not touch it."""
    data: dict[str, Any] = {
        "symbol": market,
        "timestamp": time,
        "full_reload": full,
        "scale_index": scale,
    }
    if asks is not None:
        data["asks"] = [list(level) for level in asks]
    if bids is not None:
        data["bids"] = [list(level) for level in bids]
    return Event(depth(market, scale), data, time, time + 0.25, continuity, full)


def order(
    market: str,
    id_: str,
    change: str = "created",
    *,
    filled: str = "0",
    time: int = 100,
    continuity: int = 1,
    received: float | None = None,
    **more: Any,
) -> Event:
    """What happened to an order of 5 at 10."""
    times = {"created": {}, "updated": {"updateTs": time}, "finished": {"finishTs": time}}[change]
    info = {"id": id_, "symbol": market, "price": "10", "quantity": "5", "filledQuantity": filled}
    data = {"type": change, "info": {**info, "createTs": 100, **times, **more}}
    heard = time + 0.25 if received is None else received
    return Event(Channel(Kind.ORDER, market), data, time, heard, continuity)


def deal(market: str, id_: str, *, time: int = 100, continuity: int = 1) -> Event:
    """A deal of 1 at 10."""
    info = {"transactionId": id_, "symbol": market, "filledQuantity": "1", "committedAt": time}
    return Event(Channel(Kind.DEAL, market), {"info": info}, time, time + 0.25, continuity)


def balance(
    currency: str, old: str, new: str, *, received: float = 100.5, continuity: int = 1
) -> Event:
    """A change of a balance."""
    info = {"walletId": "w", "currencyCode": currency, "oldBalance": old, "newBalance": new}
    return Event(Channel(Kind.BALANCE, currency), {"info": info}, None, received, continuity)


def made(
    channel: str,
    position: str,
    data: dict[str, Any] | None = None,
    *,
    type_: Type = "snapshot",
    previous: str | None = None,
    gap: bool = False,
    origin: Literal["reconcile"] | None = None,
) -> Envelope:
    """An envelope, as if a leader had made it."""
    return envelope(
        Channel.parse(channel),
        type_,
        position=at(position),
        previous=None if previous is None else at(previous),
        time=100,
        received=100.5,
        data={"price": position} if data is None else data,
        gap=gap,
        origin=origin,
    )


def entry(previous: str | None, *envelopes: Envelope, opens: str | None = None) -> Entry:
    """A journal's entry; ``opens`` is the position of one without events."""
    position = at(opens) if opens is not None else envelopes[-1].position
    return Entry(None if previous is None else at(previous), position, envelopes)
