"""The reviewers' queue: open cases by due date, and the next case for a reviewer who has none.

Decided, closed and withdrawn cases are listed on request only, the newest first, by page; they are never counted.
Members of a control group do not see cases about reports of that group: their queue and its numbers leave them out, and
opening one is refused (`case_page`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, case, func, or_, select, union_all

from ledger.errors import ActionRefused, CaseTaken, ConflictOfInterest, InvalidRequest, NotFound, RoleMissing
from ledger.protocol.encoding import day_floor, from_day
from ledger.protocol.public_ids import encode_id
from ledger.rules.appeals import OPEN_STATES, CaseState
from ledger.rules.case_machine import DECIDING_ROLES, Staff, check_group
from ledger.rules.conduct import Conduct
from ledger.rules.policy.values import Profile
from ledger.server.appeals import staff_actions
from ledger.server.appeals.case_changes import case_number
from ledger.server.context import Context
from ledger.server.db.engine import reading, snapshot_reading, writing
from ledger.server.db.tables.appeals import AppealCase, CaseHandler, CaseSkip
from ledger.server.records import case_queries
from ledger.server.records.case_queries import CASES, CaseRow
from ledger.server.staff import audit
from ledger.server.staff.queries import names_of

PAGE_ROWS = 50

SOON_DAYS = 3

READING_ROLES = DECIDING_ROLES | {"auditor"}
"""Roles that see cases. Admins run accounts and do not need to see data of persons."""

SETTLED = "settled"
"""The `state` filter for all cases that are over: decided, closed or withdrawn."""

_TRIES = 10
"""Cases that `next_case` tries to take before it gives up: another reviewer may be faster each time."""

_CURSOR = re.compile(r"(\d{1,17})\.(\d{1,18})\Z")

_EPOCH = from_day(0)


@dataclass(frozen=True, slots=True)
class RequestedFilter:
    """The filters of a request, all optional. `state` is an open state or `SETTLED`, `due_days` counts from now (0:
    overdue). A case named by `case` is returned in any state."""

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
class QueueLine:
    """A case in the queue; `reviewer` is the name of its reviewer."""

    row: CaseRow
    case: str
    report: str
    reviewer: str | None


@dataclass(frozen=True, slots=True)
class QueuePage:
    """A page of the queue; `after` continues it, None on the last page."""

    lines: list[QueueLine]
    after: str | None
    totals: Totals
    facets: dict[str, dict[str, int]]
    now: datetime


def queue_page(context: Context, staff: Staff, requested: RequestedFilter, after: str | None = None) -> QueuePage:
    """Return a page of the queue. A case id that does not exist gives an empty page.

    Raises InvalidRequest for other filters with unknown values, RoleMissing, DatabaseUnavailable.
    """
    viewer, now = _viewer_of(staff), context.now()
    checked = _checked(context, requested, now)
    with snapshot_reading(context.engine) as connection:
        rows = read_page(connection, viewer, checked, after=_decoded(after), limit=PAGE_ROWS + 1)
        totals = read_totals(connection, viewer, now, now + timedelta(days=SOON_DAYS))
        facets = read_facets(connection, viewer)
        names = names_of(connection, [row.reviewer_id for row in rows if row.reviewer_id is not None])
    more, rows = len(rows) > PAGE_ROWS, rows[:PAGE_ROWS]
    lines = [
        QueueLine(
            row,
            encode_id("ap", row.id, context.service),
            encode_id("rp", row.report_id, context.service),
            None if row.reviewer_id is None else names.get(row.reviewer_id),
        )
        for row in rows
    ]
    return QueuePage(lines, _encoded(rows[-1]) if more else None, totals, facets, now)


def next_case(context: Context, staff: Staff) -> str | None:
    """Take the most urgent case that this reviewer may take; return its public id, None if there is none.

    Two requests at once get two cases: the second to reach the log's head tries the next one. Raises RoleMissing,
    LogFrozen, DatabaseUnavailable.
    """
    _check_works(staff)
    for _ in range(_TRIES):
        with reading(context.engine) as connection:
            today = from_day(day_floor(context.now()))
            row = most_urgent(connection, _viewer_of(staff), today)
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
    """Pass over a waiting case: `next_case` does not offer it to this reviewer again today (UTC); others may take it.

    Raises NotFound, ConflictOfInterest, RoleMissing, CaseTaken (it has a reviewer), ActionRefused (it does not wait).
    """
    _check_works(staff)
    with writing(context.engine) as connection:
        row = case_queries.case(connection, case_number(context, case))
        if row is None:
            raise NotFound("There is no such case.")
        check_sight(row, staff)
        if row.reviewer_id not in (None, staff.id):
            raise CaseTaken("This case is assigned to another member of staff.")
        if row.state != CaseState.SUBMITTED:
            raise ActionRefused("Only a case that waits for a reviewer is passed over.")
        staff_actions.pass_over(connection, row.id, staff.id, context.now())
        audit.record(connection, context.now(), staff.id, "case_skip", "appeal", case, about_group=row.control_group)


def check_sight(row: CaseRow, staff: Staff) -> None:
    """Check that this member of staff may see the case. Raises RoleMissing, ConflictOfInterest."""
    _viewer_of(staff)
    check_group(row.control_group, staff)


def _viewer_of(staff: Staff) -> Viewer:
    """Return the viewer of the queue. Raises RoleMissing."""
    if staff.role not in READING_ROLES:
        raise RoleMissing("This role does not see cases.")
    return Viewer(staff.id, staff.control_group)


def _check_works(staff: Staff) -> None:
    """Check that this role works on cases. Raises RoleMissing."""
    if staff.role not in DECIDING_ROLES:
        raise RoleMissing("This role does not work on cases.")


def _checked(context: Context, requested: RequestedFilter, now: datetime) -> QueueFilter:
    """Return the filter with its values checked. Raises InvalidRequest, NotFound (the case id)."""
    known = (
        requested.state is None or requested.state == SETTLED or requested.state in set(OPEN_STATES),
        requested.profile is None or requested.profile in set(Profile),
        requested.conduct is None or requested.conduct in set(Conduct),
        requested.due_days is None or 0 <= requested.due_days <= 366,
    )
    if not all(known):
        raise InvalidRequest("The queue has no such filter.")
    return QueueFilter(
        states=_states(requested),
        mine=requested.mine,
        to_sign=requested.to_sign,
        due_before=None if requested.due_days is None else now + timedelta(days=requested.due_days),
        profile=requested.profile,
        conduct=requested.conduct,
        severity=requested.severity,
        platform=requested.platform,
        case_id=None if requested.case is None else case_number(context, requested.case),
    )


def _states(requested: RequestedFilter) -> tuple[str, ...]:
    """Return the states that the filter covers."""
    if requested.state == SETTLED:
        return _SETTLED
    if requested.state is not None:
        return (requested.state,)
    return _OPEN if requested.case is None else (*_OPEN, *_SETTLED)


def _encoded(row: CaseRow) -> str:
    """Return the cursor after this case: due date in microseconds and id."""
    return f"{(row.due_at - _EPOCH) // timedelta(microseconds=1)}.{row.id}"


def _decoded(after: str | None) -> tuple[datetime, int] | None:
    """Return the (due date, id) of a cursor. Raises InvalidRequest."""
    if after is None:
        return None
    match = _CURSOR.match(after)
    if match is None:
        raise InvalidRequest("The page cannot be continued from there.")
    return _EPOCH + timedelta(microseconds=int(match[1])), int(match[2])


# --- queries ----------------------------------------------------------------------------------------------------------


_OPEN = tuple(sorted(state.value for state in OPEN_STATES))

_SETTLED = tuple(sorted(state.value for state in CaseState if state not in OPEN_STATES))


@dataclass(frozen=True, slots=True)
class Viewer:
    """The member of staff who sees the queue; cases about reports of their `control_group` are not in it."""

    staff_id: int
    control_group: str | None


@dataclass(frozen=True, slots=True)
class QueueFilter:
    """A filter on cases in `states`; None and False do not restrict. `due_before` is a time, `case_id` an id."""

    states: tuple[str, ...] = _OPEN
    mine: bool = False
    to_sign: bool = False
    due_before: datetime | None = None
    profile: str | None = None
    conduct: str | None = None
    severity: int | None = None
    platform: str | None = None
    case_id: int | None = None


@dataclass(frozen=True, slots=True)
class Totals:
    """The numbers of open cases by category."""

    open: int
    mine: int
    to_sign: int
    overdue: int
    due_soon: int
    states: Mapping[str, int]


_CONDUCT = func.coalesce(AppealCase.amended_conduct, AppealCase.conduct)


def read_page(
    connection: Connection,
    viewer: Viewer,
    filters: QueueFilter,
    *,
    after: tuple[datetime, int] | None,
    limit: int,
) -> list[CaseRow]:
    """Return cases by due date, after the (due_at, id) of the page before: the most urgent first, or, if none of the
    states is open, the last first.

    There is one query per state, each along its index by due date, and the results are merged: with all states in one
    query, a database would sort every open case for each page.
    """
    backwards = not set(filters.states) & set(_OPEN)
    conditions = [*_seen_by(viewer), *_restricted(viewer, filters)]
    if after is not None:
        conditions += _beyond(*after, backwards=backwards)

    def order(columns: Any) -> list[Any]:
        return [column.desc() if backwards else column for column in (columns.due_at, columns.id)]

    parts = [
        select(
            select(*CASES.columns)
            .where(AppealCase.state == state, *conditions)
            .order_by(*order(AppealCase))
            .limit(limit)
            .subquery()
        )
        for state in filters.states
    ]
    merged = union_all(*parts).subquery()
    rows = connection.execute(select(merged).order_by(*order(merged.c)).limit(limit))
    return [CASES.load(row) for row in rows]


def _beyond(due_at: datetime, case_id: int, *, backwards: bool) -> list[ColumnElement[bool]]:
    """Return the conditions for cases after this place in the order."""
    same = AppealCase.due_at == due_at
    if backwards:
        later = or_(AppealCase.due_at < due_at, and_(same, AppealCase.id < case_id))
        return [later, AppealCase.due_at <= due_at]
    later = or_(AppealCase.due_at > due_at, and_(same, AppealCase.id > case_id))
    return [later, AppealCase.due_at >= due_at]  # the second condition can use the index


def read_totals(connection: Connection, viewer: Viewer, now: datetime, soon: datetime) -> Totals:
    """Return the numbers of open cases that this viewer sees: by state, overdue at `now`, and due until `soon`."""
    late, near = AppealCase.due_at <= now, and_(AppealCase.due_at > now, AppealCase.due_at <= soon)
    sums = [
        func.count(),
        *[
            func.coalesce(func.sum(case((condition, 1), else_=0)), 0)
            for condition in (AppealCase.reviewer_id == viewer.staff_id, and_(*_to_sign(viewer)), late, near)
        ],
    ]
    statement = (
        select(AppealCase.state, *sums).where(AppealCase.state.in_(_OPEN), *_seen_by(viewer)).group_by(AppealCase.state)
    )
    rows = [tuple(row) for row in connection.execute(statement)]
    every, mine, to_sign, overdue, due_soon = (sum(int(row[place]) for row in rows) for place in range(1, 6))
    return Totals(every, mine, to_sign, overdue, due_soon, {row[0]: int(row[1]) for row in rows})


def read_facets(connection: Connection, viewer: Viewer) -> dict[str, dict[str, int]]:
    """Return {profile, conduct, severity, platform: {value: number}} of the open cases that this viewer sees."""
    names = ("profile", "conduct", "severity", "platform")
    columns = (AppealCase.profile, _CONDUCT, AppealCase.severity, AppealCase.platform)
    statement = select(*columns, func.count()).where(AppealCase.state.in_(_OPEN), *_seen_by(viewer)).group_by(*columns)
    counts: dict[str, dict[str, int]] = {name: {} for name in names}
    for *values, number in connection.execute(statement):
        for name, value in zip(names, values, strict=True):
            counts[name][str(value)] = counts[name].get(str(value), 0) + int(number)
    return {name: dict(sorted(values.items())) for name, values in counts.items()}


def most_urgent(connection: Connection, viewer: Viewer, skipped_since: datetime) -> CaseRow | None:
    """Return the waiting case that is due first and that this viewer may take, None if there is none. It is not about
    their own group, they did not work on an earlier round of it, and they have not passed it over since
    `skipped_since`."""
    handled = select(CaseHandler.case_id).where(
        CaseHandler.case_id == AppealCase.id,
        CaseHandler.staff_id == viewer.staff_id,
        CaseHandler.round < AppealCase.round,
    )
    skipped = select(CaseSkip.case_id).where(
        CaseSkip.case_id == AppealCase.id, CaseSkip.staff_id == viewer.staff_id, CaseSkip.at >= skipped_since
    )
    statement = (
        select(*CASES.columns)
        .where(AppealCase.state == CaseState.SUBMITTED.value, *_seen_by(viewer), ~handled.exists(), ~skipped.exists())
        .order_by(AppealCase.due_at, AppealCase.id)
        .limit(1)
    )
    row = connection.execute(statement).one_or_none()
    return None if row is None else CASES.load(row)


def _seen_by(viewer: Viewer) -> Sequence[ColumnElement[bool]]:
    return () if viewer.control_group is None else (AppealCase.control_group != viewer.control_group,)


def _to_sign(viewer: Viewer) -> Sequence[ColumnElement[bool]]:
    """Return the conditions for cases that await a second signature from this viewer."""
    worked = select(CaseHandler.case_id).where(
        CaseHandler.case_id == AppealCase.id, CaseHandler.staff_id == viewer.staff_id
    )
    return (AppealCase.state == CaseState.AWAITING_SIGNOFF.value, ~worked.exists())


def _restricted(viewer: Viewer, filters: QueueFilter) -> list[ColumnElement[bool]]:
    """Return the conditions of a filter."""
    conditions: list[ColumnElement[bool]] = []
    if filters.mine:
        conditions.append(AppealCase.reviewer_id == viewer.staff_id)
    if filters.to_sign:
        conditions += _to_sign(viewer)
    if filters.due_before is not None:
        conditions.append(AppealCase.due_at <= filters.due_before)
    exact: dict[Any, Any] = {
        AppealCase.profile: filters.profile,
        _CONDUCT: filters.conduct,
        AppealCase.severity: filters.severity,
        AppealCase.platform: filters.platform,
        AppealCase.id: filters.case_id,
    }
    return conditions + [column == value for column, value in exact.items() if value is not None]
