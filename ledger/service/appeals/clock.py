"""What time does to cases: overdue marks, silence, closing. Run by maintenance in every process; two at once do no
harm, because each case is looked at again under the log's head lock."""

from __future__ import annotations

import logging

from ledger.core.appeals import OPEN_STATES, Action, Actor
from ledger.core.cases import due_actions
from ledger.core.encoding import day_floor
from ledger.errors import Unavailable
from ledger.service.appeals.perform import Move, perform
from ledger.service.appeals.rows import to_core
from ledger.service.appeals.transaction import changing, load_case
from ledger.service.entry_batch import Context, EntryBatch
from ledger.store import appeal_effects as effects
from ledger.store import appeals as store
from ledger.store.appeals import CaseRow
from ledger.store.engine import reading

MAX_CASES = 100
"""Cases that one round looks at, each in a transaction of its own, so that the log is never held for long."""

log = logging.getLogger(__name__)


def run_clocks(context: Context) -> int:
    """Do what is due in at most `MAX_CASES` cases; returns in how many something happened.

    A case that fails stops no other: its error is logged (`appeal_clock_failed`), and the first one is raised after the
    last case. Raises LogFrozen, DatabaseUnavailable.
    """
    now = context.now()
    with reading(context.engine) as connection:
        due = store.due_cases(connection, now, day_floor(now), MAX_CASES)
    changed = 0
    first: Exception | None = None
    for row in due:
        try:
            with changing(context) as batch:
                changed += _run(batch, load_case(batch, row.id))
        except Unavailable:
            raise  # the log is frozen or the database away: the other cases would fare alike
        except Exception as error:
            log.exception("appeal_clock_failed")
            first = first or error
    if first is not None:
        raise first
    return changed


def _run(batch: EntryBatch, row: CaseRow) -> bool:
    before = row
    for action in due_actions(to_core(row, frozenset()), batch.now):
        row = perform(batch, row, Move(action, Actor.CLOCK))
    report = batch.reports.get(row.report_id)
    expired = report is None or batch.policy.expiry_day(
        row.current_conduct, day_floor(report.act_ended_at), report.expires_day
    ) <= day_floor(batch.now)
    if expired and row.state in OPEN_STATES:
        row = perform(batch, row, Move(Action.REPORT_GONE, Actor.LEDGER))
        # What rests on a report does not fall with its expiry, and is not contested by a case that ended with it.
        effects.pass_marks_on(batch.connection, row.report_id, disputed=False, unconfirmed=False)
    return row is not before
