"""Opening a case again for its reporter: once, within 60 days of an `unconfirmed` decision, for evidence that is new.

A reviewer without a conflict of interest grants or refuses it with reasons. A granted request is a further round of the
case; until it is decided the report stays without points, and it uses up no round of the person's.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from ledger.errors import ActionRefused, AppealInvalid, RoleMissing
from ledger.protocol.encoding import day_floor
from ledger.protocol.public_ids import encode_id
from ledger.rules.appeals import Action, Actor
from ledger.rules.case_machine import DECIDING_ROLES, Staff, check_group
from ledger.rules.order_lines import Act, Refused, judge, replay
from ledger.server.appeals import attachment_queries as attachments
from ledger.server.appeals.filing import clean_text
from ledger.server.appeals.parties import Party, Speaker, check_party
from ledger.server.appeals.perform import Move, perform
from ledger.server.appeals.transaction import case_number, changing, load_case
from ledger.server.db.engine import writing
from ledger.server.records import case_queries as case_store
from ledger.server.records import order_line_queries as store
from ledger.server.records.case_queries import CaseRow
from ledger.server.records.order_line_queries import RequestRow
from ledger.server.records.order_lines import refuse
from ledger.server.records.transaction import Context, EntryBatch
from ledger.server.staff import audit

MAX_REQUESTS = 200
"""Requests that a page shows."""


def ask_reopening(batch: EntryBatch, row: CaseRow, speaker: Speaker, evidence_sha256: bytes, text: str) -> CaseRow:
    """The reporter asks, with the SHA-256 (32 bytes) of its new evidence. Raises NotFound, AppealInvalid,
    ActionRefused."""
    check_party(batch, row, speaker)
    if speaker.party is not Party.REPORTER:
        raise AppealInvalid("Only the reporter asks for this; the person reopens the case.")
    report = batch.reports[row.report_id]
    order = (report.control_group, report.order_ref)
    line = replay(store.histories(batch.connection, [order]).get(order, ()))
    reported = store.evidence_of(batch.connection, [report.id]).get(report.id, frozenset())
    handed_in = {bytes(one.sha256) for one in attachments.of_case(batch.connection, row.id)}
    verdict = judge(
        line,
        Act.ASK_REOPENING,
        batch.now,
        case_id=row.id,
        known_evidence=evidence_sha256 in reported or evidence_sha256 in handed_in,
    )
    if isinstance(verdict, Refused):
        refuse(verdict, batch.service)
    cleaned = clean_text(text)
    done = perform(batch, row, Move(Action.ASK_REOPENING, Actor.REPORTER, platform=speaker.platform, text=cleaned))
    store.insert_request(
        batch.connection,
        RequestRow(
            case_id=row.id,
            evidence_sha256=evidence_sha256,
            text=cleaned,
            requested_at=batch.now,
            granted=None,
            round=None,
            staff_id=None,
            reasons=None,
            decided_at=None,
        ),
    )
    return done


@dataclass(frozen=True, slots=True)
class Waiting:
    """A request that waits for a reviewer, with its case."""

    request: RequestRow
    row: CaseRow
    case: str
    report: str


def open_requests(context: Context, staff: Staff) -> list[Waiting]:
    """Requests that wait, the oldest first, none about the reader's own control group; the read is audited.

    Raises RoleMissing, DatabaseUnavailable.
    """
    if staff.role not in DECIDING_ROLES | {"auditor"}:
        raise RoleMissing("This role does not see cases.")
    found = []
    with writing(context.engine) as connection:
        for request in store.open_requests(connection, MAX_REQUESTS, staff.control_group):
            row = case_store.case(connection, request.case_id)
            if row is None:
                continue
            check_group(row.control_group, staff)
            case, report = (
                encode_id("ap", row.id, context.service),
                encode_id("rp", row.report_id, context.service),
            )
            found.append(Waiting(request, row, case, report))
        audit.record(connection, context.now(), staff.id, "reopening_list")
    return found


def grant(context: Context, case: str, staff: Staff, reasons: str) -> CaseRow:
    """Grant the request: the case has a further round, in the queue like any other. Raises NotFound, AppealInvalid
    (reasons), ActionRefused, ConflictOfInterest (their own group, or they handled the case)."""
    return _answer(context, case, staff, reasons, Action.GRANT_REOPENING)


def refuse_reopening(context: Context, case: str, staff: Staff, reasons: str) -> CaseRow:
    """Refuse the request, for good. Raises as `grant` does."""
    return _answer(context, case, staff, reasons, Action.REFUSE_REOPENING)


def _answer(context: Context, case: str, staff: Staff, reasons: str, action: Action) -> CaseRow:
    text = clean_text(reasons)
    with changing(context) as batch:
        row = load_case(batch, case_number(context, case))
        request = store.request(batch.connection, row.id)
        report = batch.reports.get(row.report_id)
        if request is None or request.granted is not None:
            raise ActionRefused("There is no request (any more) to open this case again.", action=action.value)
        gone = report is None or not report.live or report.expires_day <= day_floor(batch.now)
        if action is Action.GRANT_REOPENING and gone:
            raise ActionRefused("The report of this case is not in effect any more.", action=action.value)
        done = perform(batch, row, Move(action, Actor.STAFF, staff, text=text))
        granted = action is Action.GRANT_REOPENING
        store.save_request(
            batch.connection,
            replace(
                request,
                granted=granted,
                round=done.round if granted else None,
                staff_id=staff.id,
                reasons=text,
                decided_at=batch.now,
            ),
        )
        detail = "granted" if granted else "refused"
        audit.record(
            batch.connection, batch.now, staff.id, "reopening_decided", "appeal", case, detail,
            about_group=row.control_group,
        )  # fmt: skip
        return done
