"""Weights of control groups: how decisions on their contested reports change them, over the last 24 months."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, Engine

from ledger.protocol.encoding import day_floor, from_day
from ledger.rules.deadlines import window_start
from ledger.rules.policy.values import Policy
from ledger.server.db.engine import reading, writing
from ledger.server.log.writer import open_head
from ledger.server.platforms import queries as platform_queries
from ledger.server.platforms.group_weights import STORED_UNIT, decided, following, weight_of
from ledger.server.records import case_queries
from ledger.server.records.queries import ReportRow
from ledger.server.records.transaction import EntryBatch


def count_outcome(batch: EntryBatch, report: ReportRow, counts_as: str) -> None:
    """Record how a decision on the report counts for its group (upheld, amended, overturned or nothing). The weight
    changes in the same transaction, or from the next UTC midnight if the policy sets weights once a day."""
    case_queries.put_outcome(batch.connection, report.id, report.platform, report.control_group, counts_as, batch.now)
    if batch.policy.weights.daily:
        return
    counts = decided(batch.connection, batch.policy, batch.now).get(report.control_group)
    if counts is not None:
        case_queries.set_weight(batch.connection, report.control_group, weight_of(counts, batch.policy) // STORED_UNIT)


def refresh_weights(engine: Engine, policy: Policy, now: datetime) -> int:
    """Update every group's stored weight for decisions that left the window, and delete those decisions; return the
    number of changed weights (0 if the policy sets weights once a day: those are not stored).

    Raises LogFrozen, DatabaseUnavailable.
    """
    # Weights of a day look back from its midnight, so a decision that left the window is kept until the day ends.
    old = window_start(from_day(day_floor(now)), policy.weights.window_months)
    with reading(engine) as connection:
        changed, forget = _changed(connection, policy, now), case_queries.has_outcomes(connection, old)
    if not changed and not forget:
        return 0
    with writing(engine) as connection:
        open_head(connection, now)  # as all other changes of a weight do
        changed = _changed(connection, policy, now)
        for group, weight in sorted(changed.items()):
            case_queries.set_weight(connection, group, weight)
        case_queries.forget_outcomes(connection, old)
    return len(changed)


def _changed(connection: Connection, policy: Policy, now: datetime) -> dict[str, int]:
    """Return the stored weights, in twentieths, that differ from those that follow now."""
    if policy.weights.daily:
        return {}
    stored = platform_queries.read_weights(connection)
    current = following(stored, decided(connection, policy, now), policy)
    return {name: current[name] // STORED_UNIT for name in stored if stored[name] != current[name] // STORED_UNIT}
