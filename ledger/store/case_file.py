"""Queries behind the case page: what hangs together with a contested report."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, func, select

from ledger.store.appeal_tables import CaseEntry, CaseOutcome
from ledger.store.log import latest_checkpoint, read_leaf
from ledger.store.staff_tables import StaffAccount as Staff
from ledger.store.tables import Report, ReportLink


@dataclass(frozen=True, slots=True)
class EntryRow:
    """An entry about the report: where, of what type, what came of it, its public leaf, and whether the newest
    checkpoint covers it."""

    index: int
    type: str
    outcome: str | None
    leaf: bytes
    covered: bool


@dataclass(frozen=True, slots=True)
class LinkedRow:
    """Another report that has to do with this one: `how` is act, rests_on or carries."""

    report_id: int
    platform: str
    conduct: str
    act_ended_at: datetime
    live: bool
    how: str


def entries(connection: Connection, report_id: int) -> list[EntryRow]:
    """The report's own entry and those of its appeal, in order."""
    rows: list[tuple[int, str, str | None]] = [(report_id, "report", None)]
    found = connection.execute(
        select(CaseEntry.entry_index, CaseEntry.type, CaseEntry.outcome)
        .where(CaseEntry.report_id == report_id)
        .order_by(CaseEntry.entry_index)
    )
    rows += [(index, type_, outcome) for index, type_, outcome in found]
    newest = latest_checkpoint(connection)
    size = 0 if newest is None else newest.size
    return [
        EntryRow(index, type_, outcome, bytes(read_leaf(connection, index) or b""), index < size)
        for index, type_, outcome in rows
    ]


def linked(connection: Connection, report_id: int, act_id: int) -> list[LinkedRow]:
    """Reports of the same act, those an `account_farm` report rests on, and those that rest on this one."""
    found: dict[int, LinkedRow] = {}
    columns = (Report.id, Report.platform, Report.conduct, Report.act_ended_at, Report.live)

    def collect(how: str, ids: Iterable[int]) -> None:
        for row in connection.execute(select(*columns).where(Report.id.in_(list(ids)))):
            found.setdefault(row[0], LinkedRow(*row, how))

    mates = connection.scalars(select(Report.id).where(Report.act_id == act_id, Report.id != report_id).limit(50))
    collect("act", mates)
    collect("rests_on", connection.scalars(select(ReportLink.linked_id).where(ReportLink.report_id == report_id)))
    collect("carries", connection.scalars(select(ReportLink.report_id).where(ReportLink.linked_id == report_id)))
    return sorted(found.values(), key=lambda row: row.report_id)


def staff_names(connection: Connection) -> dict[int, tuple[str, str, str | None]]:
    """{id: (name, role, control group)} of everybody who has or had an account and may work on cases."""
    rows = connection.execute(
        select(Staff.id, Staff.name, Staff.role, Staff.control_group).where(Staff.disabled_at.is_(None))
    )
    known = {staff_id: (name, role, group) for staff_id, name, role, group in rows}
    gone = connection.execute(select(Staff.id, Staff.name).where(Staff.disabled_at.is_not(None)))
    known.update({staff_id: (name, "disabled", None) for staff_id, name in gone})
    return known


def report_counts(connection: Connection, platform: str) -> tuple[int, int]:
    """(all reports, live reports) of a platform."""
    live = func.count().filter(Report.live)
    all_, alive = connection.execute(select(func.count(), live).where(Report.platform == platform)).one()
    return int(all_), int(alive)


def outcomes_of(connection: Connection, control_group: str, since: datetime) -> dict[str, int]:
    """How a control group's contested reports fared since then: {upheld | amended | overturned | nothing: number}."""
    rows = connection.execute(
        select(CaseOutcome.counts_as, func.count())
        .where(CaseOutcome.control_group == control_group, CaseOutcome.decided_at > since)
        .group_by(CaseOutcome.counts_as)
    )
    return {counts_as: int(number) for counts_as, number in rows}
