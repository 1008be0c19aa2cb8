"""The reviewers' queue: what waits, most urgent first, and what somebody gets next."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from ledger.core.appeals import CaseState
from ledger.core.cases import Staff
from ledger.core.encoding import day_floor, from_day
from ledger.core.ids import encode_id
from ledger.errors import CaseTaken, LedgerError, NotFound
from ledger.service.appeals.staff_actions import take
from ledger.service.appeals.transaction import case_number
from ledger.service.audit import record
from ledger.service.entry_batch import Context
from ledger.store import appeals as appeal_store
from ledger.store import queue as store
from ledger.store.appeals import CaseRow
from ledger.store.engine import reading, writing
from ledger.store.queue import QueueFilter

PAGE_ROWS = 50
SOON_DAYS = 3
_TRIES = 5
"""How often the next case is looked for again when somebody else was quicker."""


@dataclass(frozen=True, slots=True)
class Queue:
    """A page of the queue. `counts` are of all open cases; `platforms` have any."""

    rows: list[CaseRow]
    more: bool
    counts: dict[str, int]
    platforms: list[str]


def queue(context: Context, staff: Staff, wanted: QueueFilter, page: int) -> Queue:
    """Page `page` (from 1) of what fits. Cases about reports of one's own control group are in no page and no count."""
    soon = context.now() + timedelta(days=SOON_DAYS)
    with reading(context.engine) as connection:
        rows = store.queue(connection, wanted, staff.control_group, PAGE_ROWS + 1, (page - 1) * PAGE_ROWS)
        return Queue(
            rows[:PAGE_ROWS],
            len(rows) > PAGE_ROWS,
            store.counts(connection, staff.id, staff.control_group, soon),
            store.platforms_with_cases(connection, staff.control_group),
        )


def take_next(context: Context, staff: Staff) -> str:
    """Put the most urgent case that this person may have into their hands; its public id.

    Raises NotFound when there is none, and what `take` raises.
    """
    midnight = from_day(day_floor(context.now()))
    problem: LedgerError = NotFound("There is no case for you in the queue.")
    for _ in range(_TRIES):
        with reading(context.engine) as connection:
            number = store.next_case(connection, staff.id, staff.control_group, midnight)
        if number is None:
            raise NotFound("There is no case for you in the queue.")
        public = encode_id("ap", number, context.service)
        try:
            take(context, public, staff)
        except LedgerError as error:  # somebody was quicker: look again
            problem = error
            continue
        return public
    raise problem


def skip(context: Context, case: str, staff: Staff) -> None:
    """Pass a waiting case over until tomorrow (UTC). Raises NotFound, CaseTaken."""
    with writing(context.engine) as connection:
        row = appeal_store.case(connection, case_number(context, case))
        if row is None:
            raise NotFound("There is no such case.")
        if row.state != CaseState.SUBMITTED:
            raise CaseTaken("Only a waiting case is passed over.")
        store.skip(connection, row.id, staff.id, context.now())
        record(connection, context.now(), staff.id, "case_skip", "appeal", case)
        store.forget_skips(connection, context.now() - timedelta(days=2))
