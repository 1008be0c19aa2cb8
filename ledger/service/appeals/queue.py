"""The reviewers' queue: open cases, the most urgent first, and the next one for somebody who is free.

Who belongs to a control group never meets a case about that group's reports: it is not in their queue and not in its
numbers, and opening it is refused (`case_file`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta

from ledger.core.appeals import OPEN_STATES, Action, Actor, CaseState
from ledger.core.cases import DECIDING_ROLES, Staff
from ledger.core.conduct import Conduct
from ledger.core.encoding import day_floor, from_day
from ledger.core.ids import encode_id
from ledger.core.policy import Profile
from ledger.errors import ActionRefused, CaseTaken, ConflictOfInterest, InvalidRequest, RoleMissing
from ledger.service import audit
from ledger.service.appeals import staff_actions
from ledger.service.appeals.filing import clean_text
from ledger.service.appeals.perform import Move, perform
from ledger.service.appeals.transaction import case_number, changing, load_case
from ledger.service.entry_batch import Context
from ledger.service.staff import StaffMember
from ledger.store import appeals as case_store
from ledger.store import queue as store
from ledger.store.appeals import CaseRow
from ledger.store.engine import reading, snapshot_reading, writing
from ledger.store.queue import QueueFilter, Totals, Viewer
from ledger.store.staff import names_of

PAGE_ROWS = 50
SOON_DAYS = 3
READING_ROLES = DECIDING_ROLES | {"auditor"}
"""Who sees cases at all. An admin runs accounts and needs to know nothing about the people in them."""

_TRIES = 10
"""Cases that `next_case` tries to take before it gives up: each time somebody else was faster."""

_CURSOR = re.compile(r"(\d{1,17})\.(\d{1,18})\Z")
_EPOCH = from_day(0)


@dataclass(frozen=True, slots=True)
class Asked:
    """The filters as they were asked for, all optional; `due_days` counts from now, 0 means overdue."""

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


def as_staff(member: StaffMember) -> Staff:
    """As the rules see them."""
    return Staff(member.id, member.role, member.control_group)


def viewer_of(member: StaffMember) -> Viewer:
    """As the queue sees them. Raises RoleMissing."""
    if member.role not in READING_ROLES:
        raise RoleMissing("This role does not see cases.")
    return Viewer(member.id, member.control_group)


def queue(context: Context, member: StaffMember, asked: Asked, after: str | None = None) -> QueuePage:
    """A page. A case id that does not exist finds nothing; other filters raise InvalidRequest for what does not exist.

    Raises RoleMissing, DatabaseUnavailable.
    """
    viewer, now = viewer_of(member), context.now()
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


def next_case(context: Context, member: StaffMember) -> str | None:
    """Take the most urgent case that this person may take; its public id, None when nothing waits for them.

    Two who ask at once get two cases: who comes second to the log's head asks again. Raises RoleMissing.
    """
    if member.role not in DECIDING_ROLES:
        raise RoleMissing("This role does not work on cases.")
    for _ in range(_TRIES):
        with reading(context.engine) as connection:
            today = from_day(day_floor(context.now()))
            row = store.most_urgent(connection, viewer_of(member), today)
        if row is None:
            return None
        case = encode_id("ap", row.id, context.service)
        try:
            staff_actions.take(context, case, as_staff(member))
        except (ActionRefused, CaseTaken, ConflictOfInterest):
            continue
        return case
    return None


def skip(context: Context, case: str, member: StaffMember) -> None:
    """Pass a waiting case over: `next_case` does not offer it to this person again today, others may take it.

    Raises NotFound, ConflictOfInterest, RoleMissing, ActionRefused (it does not wait).
    """
    if member.role not in DECIDING_ROLES:
        raise RoleMissing("This role does not work on cases.")
    number = case_number(context, case)
    with writing(context.engine) as connection:
        row = case_store.case(connection, number)
        check_sight(row, member)
        if row is None or row.state != CaseState.SUBMITTED:
            raise ActionRefused("Only a case that waits for a reviewer is passed over.", action="skip")
        store.put_skip(connection, number, member.id, context.now())
        audit.record(connection, context.now(), member.id, "case_skip", "case", case)


def hand_back(context: Context, case: str, member: StaffMember, note: str | None, seen: int | None = None) -> CaseRow:
    """Put the case back into the queue, and do not offer it to this person again today.

    Raises what `staff_actions.hand_back` raises.
    """
    text = None if not note else clean_text(note)
    with changing(context) as batch:
        row = load_case(batch, case_number(context, case))
        staff_actions.check_seen(batch, row, seen)
        row = perform(batch, row, Move(Action.HAND_BACK, Actor.STAFF, as_staff(member), text=text))
        store.put_skip(batch.connection, row.id, member.id, batch.now)
        staff_actions.note_action(batch, row, member.id, Action.HAND_BACK)
    return row


def check_sight(row: CaseRow | None, member: StaffMember) -> None:
    """Whether this member of staff may see the case at all. Raises RoleMissing, ConflictOfInterest."""
    if member.role not in READING_ROLES:
        raise RoleMissing("This role does not see cases.")
    if row is not None and member.control_group is not None and member.control_group == row.control_group:
        raise ConflictOfInterest("You belong to the control group that made this report.")


def _checked(context: Context, asked: Asked, now: datetime) -> QueueFilter:
    known = (
        asked.state is None or asked.state in set(OPEN_STATES),
        asked.profile is None or asked.profile in set(Profile),
        asked.conduct is None or asked.conduct in set(Conduct),
        asked.due_days is None or 0 <= asked.due_days <= 366,
    )
    if not all(known):
        raise InvalidRequest("The queue has no such filter.")
    return QueueFilter(
        state=asked.state,
        mine=asked.mine,
        to_sign=asked.to_sign,
        due_before=None if asked.due_days is None else now + timedelta(days=asked.due_days),
        profile=asked.profile,
        conduct=asked.conduct,
        severity=asked.severity,
        platform=asked.platform,
        case_id=None if asked.case is None else case_number(context, asked.case),
    )


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
