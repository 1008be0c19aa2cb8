"""Queries of the reviewers' queue. Settled cases pile up beside it: they are listed by page, never counted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, case, delete, func, or_, select, union_all

from ledger.rules.appeals import OPEN_STATES, CaseState
from ledger.server.db.bulk import upsert
from ledger.server.db.tables.appeals import AppealCase, CaseHandler, CaseSkip
from ledger.server.records.case_queries import CaseRow

OPEN = tuple(sorted(state.value for state in OPEN_STATES))
SETTLED = tuple(sorted(state.value for state in CaseState if state not in OPEN_STATES))
_SKIP_KEPT = timedelta(days=2)
"""A skip counts until midnight; after this no queue looks at it in any time zone."""


@dataclass(frozen=True, slots=True)
class Viewer:
    """Whose queue it is: `control_group` is theirs, and cases about its reports are not in it."""

    staff_id: int
    control_group: str | None


@dataclass(frozen=True, slots=True)
class QueueFilter:
    """Which cases are wanted, of those in `states`; None and False do not restrict. `due_before` is a time, `case_id`
    an id."""

    states: tuple[str, ...] = OPEN
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
    """How many open cases there are of each sort."""

    open: int
    mine: int
    to_sign: int
    overdue: int
    due_soon: int
    states: Mapping[str, int]


_COLUMNS = [getattr(AppealCase, name) for name in CaseRow.__dataclass_fields__]
_CONDUCT = func.coalesce(AppealCase.amended_conduct, AppealCase.conduct)


def page(
    connection: Connection,
    viewer: Viewer,
    wanted: QueueFilter,
    *,
    after: tuple[datetime, int] | None,
    limit: int,
) -> list[CaseRow]:
    """Cases by due date, after the (due_at, id) of the page before: the most urgent first, or, where none of them is
    open, the last first.

    One query for each state, each along its index by due date, merged: with all states in one, a database would sort
    every open case for each page.
    """
    backwards = not set(wanted.states) & set(OPEN)
    conditions = [*_seen_by(viewer), *_restricted(viewer, wanted)]
    if after is not None:
        conditions += _beyond(*after, backwards=backwards)

    def order(columns: Any) -> list[Any]:
        return [column.desc() if backwards else column for column in (columns.due_at, columns.id)]

    parts = [
        select(
            select(*_COLUMNS)
            .where(AppealCase.state == state, *conditions)
            .order_by(*order(AppealCase))
            .limit(limit)
            .subquery()
        )
        for state in wanted.states
    ]
    merged = union_all(*parts).subquery()
    rows = connection.execute(select(merged).order_by(*order(merged.c)).limit(limit))
    return [CaseRow(*row) for row in rows]


def _beyond(due_at: datetime, case_id: int, *, backwards: bool) -> list[ColumnElement[bool]]:
    """What comes after this place in the order."""
    same = AppealCase.due_at == due_at
    if backwards:
        later = or_(AppealCase.due_at < due_at, and_(same, AppealCase.id < case_id))
        return [later, AppealCase.due_at <= due_at]
    later = or_(AppealCase.due_at > due_at, and_(same, AppealCase.id > case_id))
    return [later, AppealCase.due_at >= due_at]  # the second is what the index can use of the first


def totals(connection: Connection, viewer: Viewer, now: datetime, soon: datetime) -> Totals:
    """Numbers for the filters: cases this viewer sees, by state, and due before `now` or from then until `soon`."""
    late, near = AppealCase.due_at <= now, and_(AppealCase.due_at > now, AppealCase.due_at <= soon)
    sums = [
        func.count(),
        *[
            func.coalesce(func.sum(case((condition, 1), else_=0)), 0)
            for condition in (AppealCase.reviewer_id == viewer.staff_id, and_(*_to_sign(viewer)), late, near)
        ],
    ]
    statement = (
        select(AppealCase.state, *sums).where(AppealCase.state.in_(OPEN), *_seen_by(viewer)).group_by(AppealCase.state)
    )
    rows = [tuple(row) for row in connection.execute(statement)]
    every, mine, to_sign, overdue, due_soon = (sum(int(row[place]) for row in rows) for place in range(1, 6))
    return Totals(every, mine, to_sign, overdue, due_soon, {row[0]: int(row[1]) for row in rows})


def facets(connection: Connection, viewer: Viewer) -> dict[str, dict[str, int]]:
    """{profile, conduct, severity, platform: {value: how many}} of the open cases this viewer sees."""
    names = ("profile", "conduct", "severity", "platform")
    columns = (AppealCase.profile, _CONDUCT, AppealCase.severity, AppealCase.platform)
    statement = select(*columns, func.count()).where(AppealCase.state.in_(OPEN), *_seen_by(viewer)).group_by(*columns)
    found: dict[str, dict[str, int]] = {name: {} for name in names}
    for *values, number in connection.execute(statement):
        for name, value in zip(names, values, strict=True):
            found[name][str(value)] = found[name].get(str(value), 0) + int(number)
    return {name: dict(sorted(values.items())) for name, values in found.items()}


def most_urgent(connection: Connection, viewer: Viewer, skipped_since: datetime) -> CaseRow | None:
    """The waiting case that is due first and that this viewer may take: not about their own group, not one they worked
    on in an earlier round, and not passed over by them since `skipped_since`."""
    handled = select(CaseHandler.case_id).where(
        CaseHandler.case_id == AppealCase.id,
        CaseHandler.staff_id == viewer.staff_id,
        CaseHandler.round < AppealCase.round,
    )
    skipped = select(CaseSkip.case_id).where(
        CaseSkip.case_id == AppealCase.id, CaseSkip.staff_id == viewer.staff_id, CaseSkip.at >= skipped_since
    )
    statement = (
        select(*_COLUMNS)
        .where(AppealCase.state == CaseState.SUBMITTED.value, *_seen_by(viewer), ~handled.exists(), ~skipped.exists())
        .order_by(AppealCase.due_at, AppealCase.id)
        .limit(1)
    )
    row = connection.execute(statement).one_or_none()
    return None if row is None else CaseRow(*row)


def pass_over(connection: Connection, case_id: int, staff_id: int, now: datetime) -> None:
    """Remember that this member of staff passed the case over today, and forget what was passed over long ago."""
    statement = upsert(connection, CaseSkip).values(case_id=case_id, staff_id=staff_id, at=now)
    connection.execute(statement.on_conflict_do_update(index_elements=["case_id", "staff_id"], set_={"at": now}))
    connection.execute(delete(CaseSkip).where(CaseSkip.at < now - _SKIP_KEPT))


def _seen_by(viewer: Viewer) -> Sequence[ColumnElement[bool]]:
    return () if viewer.control_group is None else (AppealCase.control_group != viewer.control_group,)


def _to_sign(viewer: Viewer) -> Sequence[ColumnElement[bool]]:
    """A second signature is wanted, and this viewer did not work on the case."""
    worked = select(CaseHandler.case_id).where(
        CaseHandler.case_id == AppealCase.id, CaseHandler.staff_id == viewer.staff_id
    )
    return (AppealCase.state == CaseState.AWAITING_SIGNOFF.value, ~worked.exists())


def _restricted(viewer: Viewer, wanted: QueueFilter) -> list[ColumnElement[bool]]:
    found: list[ColumnElement[bool]] = []
    if wanted.mine:
        found.append(AppealCase.reviewer_id == viewer.staff_id)
    if wanted.to_sign:
        found += _to_sign(viewer)
    if wanted.due_before is not None:
        found.append(AppealCase.due_at <= wanted.due_before)
    exact: dict[Any, Any] = {
        AppealCase.profile: wanted.profile,
        _CONDUCT: wanted.conduct,
        AppealCase.severity: wanted.severity,
        AppealCase.platform: wanted.platform,
        AppealCase.id: wanted.case_id,
    }
    return found + [column == value for column, value in exact.items() if value is not None]
