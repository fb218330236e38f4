"""One number, one unbroken run: whatever the exchange does with a repeated subscribe."""

import json
from collections import deque
from itertools import count
from typing import Any, Literal

from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.channel import Channel, Kind
from app.domain.event import Event
from app.telemetry import Metrics
from app.upstream.session import Session, SessionOptions

Policy = Literal["replace", "merge", "reject", "reject and drop"]
SYMBOLS = ("A_B", "B_C", "C_D")


class Exchange:
    """What is true, who gets it, and both directions of a slow wire."""

    def __init__(self, policy: Policy, *, partial: bool) -> None:
        self.policy = policy
        self.partial = partial
        self.truth: dict[str, int] = {}
        self.subscribed: dict[str, set[str]] = {"ticker": set(), "depth": set()}
        self.requests: deque[dict[str, Any]] = deque()
        self.frames: deque[dict[str, Any]] = deque()

    def serve(self) -> None:
        """Answer one request."""
        if not self.requests:
            return
        request = self.requests.popleft()
        if request["method"] == "ping":
            self.frames.append({"id": request["id"], "method": "pong", "data": None})
            return
        kind, verb = request["method"].split("_")
        wanted = set(request["params"])
        if verb == "unsubscribe":
            self.subscribed[kind] -= self.subscribed[kind] if "all" in wanted else wanted
            self._reply(request)
        else:
            self._subscribe(request, kind, wanted)

    def _subscribe(self, request: dict[str, Any], kind: str, wanted: set[str]) -> None:
        held = self.subscribed[kind]
        if held and self.policy.startswith("reject"):
            if self.policy == "reject and drop":
                held.clear()
            self._reply(request, error={"message": "already", "code": 2})
            return
        fresh = wanted - held if self.policy == "merge" else wanted
        self.subscribed[kind] = held | wanted if self.policy == "merge" else wanted
        self._reply(request)
        if kind == "depth" and not self.partial:
            for subject in sorted(fresh):
                self._tell("depth", subject, full=True)

    def _reply(self, request: dict[str, Any], error: dict[str, Any] | None = None) -> None:
        data = None if error else {"status": "success"}
        self.frames.append({"id": request["id"], "data": data, "error": error})

    def emit(self, kind: str, symbol: str, *, full: bool) -> None:
        """Something happens, heard or not."""
        subject = f"{symbol}:0" if kind == "depth" else symbol
        self.truth[f"{kind}:{subject}"] = self.truth.get(f"{kind}:{subject}", 0) + 1
        if self.subscribed[kind] & {"all", subject}:
            self._tell(kind, subject, full=full)

    def _tell(self, kind: str, subject: str, *, full: bool) -> None:
        at = self.truth.get(f"{kind}:{subject}", 0)
        data: dict[str, Any] = {"symbol": subject.split(":", maxsplit=1)[0], "timestamp": at}
        if kind == "depth":
            data |= {"full_reload": full, "scale_index": 0}
        else:
            amounts = ("price", "open", "high", "low", "volume", "quote_volume", "price_change")
            data |= dict.fromkeys(amounts, "1")
        self.frames.append({"id": 0, "method": f"{kind}_update", "data": data, "error": None})


def check(events: list[Event]) -> None:
    """No step within a run leaves anything out, and a book begins with a reload."""
    last: dict[Channel, Event] = {}
    for event in events:
        before = last.get(event.channel)
        last[event.channel] = event
        same_run = before is not None and before.continuity == event.continuity
        if event.full:
            continue
        if event.channel.kind is Kind.DEPTH:
            assert same_run, "a delta without the reload it builds on"
        if same_run:
            assert before is not None
            assert before.time is not None
            assert event.time == before.time + 1, f"{event.channel} lost something"


WANTS = [Channel(Kind.TICKER, name) for name in (*SYMBOLS, "*")]
WANTS += [Channel(Kind.DEPTH, f"{name}:0") for name in SYMBOLS]
SOME = [WANTS[0], WANTS[3], WANTS[4], WANTS[5]]
STEPS = st.one_of(
    st.tuples(st.just("want"), st.frozensets(st.sampled_from(SOME))),
    st.tuples(st.just("want"), st.frozensets(st.sampled_from(WANTS), min_size=1)),
    st.tuples(st.just("turn"), st.sampled_from([0.1, 1.0, 1.0, 4.0])),
    st.tuples(st.just("serve"), st.just(0)),
    st.tuples(st.just("deliver"), st.integers(1, 9)),
    st.tuples(st.just("wait"), st.sampled_from([0.1, 1.0, 3.0, 6.0])),
    st.tuples(st.just("reload"), st.sampled_from(SYMBOLS)),
    st.tuples(st.just("garbage"), st.just(0)),
)
POLICIES = st.sampled_from(["replace", "merge", "reject", "reject and drop"])


class World:
    def __init__(self, policy: Policy, *, partial: bool) -> None:
        self.exchange = Exchange(policy, partial=partial)
        self.now = 0.0
        self.events: list[Event] = []
        options = SessionOptions(garbage_limit=1000, mute_after=1e9, pong_timeout=1e9)
        self.session = Session("x", 0.0, options=options, metrics=Metrics(), runs=count(1))

    def step(self, what: str, *values: Any) -> None:
        """Do one thing, before and after which something happens on every channel."""
        match what:
            case "want":
                self.session.want(values[0], self.now)
            case "reload":
                self.exchange.emit("depth", values[0], full=True)
            case "serve":
                self.exchange.serve()
            case "deliver":
                self.deliver(values[0])
            case "wait":
                self.wait(values[0])
            case "turn":
                self.turn(values[0])
            case _:
                if self.exchange.frames:  # what was garbled was perhaps an event
                    self.exchange.frames[0] = {}
        self.exchange.requests.extend(json.loads(one) for one in self.session.outgoing())
        for symbol in SYMBOLS:
            for kind in ("ticker", "depth"):
                self.exchange.emit(kind, symbol, full=False)

    def deliver(self, frames: int) -> None:
        for _ in range(min(frames, len(self.exchange.frames))):
            frame = json.dumps(self.exchange.frames.popleft())
            self.session.receive(frame, self.now, self.now)
        self.events += self.session.events()

    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.session.wake(self.now)

    def turn(self, seconds: float) -> None:
        """Time passes, and everything is served and delivered."""
        self.step("wait", seconds)
        self.step("deliver", 100)
        while self.exchange.requests:
            self.step("serve")
            self.step("deliver", 100)
        self.deliver(100)


@settings(max_examples=200)
@given(POLICIES, st.booleans(), st.lists(STEPS, max_size=40))
def test_within_a_run_nothing_is_missing(
    policy: Policy, partial: bool, steps: list[tuple[Any, ...]]
) -> None:
    world = World(policy, partial=partial)
    for step in steps:
        world.step(*step)
        if world.session.fault is not None:
            break
    check(world.events)


@settings(max_examples=50)
@given(POLICIES, st.lists(STEPS, max_size=25), st.frozensets(st.sampled_from(WANTS), min_size=1))
def test_in_the_end_exactly_what_is_wanted_is_confirmed_and_heard(
    policy: Policy, steps: list[tuple[Any, ...]], wanted: frozenset[Channel]
) -> None:
    world = World(policy, partial=False)
    for step in steps:
        world.step(*step)
    world.step("want", wanted)
    for _ in range(200):
        world.turn(1.0)
    if world.session.fault is not None:
        return
    assert all(world.session.confirmed(channel) for channel in wanted)
    heard = len(world.events)
    world.turn(0.1)
    check(world.events)
    everything = {Channel(Kind.TICKER, name) for name in SYMBOLS}
    expected = {one for one in wanted if not one.wildcard}
    expected |= everything if Channel(Kind.TICKER, "*") in wanted else set()
    assert {event.channel for event in world.events[heard:]} == expected
