"""Cases and the rows that belong to them. All changes are made under the log's head lock."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, and_, delete, func, insert, or_, select, update
from sqlalchemy import case as when

from ledger.protocol.encoding import day_floor, from_day
from ledger.rules.appeals import OPEN_STATES, Action, CaseState, Outcome
from ledger.rules.case_machine import Case
from ledger.rules.rounds import Round
from ledger.server.db.bulk import chunks, insert_rows, table_of, upsert
from ledger.server.db.row_mapping import RowMapping
from ledger.server.db.tables.appeals import (
    AppealCase,
    CaseEntry,
    CaseEvent,
    CaseHandler,
    CaseOutcome,
    CaseRound,
    CaseTag,
    Statement,
)
from ledger.server.db.tables.orders import HeldReport
from ledger.server.db.tables.platforms import ControlGroup
from ledger.server.db.tables.reports import Listing, Report, Subject


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseRow(Case):
    """A case as stored: what the rules decide about (`Case`, with `handlers` empty unless they were loaded), and the
    rest of `AppealCase`. A further field is one column there and one field here or in `Case`."""

    id: int
    group_id: int
    report_id: int
    amended_conduct: str | None = None
    grounds: str
    locale: str
    filed_via: str
    filing_group: str | None
    platform: str
    conduct: str
    opened_at: datetime
    proposed_conduct: str | None = None
    unlinked_slots: str | None = None
    reasons: str | None = None

    @property
    def current_conduct(self) -> str:
        """The conduct in force."""
        return self.amended_conduct or self.conduct

    @property
    def as_round(self) -> Round:
        """Return the case in the form that the rules about the rights of a report read (`rules.rounds`)."""
        return Round(
            case_id=self.id,
            group=self.filing_group,
            state=self.state,
            was_decided=self.round > 1 or self.outcome is not None,
            # A round that the reporter was granted changes nothing before it is decided.
            suspends=self.suspends and not self.is_reporters,
            overdue=self.overdue,
        )


@dataclass(frozen=True, slots=True)
class RoundRow:
    """A decided round of a case that was reopened; see `CaseRound`."""

    case_id: int
    round: int
    opened_at: datetime
    due_at: datetime | None
    outcome: Outcome
    amended_conduct: str | None
    unlinked_slots: str | None
    reasons: str | None
    decided_at: datetime
    reopen_until: datetime | None
    expires_at: datetime | None


@dataclass(frozen=True, slots=True)
class CaseEventRow:
    """An event of a case; see `CaseEvent`."""

    id: int
    case_id: int
    round: int
    at: datetime
    action: str
    actor: str
    staff_id: int | None
    platform: str | None
    state: str
    outcome: str | None
    text: str | None
    visible_to: str
    entry_index: int | None


@dataclass(frozen=True, slots=True)
class StatementRow:
    """The person's own statement on a report."""

    report_id: int
    revision: int
    text: str
    locale: str
    made_at: datetime
    entry_index: int


CASES = RowMapping(CaseRow, AppealCase)
_ROUNDS = RowMapping(RoundRow, CaseRound)
_EVENTS = RowMapping(CaseEventRow, CaseEvent)
_STATEMENTS = RowMapping(StatementRow, Statement)
_CASE = select(*CASES.columns)
_OPEN = [state.value for state in OPEN_STATES]
_SETTLED = [CaseState.DECIDED.value, CaseState.WITHDRAWN.value]


# --- cases ----------------------------------------------------------------------------------------------------


def case(connection: Connection, case_id: int) -> CaseRow | None:
    """Return the case of this id, None if there is none."""
    row = connection.execute(_CASE.where(AppealCase.id == case_id)).one_or_none()
    return None if row is None else CASES.load(row)


def all_cases_of_reports(connection: Connection, report_ids: Iterable[int]) -> dict[int, list[CaseRow]]:
    """Return all cases by report id, oldest first; a report without one has no member."""
    cases: dict[int, list[CaseRow]] = {}
    for chunk in chunks(report_ids):
        for row in connection.execute(_CASE.where(AppealCase.report_id.in_(chunk)).order_by(AppealCase.id)):
            case = CASES.load(row)
            cases.setdefault(case.report_id, []).append(case)
    return cases


def cases_of_reports(connection: Connection, report_ids: Iterable[int]) -> dict[int, CaseRow]:
    """Return the leading case (`leading`) by report id."""
    cases = all_cases_of_reports(connection, report_ids)
    return {report_id: leading(rows) for report_id, rows in cases.items()}


def leading(rows: Sequence[CaseRow]) -> CaseRow:
    """Return, of the cases of one report (at least one), the one that determines its state: an open one that suspends
    it, another open one, the one that was decided last, or the newest."""

    def order(row: CaseRow) -> tuple[bool, bool, bool, datetime, int]:
        decided = row.outcome is not None
        return (row.is_open, row.is_open and row.suspends, decided, row.decided_at or row.opened_at, row.id)

    return max(rows, key=order)


def conduct_in_force(rows: Sequence[CaseRow]) -> str | None:
    """Return the conduct of a report after the decisions of its cases; None without a case. Open cases always have it:
    a decision is stored in the open cases beside it."""
    if not rows:
        return None
    return max(rows, key=lambda row: (row.is_open, row.decided_at or row.opened_at, row.id)).current_conduct


def decision_in_force(connection: Connection, report_id: int) -> str | None:
    """Return the newest decision on the merits about the report, in any of its cases; None while there is none."""
    decided = (CaseEntry.report_id == report_id, CaseEntry.outcome.in_([outcome.value for outcome in Outcome]))
    statement = select(CaseEntry.outcome).where(*decided).order_by(CaseEntry.entry_index.desc()).limit(1)
    return connection.execute(statement).scalar_one_or_none()


def listed_conduct(connection: Connection, report_id: int) -> str | None:
    """Return the conduct under which the report is listed; None while it is not."""
    statement = select(Listing.conduct).where(Listing.report_id == report_id).limit(1)
    return connection.execute(statement).scalar_one_or_none()


def group_cases(connection: Connection, group_id: int) -> list[CaseRow]:
    """Return cases filed together, oldest first."""
    rows = connection.execute(_CASE.where(AppealCase.group_id == group_id).order_by(AppealCase.id))
    return [CASES.load(row) for row in rows]


def cases_page(
    connection: Connection,
    *,
    platform: str,
    filed: bool,
    reported: bool,
    state: str | None,
    limit: int,
    before_id: int | None,
) -> list[CaseRow]:
    """Return at most `limit` cases before `before_id`, newest first: those filed through `platform` (`filed`, by itself
    or by persons in its sessions), those against its reports (`reported`), or both."""
    cases: dict[int, CaseRow] = {}
    for included, column in ((filed, AppealCase.filed_via), (reported, AppealCase.platform)):
        if not included:
            continue
        statement = _CASE.where(column == platform)  # one index each: an OR of the two would read and sort all
        if state is not None:
            statement = statement.where(AppealCase.state == state)
        if before_id is not None:
            statement = statement.where(AppealCase.id < before_id)
        rows = connection.execute(statement.order_by(AppealCase.id.desc()).limit(limit))
        cases |= {row.id: CASES.load(row) for row in rows}
    return sorted(cases.values(), key=lambda row: row.id, reverse=True)[:limit]


def due_cases(
    connection: Connection, now: datetime, today: int, limit: int, after: tuple[datetime, int] | None = None
) -> list[CaseRow]:
    """Return cases with a due action at `now`: a clock has run out, or (`today`, in days since the Unix epoch) the
    report has expired. Oldest deadline first, at most `limit` after `after`, a case's (due_at, id)."""
    waiting = [CaseState.AWAITING_REPORTER.value, CaseState.AWAITING_SUBJECT.value]
    there = select(Listing.report_id).where(Listing.report_id == AppealCase.report_id, Listing.expires_day > today)
    held = (  # a held report has no listings, and its case is not due for that
        select(HeldReport.report_id)
        .join(Report, Report.id == HeldReport.report_id)
        .where(
            HeldReport.report_id == AppealCase.report_id,
            HeldReport.released_at.is_(None),
            Report.live,
            Report.expires_day > today,
        )
    )
    statement = _CASE.where(
        or_(
            and_(AppealCase.state.in_(_OPEN), AppealCase.overdue.is_(False), AppealCase.due_at <= now),
            and_(AppealCase.state.in_(waiting), AppealCase.question_due_at <= now),
            and_(
                AppealCase.state.in_(_SETTLED), or_(AppealCase.reopen_until.is_(None), AppealCase.reopen_until <= now)
            ),
            and_(AppealCase.state.in_(_OPEN), ~there.exists(), ~held.exists()),
        )
    )
    if after is not None:
        due_at, case_id = after
        beyond = or_(AppealCase.due_at > due_at, and_(AppealCase.due_at == due_at, AppealCase.id > case_id))
        statement = statement.where(beyond)
    ordered = statement.order_by(AppealCase.due_at, AppealCase.id)
    return [CASES.load(row) for row in connection.execute(ordered.limit(limit))]


def open_counts(connection: Connection) -> tuple[int, int]:
    """Return the numbers of open cases: (in time, overdue)."""
    rows = connection.execute(
        select(AppealCase.overdue, func.count()).where(AppealCase.state.in_(_OPEN)).group_by(AppealCase.overdue)
    )
    counts = {bool(overdue): number for overdue, number in rows}
    return counts.get(False, 0), counts.get(True, 0)


def insert_case(connection: Connection, row: CaseRow) -> None:
    """Insert a case."""
    connection.execute(insert(AppealCase).values(**CASES.values(row)))


def save_case(connection: Connection, row: CaseRow) -> None:
    """Update a case."""
    values = CASES.values(row, without=["id"])
    connection.execute(update(AppealCase).where(AppealCase.id == row.id).values(**values))


def add_round(connection: Connection, row: RoundRow) -> None:
    """Insert the decided round of a case that is reopened."""
    connection.execute(insert(CaseRound).values(**_ROUNDS.values(row)))


def rounds(connection: Connection, case_id: int) -> list[RoundRow]:
    """Return the decided rounds before the current one, oldest first."""
    rows = connection.execute(select(*_ROUNDS.columns).where(CaseRound.case_id == case_id).order_by(CaseRound.round))
    return [_ROUNDS.load(row) for row in rows]


def handlers(connection: Connection, case_id: int) -> frozenset[tuple[int, int]]:
    """Return (round, staff id) of all staff who worked on the case."""
    rows = connection.execute(select(CaseHandler.round, CaseHandler.staff_id).where(CaseHandler.case_id == case_id))
    return frozenset((number, staff_id) for number, staff_id in rows)


def add_handlers(connection: Connection, case_id: int, added: Iterable[tuple[int, int]]) -> None:
    """Insert (round, staff id) of staff who worked on the case."""
    insert_rows(
        connection,
        CaseHandler,
        [{"case_id": case_id, "round": number, "staff_id": staff_id} for number, staff_id in sorted(added)],
    )


def add_event(connection: Connection, **values: Any) -> None:
    """Insert an event; `values` are those of `CaseEventRow` without the id."""
    connection.execute(insert(CaseEvent).values(**values))


def events(connection: Connection, case_id: int) -> list[CaseEventRow]:
    """Return the timeline, oldest first."""
    return [
        _EVENTS.load(row)
        for row in connection.execute(
            select(*_EVENTS.columns).where(CaseEvent.case_id == case_id).order_by(CaseEvent.id)
        )
    ]


def newest_event(connection: Connection, case_id: int) -> int:
    """Return the id of the newest event of the case; 0 while there is none."""
    return connection.execute(select(func.max(CaseEvent.id)).where(CaseEvent.case_id == case_id)).scalar_one() or 0


def additions(connection: Connection, case_id: int, actor: str) -> int:
    """Return the number of unrequested additions by `actor`."""
    of_actor = (CaseEvent.case_id == case_id, CaseEvent.actor == actor, CaseEvent.action == Action.ADD.value)
    return connection.execute(select(func.count()).select_from(CaseEvent).where(*of_actor)).scalar_one()


def add_entries(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert log entries that an appeal made."""
    insert_rows(connection, CaseEntry, rows)


# --- who a case is about --------------------------------------------------------------------------------------


def copy_tags(connection: Connection, report_id: int) -> None:
    """Store the tags under which the report is listed now, so that the person finds the case later."""
    rows = connection.execute(
        select(Listing.tag, Listing.slot, Listing.epoch).where(Listing.report_id == report_id)
    ).all()
    fresh = upsert(connection, CaseTag).on_conflict_do_nothing()
    if rows:
        values = [
            {"tag": bytes(tag), "report_id": report_id, "slot": slot, "epoch": epoch} for tag, slot, epoch in rows
        ]
        connection.execute(fresh, values)


def reports_of_tags(connection: Connection, tags: Iterable[bytes]) -> dict[int, set[bytes]]:
    """Return the reports that are listed under any of `tags`, or were when they were appealed, with those tags."""
    reports: dict[int, set[bytes]] = {}
    for chunk in chunks(tags):
        for model in (Listing, CaseTag):
            for report_id, tag in connection.execute(select(model.report_id, model.tag).where(model.tag.in_(chunk))):
                reports.setdefault(report_id, set()).add(bytes(tag))
    return reports


def listed_slots(connection: Connection, report_id: int) -> dict[int, str]:
    """Return the kind by slot of the report's subjects, without detached ones."""
    rows = connection.execute(select(Subject.slot, Subject.kind).where(Subject.report_id == report_id).distinct())
    return {slot: kind for slot, kind in rows}  # noqa: C416


# --- statements -----------------------------------------------------------------------------------------------


def statements(connection: Connection, report_ids: Iterable[int]) -> dict[int, StatementRow]:
    """Return the statements by report id."""
    by_report: dict[int, StatementRow] = {}
    for chunk in chunks(report_ids):
        for row in connection.execute(select(*_STATEMENTS.columns).where(Statement.report_id.in_(chunk))):
            by_report[row[0]] = _STATEMENTS.load(row)
    return by_report


def put_statement(connection: Connection, row: StatementRow) -> None:
    """Store the person's statement in the place of an earlier one."""
    values = _STATEMENTS.values(row)
    statement = upsert(connection, Statement).values(**values)
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=["report_id"], set_={name: value for name, value in values.items() if name != "report_id"}
        )
    )


# --- weights --------------------------------------------------------------------------------------------------


def put_outcome(
    connection: Connection, report_id: int, platform: str, control_group: str, counts_as: str, decided_at: datetime
) -> None:
    """Store how a decision on the report counts, in the place of an earlier decision. The state at the UTC midnight
    before `decided_at` is kept beside it: weights that are set once a day use that until the next midnight."""
    values = {
        "report_id": report_id,
        "platform": platform,
        "control_group": control_group,
        "counts_as": counts_as,
        "decided_at": decided_at,
    }
    row = table_of(CaseOutcome).c
    earlier = row.decided_at < from_day(day_floor(decided_at))
    connection.execute(
        upsert(connection, CaseOutcome)
        .values(**values)
        .on_conflict_do_update(
            index_elements=["report_id"],
            set_={
                "counts_as": counts_as,
                "decided_at": decided_at,
                "previous_counts_as": when((earlier, row.counts_as), else_=row.previous_counts_as),
                "previous_decided_at": when((earlier, row.decided_at), else_=row.previous_decided_at),
            },
        )
    )


def has_outcomes(connection: Connection, before: datetime) -> bool:
    """True if there are outcomes that `forget_outcomes` would delete."""
    return connection.scalar(select(CaseOutcome.report_id).where(CaseOutcome.decided_at <= before).limit(1)) is not None


def forget_outcomes(connection: Connection, before: datetime) -> None:
    """Delete outcomes that no weight uses any longer."""
    connection.execute(delete(CaseOutcome).where(CaseOutcome.decided_at <= before))


def set_weight(connection: Connection, group: str, twentieths: int) -> None:
    """Update a control group's weight."""
    connection.execute(update(ControlGroup).where(ControlGroup.name == group).values(weight_twentieths=twentieths))
