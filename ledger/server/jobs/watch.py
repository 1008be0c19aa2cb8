"""What an operator should see: counters for `/metrics`, and alarms as log events.

Two alarms look for somebody who enumerates people. **misses**: a platform whose lookups of a day meet almost nobody.
Refund reviews meet listed people far more often than numbers that were made up. **bucket_scan**: a platform that
fetched a large share of a snapshot's buckets one by one, instead of downloading them. An alarm blocks nothing: it is a
reason to ask the platform, and its log event names the platform and figures only.

The counters are this process's own. The miss alarm reads the counts that all processes share.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy import Engine

from ledger.protocol.encoding import day_floor
from ledger.server.db.engine import reading
from ledger.server.lookups.queries import read_counts
from ledger.server.process.supervision import Worker
from ledger.server.settings import Settings
from ledger.server.snapshots.builder import capacity_alarms

CHECK_SECONDS = 60.0
"""How often the shared counts are looked at."""

MIN_BUCKETS = 64
"""A smaller snapshot is fetched as a whole by everybody; nothing follows from it."""

_PREFIX = "refund_ledger_"
_HELP = {
    "lookups": "Direct lookups answered, by answer (clean, disclosed) and by where it came from (memory, database).",
    "oprf_elements": "Blinded elements evaluated, by platform.",
    "oprf_refused": "Batches of blinded elements refused, by platform and limit (burst, daily).",
    "bucket_fetches": "Buckets served, by platform.",
    "alarms": "Alarms raised, by platform and kind (misses, bucket_scan).",
}
_LABELS = {
    "lookups": ("answer", "source"),
    "oprf_elements": ("platform",),
    "oprf_refused": ("platform", "limit"),
    "bucket_fetches": ("platform",),
    "alarms": ("platform", "kind"),
}

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Fetched:
    """Which buckets of a snapshot a platform has fetched: one bit each, and how many are set."""

    seen: bytearray
    distinct: int = 0


class Watch(Collector):
    """See the module. Thread-safe; counting takes one short lock."""

    def __init__(self, settings: Settings, engine: Engine, now: Callable[[], datetime]) -> None:
        self._settings = settings
        self._engine = engine
        self._now = now
        self._lock = threading.Lock()
        self._counts: dict[str, Counter[tuple[str, ...]]] = {name: Counter() for name in _HELP}
        self._fetched: dict[tuple[str, bytes], _Fetched] = {}
        self._raised: set[tuple[str, str, object]] = set()
        self._registry = CollectorRegistry()
        self._registry.register(self)
        self.gauges: Callable[[], Iterator[Metric]] = lambda: iter(())
        """Further families of metrics, of which `ledger.server.jobs.gauges` makes those of a running process."""
        self.worker = Worker(
            "watch",
            self.check_misses,
            seconds=CHECK_SECONDS,
            delay_seconds=CHECK_SECONDS,
            patience_seconds=5 * CHECK_SECONDS,
        ).start()

    def close(self, timeout_seconds: float | None = None) -> None:
        """Stop looking."""
        self.worker.close(timeout_seconds)

    # --- counting -------------------------------------------------------------------------------------------------

    def looked_up(self, clean: int, disclosed: int, source: str) -> None:
        """Lookups answered; `source` is memory or database."""
        with self._lock:
            counts = self._counts["lookups"]
            if clean:
                counts["clean", source] += clean
            if disclosed:
                counts["disclosed", source] += disclosed

    def evaluated(self, platform: str, elements: int) -> None:
        """Blinded elements evaluated."""
        with self._lock:
            self._counts["oprf_elements"][platform,] += elements

    def refused(self, platform: str, limit: str) -> None:
        """A batch over a budget."""
        with self._lock:
            self._counts["oprf_refused"][platform, limit] += 1

    def bucket(self, platform: str, version: bytes, prefix: int, bits: int) -> None:
        """A bucket served. Which ones a platform fetched is kept in memory only, as one bit each, for the alarm."""
        size = 1 << bits
        with self._lock:
            self._counts["bucket_fetches"][platform,] += 1
            fetched = self._fetched.get((platform, version))
            if fetched is None:
                # Of a platform's older snapshots nothing needs to be known any more.
                for old in [key for key in self._fetched if key[0] == platform]:
                    del self._fetched[old]
                fetched = self._fetched[platform, version] = _Fetched(bytearray(max(1, size // 8)))
            bit = 1 << (prefix & 7)
            if fetched.seen[prefix >> 3] & bit:
                return
            fetched.seen[prefix >> 3] |= bit
            fetched.distinct += 1
            distinct = fetched.distinct
        if size >= MIN_BUCKETS and distinct >= self._settings.alarm_bucket_share * size:
            self._alarm("bucket_scan", platform, version, distinct=distinct, buckets=size)

    # --- alarms ---------------------------------------------------------------------------------------------------

    def check_misses(self) -> None:
        """Raise the alarm of misses where it is due. Raises DatabaseUnavailable."""
        day = day_floor(self._now())
        with reading(self._engine) as connection:
            counts = read_counts(connection, day)
        for platform, clean, disclosed in counts:
            total = clean + disclosed
            if total >= self._settings.alarm_lookups_min and clean > self._settings.alarm_miss_share * total:
                self._alarm("misses", platform, day, lookups=total, disclosed=disclosed)

    def _alarm(self, kind: str, platform: str, period: object, **figures: int) -> None:
        """Once for each platform and period (a UTC day, a snapshot)."""
        with self._lock:
            if (kind, platform, period) in self._raised:
                return
            self._raised = {one for one in self._raised if one[:2] != (kind, platform)} | {(kind, platform, period)}
            self._counts["alarms"][platform, kind] += 1
        log.warning(f"alarm_{kind}", extra={"platform": platform, **figures})

    # --- metrics --------------------------------------------------------------------------------------------------

    def text(self) -> bytes:
        """All metrics in the text format of Prometheus. It asks no database, and so never waits for one."""
        return generate_latest(self._registry)

    def describe(self) -> Iterator[Metric]:
        """Nothing is collected when the collector is registered."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """The families, as `prometheus_client` asks for them."""
        with self._lock:
            counts = {name: dict(counter) for name, counter in self._counts.items()}
        for name, text in _HELP.items():
            family = CounterMetricFamily(_PREFIX + name, text, labels=_LABELS[name])
            for labels, value in sorted(counts[name].items()):
                family.add_metric(labels, value)
            yield family
        text = "Snapshots so far whose buckets had to outgrow the formula for their size."
        exceeded = capacity_alarms(self._settings)
        yield GaugeMetricFamily(_PREFIX + "snapshots_over_capacity", text, value=exceeded)
        yield from self.gauges()
