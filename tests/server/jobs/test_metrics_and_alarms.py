"""Alarms and metrics: what an operator sees of a platform that enumerates people, and what is never shown."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from ledger.protocol.encoding import day_floor
from ledger.server.db.engine import writing
from ledger.server.jobs.enumeration_alarms import MIN_BUCKETS
from ledger.server.lookups.queries import count_lookups
from ledger.server.runtime import Runtime, open_runtime
from tests.support import new_ledger

pytestmark = pytest.mark.one_engine
"""What the database does here, other tests do on both engines."""


@pytest.fixture
def rt(database_url: str, tmp_path: Path) -> Iterator[Runtime]:
    runtime = open_runtime(new_ledger(database_url, tmp_path, alarm_lookups_min=100, alarm_miss_share=0.99))
    yield runtime
    runtime.close()


def samples(rt: Runtime) -> dict[tuple[str, ...], float]:
    """Return every sample by name and label values (in the order of the labels' names), parsed by the official
    parser."""
    families = text_string_to_metric_families(rt.metrics.text().decode())
    return {
        (sample.name, *[sample.labels[name] for name in sorted(sample.labels)]): sample.value
        for family in families
        for sample in family.samples
    }


def counted(rt: Runtime, platform: str, clean: int, disclosed: int) -> None:
    with writing(rt.engine) as connection:
        count_lookups(connection, {(platform, day_floor(rt.now())): (clean, disclosed)})
    rt.alarms.check_misses()


def test_a_platform_that_meets_no_listed_person_raises_the_alarm_once_a_day(
    rt: Runtime, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, logger="ledger.server.jobs.enumeration_alarms"):
        counted(rt, "acme", 99, 0)
        assert not caplog.records, "too few to say anything"
        counted(rt, "acme", 1, 0)
        counted(rt, "bolt", 990, 10)
        rt.alarms.check_misses()
    (record,) = caplog.records
    assert record.message == "alarm_misses"
    assert (record.platform, record.lookups, record.disclosed) == ("acme", 100, 0)  # type: ignore[attr-defined]
    assert samples(rt)["refund_ledger_alarms_total", "misses", "acme"] == 1


def test_fetching_half_of_the_buckets_one_by_one_raises_the_alarm(
    rt: Runtime, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = secrets.token_bytes(16), secrets.token_bytes(16)
    with caplog.at_level(logging.WARNING, logger="ledger.server.jobs.enumeration_alarms"):
        for prefix in [*range(127), *range(127)]:
            rt.alarms.bucket_fetched("acme", first, prefix, 8)
        for prefix in range(127):
            rt.alarms.bucket_fetched("bolt", first, prefix, 8)
            rt.alarms.bucket_fetched("acme", second, 255 - prefix, 8)
        assert not caplog.records, "the same ones again, another platform's, another snapshot's do not add up"
        rt.alarms.bucket_fetched("acme", second, 0, 8)
        rt.alarms.bucket_fetched("acme", second, 1, 8)
    (record,) = caplog.records
    assert record.message == "alarm_bucket_scan"
    assert (record.platform, record.distinct, record.buckets) == ("acme", 128, 256)  # type: ignore[attr-defined]
    assert samples(rt)["refund_ledger_bucket_fetches_total", "acme"] == 127 * 3 + 2


def test_a_small_snapshot_raises_no_alarm(rt: Runtime, caplog: pytest.LogCaptureFixture) -> None:
    bits = MIN_BUCKETS.bit_length() - 2
    with caplog.at_level(logging.WARNING, logger="ledger.server.jobs.enumeration_alarms"):
        for prefix in range(1 << bits):
            rt.alarms.bucket_fetched("acme", b"v" * 16, prefix, bits)
    assert not caplog.records


def test_metrics_count_and_name_no_person(rt: Runtime) -> None:
    rt.metrics.count_lookups(5, 2, "database")
    rt.metrics.count_lookups(7, 0, "memory")
    rt.metrics.count_evaluated("acme", 12)
    rt.metrics.count_refused("acme", "burst")
    values = samples(rt)
    assert values["refund_ledger_lookups_total", "clean", "memory"] == 7
    assert values["refund_ledger_lookups_total", "disclosed", "database"] == 2
    assert values["refund_ledger_oprf_elements_total", "acme"] == 12
    assert values["refund_ledger_oprf_refused_total", "burst", "acme"] == 1
    assert values["refund_ledger_database_up",] == 1
    assert values["refund_ledger_log_entries",] == 2
    assert values["refund_ledger_log_frozen",] == 0
    keys = [values[f"refund_ledger_key_{name}",] for name in ("epoch", "generation", "threshold", "holders")]
    assert keys == [1, 1, 1, 1]
    assert values["refund_ledger_snapshots_over_capacity",] == 0
    labels = {label for _, *labels in values for label in labels}
    own = {worker.name for worker in rt.process.workers} | {job.name for job in rt.maintenance.jobs}
    own |= {"appender", "lookups", "writes", "read", "write"}
    assert labels - own <= {"acme", "burst", "clean", "disclosed", "memory", "database"}
