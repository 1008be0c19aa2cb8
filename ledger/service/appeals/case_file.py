"""The case as staff see it: everything on one page. Reading it is itself in the audit log.

Staff who belong to a member's control group see no names of other platforms; who made the report is named, because a
conflict of interest is judged by it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, tzinfo
from typing import Any

from sqlalchemy import Connection

from ledger.core.appeal_clocks import window_start
from ledger.core.appeals import REOPENED, Action, CaseState, Outcome
from ledger.core.cases import Case, Staff, offered
from ledger.core.checklist import CheckedNeed, NeedState, best_state, checklist
from ledger.core.conduct import Conduct, Evidence, parse_evidence
from ledger.core.encoding import b64url, day_floor, from_day, unb64url
from ledger.core.identifiers import Kind
from ledger.core.ids import encode_id
from ledger.core.merkle import leaf_hash
from ledger.core.policy import Policy
from ledger.errors import ConflictOfInterest, NotFound
from ledger.service import audit
from ledger.service.appeals.case_letters import facts_of
from ledger.service.appeals.own_record import reported_evidence
from ledger.service.appeals.rows import to_core, zone_of
from ledger.service.appeals.transaction import case_number
from ledger.service.appeals.weights import weight_of
from ledger.service.entry_batch import Context
from ledger.service.letters import Letter, LetterKind, render
from ledger.store import appeals as store
from ledger.store import attachments as attachment_store
from ledger.store import case_file as file_store
from ledger.store import log as log_store
from ledger.store import reports as report_store
from ledger.store.appeals import CaseRow, EventRow, StatementRow
from ledger.store.attachments import AttachmentRow
from ledger.store.case_file import EntryRow, LinkedRow
from ledger.store.engine import reading, writing
from ledger.store.reports import ReportRow


@dataclass(frozen=True, slots=True)
class Item:
    """An item of reported evidence, and the file that was handed in for it."""

    place: int
    type: str
    sha256: str
    finding: dict[str, Any] | None
    file: AttachmentRow | None


@dataclass(frozen=True, slots=True)
class Reporter:
    """How the reporter and its group have fared: reports, resolved cases of the window, weight in twentieths."""

    reports: int
    live: int
    outcomes: dict[str, int]
    weight_twentieths: int


@dataclass(frozen=True, slots=True)
class CaseFile:
    """Everything for the page. `files` are those of the person, `kinds` the identifiers by slot, `signed` is the
    report's signed body (empty once erased), `newest_event` tells whether the case moved on since it was read."""

    row: CaseRow
    case: Case
    public: str
    zone: tzinfo
    report: ReportRow
    report_public: str
    signed: dict[str, Any]
    items: list[Item]
    alternatives: list[list[CheckedNeed]]
    minimum: NeedState
    events: list[EventRow]
    newest_event: int
    names: dict[int, tuple[str, str, str | None]]
    files: list[AttachmentRow]
    kinds: dict[int, str]
    statement: StatementRow | None
    entries: list[tuple[EntryRow, str]]
    reporter: Reporter
    linked: list[tuple[LinkedRow, str, str | None]]
    group: list[tuple[CaseRow, str]]
    actions: frozenset[Action]
    retention_days: int
    expires_at: datetime


def open_file(context: Context, public: str, staff: Staff) -> CaseFile:
    """Read a case for `staff`, and write down that they read it. Raises NotFound, ConflictOfInterest."""
    with writing(context.engine) as connection:
        row = visible_case(connection, context, public, staff)
        audit.record(connection, context.now(), staff.id, "case_read", "appeal", public)
    with reading(context.engine) as connection:
        row = store.case(connection, row.id) or row
        return _read(connection, context, row, public, staff)


def visible_case(connection: Connection, context: Context, public: str, staff: Staff) -> CaseRow:
    """The case, if this member of staff may see it. Raises NotFound, ConflictOfInterest."""
    row = store.case(connection, case_number(context, public))
    if row is None:
        raise NotFound("There is no such case.")
    if staff.control_group is not None and staff.control_group == row.control_group:
        raise ConflictOfInterest("Whoever belongs to the control group that made this report has no part in the case.")
    return row


def _read(connection: Connection, context: Context, row: CaseRow, public: str, staff: Staff) -> CaseFile:
    policy, service = context.policy, context.service
    report = report_store.reports_by_id(connection, [row.report_id]).get(row.report_id)
    if report is None:
        raise NotFound("The report of this case is not in the ledger any more.")
    case = to_core(row, store.handlers(connection, row.id))
    events = store.events(connection, row.id)
    files = attachment_store.of_case(connection, row.id)
    items, evidence = _items(connection, row, files)
    conduct = Conduct(row.current_conduct)
    alternatives = checklist(conduct, evidence, [item.place for item in items if item.file is not None])
    return CaseFile(
        row=row,
        case=case,
        public=public,
        zone=zone_of(policy, row.profile),
        report=report,
        report_public=encode_id("rp", report.id, service),
        signed=_signed(connection, report.id),
        items=items,
        alternatives=alternatives,
        minimum=best_state(alternatives),
        events=events,
        newest_event=events[-1].id if events else 0,
        names=file_store.staff_names(connection),
        files=[one for one in files if one.party == "subject"],
        kinds=store.listed_slots(connection, report.id),
        statement=store.statements(connection, [report.id]).get(report.id),
        entries=[(one, b64url(leaf_hash(one.leaf))) for one in file_store.entries(connection, report.id)],
        reporter=_reporter(connection, report, policy, context.now()),
        linked=_linked(connection, report, staff, service),
        group=[
            (one, encode_id("ap", one.id, service))
            for one in store.group_cases(connection, row.group_id)
            if one.id != row.id and (staff.control_group is None or one.control_group != staff.control_group)
        ],
        actions=offered(case, staff, policy) if staff.role != "auditor" else frozenset(),
        retention_days=policy.retention_days[policy.severity[conduct]],
        expires_at=from_day(policy.expiry_day(conduct, day_floor(report.act_ended_at), report.expires_day)),
    )


def _items(
    connection: Connection, row: CaseRow, files: Sequence[AttachmentRow]
) -> tuple[list[Item], tuple[Evidence, ...]]:
    raw = reported_evidence(connection, row.report_id)
    handed = {one.evidence_index: one for one in files if one.party == "reporter"}
    items = [
        Item(place, str(one["type"]), unb64url(one["sha256"], 32).hex(), one.get("finding"), handed.get(place))
        for place, one in enumerate(raw)
    ]
    return items, parse_evidence(raw) if raw else ()


def _signed(connection: Connection, report_id: int) -> dict[str, Any]:
    opened = log_store.read_body(connection, report_id)
    return {} if opened is None else dict(json.loads(opened[2])["body"])


def _reporter(connection: Connection, report: ReportRow, policy: Policy, now: datetime) -> Reporter:
    outcomes = file_store.outcomes_of(connection, report.control_group, window_start(now, policy.weights.window_months))
    reports, live = file_store.report_counts(connection, report.platform)
    return Reporter(reports, live, outcomes, weight_of(outcomes, policy))


def _linked(
    connection: Connection, report: ReportRow, staff: Staff, service: str
) -> list[tuple[LinkedRow, str, str | None]]:
    """(row, public id, platform's name or None where it is not shown)."""
    rows = file_store.linked(connection, report.id, report.act_id)
    bound = staff.control_group is not None
    return [
        (
            one,
            encode_id("rp", one.report_id, service),
            None if bound and one.platform != report.platform else one.platform,
        )
        for one in rows
    ]


# --- letters before a decision ------------------------------------------------------------------------------------


def preview(
    context: Context,
    public: str,
    staff: Staff,
    outcome: Outcome,
    reasons: str,
    conduct: Conduct | None,
    slots: Sequence[int],
    locale: str,
) -> Letter:
    """The letter that this decision would make. Nothing is decided. Raises NotFound, ConflictOfInterest."""
    with reading(context.engine) as connection:
        row = visible_case(connection, context, public, staff)
        now = context.now()
        until = None
        if outcome in REOPENED and row.round == 1:
            until = from_day(day_floor(now) + context.policy.appeals.reopen_days)
        imagined = replace(
            row,
            state=CaseState.DECIDED.value,
            outcome=outcome.value,
            amended_conduct=None if conduct is None else conduct.value,
            unlinked_slots=" ".join(str(slot) for slot in slots) or None,
            reasons=reasons,
            decided_at=now,
            reopen_until=until,
        )
        return render(LetterKind.DECIDED, facts_of(connection, imagined, context), locale)


def kind_of_slot(file: CaseFile) -> list[tuple[int, Kind]]:
    """The identifiers that the report is listed under, for choosing which to unlink."""
    return [(slot, Kind(kind)) for slot, kind in sorted(file.kinds.items())]
