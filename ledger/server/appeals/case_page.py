"""Everything that a reviewer sees of a case, read at one moment, with the record of its reporter.

The read is written to the audit log in the same transaction, so nothing is shown without an audit line.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import median
from typing import Any

from sqlalchemy import Connection, func, or_, select

from ledger.errors import LedgerError, NotFound
from ledger.protocol.encoding import day_floor, from_day
from ledger.protocol.identifiers import Kind
from ledger.protocol.public_ids import encode_id
from ledger.rules.appeals import Action, Actor, Outcome
from ledger.rules.case_machine import Staff, check_staff, offered
from ledger.rules.checklist import Alternative, FileState, NeedState, best_state, checklist
from ledger.rules.conduct import Conduct, Evidence, Reading, parse_evidence
from ledger.rules.corroboration import Again, Corroboration, corroborations
from ledger.rules.deadlines import window_start
from ledger.rules.policy.values import AppealClock, Policy
from ledger.rules.reports import Status
from ledger.rules.standing import FULL_WEIGHT
from ledger.server.appeals import attachments
from ledger.server.appeals.attachments import AttachmentRow
from ledger.server.appeals.case_changes import case_number, with_handlers
from ledger.server.appeals.letter_facts import all_letters
from ledger.server.appeals.queue import check_sight
from ledger.server.context import Context
from ledger.server.db.engine import reading, writing
from ledger.server.db.tables.appeals import AppealCase, CaseEntry, CaseEvent, CaseOutcome
from ledger.server.db.tables.reports import Report, ReportLink
from ledger.server.log import queries as log_queries
from ledger.server.platforms.group_weights import without_suspensions
from ledger.server.records import case_queries, former_label_queries, order_line_queries
from ledger.server.records import queries as report_queries
from ledger.server.records.case_queries import CaseEventRow, CaseRow, StatementRow
from ledger.server.records.queries import ReportRow
from ledger.server.records.views import report_status
from ledger.server.staff import audit
from ledger.server.staff import queries as staff_queries
from ledger.server.texts.letters import LetterKind
from ledger.tlog.merkle import TILE_WIDTH, leaf_hash, tile_path

_STATEMENTS = (Action.OPEN, Action.ADOPT)
"""Actions that carry the person's statement; the newest one is what the case is about."""


@dataclass(frozen=True, slots=True)
class EvidenceItem:
    """A reported item of evidence, and the files that were handed in for it. `matching` is a file of the reporter with
    its SHA-256, even if it was handed in for another item. `support` is how far inspection findings support it."""

    evidence: Evidence
    state: FileState
    files: tuple[AttachmentRow, ...]
    matching: AttachmentRow | None
    support: Corroboration


@dataclass(frozen=True, slots=True)
class TimelineEntry:
    """A line of the timeline; `staff` is the name of the member of staff who acted."""

    event: CaseEventRow
    staff: str | None


@dataclass(frozen=True, slots=True)
class LogReceipt:
    """An entry of the log about this case. `covered`: the newest checkpoint covers it. `tile` is the path of the tile
    with its hash, None while no checkpoint covers it."""

    what: str
    outcome: str | None
    entry_index: int
    leaf_hash: bytes
    covered: bool
    tile: str | None


@dataclass(frozen=True, slots=True)
class RelatedReport:
    """Another case about this report (`how` is same_report), or a related report: same_act, rests_on, carries or
    filed_together. `platform` is None for staff of a control group, who must not see data about other members here."""

    how: str
    report: str
    case: str | None
    state: str | None
    conduct: str
    platform: str | None
    live: bool


@dataclass(frozen=True, slots=True)
class PolicyText:
    """The policy's values for this case's conduct and clock."""

    version: int
    severity: int
    retention_days: int
    question_days: int
    clock: AppealClock


@dataclass(frozen=True, slots=True)
class ReportProvenance:
    """How the report came about, as its signed body says; `notice_ref` is the platform's reference of the notice."""

    decided_by: str
    notice_ref: str


@dataclass(frozen=True, slots=True)
class CaseFile:
    """Everything on the case page.

    `checks` is the minimum of the current conduct, and `minimum` how far it is met. `provenance` is None and `items`
    are empty once the report's body is erased. `expires_at` is when the report expires if it stays. `may` are the
    actions that the reader may take now, `seen` is the newest event, `colleagues` are the (id, name) to whom a
    supervisor may assign the case. `slots` are the kinds of the identifiers that the report is listed under.
    `new_files` are the evidence for which the case was opened again for its reporter.
    """

    row: CaseRow
    case: str
    report_id: str
    report: ReportRow
    status: Status
    provenance: ReportProvenance | None
    expires_at: datetime
    items: tuple[EvidenceItem, ...]
    checks: tuple[Alternative, ...]
    minimum: NeedState
    former_label: bool
    statement: str
    letters: tuple[tuple[int, LetterKind], ...]
    own_statement: StatementRow | None
    person_files: tuple[AttachmentRow, ...]
    new_files: tuple[AttachmentRow, ...]
    timeline: tuple[TimelineEntry, ...]
    receipts: tuple[LogReceipt, ...]
    checkpoint_size: int
    reporter: ReporterRecord
    related: tuple[RelatedReport, ...]
    policy: PolicyText
    reviewer: str | None
    proposer: str | None
    may: frozenset[Action]
    seen: int
    colleagues: tuple[tuple[int, str], ...]
    slots: dict[int, Kind]
    now: datetime

    @property
    def notes(self) -> tuple[TimelineEntry, ...]:
        """The internal notes, oldest first."""
        return tuple(line for line in self.timeline if line.event.action == Action.NOTE)


def case_file(context: Context, case: str, staff: Staff, again: Mapping[bytes, Again] | None = None) -> CaseFile:
    """Return the case for this member of staff. `again` are inspections that they requested, by the SHA-256 of the
    file.

    Raises NotFound, RoleMissing, ConflictOfInterest (the last two are audited), DatabaseUnavailable.
    """
    with opened_case(context, case, staff, "case_read") as (connection, row):
        return _read_case(connection, context, row, staff, again or {})


@contextmanager
def opened_case(
    context: Context, case: str, staff: Staff, action: str, detail: str | None = None
) -> Iterator[tuple[Connection, CaseRow]]:
    """Open a transaction in which the case may be shown to `staff`, audited as `action`; all reads in it are of one
    moment.

    Raises the errors of `check_open`, and DatabaseUnavailable.
    """
    check_open(context, case, staff)
    engine = context.engine
    if engine.dialect.name == "postgresql":
        engine = engine.execution_options(isolation_level="REPEATABLE READ")
    with writing(engine) as connection:
        row = _existing(connection, context, case)
        audit.record(connection, context.now(), staff.id, action, "appeal", case, detail, about_group=row.control_group)
        yield connection, row


def check_open(context: Context, case: str, staff: Staff) -> None:
    """Check that `staff` may see the case, before any input of theirs is read.

    Raises NotFound, RoleMissing, ConflictOfInterest; the last two are audited.
    """
    with reading(context.engine) as connection:
        row = _existing(connection, context, case)
    try:
        check_sight(row, staff)
    except LedgerError as error:
        with writing(context.engine) as connection:
            audit.record(
                connection, context.now(), staff.id, "case_refused", "appeal", case, error.code,
                about_group=row.control_group,
            )  # fmt: skip
        raise


def _existing(connection: Connection, context: Context, case: str) -> CaseRow:
    """Return the case. Raises NotFound."""
    row = case_queries.case(connection, case_number(context, case))
    if row is None:
        raise NotFound("There is no such case.")
    return row


def attachment(context: Context, case: str, public: str, staff: Staff) -> AttachmentRow:
    """Return a file of this case; the read is audited. Raises NotFound, RoleMissing, ConflictOfInterest."""
    with opened_case(context, case, staff, "file_read", public) as (connection, row):
        for file in attachments.files_of_case(connection, row.id):
            if encode_id("at", file.id, context.service) == public:
                return file
        raise NotFound("This case has no such file.")


def _read_case(
    connection: Connection, context: Context, row: CaseRow, staff: Staff, again: Mapping[bytes, Again]
) -> CaseFile:
    """Return the case file, read in this transaction. Raises NotFound if the report was erased."""
    now, policy, service = context.now(), context.policy, context.service
    report = report_queries.reports_by_id(connection, [row.report_id]).get(row.report_id)
    if report is None:
        raise NotFound("The report of this case is not in the ledger any more.")
    events = case_queries.events(connection, row.id)
    files = attachments.files_of_case(connection, row.id)
    flags = report_queries.listing_flags(connection, [report.id]).get(report.id, (False, False))
    reversal = report_queries.reversals(connection, [report.id]).get(report.id)
    hold = order_line_queries.held_reports(connection, [report.id]).get(report.id)
    waits = hold is not None and hold.waits
    row = with_handlers(connection, row)
    people = [event.staff_id for event in events if event.staff_id is not None]
    names = staff_queries.names_of(
        connection, [*people, *(member for member in (row.reviewer_id, row.proposer_id) if member)]
    )
    opened = log_queries.read_body(connection, row.report_id)
    body = None if opened is None else json.loads(opened[2])["body"]
    items = () if body is None else _items(body["evidence"], files, again)
    conduct = Conduct(row.current_conduct)
    may = offered(row, staff, policy)
    former = bool(former_label_queries.among(connection, [report.id]))
    reading = Reading.FORMER if former else Reading.RECORDED
    checks = checklist(conduct, [item.evidence for item in items], [item.state for item in items], again, reading)
    receipts, size = _log_receipts(connection, row)
    return CaseFile(
        row=row,
        case=encode_id("ap", row.id, service),
        report_id=encode_id("rp", row.report_id, service),
        report=report,
        status=report_status(report, reversal, policy, now, disputed=flags[0], unconfirmed=flags[1], held=waits),
        provenance=None if body is None else ReportProvenance(str(body["decided_by"]), str(body["notice_ref"])),
        expires_at=from_day(policy.expiry_day(conduct, day_floor(report.act_ended_at), report.expires_day)),
        items=items,
        checks=checks,
        minimum=best_state(checks),
        former_label=former,
        statement=next((event.text or "" for event in reversed(events) if event.action in _STATEMENTS), ""),
        letters=tuple(all_letters(connection, row)),
        own_statement=case_queries.statements(connection, [report.id]).get(report.id),
        person_files=tuple(file for file in files if file.party == Actor.SUBJECT),
        new_files=tuple(file for file in files if file.party == Actor.REPORTER and file.evidence_index is None),
        timeline=tuple(
            TimelineEntry(event, None if event.staff_id is None else names.get(event.staff_id)) for event in events
        ),
        receipts=receipts,
        checkpoint_size=size,
        reporter=reporter_record(connection, policy, row.platform, row.control_group, now),
        related=tuple(_related_reports(connection, service, row, report, staff)),
        policy=PolicyText(
            version=policy.version,
            severity=row.severity,
            retention_days=policy.retention_days[policy.severity[conduct]],
            question_days=policy.appeals.question_days,
            clock=policy.appeals.clocks[row.profile],
        ),
        reviewer=None if row.reviewer_id is None else names.get(row.reviewer_id),
        proposer=None if row.proposer_id is None else names.get(row.proposer_id),
        may=may,
        seen=events[-1].id if events else 0,
        colleagues=_colleagues(connection, row) if Action.ASSIGN in may else (),
        slots={slot: Kind(kind) for slot, kind in sorted(case_queries.listed_slots(connection, report.id).items())},
        now=now,
    )


def _items(
    reported: Sequence[dict[str, Any]], files: Sequence[AttachmentRow], again: Mapping[bytes, Again]
) -> tuple[EvidenceItem, ...]:
    """Return the reported evidence, each item with its files. Digests are compared again here, so the page does not
    rest on checks made when a file came in. A file serves every item that names its digest."""
    evidence = parse_evidence(reported)
    handed_in = [file for file in files if file.party == Actor.REPORTER]
    by_digest = {bytes(file.sha256): file for file in reversed(handed_in)}
    items = []
    for place, (item, support) in enumerate(zip(evidence, corroborations(evidence, again), strict=True)):
        own_files = tuple(file for file in handed_in if file.evidence_index == place)
        matching = by_digest.get(item.sha256)
        state = FileState.DIFFERS if own_files else FileState.NOT_HANDED_IN
        items.append(EvidenceItem(item, FileState.MATCHES if matching else state, own_files, matching, support))
    return tuple(items)


def _log_receipts(connection: Connection, row: CaseRow) -> tuple[tuple[LogReceipt, ...], int]:
    """Return the log entries about the case, and the size of the newest checkpoint."""
    checkpoint = log_queries.latest_checkpoint(connection)
    size = 0 if checkpoint is None else checkpoint.size
    entries: list[tuple[str, str | None, int]] = [("report", None, row.report_id)]
    entries += [(entry.type, entry.outcome, entry.entry_index) for entry in _entries_about(connection, row.report_id)]
    receipts = []
    for what, outcome, index in entries:
        leaf = log_queries.read_leaf(connection, index)
        if leaf is None:
            continue
        covered = index < size
        receipts.append(
            LogReceipt(what, outcome, index, leaf_hash(leaf), covered, _tile(index, size) if covered else None)
        )
    return tuple(receipts), size


def _tile(index: int, size: int) -> str:
    """Return the path of the level 0 tile with the hash of entry `index`, as wide as the checkpoint makes it."""
    number = index // TILE_WIDTH
    width = min(size - number * TILE_WIDTH, TILE_WIDTH)
    return f"/log/{tile_path(0, number, width)}"


def _related_reports(
    connection: Connection, service: str, row: CaseRow, report: ReportRow, staff: Staff
) -> Iterator[RelatedReport]:
    """Yield the other cases about the report, reports of the same act, those linked as `account_farm`, and those
    contested in the same appeal; without reports of the reader's own group."""
    tags = report_queries.tags_of(connection, [report.id]).get(report.id, set())
    met = case_queries.reports_of_tags(connection, tags).keys() if tags else set()
    how = dict.fromkeys(_reports_of_act(connection, report.act_id, met), "same_act")
    how.update(_linked_reports(connection, report.id))
    for filed in case_queries.group_cases(connection, row.group_id):
        how.setdefault(filed.report_id, "filed_together")
    how.pop(report.id, None)
    for beside in case_queries.all_cases_of_reports(connection, [report.id])[report.id]:
        if beside.id != row.id:
            yield RelatedReport(
                how="same_report",
                report=encode_id("rp", report.id, service),
                case=encode_id("ap", beside.id, service),
                state=beside.state.value,
                conduct=beside.current_conduct,
                platform=report.platform if staff.control_group is None else None,
                live=report.live,
            )
    reports = report_queries.reports_by_id(connection, how)
    cases = case_queries.cases_of_reports(connection, how)
    for report_id, other in sorted(reports.items()):
        if staff.control_group is not None and other.control_group == staff.control_group:
            continue
        case = cases.get(report_id)
        yield RelatedReport(
            how=how[report_id],
            report=encode_id("rp", report_id, service),
            case=None if case is None else encode_id("ap", case.id, service),
            state=None if case is None else case.state.value,
            conduct=other.conduct if case is None else case.current_conduct,
            platform=other.platform if staff.control_group is None else None,
            live=other.live,
        )


def _colleagues(connection: Connection, case: CaseRow) -> tuple[tuple[int, str], ...]:
    """Return the (id, name) of staff to whom the case may be assigned."""
    colleagues = []
    for account in staff_queries.read_all(connection):
        person = Staff(account.id, account.role, account.control_group)
        if account.disabled_at is not None or account.id == case.reviewer_id:
            continue
        try:
            check_staff(case, Action.ASSIGN, Staff(0, "supervisor"), person)
        except LedgerError:
            continue
        colleagues.append((account.id, account.name))
    return tuple(colleagues)


# --- queries ---------------------------------------------------------------------------------------------------------


MAX_ANSWERS = 2000
"""The most events used for the median response time, the newest first."""


@dataclass(frozen=True, slots=True)
class EntryRow:
    """A log entry about a report, made by its appeal."""

    entry_index: int
    type: str
    outcome: str | None
    recorded_at: datetime


def _entries_about(connection: Connection, report_id: int) -> list[EntryRow]:
    """Return the log entries that appeals made about the report, in order."""
    rows = connection.execute(
        select(CaseEntry.entry_index, CaseEntry.type, CaseEntry.outcome, CaseEntry.recorded_at)
        .where(CaseEntry.report_id == report_id)
        .order_by(CaseEntry.entry_index)
    )
    return [EntryRow(*row) for row in rows]


def _count_live_reports(connection: Connection, platform: str) -> int:
    """Return the number of live reports of the platform."""
    statement = select(func.count()).select_from(Report).where(Report.platform == platform, Report.live)
    return connection.execute(statement).scalar_one()


def _count_contested(connection: Connection, platform: str, since: datetime) -> int:
    """Return the number of the platform's reports that were contested after `since`."""
    of_platform = (AppealCase.platform == platform, AppealCase.opened_at > since)
    statement = select(func.count(AppealCase.report_id.distinct())).where(*of_platform)
    return connection.execute(statement).scalar_one()


def _count_outcomes(connection: Connection, platform: str, control_group: str, since: datetime) -> dict[str, int]:
    """Return {upheld, amended, overturned, nothing: number} of the platform's reports, decided after `since`."""
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


def _count_unconfirmed(connection: Connection, platform: str, since: datetime) -> int:
    """Return the number of the platform's reports that were decided `unconfirmed` after `since`."""
    of_platform = (
        AppealCase.platform == platform,
        AppealCase.outcome == Outcome.UNCONFIRMED.value,
        AppealCase.decided_at > since,
    )
    statement = select(func.count(AppealCase.report_id.distinct())).where(*of_platform)
    return connection.execute(statement).scalar_one()


def _questions_and_answers(connection: Connection, platform: str, since: datetime) -> list[tuple[int, str, datetime]]:
    """Return (case id, action, time) of questions to the platform and its answers after `since`, in order within a
    case."""
    actions = (Action.ASK_REPORTER.value, Action.REPORTER_ANSWERED.value)
    rows = connection.execute(
        select(CaseEvent.case_id, CaseEvent.action, CaseEvent.at, CaseEvent.id)
        .join(AppealCase, AppealCase.id == CaseEvent.case_id)
        .where(AppealCase.platform == platform, CaseEvent.action.in_(actions), CaseEvent.at > since)
        .order_by(CaseEvent.id.desc())
        .limit(MAX_ANSWERS)
    )
    events = sorted((case_id, number, action, at) for case_id, action, at, number in rows)
    return [(case_id, action, at) for case_id, _, action, at in events]


def _reports_of_act(connection: Connection, act_id: int, among: Iterable[int]) -> list[int]:
    """Return those of the reports `among` that are about this act."""
    statement = select(Report.id).where(Report.id.in_(sorted(set(among))), Report.act_id == act_id)
    return list(connection.scalars(statement))


def _linked_reports(connection: Connection, report_id: int) -> dict[int, str]:
    """Return the reports that this one rests on (`rests_on`) or that rest on it (`carries`), by id."""
    rows = connection.execute(
        select(ReportLink.report_id, ReportLink.linked_id).where(
            or_(ReportLink.report_id == report_id, ReportLink.linked_id == report_id)
        )
    )
    return {
        (linked if owner == report_id else owner): "rests_on" if owner == report_id else "carries"
        for owner, linked in rows
    }


# --- record of the reporter ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ReporterRecord:
    """Figures of one platform. They show how careful the platform is, not what happened in this case; the page says so.
    All but `live` are of the last `months` months. `weight` is its group's, in fortieths; `response` is the median time
    to an answer, None without one."""

    platform: str
    months: int
    live: int
    contested: int
    upheld: int
    amended: int
    overturned: int
    unconfirmed: int
    weight: int
    response: timedelta | None


def reporter_record(
    connection: Connection, policy: Policy, platform: str, control_group: str, now: datetime
) -> ReporterRecord:
    """Return the platform's record as of `now`."""
    since = window_start(now, policy.weights.window_months)
    outcomes = _count_outcomes(connection, platform, control_group, since)
    return ReporterRecord(
        platform=platform,
        months=policy.weights.window_months,
        live=_count_live_reports(connection, platform),
        contested=_count_contested(connection, platform, since),
        upheld=outcomes.get("upheld", 0),
        amended=outcomes.get("amended", 0),
        overturned=outcomes.get("overturned", 0),
        unconfirmed=_count_unconfirmed(connection, platform, since),
        weight=without_suspensions(connection, policy, now).get(control_group, FULL_WEIGHT),
        response=response_time(_questions_and_answers(connection, platform, since)),
    )


def response_time(events: Iterable[tuple[int, str, datetime]]) -> timedelta | None:
    """Return the median time from a question to its answer, from (case id, action, time) in order within each case.
    Questions without an answer are left out: they count as overturned reports."""
    waits: list[timedelta] = []
    asked_at: dict[int, datetime] = {}
    for case_id, action, at in events:
        if action == Action.ASK_REPORTER:
            asked_at[case_id] = at
        elif case_id in asked_at:
            waits.append(at - asked_at.pop(case_id))
    return timedelta(seconds=median(wait.total_seconds() for wait in waits)) if waits else None
