"""The fan-out inside a process: every event encoded once, shared by all, nobody waited for.

Live subscriptions with the same channels form a group and share the same bytes, one write each and
turn. What a client's outlet cannot take makes it lag: it leaves its group, nothing is kept for it,
and it catches up when the outlet has drained. Single-threaded; nothing here awaits.
"""

import asyncio
import random
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from app.domain.channel import Channel, Kind
from app.domain.event import Entry
from app.domain.health import Health, Upstream
from app.domain.position import START, Position
from app.domain.store import Store
from app.errors import NotReady
from app.hub import sse
from app.hub.groups import Group, Groups, chunk
from app.hub.history import History
from app.hub.recall import Older, Recall
from app.hub.subscription import SLICE, End, Outlet, Subscription
from app.telemetry import Metrics

RETRY = 2000
"""The reconnection time that a stream begins with, in ms."""
PATIENCE = 1.0
"""Seconds to wait for a position that this process has not heard of yet."""
STALL = 12.0
"""Seconds after which a client that takes nothing is aborted."""


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
        self.status: tuple[Upstream, float] = ("down", time.time())
        self._options = options
        self._metrics = metrics
        self._counts = {kind: metrics.events.labels(kind) for kind in Kind}
        self._history = History(options.history)
        self._groups = Groups()
        self._subscriptions: dict[Subscription, None] = {}
        self._catching_up: dict[Subscription, None] = {}
        self._early: dict[Subscription, Position] = {}
        self.recall = Recall(self._history, older, self._resume_or_reset)
        self._watchers: dict[Channel, list[asyncio.Future[None]]] = {}
        self._version = 0
        self._status = self._status_block()
        self._now = asyncio.get_running_loop().time
        self.draining = False
        self.loaded = False

    @property
    def catching_up(self) -> int:
        """How many streams are not live."""
        return len(self._catching_up)

    def __len__(self) -> int:
        return len(self._subscriptions)

    # What the broker says

    def reload(self, head: Position | None) -> None:
        """The store was loaded anew: what lies between is not in the history."""
        self.loaded = True
        self._history.start(head or START)
        for subscription in self._subscriptions:
            if subscription.live:
                self._leave(subscription)
            if not self._waits(subscription) and not subscription.ended:
                self._reset(subscription, "history_expired")
        for subscription in list(self._subscriptions):
            if not self._waits(subscription):
                self._feed(subscription)
        self._wake(self._watchers)

    def publish(self, entry: Entry) -> None:
        """Put an entry, which the store contains already, before every client that follows it."""
        touched: dict[Group, list[bytes]] = {}
        for envelope in entry.envelopes:
            channel = envelope.channel
            frame = sse.frame(envelope)
            self._history.add(envelope.position, channel, frame)
            for group in self._groups.following(channel):
                touched.setdefault(group, []).append(frame)
            self._counts[channel.kind].inc()
            if envelope.gap:
                self._metrics.gaps.labels(channel.kind).inc()
        if not entry.envelopes:
            self._history.mark(entry.position)
        now, delivered = self._now(), 0
        for group, frames in touched.items():
            delivered += len(group) * len(frames)
            group.write(frames[0] if len(frames) == 1 else b"".join(frames), now)
        self._metrics.deliveries.inc(delivered)
        if touched:
            self._metrics.delivery_age.observe(time.time() - entry.envelopes[0].received)
        if self._early:
            self._admit_early()
        if self._watchers:
            self._wake({envelope.channel for envelope in entry.envelopes})

    def report(self, health: Health | None, status: Upstream, since: float) -> None:
        """Take the leader's health (None: nobody leads), and tell every client a changed status."""
        self.health = health
        if self.status == (status, since):
            return
        self.status = (status, since)
        self._version += 1
        self._status = self._status_block()
        for subscription in self._subscriptions:
            if subscription.takes_more():
                self._tell_status(subscription)

    # What clients do

    @contextmanager
    def subscribe(
        self, channels: frozenset[Channel], outlet: Outlet, after: str | None
    ) -> Iterator[Subscription]:
        """Give a client its place: after a position it names, or from the current state on."""
        ends_at = self._now() + self._options.lifetime * random.uniform(0.8, 1.0)  # noqa: S311 -- jitter
        subscription = Subscription(channels, outlet, ends_at=ends_at)
        outlet.on_full = partial(self._pause, subscription)
        outlet.on_drained = partial(self._drained, subscription)
        self._subscriptions[subscription] = None
        self._catching_up[subscription] = None
        self._metrics.streams.set(len(self._subscriptions))
        try:
            self._write(subscription, self._status_block(retry=RETRY))
            subscription.told = self._version
            self._start(subscription, after)
            if self.draining:  # it was let in before, and has waited for its turn since
                self.end(subscription, "drain")
            yield subscription
        finally:
            subscription.ended = True
            self._leave(subscription)
            self._forget(subscription)
            self._catching_up.pop(subscription, None)
            del self._subscriptions[subscription]
            self._metrics.streams.set(len(self._subscriptions))

    def end(self, subscription: Subscription, reason: End) -> None:
        """Say goodbye and close; a client that is not reading just has its connection dropped."""
        self._metrics.streams_ended.labels(reason).inc()
        self._leave(subscription)
        self._forget(subscription)
        subscription.ended = True
        if subscription.paused_since is not None:
            self._abort(subscription)
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
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiting = self._watchers.setdefault(channel, [])
        waiting.append(future)
        try:
            await future
            self.require_open()
        finally:
            waiting.remove(future)
            if not waiting and self._watchers.get(channel) is waiting:
                del self._watchers[channel]

    # What time does

    def tick(self) -> None:
        """Heartbeats to idle groups; ends streams that are old; aborts those that take nothing."""
        now = self._now()
        for group in self._groups:
            if now - group.written >= self._options.heartbeat:
                group.write(sse.HEARTBEAT, now)
        for subscription in list(self._catching_up):
            self._check_progress(subscription, now)
        for subscription in list(self._subscriptions):
            if now >= subscription.ends_at and not subscription.ended:
                self.end(subscription, "lifetime")
        self._metrics.streams_lagging.set(len(self._catching_up))

    async def run(self) -> None:
        """Tick until cancelled."""
        while True:
            await asyncio.sleep(min(1.0, self._options.heartbeat / 4))
            self.tick()

    def close(self) -> None:
        """End every stream at once, as nothing will feed them any more."""
        self.draining = True
        self._wake(self._watchers)
        for subscription in list(self._subscriptions):
            if not subscription.ended:
                self.end(subscription, "drain")

    async def drain(self, seconds: float) -> None:
        """End every stream, spread over some seconds; new ones are refused from here on."""
        self.draining = True
        self._wake(self._watchers)
        leaving = list(self._subscriptions)
        started = self._now()
        for number, subscription in enumerate(leaving):
            due = started + seconds * number / len(leaving)
            if due > self._now():
                await asyncio.sleep(due - self._now())
            if subscription in self._subscriptions and not subscription.ended:
                self.end(subscription, "drain")

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
            self._early[subscription] = position
            loop = asyncio.get_running_loop()
            loop.call_later(PATIENCE, self._give_up, subscription)
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
        self._early.pop(subscription, None)
        self.recall.forget(subscription)

    def _admit_early(self) -> None:
        for subscription, position in list(self._early.items()):
            if position <= self._history.head:
                del self._early[subscription]
                self._resume_at(subscription, position)

    def _give_up(self, subscription: Subscription) -> None:
        position = self._early.pop(subscription, None)
        if position is not None:
            self._resume_at(subscription, position)

    def _reset(self, subscription: Subscription, reason: str) -> None:
        subscription.at = START
        subscription.by_history = False
        self._write(subscription, sse.control({"type": "reset", "reason": reason}))

    def _feed(self, subscription: Subscription) -> None:
        """Bring a subscription on until it is live, its outlet is full, or its turn is over."""
        if not subscription.takes_more():
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
        elif len(data) < SLICE and not subscription.by_history:  # the end of a run: live at once
            self._feed(subscription)
        else:
            asyncio.get_running_loop().call_soon(self._feed_on, subscription)

    def _feed_on(self, subscription: Subscription) -> None:
        if not subscription.live:
            self._feed(subscription)

    def _pause(self, subscription: Subscription) -> None:
        """The outlet is full: the subscription lags from here on."""
        subscription.paused_since = self._now()
        subscription.undrained = subscription.outlet.backlog()
        if subscription.live:
            subscription.lagging = True
            self._leave(subscription)

    def _drained(self, subscription: Subscription) -> None:
        """The outlet has drained: catch up, or end what must not miss an event and did."""
        subscription.paused_since = None
        if subscription.ended or self._waits(subscription):
            return
        if subscription.lagging and subscription.each_counts and subscription.owed(self.store):
            self.end(subscription, "slow")
        else:
            self._feed(subscription)

    def _go_live(self, subscription: Subscription) -> None:
        subscription.live = True
        subscription.lagging = subscription.by_history = False
        self._catching_up.pop(subscription, None)
        self._groups.join(subscription, self._now())

    def _leave(self, subscription: Subscription) -> None:
        if not subscription.live:
            return
        subscription.live = False
        subscription.at = self._history.head
        self._catching_up[subscription] = None
        self._groups.leave(subscription)

    def _check_progress(self, subscription: Subscription, now: float) -> None:
        if subscription.paused_since is None:
            return
        backlog = subscription.outlet.backlog()
        if backlog < subscription.undrained:
            subscription.paused_since, subscription.undrained = now, backlog
        elif now - subscription.paused_since >= STALL:
            self._metrics.streams_ended.labels("stalled").inc()
            self._abort(subscription)

    @staticmethod
    def _abort(subscription: Subscription) -> None:
        subscription.ended = True
        subscription.paused_since = None
        subscription.outlet.abort()

    def _tell_status(self, subscription: Subscription) -> None:
        if subscription.told != self._version:
            subscription.told = self._version
            self._write(subscription, self._status)

    def _status_block(self, *, retry: int | None = None) -> bytes:
        upstream, since = self.status
        fields: dict[str, Any] = {"type": "status", "upstream": upstream, "since": round(since, 3)}
        return sse.control(fields, retry=retry)

    @staticmethod
    def _write(subscription: Subscription, data: bytes) -> None:
        outlet = subscription.outlet
        ready = chunk(data) if outlet.framed else data
        if subscription.paused_since is not None:
            subscription.undrained += len(ready)  # so that it hides no progress
        outlet.write(ready)

    def _wake(self, channels: Iterable[Channel]) -> None:
        for channel in list(channels):
            for future in self._watchers.pop(channel, ()):
                if not future.done():
                    future.set_result(None)


def bye(reason: End) -> bytes:
    """The last block of a stream; ``retry`` is spread so that clients do not return at once."""
    longest = 30_000 if reason in {"overload", "limit"} else 5_000
    retry = random.randint(longest // 5, longest)  # noqa: S311 -- jitter
    return sse.control({"type": "bye", "reason": reason, "retry": retry}, retry=retry)
