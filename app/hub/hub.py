"""The fan-out inside a process: every event encoded once, shared by all, nobody waited for.

Live subscriptions with the same channels form a group and share the same bytes, one write each.
What a client's outlet cannot take makes it lag: it leaves its group, nothing is kept for it, and it
catches up when the outlet has drained. Single-threaded; nothing that writes awaits.
"""

import asyncio
import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from app.domain.channel import Channel, Kind
from app.domain.event import Entry
from app.domain.health import Health, Upstream
from app.domain.position import START, Position
from app.domain.store import Store
from app.errors import NotReady
from app.hub import sse
from app.hub.collector import Collector
from app.hub.early import Early
from app.hub.groups import Groups, chunk
from app.hub.history import History
from app.hub.recall import Older, Recall
from app.hub.stalls import Stalls
from app.hub.status import Status
from app.hub.subscription import SLICE, End, Outlet, Subscription
from app.hub.watchers import Watchers
from app.telemetry import Metrics

FLUSH = 0.5
"""Seconds that the clients have, in the end, to take what was written to them."""


@dataclass(frozen=True, slots=True)
class HubOptions:
    """Events kept for resuming; seconds between heartbeats, and of a stream's life."""

    history: int = 100_000
    heartbeat: float = 15.0
    lifetime: float = 3600.0


class Hub:
    """All event streams of a process, fed by the broker, reading the replica's store."""

    def __init__(
        self,
        store: Store,
        options: HubOptions,
        metrics: Metrics,
        *,
        older: Older | None = None,
    ) -> None:
        self.store = store
        self.health: Health | None = None
        self._status = Status()
        self._options = options
        self._metrics = metrics
        self._counts = {kind: metrics.events.labels(kind) for kind in Kind}
        self._history = History(options.history)
        self._groups = Groups()
        self.collector = Collector(self._groups, metrics, on_written=self._let_live)
        self._subscriptions: dict[Subscription, None] = {}
        self._catching_up: dict[Subscription, None] = {}
        self._arrived: dict[Subscription, None] = {}
        self._early = Early(self._resume_at)
        self.recall = Recall(self._history, older, self._resume_or_reset)
        self.stalls = Stalls(self._subscriptions, self._stalled)
        self._watchers = Watchers()
        self.now = asyncio.get_running_loop().time
        self._empty = asyncio.Event()
        self.draining = False
        self.loaded = False

    @property
    def status(self) -> tuple[Upstream, float]:
        """How the exchange is heard, and since when, Unix seconds."""
        return self._status.upstream, self._status.since

    def __len__(self) -> int:
        return len(self._subscriptions)

    @property
    def catching_up(self) -> int:
        """How many streams are not live."""
        return len(self._catching_up)

    # What the broker says

    def reload(self, head: Position | None) -> None:
        """The store was loaded anew: what lies between is not in the history."""
        self.loaded = True
        self.collector.write()
        self.collector.start(head or START)
        self._history.start(head or START)
        for subscription in self._subscriptions:
            if subscription.live:
                self._unlive(subscription)
            if not self._waits(subscription) and not subscription.ended:
                self._reset(subscription, "history_expired")
        for subscription in list(self._subscriptions):
            if not self._waits(subscription):
                self._feed(subscription)
        self._watchers.wake()

    def publish(self, entry: Entry) -> None:
        """Put an entry, which the store contains already, before every client that follows it."""
        for envelope in entry.envelopes:
            channel = envelope.channel
            frame = sse.frame(envelope)
            self._history.add(envelope.position, channel, frame)
            self._groups.collect(channel, frame)
            self._counts[channel.kind].inc()
            if envelope.gap:
                self._metrics.gaps.labels(channel.kind).inc()
        if not entry.envelopes:
            self._history.mark(entry.position)
        self.collector.publish(entry)
        self._early.admit(entry.position)
        if self._watchers:
            self._watchers.wake({envelope.channel for envelope in entry.envelopes})

    def report(self, health: Health | None, status: Upstream, since: float) -> None:
        """Take the leader's health (None: nobody leads), and tell every client a changed status."""
        self.health = health
        if not self._status.change(status, since):
            return
        for subscription in self._subscriptions:
            if subscription.takes_more():
                self._tell_status(subscription)

    # What clients do

    def join(
        self,
        channels: frozenset[Channel],
        outlet: Outlet,
        after: str | None,
        *,
        on_left: Callable[[Subscription], None] = lambda _: None,
        permitted: Callable[[], bool] | None = None,
    ) -> Subscription:
        """Give a client its place: after a position it names, or from the current state on.

        It keeps it until its outlet says that the client is gone; ``on_left`` is called then. It is
        ended within about a second once it is not ``permitted`` any more; None: it always is.
        """
        ends_at = self.now() + self._options.lifetime * random.uniform(0.8, 1.0)  # noqa: S311 -- jitter
        subscription = Subscription(
            channels, outlet, self, ends_at=ends_at, on_left=on_left, permitted=permitted
        )
        outlet.owner = subscription
        self._subscriptions[subscription] = None
        self._catching_up[subscription] = None
        self._metrics.streams.set(len(self._subscriptions))
        self._write(subscription, self._status.opening)
        subscription.told = self._status.version
        self._start(subscription, after)
        if self.draining:  # it was let in before, and has waited for its turn since
            self.end(subscription, "drain")
        return subscription

    def leave(self, subscription: Subscription) -> None:
        """Its client is gone."""
        subscription.ended = subscription.ended or "gone"
        self._unlive(subscription)
        self._forget(subscription)
        self._catching_up.pop(subscription, None)
        del self._subscriptions[subscription]
        self._metrics.streams.set(len(self._subscriptions))
        if not self._subscriptions:
            self._empty.set()
        subscription.on_left(subscription)

    def end(self, subscription: Subscription, reason: End) -> None:
        """Say goodbye and close; a client that is not reading just has its connection dropped."""
        self._metrics.streams_ended.labels(reason).inc()
        self._unlive(subscription)
        self._forget(subscription)
        subscription.ended = reason
        if subscription.paused:
            subscription.outlet.abort()
            return
        self._write(subscription, bye(reason))
        subscription.outlet.close()

    def require_open(self) -> None:
        """Raise NotReady when this process is starting or shutting down."""
        if not self.loaded:
            raise NotReady("this process is starting: the state is not loaded yet")
        if self.draining:
            raise NotReady("this process is shutting down")

    async def changed(self, channel: Channel) -> None:
        """Wait for the next event on a channel; raises NotReady when this process is not open."""
        self.require_open()
        await self._watchers.wait(channel)
        self.require_open()

    # What time does

    def tick(self) -> None:
        """Heartbeats to idle groups; ends streams that are old."""
        now = self.now()
        for group in self._groups:
            if now - group.written >= self._options.heartbeat:
                group.write(chunk(sse.HEARTBEAT) if group.framed else sse.HEARTBEAT, now)
        for subscription in list(self._subscriptions):
            if (reason := subscription.over(now)) is not None:
                self.end(subscription, reason)
        self._metrics.streams_lagging.set(len(self._catching_up))

    async def run(self) -> None:
        """Tick until cancelled."""
        while True:
            await asyncio.sleep(min(1.0, self._options.heartbeat / 4))
            self.tick()

    def close(self) -> None:
        """End every stream at once, as nothing will feed them any more."""
        self.draining = True
        self._watchers.wake()
        for subscription in list(self._subscriptions):
            if not subscription.ended:
                self.end(subscription, "drain")

    async def drain(self, seconds: float) -> None:
        """End every stream, spread over some seconds; new ones are refused from here on."""
        self.draining = True
        self._watchers.wake()
        leaving = list(self._subscriptions)
        started = self.now()
        for number, subscription in enumerate(leaving):
            due = started + seconds * number / len(leaving)
            if due > self.now():
                await asyncio.sleep(due - self.now())
            if subscription in self._subscriptions and not subscription.ended:
                self.end(subscription, "drain")

    async def flush(self) -> None:
        """Let who was ended take its last bytes; who has not by then is not reading: drop it."""
        self._empty.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(FLUSH if self._subscriptions else 0):
                await self._empty.wait()
        for subscription in list(self._subscriptions):
            subscription.outlet.abort()

    # How it is done

    def _start(self, subscription: Subscription, after: str | None) -> None:
        if not after:
            self._feed(subscription)
            return
        position = Position.parse(after)
        if position is None:
            self._reset(subscription, "unknown_position")
            self._feed(subscription)
        elif position > self._history.head:
            self._early.hold(subscription, position)
        else:
            self._resume_at(subscription, position)

    def _resume_at(self, subscription: Subscription, position: Position) -> None:
        """Resume out of the history, or wait for what the broker has kept from before it."""
        expired = self._history.refusal(position) == "history_expired"
        if not (expired and self.recall.ask(subscription, position)):
            self._resume_or_reset(subscription, position)

    def _resume_or_reset(self, subscription: Subscription, position: Position) -> None:
        refusal = self._history.refusal(position)
        if refusal is None:
            subscription.at = position
            subscription.by_history = True
        else:
            self._reset(subscription, refusal)
        self._feed(subscription)

    def _waits(self, subscription: Subscription) -> bool:
        """Whether it is held back until its position is known here."""
        return subscription in self._early or subscription in self.recall

    def _forget(self, subscription: Subscription) -> None:
        self._early.forget(subscription)
        self.recall.forget(subscription)

    def _reset(self, subscription: Subscription, reason: str) -> None:
        subscription.at = START
        subscription.by_history = False
        self._write(subscription, sse.control({"type": "reset", "reason": reason}))

    def _feed(self, subscription: Subscription) -> None:
        """Bring a subscription on until it is live, its outlet is full, or its turn is over."""
        if subscription.live or not subscription.takes_more():
            return
        self._tell_status(subscription)
        if subscription.by_history and self._history.refusal(subscription.at):
            self._reset(subscription, "history_expired")
        if not subscription.takes_more():
            return  # what was just written has filled the outlet
        data = subscription.slice(self.store, self._history)
        if data:
            self._write(subscription, data)
        if data is None:
            self._go_live(subscription)
        elif len(data) < SLICE and (
            not subscription.by_history or subscription.at == self._history.head
        ):
            self._feed(subscription)
        else:
            asyncio.get_running_loop().call_soon(self._feed, subscription)

    def pause(self, subscription: Subscription) -> None:
        """The outlet is full: the subscription lags from here on."""
        subscription.paused = True
        if subscription.live or subscription in self._arrived:
            subscription.lagging = True
            subscription.by_history = False
            self._arrived.pop(subscription, None)
            self._unlive(subscription)

    def resume(self, subscription: Subscription) -> None:
        """The outlet has drained: catch up, or end what must not miss an event and did."""
        subscription.paused = False
        if subscription.ended or self._waits(subscription):
            return
        if subscription.lagging and subscription.each_counts and subscription.owed(self.store):
            self.end(subscription, "slow")
        else:
            self._feed(subscription)

    def _go_live(self, subscription: Subscription) -> None:
        """Put it among the others, once what they are yet to be written is written.

        Until then it is a cursor into the history at its head.
        """
        if self._groups.due:
            subscription.at = self._history.head
            subscription.by_history = True
            self._arrived[subscription] = None
            return
        subscription.lagging = subscription.by_history = False
        self._catching_up.pop(subscription, None)
        self._groups.join(subscription, self.now())

    def _let_live(self) -> None:
        arrived, self._arrived = self._arrived, {}
        for subscription in arrived:
            self._feed(subscription)

    def _unlive(self, subscription: Subscription) -> None:
        if not subscription.live:
            return
        subscription.at = self.collector.sent
        self._catching_up[subscription] = None
        self._groups.leave(subscription)

    def _stalled(self, subscription: Subscription) -> None:
        if not subscription.ended:
            subscription.ended = "stalled"
            self._metrics.streams_ended.labels("stalled").inc()
            self._unlive(subscription)
            self._forget(subscription)
        subscription.outlet.abort()

    def _tell_status(self, subscription: Subscription) -> None:
        if subscription.told != self._status.version:
            subscription.told = self._status.version
            self._write(subscription, self._status.block)

    def _write(self, subscription: Subscription, data: bytes) -> None:
        outlet = subscription.outlet
        ready = chunk(data) if outlet.framed else data
        subscription.bytes += len(ready)
        self._metrics.stream_bytes.inc(len(ready))
        outlet.write(ready)


def bye(reason: End) -> bytes:
    """The last block of a stream; ``retry`` is spread so that clients do not return at once."""
    longest = 30_000 if reason in {"overload", "limit"} else 5_000
    retry = random.randint(longest // 5, longest)  # noqa: S311 -- jitter
    return sse.control({"type": "bye", "reason": reason, "retry": retry}, retry=retry)
