"""Counters and gauges of a holder's process, in the text format of Prometheus."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from ledger.server.process.metrics import PREFIX

HOLDER_METRICS_PREFIX = PREFIX + "holder_"

_HELP = {
    "elements": "Blinded elements evaluated, by control group.",
    "elements_refused": "Blinded elements refused, by control group and limit (burst, daily).",
    "tokens_refused": "Requests refused for their token, by code.",
}
_LABELS = {
    "elements": ("control_group",),
    "elements_refused": ("control_group", "limit"),
    "tokens_refused": ("code",),
}


class HolderMetrics(Collector):
    """The counters of this process since its start, and the gauges of `gauges`. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[str, Counter[tuple[str, ...]]] = {name: Counter() for name in _HELP}
        self._registry = CollectorRegistry()
        self._registry.register(self)
        self.gauges: Callable[[], Iterator[Metric]] = lambda: iter(())

    def count_evaluated(self, control_group: str, elements: int) -> None:
        """Count elements evaluated."""
        with self._lock:
            self._counts["elements"][control_group,] += elements

    def count_refused(self, control_group: str, limit: str, elements: int) -> None:
        """Count elements over the budget `limit` (burst or daily)."""
        with self._lock:
            self._counts["elements_refused"][control_group, limit] += elements

    def count_token(self, code: str) -> None:
        """Count a request that was refused for its token."""
        with self._lock:
            self._counts["tokens_refused"][code,] += 1

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
            family = CounterMetricFamily(HOLDER_METRICS_PREFIX + name, text, labels=_LABELS[name])
            for labels, value in sorted(counts[name].items()):
                family.add_metric(labels, value)
            yield family
        yield from self.gauges()


def holder_gauge(name: str, text: str, value: float) -> Metric:
    """Return a gauge without labels."""
    return GaugeMetricFamily(HOLDER_METRICS_PREFIX + name, text, value=float(value))
