"""What is true of a process at the moment it is asked: the metrics that nobody keeps."""

import asyncio
import platform
import time
from collections import Counter
from collections.abc import Iterator
from typing import get_args

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from app import __version__
from app.api.deps import Limits
from app.domain.channel import Kind
from app.domain.health import Upstream
from app.hub.hub import Hub
from app.hub.wishes import Wishes


class Vitals(Collector):
    """Looks at the objects of a process when its metrics are read, in its event loop."""

    def __init__(self, hub: Hub, wishes: Wishes, limits: Limits) -> None:
        self._hub = hub
        self._wishes = wishes
        self._limits = limits

    def collect(self) -> Iterator[Metric]:
        """The gauges of this moment."""
        build = GaugeMetricFamily(
            "sluice_build_info", "Always 1", labels=("version", "python_version")
        )
        build.add_metric((__version__, platform.python_version()), 1)
        yield build
        yield GaugeMetricFamily(
            "sluice_tasks", "Tasks of the event loop", value=len(asyncio.all_tasks())
        )
        yield from self._upstream()
        yield from self._freshness(time.time())
        yield from self._use()

    def _upstream(self) -> Iterator[Metric]:
        hub = self._hub
        status = GaugeMetricFamily(
            "sluice_upstream_status", "1 at how the exchange is heard", labels=("status",)
        )
        for one in get_args(Upstream):
            status.add_metric((one,), one == hub.status[0])
        yield status
        yield GaugeMetricFamily(
            "sluice_leader_heard",
            "Whether a leader is heard here",
            value=hub.health is not None,
        )
        head = hub.store.head
        yield GaugeMetricFamily(
            "sluice_journal_epoch", "The epoch of the last event here", value=head.epoch
        )
        yield GaugeMetricFamily(
            "sluice_journal_sequence", "The number of the last event here", value=head.sequence
        )

    def _freshness(self, now: float) -> Iterator[Metric]:
        age = GaugeMetricFamily(
            "sluice_data_age_seconds", "Since the kind's newest event was read", labels=("kind",)
        )
        for kind in Kind:
            heard = max((state.received for state in self._hub.store.of_kind(kind)), default=None)
            if heard is not None:
                age.add_metric((kind,), now - heard)
        yield age
        health = self._hub.health
        following = {} if health is None else health.following
        after = self._limits.stale_after
        followed = Counter(channel.kind for channel in following)
        stale = Counter(
            channel.kind
            for channel, one in following.items()
            if not one.live and now - one.since >= after
        )
        for name, text, counts in (
            ("sluice_channels_followed", "Channels followed, a wildcard counts once", followed),
            ("sluice_channels_stale", "Those not confirmed for SLUICE_STALE_AFTER", stale),
        ):
            family = GaugeMetricFamily(name, text, labels=("kind",))
            for kind in Kind:
                family.add_metric((kind,), counts[kind])
            yield family

    def _use(self) -> Iterator[Metric]:
        hub, wishes, limits = self._hub, self._wishes, self._limits
        wanted = len(wishes.wanted(hub.now()) - wishes.pinned)
        for name, text, value in (
            ("sluice_channels_on_demand", "Channels followed on demand", wanted),
            ("sluice_channels_on_demand_limit", "SLUICE_MAX_FOLLOWED", limits.followed),
            ("sluice_streams_limit", "SLUICE_MAX_STREAMS", limits.streams),
            ("sluice_draining", "Whether this process is shutting down", hub.draining),
        ):
            yield GaugeMetricFamily(name, text, value=value)
