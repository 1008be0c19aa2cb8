"""Actions that time causes in cases: overdue marks, unanswered questions, closing. Run by maintenance in every process.
Two runs at once are safe, because each case is checked again under the log's head lock."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ledger.protocol.encoding import day_floor
from ledger.protocol.public_ids import encode_id
from ledger.rules.appeals import Action, Actor
from ledger.rules.case_machine import due_actions
from ledger.server.appeals.case_service import Move, apply_action
from ledger.server.appeals.transaction import changing, load_case
from ledger.server.db.due_rows import work_off
from ledger.server.db.engine import reading
from ledger.server.records import appeal_effects, case_queries
from ledger.server.records.case_queries import CaseRow
from ledger.server.records.transaction import Context, EntryBatch

MAX_CASES = 100
"""Cases per query. Each is processed in a transaction of its own, so the log is never locked for long."""


def run_clocks(context: Context, stopped: Callable[[], bool] = lambda: False) -> int:
    """Apply all due actions, oldest deadline first; return the number of cases that changed. `stopped` ends it early.

    A failing case does not stop the others: its error is logged (`appeal_clock_failed` with the case's id), and the
    first error is raised at the end. Raises LogFrozen, DatabaseUnavailable.
    """
    now = context.now()

    def due(last: CaseRow | None) -> list[CaseRow]:
        after = None if last is None else (last.due_at, last.id)
        with reading(context.engine) as connection:
            return case_queries.due_cases(connection, now, day_floor(now), MAX_CASES, after)

    def work(rows: Sequence[CaseRow]) -> int:
        (row,) = rows
        with changing(context) as batch:
            return int(_run(batch, load_case(batch, row.id)))

    return work_off(
        due,
        work,
        event="appeal_clock_failed",
        name=lambda row: encode_id("ap", row.id, context.service),
        stopped=stopped,
    )


def _run(batch: EntryBatch, row: CaseRow) -> bool:
    """Apply the due actions to one case, and close it if its report has expired; return True if it changed."""
    before = row
    for action in due_actions(row, batch.now):
        row = apply_action(batch, row, Move(action, Actor.CLOCK))
    report = batch.reports.get(row.report_id)
    expired = report is None or batch.policy.expiry_day(
        row.current_conduct, day_floor(report.act_ended_at), report.expires_day
    ) <= day_floor(batch.now)
    if expired and row.is_open:
        row = apply_action(batch, row, Move(Action.REPORT_GONE, Actor.LEDGER))
        # Reports that rest on an expired report stay, and lose the marks of a case that ended with it.
        appeal_effects.pass_marks_on(batch.connection, row.report_id, disputed=False, unconfirmed=False)
    return row is not before
