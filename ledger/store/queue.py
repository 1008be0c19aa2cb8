"""Queries of the reviewers' queue."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, and_, case, delete, exists, func, or_, select

from ledger.core.appeals import OPEN_STATES, CaseState
from ledger.store.appeal_tables import AppealCase, CaseHandler, CaseSkip
from ledger.store.appeals import CaseRow
from ledger.store.bulk import upsert

_COLUMNS = [getattr(AppealCase, name) for name in CaseRow.__dataclass_fields__]
_OPEN = [state.value for state in OPEN_STATES]


@dataclass(frozen=True, slots=True)
class QueueFilter:
    """Which cases are wanted; None and False ask nothing. `states` empty: the open ones."""

    states: tuple[str, ...] = ()
    reviewer_id: int | None = None
    to_sign_by: int | None = None
    overdue: bool = False
    due_before: datetime | None = None
    profile: str | None = None
    conduct: str | None = None
    severity: int | None = None
    platform: str | None = None
    case_id: int | None = None


def _visible(control_group: str | None) -> ColumnElement[bool]:
    """Cases that somebody of this control group has a part in: not those about its own reports."""
    return AppealCase.id.is_not(None) if control_group is None else AppealCase.control_group != control_group


def _fits(wanted: QueueFilter, control_group: str | None) -> ColumnElement[bool]:
    parts: list[ColumnElement[bool]] = [_visible(control_group)]
    if wanted.case_id is not None:
        return and_(*parts, AppealCase.id == wanted.case_id)
    parts.append(AppealCase.state.in_(wanted.states or _OPEN))
    if wanted.reviewer_id is not None:
        parts.append(AppealCase.reviewer_id == wanted.reviewer_id)
    if wanted.to_sign_by is not None:
        parts.append(_to_sign(wanted.to_sign_by))
    if wanted.overdue:
        parts.append(AppealCase.overdue.is_(True))
    if wanted.due_before is not None:
        parts.append(AppealCase.due_at < wanted.due_before)
    for column, value in (
        (AppealCase.profile, wanted.profile),
        (AppealCase.conduct, wanted.conduct),
        (AppealCase.severity, wanted.severity),
        (AppealCase.platform, wanted.platform),
    ):
        if value is not None:
            parts.append(column == value)
    return and_(*parts)


def _to_sign(staff_id: int) -> ColumnElement[bool]:
    worked = exists().where(CaseHandler.case_id == AppealCase.id, CaseHandler.staff_id == staff_id)
    return and_(AppealCase.state == CaseState.AWAITING_SIGNOFF.value, ~worked)


def _urgent(statement: Select[Any]) -> Select[Any]:
    return statement.order_by(AppealCase.overdue.desc(), AppealCase.due_at, AppealCase.id)


def queue(
    connection: Connection, wanted: QueueFilter, control_group: str | None, limit: int, offset: int
) -> list[CaseRow]:
    """Cases that fit, the most urgent first: overdue ones, then by due date."""
    statement = _urgent(select(*_COLUMNS).where(_fits(wanted, control_group)))
    return [CaseRow(*row) for row in connection.execute(statement.limit(limit).offset(offset))]


def counts(connection: Connection, staff_id: int, control_group: str | None, soon: datetime) -> dict[str, int]:
    """How many open cases there are: all, overdue, due before `soon`, waiting, mine, for me to sign."""

    def number(condition: ColumnElement[bool]) -> ColumnElement[int]:
        return func.coalesce(func.sum(case((condition, 1), else_=0)), 0)

    row = connection.execute(
        select(
            func.count(),
            number(AppealCase.overdue.is_(True)),
            number(and_(AppealCase.due_at < soon, ~AppealCase.overdue)),
            number(AppealCase.state == CaseState.SUBMITTED.value),
            number(AppealCase.reviewer_id == staff_id),
            number(_to_sign(staff_id)),
        ).where(AppealCase.state.in_(_OPEN), _visible(control_group))
    ).one()
    return dict(zip(("open", "overdue", "soon", "submitted", "mine", "sign"), map(int, row), strict=True))


def next_case(connection: Connection, staff_id: int, control_group: str | None, skipped_since: datetime) -> int | None:
    """The most urgent waiting case that this person may take and has not passed over since then."""
    skipped = exists().where(
        CaseSkip.case_id == AppealCase.id, CaseSkip.staff_id == staff_id, CaseSkip.at >= skipped_since
    )
    before = exists().where(
        CaseHandler.case_id == AppealCase.id,
        CaseHandler.staff_id == staff_id,
        CaseHandler.round < AppealCase.round,
    )
    statement = select(AppealCase.id).where(
        AppealCase.state == CaseState.SUBMITTED.value, _visible(control_group), ~before, ~skipped
    )
    return connection.execute(_urgent(statement).limit(1)).scalar_one_or_none()


def skip(connection: Connection, case_id: int, staff_id: int, now: datetime) -> None:
    """This person passed the case over."""
    statement = upsert(connection, CaseSkip).values(case_id=case_id, staff_id=staff_id, at=now)
    connection.execute(statement.on_conflict_do_update(index_elements=["case_id", "staff_id"], set_={"at": now}))


def forget_skips(connection: Connection, before: datetime) -> None:
    """Delete what no queue looks at any more."""
    connection.execute(delete(CaseSkip).where(CaseSkip.at < before))


def platforms_with_cases(connection: Connection, control_group: str | None) -> list[str]:
    """Names of reporters with open cases, for the filter."""
    statement = select(AppealCase.platform).where(AppealCase.state.in_(_OPEN), _visible(control_group)).distinct()
    return sorted(connection.scalars(statement))


def settled_since(connection: Connection, since: datetime, platform: str) -> dict[str, int]:
    """Decided outcomes of a platform's contested reports since then, and how many are open."""
    rows = connection.execute(
        select(AppealCase.state, AppealCase.outcome, func.count())
        .where(
            AppealCase.platform == platform,
            or_(AppealCase.decided_at >= since, AppealCase.state.in_(_OPEN)),
        )
        .group_by(AppealCase.state, AppealCase.outcome)
    )
    found: dict[str, int] = {}
    for state, outcome, number in rows:
        key = "open" if state in _OPEN else (outcome or state)
        found[key] = found.get(key, 0) + number
    return found
