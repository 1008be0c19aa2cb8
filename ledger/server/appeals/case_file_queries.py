"""Queries of the case page: what stands around a case."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, func, or_, select

from ledger.rules.appeals import Action, Outcome
from ledger.server.db.tables.appeals import AppealCase, CaseEntry, CaseEvent, CaseOutcome
from ledger.server.db.tables.ledger import Report, ReportLink

MAX_ANSWERS = 2000
"""Events from which a median of response times is taken at most, the newest."""


@dataclass(frozen=True, slots=True)
class EntryRow:
    """A log entry that an appeal made about its report."""

    entry_index: int
    type: str
    outcome: str | None
    recorded_at: datetime


def entries(connection: Connection, report_id: int) -> list[EntryRow]:
    """The log's entries about the report that its appeal made, in order."""
    rows = connection.execute(
        select(CaseEntry.entry_index, CaseEntry.type, CaseEntry.outcome, CaseEntry.recorded_at)
        .where(CaseEntry.report_id == report_id)
        .order_by(CaseEntry.entry_index)
    )
    return [EntryRow(*row) for row in rows]


def live_reports(connection: Connection, platform: str) -> int:
    """How many live reports the platform has."""
    statement = select(func.count()).select_from(Report).where(Report.platform == platform, Report.live)
    return connection.execute(statement).scalar_one()


def contested(connection: Connection, platform: str, since: datetime) -> int:
    """How many of the platform's reports were contested after `since`."""
    mine = (AppealCase.platform == platform, AppealCase.opened_at > since)
    statement = select(func.count(AppealCase.report_id.distinct())).where(*mine)
    return connection.execute(statement).scalar_one()


def platform_outcomes(connection: Connection, platform: str, control_group: str, since: datetime) -> dict[str, int]:
    """{upheld, amended, overturned, nothing: how many} of the platform's reports, decided after `since`."""
    rows = connection.execute(
        select(CaseOutcome.counts_as, func.count())
        .where(
            CaseOutcome.control_group == control_group,
            CaseOutcome.platform == platform,
            CaseOutcome.decided_at > since,
        )
        .group_by(CaseOutcome.counts_as)
    )
    return {counts_as: number for counts_as, number in rows}  # noqa: C416


def unconfirmed(connection: Connection, platform: str, since: datetime) -> int:
    """How many of the platform's reports were decided `unconfirmed` after `since`."""
    mine = (
        AppealCase.platform == platform,
        AppealCase.outcome == Outcome.UNCONFIRMED.value,
        AppealCase.decided_at > since,
    )
    statement = select(func.count(AppealCase.report_id.distinct())).where(*mine)
    return connection.execute(statement).scalar_one()


def questions(connection: Connection, platform: str, since: datetime) -> list[tuple[int, str, datetime]]:
    """(case id, action, time) of questions to the platform and its answers after `since`, in order within a case."""
    told = (Action.ASK_REPORTER.value, Action.REPORTER_ANSWERED.value)
    rows = connection.execute(
        select(CaseEvent.case_id, CaseEvent.action, CaseEvent.at, CaseEvent.id)
        .join(AppealCase, AppealCase.id == CaseEvent.case_id)
        .where(AppealCase.platform == platform, CaseEvent.action.in_(told), CaseEvent.at > since)
        .order_by(CaseEvent.id.desc())
        .limit(MAX_ANSWERS)
    )
    found = sorted((case_id, number, action, at) for case_id, action, at, number in rows)
    return [(case_id, action, at) for case_id, _, action, at in found]


def acts(connection: Connection, act_id: int, among: Iterable[int]) -> list[int]:
    """Which of the reports `among` are about this act."""
    statement = select(Report.id).where(Report.id.in_(sorted(set(among))), Report.act_id == act_id)
    return list(connection.scalars(statement))


def links(connection: Connection, report_id: int) -> dict[int, str]:
    """Reports that this one rests on (`rests_on`) or that rest on it (`carries`), by id."""
    rows = connection.execute(
        select(ReportLink.report_id, ReportLink.linked_id).where(
            or_(ReportLink.report_id == report_id, ReportLink.linked_id == report_id)
        )
    )
    return {
        (linked if owner == report_id else owner): "rests_on" if owner == report_id else "carries"
        for owner, linked in rows
    }
