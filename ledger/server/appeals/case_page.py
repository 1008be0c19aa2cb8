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
from ledger.server.appeals.case_service import with_handlers
from ledger.server.appeals.letters import all_letters
from ledger.server.appeals.queue import check_sight
from ledger.server.appeals.transaction import case_number
from ledger.server.db.engine import reading, writing
from ledger.server.db.tables.appeals import AppealCase, CaseEntry, CaseEvent, CaseOutcome
from ledger.server.db.tables.ledger import Report, ReportLink
from ledger.server.log import queries as log_queries
from ledger.server.platforms.group_weights import without_suspensions
from ledger.server.records import case_queries, former_label_queries, order_line_queries
from ledger.server.records import queries as report_queries
from ledger.server.records.case_queries import CaseRow, EventRow, StatementRow
from ledger.server.records.queries import ReportRow
from ledger.server.records.transaction import Context
from ledger.server.records.views import report_status
from ledger.server.staff import audit
from ledger.server.staff import queries as staff_queries
from ledger.server.texts.letters import LetterKind
from ledger.tlog.merkle import TILE_WIDTH, leaf_hash, tile_path

_STATEMENTS = (Action.OPEN, Action.ADOPT)
"""What comes with the person's statement: the newest one is what the case is about."""


@dataclass(frozen=True, slots=True)
class EvidenceItem:
    """A reported item of evidence, and the files that were handed in for it. `matching` is a file of the reporter's
    that has its SHA-256, also one that was handed in for another item; `support` is what findings say of it."""

    evidence: Evidence
    state: FileState
    files: tuple[AttachmentRow, ...]
    matching: AttachmentRow | None
    support: Corroboration


@dataclass(frozen=True, slots=True)
class TimelineEntry:
    """A line of the timeline; `staff` is the name of who acted."""

    event: EventRow
    staff: str | None


@dataclass(frozen=True, slots=True)
class LogReceipt:
    """An entry of the log about this case. `covered` says whether the newest checkpoint covers it, `tile` is the path
    of the tile that holds its hash (None while no checkpoint covers it)."""

    what: str
    outcome: str | None
    entry_index: int
    leaf_hash: bytes
    covered: bool
    tile: str | None


@dataclass(frozen=True, slots=True)
class RelatedReport:
    """Another case about this report (`how` is same_report), or another report that has to do with it: same_act,
    rests_on, carries or filed_together. `platform` is None for staff who belong to a control group: they learn nothing
    about other members here."""

    how: str
    report: str
    case: str | None
    state: str | None
    conduct: str
    platform: str | None
    live: bool


@dataclass(frozen=True, slots=True)
class PolicyText:
    """What the policy says of this case's conduct and clock."""

    version: int
    severity: int
    retention_days: int
    question_days: int
    clock: AppealClock


@dataclass(frozen=True, slots=True)
class ReportProvenance:
    """What the signed report says of how it came about; `notice_ref` is where its platform finds the notice."""

    decided_by: str
    notice_ref: str


@dataclass(frozen=True, slots=True)
class CaseFile:
    """See the module. `checks` is the minimum of the conduct in force and `minimum` how far it is met; `said` is None
    and `items` are empty once the report's body is erased. `expires_at` is when the report goes if it stays, `may` what
    the reader may do now, `seen` the newest event, `colleagues` (id, name) whom a supervisor may give the case to,
    `slots` the kinds of the identifiers that the report is listed under, `new_files` the evidence for which the case
    was opened again for its reporter."""

    row: CaseRow
    case: str
    report_id: str
    report: ReportRow
    status: Status
    said: ReportProvenance | None
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
    linked: tuple[RelatedReport, ...]
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
        """Internal notes, oldest first."""
        return tuple(one for one in self.timeline if one.event.action == Action.NOTE)


def case_file(context: Context, case: str, staff: Staff, again: Mapping[bytes, Again] | None = None) -> CaseFile:
    """The case for this member of staff, with what inspections that they had made (by the SHA-256 of the file) say of
    the reported items. Raises NotFound, RoleMissing, ConflictOfInterest (which is audited too)."""
    with opened_case(context, case, staff, "case_read") as (connection, row):
        return _read_case(connection, context, row, staff, again or {})


@contextmanager
def opened_case(
    context: Context, case: str, staff: Staff, action: str, detail: str | None = None
) -> Iterator[tuple[Connection, CaseRow]]:
    """A transaction in which the case may be shown to `staff`, audited as `action`; everything in it is of one moment.

    Raises what `check_open` raises.
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
    """Whether `staff` may see the case, before anything that they sent is looked at.

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
    row = case_queries.case(connection, case_number(context, case))
    if row is None:
        raise NotFound("There is no such case.")
    return row


def attachment(context: Context, case: str, public: str, staff: Staff) -> AttachmentRow:
    """A file of this very case. Raises NotFound, RoleMissing, ConflictOfInterest."""
    with opened_case(context, case, staff, "file_read", public) as (connection, row):
        for one in attachments.files_of_case(connection, row.id):
            if encode_id("at", one.id, context.service) == public:
                return one
        raise NotFound("This case has no such file.")


def _read_case(
    connection: Connection, context: Context, row: CaseRow, staff: Staff, again: Mapping[bytes, Again]
) -> CaseFile:
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
    people = [one.staff_id for one in events if one.staff_id is not None]
    names = staff_queries.names_of(connection, [*people, *(one for one in (row.reviewer_id, row.proposer_id) if one)])
    opened = log_queries.read_body(connection, row.report_id)
    body = None if opened is None else json.loads(opened[2])["body"]
    items = () if body is None else _items(body["evidence"], files, again)
    conduct = Conduct(row.current_conduct)
    may = offered(row, staff, policy)
    former = bool(former_label_queries.among(connection, [report.id]))
    reading = Reading.FORMER if former else Reading.RECORDED
    checks = checklist(conduct, [one.evidence for one in items], [one.state for one in items], again, reading)
    receipts, size = _log_receipts(connection, row)
    return CaseFile(
        row=row,
        case=encode_id("ap", row.id, service),
        report_id=encode_id("rp", row.report_id, service),
        report=report,
        status=report_status(report, reversal, policy, now, disputed=flags[0], unconfirmed=flags[1], held=waits),
        said=None if body is None else ReportProvenance(str(body["decided_by"]), str(body["notice_ref"])),
        expires_at=from_day(policy.expiry_day(conduct, day_floor(report.act_ended_at), report.expires_day)),
        items=items,
        checks=checks,
        minimum=best_state(checks),
        former_label=former,
        statement=next((one.text or "" for one in reversed(events) if one.action in _STATEMENTS), ""),
        letters=tuple(all_letters(connection, row)),
        own_statement=case_queries.statements(connection, [report.id]).get(report.id),
        person_files=tuple(one for one in files if one.party == Actor.SUBJECT),
        new_files=tuple(one for one in files if one.party == Actor.REPORTER and one.evidence_index is None),
        timeline=tuple(TimelineEntry(one, None if one.staff_id is None else names.get(one.staff_id)) for one in events),
        receipts=receipts,
        checkpoint_size=size,
        reporter=reporter_record(connection, policy, row.platform, row.control_group, now),
        linked=tuple(_related_reports(connection, service, row, report, staff)),
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
    """The reported evidence, each item with its files. A digest is compared again here: the page must not rest on what
    was true when the file came in. The same bytes serve every item that names them, whichever they came for."""
    evidence = parse_evidence(reported)
    handed_in = [one for one in files if one.party == Actor.REPORTER]
    by_digest = {bytes(one.sha256): one for one in reversed(handed_in)}
    found = []
    for place, (item, support) in enumerate(zip(evidence, corroborations(evidence, again), strict=True)):
        mine = tuple(one for one in handed_in if one.evidence_index == place)
        matching = by_digest.get(item.sha256)
        state = FileState.DIFFERS if mine else FileState.NOT_HANDED_IN
        found.append(EvidenceItem(item, FileState.MATCHES if matching else state, mine, matching, support))
    return tuple(found)


def _log_receipts(connection: Connection, row: CaseRow) -> tuple[tuple[LogReceipt, ...], int]:
    checkpoint = log_queries.latest_checkpoint(connection)
    size = 0 if checkpoint is None else checkpoint.size
    wanted: list[tuple[str, str | None, int]] = [("report", None, row.report_id)]
    wanted += [(one.type, one.outcome, one.entry_index) for one in _entries_about(connection, row.report_id)]
    found = []
    for what, outcome, index in wanted:
        leaf = log_queries.read_leaf(connection, index)
        if leaf is None:
            continue
        covered = index < size
        found.append(
            LogReceipt(what, outcome, index, leaf_hash(leaf), covered, _tile(index, size) if covered else None)
        )
    return tuple(found), size


def _tile(index: int, size: int) -> str:
    """The tile of level 0 that holds the hash of entry `index`, as wide as the checkpoint makes it."""
    number = index // TILE_WIDTH
    width = min(size - number * TILE_WIDTH, TILE_WIDTH)
    return f"/log/{tile_path(0, number, width)}"


def _related_reports(
    connection: Connection, service: str, row: CaseRow, report: ReportRow, staff: Staff
) -> Iterator[RelatedReport]:
    """Reports of the same act, of an `account_farm` and what it rests on, and those contested in the same appeal; not
    those of the reader's own group."""
    tags = report_queries.tags_of(connection, [report.id]).get(report.id, set())
    met = case_queries.reports_of_tags(connection, tags).keys() if tags else set()
    how = dict.fromkeys(_reports_of_act(connection, report.act_id, met), "same_act")
    how.update(_linked_reports(connection, report.id))
    for one in case_queries.group_cases(connection, row.group_id):
        how.setdefault(one.report_id, "filed_together")
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
    """Who may be given the case."""
    found = []
    for one in staff_queries.read_all(connection):
        person = Staff(one.id, one.role, one.control_group)
        if one.disabled_at is not None or one.id == case.reviewer_id:
            continue
        try:
            check_staff(case, Action.ASSIGN, Staff(0, "supervisor"), person)
        except LedgerError:
            continue
        found.append((one.id, one.name))
    return tuple(found)


MAX_ANSWERS = 2000
"""Events from which a median of response times is taken at most, the newest."""


@dataclass(frozen=True, slots=True)
class EntryRow:
    """A log entry that an appeal made about its report."""

    entry_index: int
    type: str
    outcome: str | None
    recorded_at: datetime


def _entries_about(connection: Connection, report_id: int) -> list[EntryRow]:
    """The log's entries about the report that its appeal made, in order."""
    rows = connection.execute(
        select(CaseEntry.entry_index, CaseEntry.type, CaseEntry.outcome, CaseEntry.recorded_at)
        .where(CaseEntry.report_id == report_id)
        .order_by(CaseEntry.entry_index)
    )
    return [EntryRow(*row) for row in rows]


def _count_live_reports(connection: Connection, platform: str) -> int:
    """How many live reports the platform has."""
    statement = select(func.count()).select_from(Report).where(Report.platform == platform, Report.live)
    return connection.execute(statement).scalar_one()


def _count_contested(connection: Connection, platform: str, since: datetime) -> int:
    """How many of the platform's reports were contested after `since`."""
    mine = (AppealCase.platform == platform, AppealCase.opened_at > since)
    statement = select(func.count(AppealCase.report_id.distinct())).where(*mine)
    return connection.execute(statement).scalar_one()


def _count_outcomes(connection: Connection, platform: str, control_group: str, since: datetime) -> dict[str, int]:
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


def _count_unconfirmed(connection: Connection, platform: str, since: datetime) -> int:
    """How many of the platform's reports were decided `unconfirmed` after `since`."""
    mine = (
        AppealCase.platform == platform,
        AppealCase.outcome == Outcome.UNCONFIRMED.value,
        AppealCase.decided_at > since,
    )
    statement = select(func.count(AppealCase.report_id.distinct())).where(*mine)
    return connection.execute(statement).scalar_one()


def _questions_and_answers(connection: Connection, platform: str, since: datetime) -> list[tuple[int, str, datetime]]:
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


def _reports_of_act(connection: Connection, act_id: int, among: Iterable[int]) -> list[int]:
    """Which of the reports `among` are about this act."""
    statement = select(Report.id).where(Report.id.in_(sorted(set(among))), Report.act_id == act_id)
    return list(connection.scalars(statement))


def _linked_reports(connection: Connection, report_id: int) -> dict[int, str]:
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


@dataclass(frozen=True, slots=True)
class ReporterRecord:
    """Numbers of one platform; all but `live` are of the last `months` months. `weight` is its group's, in
    fortieths; `response` the median time to an answer, None without one."""

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
    """The platform's record as of `now`."""
    since = window_start(now, policy.weights.window_months)
    fared = _count_outcomes(connection, platform, control_group, since)
    return ReporterRecord(
        platform=platform,
        months=policy.weights.window_months,
        live=_count_live_reports(connection, platform),
        contested=_count_contested(connection, platform, since),
        upheld=fared.get("upheld", 0),
        amended=fared.get("amended", 0),
        overturned=fared.get("overturned", 0),
        unconfirmed=_count_unconfirmed(connection, platform, since),
        weight=without_suspensions(connection, policy, now).get(control_group, FULL_WEIGHT),
        response=response_time(_questions_and_answers(connection, platform, since)),
    )


def response_time(events: Iterable[tuple[int, str, datetime]]) -> timedelta | None:
    """The median time from a question to its answer, of (case id, action, time) in order within each case. Questions
    without an answer do not count here: their silence is counted among the overturned."""
    waits: list[timedelta] = []
    asked: dict[int, datetime] = {}
    for case_id, action, at in events:
        if action == Action.ASK_REPORTER:
            asked[case_id] = at
        elif case_id in asked:
            waits.append(at - asked.pop(case_id))
    return timedelta(seconds=median(wait.total_seconds() for wait in waits)) if waits else None
