"""What REST told of the account, joined with what is held: what is to be published of it.

What the waiting socket events tell themselves is left to them: they know more fields than REST.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from app.domain.account import (
    AMOUNTS,
    Age,
    Change,
    Deals,
    Orders,
    committed_at,
    created_at,
    deals_in,
    differs,
    filled,
    finished,
    finished_at,
    orders_in,
    time_of,
)
from app.domain.channel import Channel, Kind
from app.domain.event import Data, Event
from app.domain.store import Store


@dataclass(frozen=True, slots=True)
class Statement:
    """What REST told, in the socket's names (protocol 4.4); times are Unix seconds.

    ``kinds``: those of which it tells everything since the last thing known; if not ``reached``,
    REST does not go back so far. ``gone``: held open orders that REST knows nothing of.
    """

    began: float
    read: float
    kinds: frozenset[Kind] = frozenset()
    active: tuple[Data, ...] = ()
    finished: tuple[Data, ...] = ()
    deals: tuple[Data, ...] = ()
    balances: tuple[Data, ...] = ()
    reached: bool = True
    gone: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Held:
    """What is known when a statement comes: the states, the events that wait for it.

    ``touched``: per currency when its last event was received.
    """

    store: Store
    runs: Mapping[Kind, int]
    waiting: Collection[Event] = ()
    touched: Mapping[str, float] = field(default_factory=dict)

    def orders(self, market: str) -> Orders | None:
        """The orders held of a market."""
        state = self.store.get(Channel(Kind.ORDER, market))
        return state.reducer if state and isinstance(state.reducer, Orders) else None

    def deals(self, market: str) -> Deals | None:
        """The deals held of a market."""
        state = self.store.get(Channel(Kind.DEAL, market))
        return state.reducer if state and isinstance(state.reducer, Deals) else None

    def told(self, kind: Kind) -> Iterator[Data]:
        """What the waiting events of a kind tell, in order."""
        return (event.data["info"] for event in self.waiting if event.channel.kind is kind)


def merge(statement: Statement, held: Held) -> list[Event]:
    """What is to be published of a statement, ahead of the events that wait for it."""
    made: list[Event] = []
    if Kind.ORDER in held.runs:
        made += _orders(statement, held)
    if Kind.DEAL in held.runs:
        made += _deals(statement, held)
    if Kind.BALANCE in held.runs:
        made += _balances(statement, held)
    return made


def unexplained(statement: Statement, held: Held) -> set[str]:
    """The active orders of which something was filled unheard: REST tells those deals later."""
    found = set()
    for row in statement.active:
        orders = held.orders(row["symbol"])
        known = orders.get(row["id"]) if orders is not None else None
        if filled(row) > (Decimal(0) if known is None else filled(known)):
            found.add(row["id"])
    return found


# Orders


def _orders(statement: Statement, held: Held) -> Iterator[Event]:
    told = {info["id"]: info for info in held.told(Kind.ORDER)}
    rows = {row["id"]: row for row in (*statement.active, *statement.finished)}
    news = _by_market(row for row in rows.values() if not _covered(told.get(row["id"]), row))
    whole = Kind.ORDER in statement.kinds
    for market in sorted({*news, *(_markets(held.store, Kind.ORDER) if whole else ())}):
        orders = held.orders(market)
        source = _Source(Channel(Kind.ORDER, market), held.runs[Kind.ORDER], statement)
        if orders is None:
            infos = news[market]
            yield source.snapshot(orders_in(market, infos), _latest(infos), gap=False)
            continue
        missed = [one for row in news.get(market, ()) if (one := _missed(orders, row))]
        lost = {order["id"] for order in orders.open()} & statement.gone
        if lost or (whole and not statement.reached):
            known = {order["id"]: order for order in orders.data()["orders"]}
            known |= {info["id"]: info for _, info in missed}
            infos = [order for id_, order in known.items() if id_ not in lost]
            yield source.snapshot(orders_in(market, infos), _latest(infos), gap=True)
            continue
        for change, info in sorted(missed, key=_happened):
            yield source.update({"type": change, "info": info}, time_of(info))


def _covered(told: Data | None, row: Data) -> bool:
    """Whether a waiting event says at least as much of an order as REST does."""
    if told is None:
        return False
    return finished(told) or (not finished(row) and filled(told) >= filled(row))


def _missed(orders: Orders, row: Data) -> tuple[Change, Data] | None:
    """What happened to an order unheard; REST leaves out fields that may be known."""
    known = orders.get(row["id"])
    if known is None:
        if not finished(row):
            return "created", row
        return None if orders.forgotten(row) else ("finished", row)
    if finished(known):
        return None
    more = filled(row) - filled(known)
    if not finished(row) and (more < 0 or (more == 0 and not differs(row, known))):
        return None
    kept = {name: value for name, value in known.items() if name != "updateTs"}
    new = {name: value for name, value in row.items() if name in AMOUNTS or name not in kept}
    return "finished" if finished(row) else "updated", {**kept, **new}


def _happened(missed: tuple[Change, Data]) -> Age:
    _, info = missed
    return finished_at(info) if finished(info) else created_at(info)


def _latest(orders: Iterable[Data]) -> int | None:
    times = (time_of(order) for order in orders)
    return max((time for time in times if time is not None), default=None)


# Deals


def _deals(statement: Statement, held: Held) -> Iterator[Event]:
    told = {info["transactionId"] for info in held.told(Kind.DEAL)}
    news = _by_market(row for row in statement.deals if row["transactionId"] not in told)
    whole = Kind.DEAL in statement.kinds
    unheard = unexplained(statement, held)
    doubtful = {row["symbol"] for row in statement.active if row["id"] in unheard}
    for market in sorted({*news, *(_markets(held.store, Kind.DEAL) if whole else ())}):
        deals = held.deals(market)
        source = _Source(Channel(Kind.DEAL, market), held.runs[Kind.DEAL], statement)
        rows = news.get(market, [])
        if deals is None:
            yield source.snapshot(deals_in(market, rows), _committed(rows), gap=False)
            continue
        missed = [
            row
            for row in rows
            if deals.get(row["transactionId"]) is None and not deals.forgotten(row)
        ]
        if whole and (not statement.reached or market in doubtful):
            infos = [*deals.data()["deals"], *missed]
            yield source.snapshot(deals_in(market, infos), _committed(infos), gap=True)
            continue
        for row in sorted(missed, key=committed_at):
            yield source.update({"info": row}, row["committedAt"])


def _committed(deals: Iterable[Data]) -> int | None:
    return max((deal["committedAt"] for deal in deals), default=None)


# Balances


def _balances(statement: Statement, held: Held) -> Iterator[Event]:
    told = {info["currencyCode"]: info for info in held.told(Kind.BALANCE)}
    for row in statement.balances:
        currency = row["currencyCode"]
        if held.touched.get(currency, 0.0) >= statement.began:
            continue  # its event may be newer than what REST says
        channel = Channel(Kind.BALANCE, currency)
        state = held.store.get(channel)
        known = {} if state is None else state.reducer.data()
        info = told.get(currency) or known.get("info") or {"currencyCode": currency}
        amounts = {"available": row["available"], "held": row["held"]}
        info = _agreeing(info, amounts)
        if known.get("info") == info and all(
            name in known and Decimal(known[name]) == Decimal(amount)
            for name, amount in amounts.items()
        ):
            continue
        source = _Source(channel, held.runs[Kind.BALANCE], statement)
        yield source.snapshot({"info": info, **amounts}, None, gap=False)


def _agreeing(info: Data, amounts: Data) -> Data:
    """What was told last of a balance, without the amounts if REST says that these have passed."""
    new = info.get("newBalance")
    available, kept_back = Decimal(amounts["available"]), Decimal(amounts["held"])
    if new is None or Decimal(new) in (available, available + kept_back):
        return info
    return {name: info[name] for name in ("walletId", "currencyCode") if name in info}


# What all of them share


@dataclass(frozen=True, slots=True)
class _Source:
    """Makes the events of one channel out of a statement."""

    channel: Channel
    run: int
    statement: Statement

    def snapshot(self, data: Data, time: int | None, *, gap: bool) -> Event:
        return self._event(data, time, full=True, gap=gap)

    def update(self, data: Data, time: int | None) -> Event:
        return self._event(data, time, full=False, gap=False)

    def _event(self, data: Data, time: int | None, *, full: bool, gap: bool) -> Event:
        read = self.statement.read
        return Event(self.channel, data, time, read, self.run, full, gap, "reconcile")


def _by_market(rows: Iterable[Data]) -> dict[str, list[Data]]:
    found: dict[str, list[Data]] = {}
    for row in rows:
        found.setdefault(row["symbol"], []).append(row)
    return found


def _markets(store: Store, kind: Kind) -> set[str]:
    return {state.channel.subject for state in store.of_kind(kind)}
