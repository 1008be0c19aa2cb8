"""Queries behind the supervisors' page of platforms. Each gives figures of all platforms at once, by name."""

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
    """Reports that are still on record: recorded in the last 30 and 90 days, live, all, with a case, and the newest."""

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
    """Reports by platform; a report with several cases is one contested report."""
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
    """{platform: {upheld | amended | overturned | nothing: how many}} of decisions after `since`."""
    statement = (
        select(CaseOutcome.platform, CaseOutcome.counts_as, func.count())
        .where(CaseOutcome.decided_at > since)
        .group_by(CaseOutcome.platform, CaseOutcome.counts_as)
    )
    found: dict[str, dict[str, int]] = {}
    for platform, counts_as, number in connection.execute(statement):
        found.setdefault(platform, {})[counts_as] = number
    return found


def question_events(connection: Connection, since: datetime) -> list[QuestionEvent]:
    """Questions to reporters, and their answers and silences, from `since` on, in order within each case."""
    statement = (
        select(AppealCase.platform, CaseEvent.case_id, CaseEvent.at, CaseEvent.action)
        .join(AppealCase, AppealCase.id == CaseEvent.case_id)
        .where(CaseEvent.action.in_(_QUESTIONS), CaseEvent.at >= since)
        .order_by(CaseEvent.case_id, CaseEvent.id)
    )
    return [QuestionEvent(*row) for row in connection.execute(statement)]


def lookups_by_day(connection: Connection, first_day: int) -> dict[str, dict[int, tuple[int, int]]]:
    """{platform: {UTC day: (clean, disclosed)}} from `first_day` on, as far as written."""
    rows = connection.execute(
        select(LookupCount.platform, LookupCount.day, LookupCount.clean, LookupCount.disclosed).where(
            LookupCount.day >= first_day
        )
    )
    found: dict[str, dict[int, tuple[int, int]]] = {}
    for platform, day, clean, disclosed in rows:
        found.setdefault(platform, {})[day] = (clean, disclosed)
    return found


def elements_of_day(connection: Connection, day: int) -> dict[str, int]:
    """Blinded elements that platforms took from their daily quota."""
    return _numbers(connection, select(OprfUse.platform, OprfUse.elements).where(OprfUse.day == day))


def sessions_since(connection: Connection, since: datetime) -> dict[str, int]:
    """Consumers' sessions that platforms had made."""
    statement = select(SubjectSession.platform, func.count()).where(SubjectSession.created_at >= since)
    return _numbers(connection, statement.group_by(SubjectSession.platform))


def _numbers(connection: Connection, statement: Select[str, int]) -> dict[str, int]:
    return {name: number for name, number in connection.execute(statement)}  # noqa: C416


def _count_if(condition: Any) -> Any:
    return func.coalesce(func.sum(case((condition, 1), else_=0)), 0)
