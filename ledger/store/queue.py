"""Queries of the reviewers' queue. Only open cases are in it; settled ones pile up beside it and are never scanned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, case, func, or_, select, union_all

from ledger.core.appeals import OPEN_STATES, CaseState
from ledger.store.appeal_tables import AppealCase, CaseHandler, CaseSkip
from ledger.store.appeals import CaseRow
from ledger.store.bulk import upsert

OPEN = tuple(sorted(state.value for state in OPEN_STATES))


@dataclass(frozen=True, slots=True)
class Viewer:
    """Whose queue it is: `control_group` is theirs, and cases about its reports are not in it."""

    staff_id: int
    control_group: str | None


@dataclass(frozen=True, slots=True)
class QueueFilter:
    """Which open cases are wanted; None and False do not restrict. `due_before` is a time, `case_id` an id."""

    state: str | None = None
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
    """Open cases, the most urgent first, after the (due_at, id) of the page before.

    One query for each state, each along its index by due date, merged: with all states in one, a database would sort
    every open case for each page.
    """
    conditions = [*_seen_by(viewer), *_restricted(viewer, wanted)]
    if after is not None:
        due_at, case_id = after
        conditions.append(or_(AppealCase.due_at > due_at, and_(AppealCase.due_at == due_at, AppealCase.id > case_id)))
        conditions.append(AppealCase.due_at >= due_at)  # what the index can use of the line before
    order = (AppealCase.due_at, AppealCase.id)
    states = OPEN if wanted.state is None else (wanted.state,)
    parts = [
        select(select(*_COLUMNS).where(AppealCase.state == state, *conditions).order_by(*order).limit(limit).subquery())
        for state in states
    ]
    merged = union_all(*parts).subquery()
    rows = connection.execute(select(merged).order_by(merged.c.due_at, merged.c.id).limit(limit))
    return [CaseRow(*row) for row in rows]


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


def put_skip(connection: Connection, case_id: int, staff_id: int, now: datetime) -> None:
    """Remember that this member of staff passed the case over."""
    statement = upsert(connection, CaseSkip).values(case_id=case_id, staff_id=staff_id, at=now)
    connection.execute(statement.on_conflict_do_update(index_elements=["case_id", "staff_id"], set_={"at": now}))


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
