"""Counters and other metrics of one process, in the text format of Prometheus."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

PREFIX = "refund_ledger_"
"""The prefix of every metric's name."""

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


class Metrics(Collector):
    """The counters of this process since its start. Thread-safe; counting takes one short lock."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[str, Counter[tuple[str, ...]]] = {name: Counter() for name in _HELP}
        self._registry = CollectorRegistry()
        self._registry.register(self)
        self.gauges: Callable[[], Iterator[Metric]] = lambda: iter(())
        """Further families of metrics: `ledger.server.jobs.gauges` returns those of a running process."""

    def count_lookups(self, clean: int, disclosed: int, source: str) -> None:
        """Count lookups answered; `source` is memory or database."""
        with self._lock:
            counts = self._counts["lookups"]
            if clean:
                counts["clean", source] += clean
            if disclosed:
                counts["disclosed", source] += disclosed

    def count_evaluated(self, platform: str, elements: int) -> None:
        """Count blinded elements evaluated."""
        with self._lock:
            self._counts["oprf_elements"][platform,] += elements

    def count_refused(self, platform: str, limit: str) -> None:
        """Count a batch of blinded elements over the budget `limit` (burst or daily)."""
        with self._lock:
            self._counts["oprf_refused"][platform, limit] += 1

    def count_bucket(self, platform: str) -> None:
        """Count a bucket of a snapshot served."""
        with self._lock:
            self._counts["bucket_fetches"][platform,] += 1

    def count_alarm(self, platform: str, kind: str) -> None:
        """Count an alarm raised; `kind` is misses or bucket_scan."""
        with self._lock:
            self._counts["alarms"][platform, kind] += 1

    def text(self) -> bytes:
        """Return all metrics in the text format of Prometheus, from memory."""
        return generate_latest(self._registry)

    def describe(self) -> Iterator[Metric]:
        """Return no family: nothing is collected when the collector is registered."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """Yield the families of metrics for `prometheus_client`."""
        with self._lock:
            counts = {name: dict(counter) for name, counter in self._counts.items()}
        for name, text in _HELP.items():
            family = CounterMetricFamily(PREFIX + name, text, labels=_LABELS[name])
            for labels, value in sorted(counts[name].items()):
                family.add_metric(labels, value)
            yield family
        yield from self.gauges()
