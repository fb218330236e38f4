"""The control side: read and change the switches, set off actions, see what happened.

The same three verbs in a test (`set`, `act`, `report`) and over HTTP:
GET /control, POST /control {switch: value}, POST /control/{action} {parameter: value}.
"""

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import msgspec

from app.simulator import wire
from app.simulator.actions import ActionError, Actions, Source
from app.simulator.exchange import Exchange
from app.simulator.rest import Answer, Asked
from app.simulator.switches import SwitchError


class Control:
    """`on_away` is called when the exchange goes away."""

    def __init__(self, exchange: Exchange, source: Source) -> None:
        self._exchange = exchange
        self._source = source
        self._actions = Actions(exchange, source)
        self.on_away: Callable[[], None] = lambda: None

    def report(self) -> dict[str, Any]:
        """Switches, connections (open first), counters and the clients' violations."""
        exchange = self._exchange
        clients = [*exchange.clients.values(), *reversed(exchange.gone)]
        return {
            "switches": asdict(exchange.switches),
            "connections": [client.report() for client in clients],
            "open": len(exchange.clients),
            "tokens_issued": exchange.tokens.issued,
            "token_bursts": exchange.token_bursts,
            "events_published": exchange.events_published,
            "events_sent": exchange.events_sent,
            "events_lost": exchange.events_lost,
            "violations": list(exchange.violations),
            "playing": self._source.playing,
            "ended": self._source.ended,
        }

    def set(self, **changes: object) -> None:
        """Set switches, and let those that act at once act. Raises `SwitchError`."""
        exchange = self._exchange
        exchange.switches = switches = exchange.switches.changed(changes)
        exchange.account.gap = switches.balance_gap
        clients = list(exchange.clients.values())
        if "stall" in changes:
            for client in clients:
                if switches.stall:
                    client.line.stall()
                else:
                    client.line.release()
        if switches.away:
            for client in clients:
                client.line.abort()
            self.on_away()

    def act(self, action: str, **given: Any) -> dict[str, Any]:
        """Set off an action; what it did. Raises `ActionError`."""
        return self._actions.act(action, given)

    def answer(self, asked: Asked) -> Answer:
        """The HTTP face of the three verbs."""
        action = asked.path.removeprefix("/control").strip("/")
        try:
            if asked.method == "GET" and not action:
                return Answer(200, wire.encode(self.report()))
            if asked.method != "POST":
                return Answer(405, wire.encode({"message": "expected GET or POST"}))
            given = _object(asked.body)
            if action:
                return Answer(200, wire.encode(self.act(action, **given)))
            self.set(**given)
            return Answer(200, wire.encode(asdict(self._exchange.switches)))
        except (ActionError, SwitchError) as error:
            return Answer(422, wire.encode({"message": str(error)}))


def _object(body: bytes) -> dict[str, Any]:
    """Plain numbers here: switches are no amounts."""
    try:
        given = msgspec.json.decode(body) if body else {}
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ActionError(f"invalid json: {error}") from error
    if not isinstance(given, dict):
        raise ActionError("expected an object")
    return given
