"""The exchange: who is connected, what they asked for, and every event's way to them.

Rules: all events pass `publish`, which makes them true before anyone hears them; every fault the
switches ask for is applied on the way out, never to the truth. No waiting here.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable

from app.simulator import wire
from app.simulator.account import Account
from app.simulator.client import ALL, Client, Line
from app.simulator.listing import Listing
from app.simulator.switches import Options
from app.simulator.tokens import Tokens
from app.simulator.truth import Truth, depth
from app.simulator.wire import Event, Request

REMEMBERED = 1000
GONE = 200  # closed connections still reported
TOKENS_A_MINUTE = 10


class Exchange:
    def __init__(self, options: Options, *, now: Callable[[], float] = time.time) -> None:
        self.options = options
        self.switches = options.switches()
        self.now = now
        self.tokens = Tokens()
        self.listing = Listing()
        self.truth = Truth()
        self.account = Account(options.seed)
        self.account.gap = options.balance_gap
        self.clients: dict[int, Client] = {}
        self.gone: deque[Client] = deque(maxlen=GONE)
        self.violations: deque[dict[str, object]] = deque(maxlen=REMEMBERED)
        self.early_deltas = 0  # depth subscribes still to be sent a delta before the reload
        self.events_published = self.events_sent = self.events_lost = self.token_bursts = 0
        self.on_subscribe: Callable[[], None] = lambda: None
        self._connections = 0
        self._turn = 0  # towards the next event that drop_every loses
        self._token_times: deque[float] = deque(maxlen=TOKENS_A_MINUTE)

    # Connections

    def enter(self, line: Line) -> Client:
        self._connections += 1
        client = Client(self._connections, line, self.now())
        self.clients[client.number] = client
        return client

    def leave(self, client: Client, why: str) -> None:
        if self.clients.pop(client.number, None):
            client.state, client.closed = "closed", why
            self.gone.append(client)

    def token(self) -> str:
        """A new token; more than ten a minute are counted, not refused."""
        now = self.now()
        full = len(self._token_times) == TOKENS_A_MINUTE
        if full and now - self._token_times[0] < 60:
            self.token_bursts += 1
        self._token_times.append(now)
        return self.tokens.issue(now)

    def admit(self, token: str) -> str | None:
        """How a handshake with this token is refused: http401 or close; None if it is not."""
        fault = self.tokens.present(token, self.now(), self.switches.token_lifetime)
        if fault is not None:
            self.blame(None, fault)
            return self.switches.reject_token
        return None if self.switches.accept == "ok" else self.switches.accept

    def sweep(self) -> None:
        """Close who has not asked for anything for too long (protocol 1)."""
        now = self.now()
        for client in list(self.clients.values()):
            if client.state == "open" and now - client.heard > self.switches.idle_close:
                self.blame(client, "idle")
                client.line.close(1000, "idle")

    def blame(self, client: Client | None, what: str, detail: str = "") -> None:
        """Note a breach of the protocol by a client."""
        number = client.number if client else None
        self.violations.append(
            {"at": self.now(), "connection": number, "what": what, "detail": detail[:200]}
        )

    # Requests

    def hear(self, client: Client, text: bytes) -> None:
        """A message from a client: answer it, or end the connection if it is no JSON."""
        try:
            request = wire.read_request(text)
        except wire.NotJson as error:
            self.blame(client, "invalid json", str(error))
            client.line.close(1007, "invalid json")
            return
        except wire.Malformed as error:
            self.blame(client, "malformed request", str(error))
            self._count(client)
            self._say(client, wire.failure(error.id, wire.INVALID_FORMAT, str(error)))
            return
        self._count(client)
        fault = client.fault_of_id(request.id)
        if fault:
            self.blame(client, fault, f"{request.method} {request.id}")
        self._answer(client, request)

    def _count(self, client: Client) -> None:
        client.heard = self.now()
        client.requests += 1

    def _answer(self, client: Client, request: Request) -> None:
        if request.method == "ping":
            if self.switches.pong:
                self._say(client, wire.pong(request))
            return
        kind, _, verb = request.method.rpartition("_")
        if kind in wire.KINDS and verb == "subscribe":
            self._subscribe(client, kind, request)
        elif kind in wire.KINDS and verb == "unsubscribe":
            self._unsubscribe(client, kind, request)
        else:
            self.blame(client, "unknown method", request.method)
            self._fail(client, request, f"method {request.method[:100]} not found")

    def _subscribe(self, client: Client, kind: str, request: Request) -> None:
        wanted, mode = client.wanted[kind], self.switches.subscribe
        if mode == "reject" and wanted:
            wanted.clear()
            self._fail(client, request, "already subscribed")
            return
        if not request.params:
            self.blame(client, "empty subscribe", request.method)
        if mode != "merge":
            wanted.clear()
        for name in request.params:
            if name != ALL and not self.listing.knows(kind, name):
                # As in the ancestor's source: what came before the unknown name stays subscribed.
                self.blame(client, "unknown subject", f"{request.method} {name}")
                self._fail(client, request, f"{name[:100]} not found")
                return
            wanted.add(name)
        if self.switches.late_ack:
            self._begin(client, kind, request.params)
            self._ack(client, request)
        else:
            self._ack(client, request)
            self._begin(client, kind, request.params)
        self.on_subscribe()

    def _unsubscribe(self, client: Client, kind: str, request: Request) -> None:
        if not request.params:
            if kind not in wire.PRIVATE:
                self.blame(client, "empty public unsubscribe", request.method)
                self._fail(client, request, "params must not be empty")
                return
            client.wanted[kind].clear()
        for name in request.params:
            client.wanted[kind].remove(name)
        self._ack(client, request)

    def _begin(self, client: Client, kind: str, params: Iterable[str]) -> None:
        """What a subscriber hears first (protocol 6.3)."""
        if kind == "depth":
            subjects = self.listing.books() if ALL in params else dict.fromkeys(params)
            for subject in subjects:
                self._begin_book(client, subject)
            return
        for channel, events in list(self.truth.recent.items()):
            subject = channel.removeprefix(f"{kind}:")
            if not channel.startswith(f"{kind}:") or not client.follows(kind, subject):
                continue
            if self.switches.duplicate_after_reconnect:
                for event in list(events):
                    self._deliver(event, [client])
            elif self.switches.initial and kind in ("lastprice", "ticker"):
                self._deliver(events[-1], [client])

    def _begin_book(self, client: Client, subject: str) -> None:
        reload = self.truth.reload(subject)
        if reload is None:
            return
        top = (reload.data["asks"][:5], reload.data["bids"][:5])
        partial = depth(subject, reload.data["timestamp"], top, full=False)
        if self.switches.first_depth == "partial":
            self._deliver(partial, [client])
            return
        if self.early_deltas:
            self.early_deltas -= 1
            self._deliver(partial, [client])
        self._deliver(reload, [client])

    def _say(self, client: Client, text: bytes) -> None:
        client.line.write(wire.frame(text))

    def _ack(self, client: Client, request: Request) -> None:
        if self.switches.ack:
            self._say(client, wire.ack(request))

    def _fail(self, client: Client, request: Request, message: str) -> None:
        self._say(client, wire.failure(request.id, wire.OTHER_ERROR, message))

    # Events

    def publish(self, event: Event) -> None:
        """Something happened on the exchange: it is true now, and whoever follows it is told."""
        self.truth.apply(event)
        self.events_published += 1
        self.tell(event)

    def tell(self, event: Event) -> None:
        """Send an event to whoever follows its channel without making it true."""
        self._deliver(event, list(self.clients.values()))

    def shout(self, frame: bytes) -> None:
        """Raw bytes to every socket."""
        for client in list(self.clients.values()):
            client.line.write(frame)

    def _deliver(self, event: Event, clients: Iterable[Client]) -> None:
        followers = [client for client in clients if client.follows(event.kind, event.subject)]
        if not followers or self.switches.mute:
            return
        if self._lost(event):
            self.events_lost += 1
            return
        frame = wire.frame(self._text(event))
        for client in followers:
            client.line.write(frame)
            client.events += 1
        self.events_sent += len(followers)

    def _lost(self, event: Event) -> bool:
        if event.channel == self.switches.drop_channel:
            return True
        if not self.switches.drop_every:
            return False
        self._turn = (self._turn + 1) % self.switches.drop_every
        return self._turn == 0

    def _text(self, event: Event) -> bytes:
        data = event.data
        if (
            event.kind != "depth"
            or not self.switches.omit_unchanged_side
            or data["full_reload"]
            or (data.get("asks") and data.get("bids"))
        ):
            return event.text
        changed = {name: value for name, value in data.items() if value != []}
        return wire.event("depth", changed).text
