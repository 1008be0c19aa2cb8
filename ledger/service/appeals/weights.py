"""Weights of control groups, which follow from how their contested reports were resolved in the last 24 months."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from sqlalchemy import Connection, Engine

from ledger.core.appeal_clocks import window_start
from ledger.core.policy import Policy
from ledger.core.standing import group_weight
from ledger.service.entry_batch import EntryBatch
from ledger.service.log_writer import open_head
from ledger.store import appeals as store
from ledger.store.engine import reading, writing
from ledger.store.reports import ReportRow


def count_outcome(batch: EntryBatch, report: ReportRow, counts_as: str) -> None:
    """The report fared like this; its group's weight follows at once, in the same transaction."""
    store.put_outcome(batch.connection, report.id, report.platform, report.control_group, counts_as, batch.now)
    weight = weights(batch.connection, batch.policy, batch.now).get(report.control_group)
    if weight is not None:
        store.set_weight(batch.connection, report.control_group, weight)


def weights(connection: Connection, policy: Policy, now: datetime) -> dict[str, int]:
    """Weight in twentieths of each control group that has any resolved case, as of `now`."""
    counts = store.outcome_counts(connection, window_start(now, policy.weights.window_months))
    return {group: weight_of(found, policy) for group, found in counts.items()}


def weight_of(counts: Mapping[str, int], policy: Policy) -> int:
    """Weight in twentieths that follows from {upheld, amended, overturned: how many}; other outcomes do not count."""
    overturned = counts.get("overturned", 0)
    return group_weight(counts.get("upheld", 0) + counts.get("amended", 0) + overturned, overturned, policy)


def refresh_weights(engine: Engine, policy: Policy, now: datetime) -> int:
    """Let old decisions drop out of every group's weight; returns how many weights changed.

    Raises LogFrozen, DatabaseUnavailable.
    """
    with reading(engine) as connection:
        changed = _changed(connection, policy, now)
    if not changed:
        return 0
    with writing(engine) as connection:
        open_head(connection, now)  # every other change of a weight holds it as well
        changed = _changed(connection, policy, now)
        for group, weight in sorted(changed.items()):
            store.set_weight(connection, group, weight)
        store.forget_outcomes(connection, window_start(now, policy.weights.window_months))
    return len(changed)


def _changed(connection: Connection, policy: Policy, now: datetime) -> dict[str, int]:
    stored = store.group_weights(connection)
    found = weights(connection, policy, now)
    full = weight_of({}, policy)
    return {group: found.get(group, full) for group, weight in stored.items() if weight != found.get(group, full)}
