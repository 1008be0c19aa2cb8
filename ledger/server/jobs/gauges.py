"""Metrics of a running process, from memory: the last heartbeat, the state of its threads and of its
maintenance jobs."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from ledger.server.jobs.readiness import ProcessState, readiness, write_readiness
from ledger.server.process.metrics import PREFIX
from ledger.server.snapshots.builder import capacity_alarms


def gauges(process: ProcessState) -> Iterator[Metric]:
    """Yield the families of metrics of a running process, from memory."""
    text = "Snapshots so far whose buckets had to outgrow the formula for their size."
    yield _gauge("snapshots_over_capacity", text, capacity_alarms(process.settings))
    yield from _database(process)
    yield from _log(process)
    yield from _keys(process)
    yield from _threads(process)


def _database(process: ProcessState) -> Iterator[Metric]:
    heart = process.heartbeat
    text = "Whether the database answers reads and commits, as the heartbeat saw it last."
    yield _gauge("database_up", text, heart.reads() and heart.writes())
    ages = {"read": heart.read_age(), "write": heart.write_age()}
    family = GaugeMetricFamily(
        PREFIX + "heartbeat_age_seconds", "Since the database last answered, by kind (read, write).", labels=["kind"]
    )
    for kind, age in ages.items():
        if age is not None:
            family.add_metric([kind], age)
    yield family
    text = "Whether lookups are answered (GET /readyz), and reports taken (GET /readyz/write)."
    ready = GaugeMetricFamily(PREFIX + "ready", text, labels=["for"])
    ready.add_metric(["lookups"], float(readiness(process)["status"] == "ready"))
    ready.add_metric(["writes"], float(write_readiness(process)["status"] == "ready"))
    yield ready
    seen = heart.seen()
    if seen is not None:
        text = "This machine's clock less the database's."
        yield _gauge("clock_differs_seconds", text, seen.clock_differs_seconds)
        yield _gauge("appeals_open", "Appeals in which a decision is owed.", seen.appeals_open)
        yield _gauge("appeals_overdue", "Of these, appeals whose time for a decision is over.", seen.appeals_overdue)


def _log(process: ProcessState) -> Iterator[Metric]:
    heart = process.heartbeat
    seen = heart.seen()
    if seen is None:
        return
    yield _gauge("log_entries", "Entries in the log.", seen.size)
    yield _gauge("log_frozen", "Whether the log takes no entries.", seen.frozen is not None)
    yield _gauge("checkpoint_entries", "Entries that the newest published checkpoint covers.", seen.checkpoint_size)
    if seen.checkpoint_age_seconds is not None:
        text = "Since the newest checkpoint was published, as of the last heartbeat."
        yield _gauge("checkpoint_age_seconds", text, seen.checkpoint_age_seconds)
    text = "For how long there have been entries that no published checkpoint covers."
    yield _gauge("unsigned_seconds", text, heart.unsigned_seconds())
    text = "Whether a publisher holds the lease and renews it."
    yield _gauge("publisher_up", text, heart.publisher() is True)
    text = "Publishers that stand by, on all hosts."
    yield _gauge("publishers_standing_by", text, seen.publishers_standing_by)


def _keys(process: ProcessState) -> Iterator[Metric]:
    current = process.keys.current
    yield _gauge("key_epoch", "Number of the current key epoch.", current.epoch)
    yield _gauge("key_generation", "Generation of the newest sharing of the current key.", current.generation)
    text = "Holders that evaluate together at least; 1 if the operator alone has the whole key."
    yield _gauge("key_threshold", text, current.threshold)
    yield _gauge("key_holders", "Holders of the current key.", max(1, len(current.holders)))


def _threads(process: ProcessState) -> Iterator[Metric]:
    named = {worker.name: worker.progress() for worker in process.workers}
    named |= {batcher.name: batcher.progress() for batcher in (process.sequencer, process.lookups.batcher)}
    text = "Since each thread's last success; 0 while it has nothing to do."
    ages = GaugeMetricFamily(PREFIX + "thread_age_seconds", text, labels=["thread"])
    sound = GaugeMetricFamily(
        PREFIX + "thread_ok", "Whether the thread makes progress: not stuck, failing or stopped.", labels=["thread"]
    )
    failures = CounterMetricFamily(
        PREFIX + "thread_failures", "Runs of a thread that failed, by thread.", labels=["thread"]
    )
    for name, progress in sorted(named.items()):
        ages.add_metric([name], progress.age_seconds)
        sound.add_metric([name], float(progress.state == "ok"))
        failures.add_metric([name], progress.restarts)
    yield from (ages, sound, failures)
    jobs = GaugeMetricFamily(
        PREFIX + "maintenance_age_seconds", "Since each job of maintenance last succeeded, by job.", labels=["job"]
    )
    failing = GaugeMetricFamily(
        PREFIX + "maintenance_failures", "Failures in a row of each job of maintenance, by job.", labels=["job"]
    )
    for name, age in sorted(process.maintenance.ages().items()):
        jobs.add_metric([name], age)
    for job in process.maintenance.jobs:
        failing.add_metric([job.name], job.failures)
    yield from (jobs, failing)
    yield _gauge("appender_queue", "Writes that wait for the appender.", process.sequencer.waiting())
    yield _gauge("lookup_queue", "Lookups that wait for the database.", process.lookups.batcher.waiting())
    yield _gauge("filter_ready", "Whether clean lookups are answered from memory now.", process.clear_cache.ready())


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(PREFIX + name, text, value=float(value))
