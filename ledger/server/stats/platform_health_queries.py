"""Queries for the supervisors' page of platforms. Each returns figures of all platforms at once, by name."""

from __future__ import annotations

from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Connection, Select, case, func, select

from ledger.rules.appeals import Action
from ledger.server.db.tables.appeals import AppealCase, CaseEvent, CaseOutcome, SubjectSession
from ledger.server.db.tables.lookups import LookupCount
from ledger.server.db.tables.oprf import OprfUse
from ledger.server.db.tables.reports import Report

_QUESTIONS = (Action.ASK_REPORTER.value, Action.REPORTER_ANSWERED.value, Action.REPORTER_SILENT.value)


class ReportFigures(NamedTuple):
    """Numbers of reports that are not erased: those recorded in the last 30 and 90 days, the live ones, all, and those
    with a case; and the time of the newest."""

    last_30_days: int = 0
    last_90_days: int = 0
    live: int = 0
    on_record: int = 0
    contested: int = 0
    last_at: datetime | None = None


class QuestionEvent(NamedTuple):
    """A step of a question to a reporter."""

    platform: str
    case_id: int
    at: datetime
    action: str


def report_figures(connection: Connection, since_30: datetime, since_90: datetime) -> dict[str, ReportFigures]:
    """Return the figures of reports by platform. A report with several cases counts as one contested report."""
    contested = select(AppealCase.report_id).distinct().subquery()
    statement = (
        select(
            Report.platform,
            _count_if(Report.recorded_at > since_30),
            _count_if(Report.recorded_at > since_90),
            _count_if(Report.live),
            func.count(),
            func.count(contested.c.report_id),
            func.max(Report.recorded_at),
        )
        .join(contested, contested.c.report_id == Report.id, isouter=True)
        .group_by(Report.platform)
    )
    return {row[0]: ReportFigures(*row[1:]) for row in connection.execute(statement)}


def outcomes_by_platform(connection: Connection, since: datetime) -> dict[str, dict[str, int]]:
    """Return {platform: {upheld | amended | overturned | nothing: number}} of the decisions after `since`."""
    statement = (
        select(CaseOutcome.platform, CaseOutcome.counts_as, func.count())
        .where(CaseOutcome.decided_at > since)
        .group_by(CaseOutcome.platform, CaseOutcome.counts_as)
    )
    counts: dict[str, dict[str, int]] = {}
    for platform, counts_as, number in connection.execute(statement):
        counts.setdefault(platform, {})[counts_as] = number
    return counts


def question_events(connection: Connection, since: datetime) -> list[QuestionEvent]:
    """Return the questions to reporters, with their answers and missed answers, from `since` on, in order within each
    case."""
    statement = (
        select(AppealCase.platform, CaseEvent.case_id, CaseEvent.at, CaseEvent.action)
        .join(AppealCase, AppealCase.id == CaseEvent.case_id)
        .where(CaseEvent.action.in_(_QUESTIONS), CaseEvent.at >= since)
        .order_by(CaseEvent.case_id, CaseEvent.id)
    )
    return [QuestionEvent(*row) for row in connection.execute(statement)]


def lookups_by_day(connection: Connection, first_day: int) -> dict[str, dict[int, tuple[int, int]]]:
    """Return {platform: {UTC day: (clean, disclosed)}} from `first_day` on, of the counts that are stored so far."""
    rows = connection.execute(
        select(LookupCount.platform, LookupCount.day, LookupCount.clean, LookupCount.disclosed).where(
            LookupCount.day >= first_day
        )
    )
    counts: dict[str, dict[int, tuple[int, int]]] = {}
    for platform, day, clean, disclosed in rows:
        counts.setdefault(platform, {})[day] = (clean, disclosed)
    return counts


def elements_of_day(connection: Connection, day: int) -> dict[str, int]:
    """Return the number of blinded elements that each platform used of its daily quota on `day`."""
    return _numbers(connection, select(OprfUse.platform, OprfUse.elements).where(OprfUse.day == day))


def sessions_since(connection: Connection, since: datetime) -> dict[str, int]:
    """Return the number of consumers' sessions that each platform created since `since`."""
    statement = select(SubjectSession.platform, func.count()).where(SubjectSession.created_at >= since)
    return _numbers(connection, statement.group_by(SubjectSession.platform))


def _numbers(connection: Connection, statement: Select[str, int]) -> dict[str, int]:
    return {name: number for name, number in connection.execute(statement)}  # noqa: C416


def _count_if(condition: Any) -> Any:
    return func.coalesce(func.sum(case((condition, 1), else_=0)), 0)
