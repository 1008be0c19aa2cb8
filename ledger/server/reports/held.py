"""Held reports: the reporter explains why it is another order, a supervisor outside the group releases or refuses it,
and one that is not released in time is void.

A held report is recorded and has a receipt, but no listing: no lookup, snapshot, act of others or link uses it.
`ledger.rules.order_lines` says which reports are held.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import orjson
from sqlalchemy import Connection

from ledger.errors import ActionRefused, ConflictOfInterest, NotFound, RoleMissing
from ledger.protocol.encoding import day_floor, from_hour, hour_floor
from ledger.protocol.public_ids import encode_id
from ledger.rules.acts import act_to_join
from ledger.rules.appeals import SIGNED_SEVERITY
from ledger.rules.case_machine import DECIDING_ROLES, Staff, check_group
from ledger.rules.conduct import Conduct
from ledger.rules.order_lines import replay, within_amount, within_days
from ledger.server.appeals.case_changes import changing, report_number
from ledger.server.appeals.filing import clean_text
from ledger.server.context import Context
from ledger.server.db.due_rows import work_off
from ledger.server.db.engine import reading, writing
from ledger.server.platforms.members import Member
from ledger.server.records import appeal_effects as effects
from ledger.server.records import case_queries as case_store
from ledger.server.records import order_line_queries as store
from ledger.server.records import queries as report_store
from ledger.server.records.idempotency import ResponseStore, StoredResponse, idempotent_request
from ledger.server.records.order_line_queries import HeldRow
from ledger.server.records.queries import ReportRow
from ledger.server.records.rows import listing_values
from ledger.server.records.transaction import EntryBatch
from ledger.server.records.views import report_view
from ledger.server.reports.reports import ReportService
from ledger.server.staff import audit
from ledger.server.staff.enrolment import check_independent_signers
from ledger.tlog.entries import EventType, WithdrawalReason, release_entry

MAX_EXPLANATIONS = 5
"""The number of times that a reporter may give a reason."""

MAX_WAITING = 200
"""Held reports that a page shows."""

MAX_VOID = 100
"""Held reports that one query reads. Each is voided in a transaction of its own."""

_HOURS_A_DAY = 24


# --- the reporter -------------------------------------------------------------------------------------------------


def explain(service: ReportService, member: Member, report_id: str, text: str, idempotency_key: str) -> StoredResponse:
    """Give the reason why a held report is about another order, and return the report as its platform sees it. A new
    reason replaces the last one, and a release that was proposed because of it.

    Raises NotFound, AppealInvalid (no text, or too often), ActionRefused (it is not held), IdempotencyMismatch,
    LogFrozen, DatabaseUnavailable.
    """
    cleaned, number = clean_text(text), report_number(service.context, report_id)
    content = {"report": report_id, "text": cleaned}
    request = idempotent_request(service.keys.idempotency_key, member, idempotency_key, content, "explain")
    with changing(service.context) as batch:
        responses = ResponseStore(batch, [request])
        stored = responses.recall(request)
        if stored is not None:
            return stored
        row, held = _load(batch, number)
        if row is None or row.platform != member.platform:
            raise NotFound("You have no report of this id.")
        held = _waiting(row, held)
        if held.revision >= MAX_EXPLANATIONS:
            raise ActionRefused(f"A reason is given at most {MAX_EXPLANATIONS} times.")
        held = replace(
            held,
            explanation=cleaned,
            explained_at=batch.now,
            revision=held.revision + 1,
            proposer_id=None,
            reasons=None,
        )
        store.save_held(batch.connection, held)
        view = report_view(
            row,
            reversal=None,
            restitution=batch.restitutions.get(number),
            replaced_by=None,
            service=batch.service,
            policy=batch.policy,
            now=batch.now,
            case=batch.cases.get(number),
            held=held,
        )
        return responses.remember(request, number, 200, orjson.dumps(view).decode())


# --- staff --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class HeldReport:
    """A held report for staff. `like` is the contested report whose matter it may be (None once it is erased), `shares`
    what shows it: `evidence`, `days`, `amount`; `evidence` are the shared SHA-256 digests in hex. `seen` is what an
    action names, so that no decision rests on a reason that has changed since."""

    row: HeldRow
    report: ReportRow
    like: ReportRow | None
    report_id: str
    case_id: str
    severity: int
    shares: tuple[str, ...]
    evidence: tuple[str, ...]
    seen: int
    needs_signature: bool
    now: datetime


def held_queue(context: Context, staff: Staff) -> list[HeldReport]:
    """Return the held reports that wait, the one that is void first is first; none of the reader's own control group.
    The read is audited. Raises RoleMissing, DatabaseUnavailable."""
    _check_reads(staff)
    with writing(context.engine) as connection:
        reports = _described(connection, context, store.waiting(connection, MAX_WAITING, staff.control_group))
        audit.record(connection, context.now(), staff.id, "held_list")
    return reports


def held_report(context: Context, report: str, staff: Staff) -> HeldReport:
    """Return a held report that waits; the read is audited. Raises NotFound, RoleMissing, ConflictOfInterest,
    DatabaseUnavailable."""
    _check_reads(staff)
    number = report_number(context, report)
    with writing(context.engine) as connection:
        row = report_store.reports_by_id(connection, [number]).get(number)
        held = _waiting(row, store.held_reports(connection, [number]).get(number))
        check_group(held.control_group, staff)
        audit.record(connection, context.now(), staff.id, "held_read", "report", report, about_group=held.control_group)
        return _described(connection, context, [held])[0]


def release(context: Context, report: str, staff: Staff, reasons: str, *, seen: int) -> HeldRow:
    """Release a held report, or propose it where that takes two people (from severity `SIGNED_SEVERITY` on): then
    `sign_release` does it. It counts from its own effective time or from now, whichever is later.

    Raises NotFound, RoleMissing, ConflictOfInterest, AppealInvalid (reasons), ActionRefused (no reason was given yet,
    it has changed, the time is over, a case about the report is open or was decided otherwise than upheld).
    """
    text = clean_text(reasons)
    _check_releases(staff)
    with changing(context) as batch:
        row, held = _releasable(batch, context, report, staff, seen)
        grave = batch.policy.severity[row.conduct] >= SIGNED_SEVERITY
        if grave and held.proposer_id is not None:
            raise ActionRefused("A release is proposed already: another member of staff signs it, or refuses it.")
        held = replace(held, proposer_id=staff.id, reasons=text)
        action = "held_proposed" if grave else "held_released"
        held = _propose(batch, held) if grave else _release(batch, row, held, [staff.id])
        _audit(batch, staff, action, report, held)
        return held


def sign_release(context: Context, report: str, staff: Staff, *, seen: int) -> HeldRow:
    """Give the second signature to a proposed release. Raises NotFound, RoleMissing, ActionRefused as `release`
    does or if no release is proposed, and ConflictOfInterest for the member of staff who proposed it or where the same
    admin alone vouches for both accounts."""
    if staff.role not in DECIDING_ROLES:
        raise RoleMissing("A reviewer or supervisor gives the second signature.")
    with changing(context) as batch:
        row, held = _releasable(batch, context, report, staff, seen)
        if held.proposer_id is None:
            raise ActionRefused("No release is proposed.")
        if held.proposer_id == staff.id:
            raise ConflictOfInterest("A member of staff who did not propose the release gives the second signature.")
        check_independent_signers(batch.connection, held.proposer_id, staff.id)
        held = _release(batch, row, replace(held, signer_id=staff.id), [held.proposer_id, staff.id])
        _audit(batch, staff, "held_signed", report, held)
        return held


def refuse_release(context: Context, report: str, staff: Staff, reasons: str, *, seen: int) -> HeldRow:
    """Refuse to release a held report: it is void at once, without cost to its reporter, who can
    read the reasons.

    Raises NotFound, RoleMissing, ConflictOfInterest, AppealInvalid (reasons), ActionRefused.
    """
    text = clean_text(reasons)
    _check_releases(staff)
    with changing(context) as batch:
        row, held = _load(batch, report_number(context, report))
        held = _waiting(row, held)
        _check_seen(held, staff, seen)
        held = replace(held, reasons=text, refused_at=batch.now)
        store.save_held(batch.connection, held)
        _void(batch, batch.reports[held.report_id])
        _audit(batch, staff, "held_refused", report, held)
        return held


# --- time ---------------------------------------------------------------------------------------------------------


def void_due(context: Context, stopped: Callable[[], bool] = lambda: False) -> int:
    """Void all held reports whose time is over; returns how many. `stopped` ends it early. A report that fails stops no
    other: its error is logged (`held_report_failed` with the report's id), and the first one is raised at the end.
    Raises LogFrozen, DatabaseUnavailable."""
    now = context.now()

    def due(last: tuple[datetime, int] | None) -> list[tuple[datetime, int]]:
        with reading(context.engine) as connection:
            return store.due_held(connection, now, MAX_VOID, last)

    def work(rows: Sequence[tuple[datetime, int]]) -> int:
        ((_, number),) = rows
        with changing(context) as batch:
            row, held = _load(batch, number)
            if row is None or not row.live or held is None or not held.waits or held.void_at > batch.now:
                return 0
            _void(batch, row)
            return 1

    return work_off(
        due,
        work,
        event="held_report_failed",
        name=lambda row: encode_id("rp", row[1], context.service),
        stopped=stopped,
    )


def _void(batch: EntryBatch, row: ReportRow) -> None:
    batch.withdraw(row, WithdrawalReason.NOT_RELEASED, costs=False)


# --- inside -------------------------------------------------------------------------------------------------------


def _audit(batch: EntryBatch, staff: Staff, action: str, report: str, held: HeldRow) -> None:
    group = held.control_group
    audit.record(batch.connection, batch.now, staff.id, action, "report", report, about_group=group)


def _load(batch: EntryBatch, number: int) -> tuple[ReportRow | None, HeldRow | None]:
    batch.load_reports([number], [number])
    return batch.reports.get(number), store.held_reports(batch.connection, [number]).get(number)


def _waiting(row: ReportRow | None, held: HeldRow | None) -> HeldRow:
    """Return the held report if it still waits. Raises NotFound, ActionRefused."""
    if row is None:
        raise NotFound("There is no such report.")
    if held is None or not held.waits or not row.live:
        raise ActionRefused("This report is not held.")
    return held


def _releasable(batch: EntryBatch, context: Context, report: str, staff: Staff, seen: int) -> tuple[ReportRow, HeldRow]:
    row, held = _load(batch, report_number(context, report))
    held = _waiting(row, held)
    _check_seen(held, staff, seen)
    row = batch.reports[held.report_id]
    if held.revision == 0:
        raise ActionRefused("Its reporter has given no reason yet why this is another order.")
    if held.void_at <= batch.now:
        raise ActionRefused("The time in which this report could be released is over.")
    order = (row.control_group, row.order_ref)
    line = replay(store.histories(batch.connection, [order]).get(order, ()))
    if line.disputed or line.closed_by is not None:
        raise ActionRefused("The person contests this report, or it was decided otherwise than upheld.")
    if max(row.effective_hour, hour_floor(batch.now)) >= row.expires_day * _HOURS_A_DAY:
        raise ActionRefused("This report would be past its retention before it could count.")
    return row, held


def _check_seen(held: HeldRow, staff: Staff, seen: int) -> None:
    check_group(held.control_group, staff)
    if held.revision != seen:
        raise ActionRefused("The reporter's reason has changed since you read it.")


def _propose(batch: EntryBatch, held: HeldRow) -> HeldRow:
    store.save_held(batch.connection, held)
    return held


def _release(batch: EntryBatch, row: ReportRow, held: HeldRow, staff: Sequence[int]) -> HeldRow:
    """Append the release, and list the report as if it had been recorded now: it joins the act that it would join."""
    connection = batch.connection
    act_day = day_floor(row.act_ended_at)
    joined = act_to_join(
        report_store.listed_reports(connection, store.subject_tags(connection, row.id)),
        control_group=row.control_group,
        amount_minor=row.amount_minor,
        currency=row.currency,
        act_day=act_day,
        window_days=batch.policy.intake.act_window_days,
    )
    row = replace(
        row,
        effective_hour=max(row.effective_hour, hour_floor(batch.now)),
        act_id=row.id if joined is None else joined,
    )
    body = release_entry(
        report_id=batch.public(row.id),
        effective_from=from_hour(row.effective_hour),
        staff=staff,
        recorded_at=batch.now,
    )
    index = batch.draft(EventType.RELEASE, body)
    entry = {"entry_index": index, "report_id": row.id, "type": EventType.RELEASE.value, "outcome": None}
    case_store.add_entries(connection, [{**entry, "recorded_at": batch.now}])
    disputed, unconfirmed = effects.given_marks(connection, row.id)
    values = {
        **listing_values(row),
        "disputed": disputed,
        "unconfirmed": unconfirmed,
        "restituted": row.id in batch.restitutions,
        "has_statement": bool(case_store.statements(connection, [row.id])),
    }
    store.list_released(connection, row.id, values)
    store.set_effective(connection, row.id, effective_hour=row.effective_hour, act_id=row.act_id)
    held = replace(held, released_at=batch.now, released_index=index)
    store.save_held(connection, held)
    return held


def _described(connection: Connection, context: Context, rows: Sequence[HeldRow]) -> list[HeldReport]:
    ids = [row.report_id for row in rows] + [row.like_id for row in rows]
    reports = report_store.reports_by_id(connection, ids)
    evidence = store.evidence_of(connection, ids)
    described = []
    for row in rows:
        report, like = reports[row.report_id], reports.get(row.like_id)
        severity = context.policy.severity[Conduct(report.conduct)]
        shared = evidence.get(row.report_id, frozenset()) & evidence.get(row.like_id, frozenset())
        described.append(
            HeldReport(
                row=row,
                report=report,
                like=like,
                report_id=encode_id("rp", row.report_id, context.service),
                case_id=encode_id("ap", row.case_id, context.service),
                severity=severity,
                shares=() if like is None else _shares(report, like, bool(shared)),
                evidence=tuple(sorted(digest.hex() for digest in shared)),
                seen=row.revision,
                needs_signature=severity >= SIGNED_SEVERITY,
                now=context.now(),
            )
        )
    return described


def _shares(report: ReportRow, like: ReportRow, evidence: bool) -> tuple[str, ...]:
    shares = ["evidence"] if evidence else []
    if within_days(day_floor(report.act_ended_at), day_floor(like.act_ended_at)):
        shares.append("days")
    if within_amount((report.currency, report.amount_minor), (like.currency, like.amount_minor)):
        shares.append("amount")
    return tuple(shares)


def _check_reads(staff: Staff) -> None:
    if staff.role not in DECIDING_ROLES | {"auditor"}:
        raise RoleMissing("This role does not see held reports.")


def _check_releases(staff: Staff) -> None:
    if staff.role != "supervisor":
        raise RoleMissing("A supervisor releases or refuses a held report.")
