"""The reviewers' queue: open cases, the most urgent first, and the next one for somebody who is free.

Settled cases are not in it; whoever asks for them gets a list of their own, the newest first.

Who belongs to a control group never meets a case about that group's reports: it is not in their queue and not in its
numbers, and opening it is refused (`case_file`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta

from ledger.errors import ActionRefused, CaseTaken, ConflictOfInterest, InvalidRequest, NotFound, RoleMissing
from ledger.protocol.encoding import day_floor, from_day
from ledger.protocol.public_ids import encode_id
from ledger.rules.appeals import OPEN_STATES, CaseState
from ledger.rules.case_machine import DECIDING_ROLES, Staff, check_group
from ledger.rules.conduct import Conduct
from ledger.rules.policy.values import Profile
from ledger.server.appeals import queue_queries as store
from ledger.server.appeals import staff_actions
from ledger.server.appeals.queue_queries import QueueFilter, Totals, Viewer
from ledger.server.appeals.transaction import case_number
from ledger.server.db.engine import reading, snapshot_reading, writing
from ledger.server.records import case_queries as case_store
from ledger.server.records.case_queries import CaseRow
from ledger.server.records.transaction import Context
from ledger.server.staff import audit
from ledger.server.staff.queries import names_of

PAGE_ROWS = 50
SOON_DAYS = 3
READING_ROLES = DECIDING_ROLES | {"auditor"}
"""Who sees cases at all. An admin runs accounts and needs to know nothing about the people in them."""

SETTLED = "settled"
"""The `state` of all cases that are over: decided, closed or withdrawn."""

_TRIES = 10
"""Cases that `next_case` tries to take before it gives up: each time somebody else was faster."""

_CURSOR = re.compile(r"(\d{1,17})\.(\d{1,18})\Z")
_EPOCH = from_day(0)


@dataclass(frozen=True, slots=True)
class Asked:
    """The filters as they were asked for, all optional; `state` is an open one or `SETTLED`, `due_days` counts from now
    (0: overdue), and a case that is named is found in whatever state it is."""

    state: str | None = None
    mine: bool = False
    to_sign: bool = False
    due_days: int | None = None
    profile: str | None = None
    conduct: str | None = None
    severity: int | None = None
    platform: str | None = None
    case: str | None = None


@dataclass(frozen=True, slots=True)
class Line:
    """A case in the queue; `reviewer` is the name of who has it."""

    row: CaseRow
    case: str
    report: str
    reviewer: str | None


@dataclass(frozen=True, slots=True)
class QueuePage:
    """A page of the queue; `after` continues it, None on the last page."""

    lines: list[Line]
    after: str | None
    totals: Totals
    facets: dict[str, dict[str, int]]
    now: datetime


def queue(context: Context, staff: Staff, asked: Asked, after: str | None = None) -> QueuePage:
    """A page. A case id that does not exist finds nothing; other filters raise InvalidRequest for what does not exist.

    Raises RoleMissing, DatabaseUnavailable.
    """
    viewer, now = _viewer_of(staff), context.now()
    wanted = _checked(context, asked, now)
    with snapshot_reading(context.engine) as connection:
        rows = store.page(connection, viewer, wanted, after=_decoded(after), limit=PAGE_ROWS + 1)
        totals = store.totals(connection, viewer, now, now + timedelta(days=SOON_DAYS))
        facets = store.facets(connection, viewer)
        names = names_of(connection, [row.reviewer_id for row in rows if row.reviewer_id is not None])
    more, rows = len(rows) > PAGE_ROWS, rows[:PAGE_ROWS]
    lines = [
        Line(
            row,
            encode_id("ap", row.id, context.service),
            encode_id("rp", row.report_id, context.service),
            None if row.reviewer_id is None else names.get(row.reviewer_id),
        )
        for row in rows
    ]
    return QueuePage(lines, _encoded(rows[-1]) if more else None, totals, facets, now)


def next_case(context: Context, staff: Staff) -> str | None:
    """Take the most urgent case that this person may take; its public id, None when nothing waits for them.

    Two who ask at once get two cases: who comes second to the log's head asks again. Raises RoleMissing.
    """
    _check_works(staff)
    for _ in range(_TRIES):
        with reading(context.engine) as connection:
            today = from_day(day_floor(context.now()))
            row = store.most_urgent(connection, _viewer_of(staff), today)
        if row is None:
            return None
        case = encode_id("ap", row.id, context.service)
        try:
            staff_actions.take(context, case, staff)
        except (ActionRefused, CaseTaken, ConflictOfInterest):
            continue
        return case
    return None


def skip(context: Context, case: str, staff: Staff) -> None:
    """Pass a waiting case over: `next_case` does not offer it to this person again today (UTC), others may take it.

    Raises NotFound, ConflictOfInterest, RoleMissing, CaseTaken (somebody has it), ActionRefused (it does not wait).
    """
    _check_works(staff)
    with writing(context.engine) as connection:
        row = case_store.case(connection, case_number(context, case))
        if row is None:
            raise NotFound("There is no such case.")
        check_sight(row, staff)
        if row.reviewer_id not in (None, staff.id):
            raise CaseTaken("This case is in somebody else's hands.")
        if row.state != CaseState.SUBMITTED:
            raise ActionRefused("Only a case that waits for a reviewer is passed over.")
        store.pass_over(connection, row.id, staff.id, context.now())
        audit.record(connection, context.now(), staff.id, "case_skip", "appeal", case, about_group=row.control_group)


def check_sight(row: CaseRow, staff: Staff) -> None:
    """Whether this member of staff may see the case at all. Raises RoleMissing, ConflictOfInterest."""
    _viewer_of(staff)
    check_group(row.control_group, staff)


def _viewer_of(staff: Staff) -> Viewer:
    if staff.role not in READING_ROLES:
        raise RoleMissing("This role does not see cases.")
    return Viewer(staff.id, staff.control_group)


def _check_works(staff: Staff) -> None:
    if staff.role not in DECIDING_ROLES:
        raise RoleMissing("This role does not work on cases.")


def _checked(context: Context, asked: Asked, now: datetime) -> QueueFilter:
    known = (
        asked.state is None or asked.state == SETTLED or asked.state in set(OPEN_STATES),
        asked.profile is None or asked.profile in set(Profile),
        asked.conduct is None or asked.conduct in set(Conduct),
        asked.due_days is None or 0 <= asked.due_days <= 366,
    )
    if not all(known):
        raise InvalidRequest("The queue has no such filter.")
    return QueueFilter(
        states=_states(asked),
        mine=asked.mine,
        to_sign=asked.to_sign,
        due_before=None if asked.due_days is None else now + timedelta(days=asked.due_days),
        profile=asked.profile,
        conduct=asked.conduct,
        severity=asked.severity,
        platform=asked.platform,
        case_id=None if asked.case is None else case_number(context, asked.case),
    )


def _states(asked: Asked) -> tuple[str, ...]:
    if asked.state == SETTLED:
        return store.SETTLED
    if asked.state is not None:
        return (asked.state,)
    return store.OPEN if asked.case is None else (*store.OPEN, *store.SETTLED)


def _encoded(row: CaseRow) -> str:
    """Where a page ends, in microseconds and an id."""
    return f"{(row.due_at - _EPOCH) // timedelta(microseconds=1)}.{row.id}"


def _decoded(after: str | None) -> tuple[datetime, int] | None:
    if after is None:
        return None
    match = _CURSOR.match(after)
    if match is None:
        raise InvalidRequest("The page cannot be continued from there.")
    return _EPOCH + timedelta(microseconds=int(match[1])), int(match[2])
