"""Actions of reviewers and supervisors: work on a case, preview a decision, and answer a reporter's request to reopen.

Each action is one transaction, one line of the case's timeline and one line of the audit log, which outlives the case.
Roles, conflicts of interest, the second signature and one reviewer per case are checked by
`rules.case_machine.check_staff`. Of two reviewers who take one case at the same time, the second gets CaseTaken or
ActionRefused.

`seen` is the id of the newest event that the reviewer had read. If the case has a newer one, the action is refused
(ActionRefused). All actions on a case raise NotFound, ActionRefused, CaseTaken, ConflictOfInterest, LogFrozen and
DatabaseUnavailable; those that take a text also raise AppealInvalid.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from sqlalchemy import Connection, delete

from ledger.errors import ActionRefused, NotFound, RoleMissing
from ledger.protocol.encoding import day_floor
from ledger.protocol.public_ids import encode_id
from ledger.rules.appeals import Action, Actor, CaseState, Outcome, is_worse, needs_signature
from ledger.rules.case_machine import DECIDING_ROLES, Staff, advance, check_group
from ledger.rules.clean_text import cleaned
from ledger.rules.conduct import Conduct
from ledger.rules.policy.values import Policy
from ledger.server.appeals.case_changes import (
    Move,
    apply_action,
    case_number,
    changing,
    check_named,
    expires_at,
    in_force,
    load_case,
    with_handlers,
    zone_of,
)
from ledger.server.appeals.filing import clean_text
from ledger.server.appeals.letter_facts import facts_of
from ledger.server.context import Context
from ledger.server.db.bulk import upsert
from ledger.server.db.engine import writing
from ledger.server.db.tables.appeals import CaseSkip
from ledger.server.records import case_queries, order_line_queries
from ledger.server.records import queries as report_queries
from ledger.server.records.case_queries import CaseRow
from ledger.server.records.order_line_queries import RequestRow
from ledger.server.records.transaction import EntryBatch
from ledger.server.staff import audit
from ledger.server.staff.audit import record
from ledger.server.staff.enrolment import check_independent_signers
from ledger.server.texts.letters import Letter, LetterKind, render

# --- requests to reopen ------------------------------------------------------------------------------------------


MAX_REQUESTS = 200
"""The most requests that a page shows."""


@dataclass(frozen=True, slots=True)
class WaitingRequest:
    """A reporter's request to reopen that awaits an answer, with its case."""

    request: RequestRow
    row: CaseRow
    case: str
    report: str


def open_requests(context: Context, staff: Staff) -> list[WaitingRequest]:
    """Return requests that await an answer, the oldest first, without those about the reader's own control group.

    The read is audited. Raises RoleMissing, DatabaseUnavailable.
    """
    if staff.role not in DECIDING_ROLES | {"auditor"}:
        raise RoleMissing("This role does not see cases.")
    waiting = []
    with writing(context.engine) as connection:
        for request in order_line_queries.open_requests(connection, MAX_REQUESTS, staff.control_group):
            row = case_queries.case(connection, request.case_id)
            if row is None:
                continue
            check_group(row.control_group, staff)
            case, report = (
                encode_id("ap", row.id, context.service),
                encode_id("rp", row.report_id, context.service),
            )
            waiting.append(WaitingRequest(request, row, case, report))
        audit.record(connection, context.now(), staff.id, "reopening_list")
    return waiting


def grant_reopening(context: Context, case: str, staff: Staff, reasons: str) -> CaseRow:
    """Grant the request: the case gets a further round, in the queue like any other. Raises NotFound, AppealInvalid
    (reasons), ActionRefused, ConflictOfInterest (their own group, or they worked on the case)."""
    return _answer_request(context, case, staff, reasons, Action.GRANT_REOPENING)


def refuse_reopening(context: Context, case: str, staff: Staff, reasons: str) -> CaseRow:
    """Refuse the request; the decision is final. Raises the errors of `grant_reopening`."""
    return _answer_request(context, case, staff, reasons, Action.REFUSE_REOPENING)


def _answer_request(context: Context, case: str, staff: Staff, reasons: str, action: Action) -> CaseRow:
    text = clean_text(reasons)
    with changing(context) as batch:
        row = load_case(batch, case_number(context, case))
        request = order_line_queries.request(batch.connection, row.id)
        report = batch.reports.get(row.report_id)
        if request is None or request.granted is not None:
            raise ActionRefused("There is no request (any more) to open this case again.", action=action.value)
        gone = report is None or not report.live or report.expires_day <= day_floor(batch.now)
        if action is Action.GRANT_REOPENING and gone:
            raise ActionRefused("The report of this case is not in effect any more.", action=action.value)
        new = apply_action(batch, row, Move(action, Actor.STAFF, staff, text=text))
        granted = action is Action.GRANT_REOPENING
        order_line_queries.save_request(
            batch.connection,
            replace(
                request,
                granted=granted,
                round=new.round if granted else None,
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
        return new


_SKIP_KEPT = timedelta(days=2)
"""Skips are deleted after this time. A skip counts until midnight, so by then it has ended in every time zone."""


def pass_over(connection: Connection, case_id: int, staff_id: int, now: datetime) -> None:
    """Record that this member of staff passed the case over today, and delete old such records."""
    statement = upsert(connection, CaseSkip).values(case_id=case_id, staff_id=staff_id, at=now)
    connection.execute(statement.on_conflict_do_update(index_elements=["case_id", "staff_id"], set_={"at": now}))
    connection.execute(delete(CaseSkip).where(CaseSkip.at < now - _SKIP_KEPT))


def take(context: Context, case: str, staff: Staff, *, seen: int | None = None) -> CaseRow:
    """Assign a waiting case to this reviewer."""
    return _move(context, case, staff, Move(Action.TAKE, Actor.STAFF, staff), seen)


def assign(context: Context, case: str, staff: Staff, assignee: Staff, *, seen: int | None = None) -> CaseRow:
    """Assign the case, as a supervisor, to a reviewer or supervisor."""
    return _move(context, case, staff, Move(Action.ASSIGN, Actor.STAFF, staff, assignee=assignee), seen)


def hand_back(
    context: Context, case: str, staff: Staff, note: str | None = None, *, seen: int | None = None
) -> CaseRow:
    """Put the case back into the queue. It is not offered to this reviewer again today (UTC)."""
    text = clean_text(note) if note and cleaned(note) else None
    with changing(context) as batch:
        row = load_case(batch, case_number(context, case))
        pass_over(batch.connection, row.id, staff.id, batch.now)
        return _act(batch, row, staff, Move(Action.HAND_BACK, Actor.STAFF, staff, text=text), seen)


def ask_reporter(context: Context, case: str, staff: Staff, question: str, *, seen: int | None = None) -> CaseRow:
    """Ask the reporter a question. Without an answer within 7 days the report is overturned."""
    text = clean_text(question)
    return _move(
        context, case, staff, Move(Action.ASK_REPORTER, Actor.STAFF, staff, text=text, visible_to="reporter"), seen
    )


def ask_subject(context: Context, case: str, staff: Staff, question: str, *, seen: int | None = None) -> CaseRow:
    """Ask the person a question. Without an answer within 7 days the case is decided on the known facts."""
    text = clean_text(question)
    return _move(
        context, case, staff, Move(Action.ASK_SUBJECT, Actor.STAFF, staff, text=text, visible_to="subject"), seen
    )


def note(context: Context, case: str, staff: Staff, text: str, *, seen: int | None = None) -> CaseRow:
    """Add an internal note, which the parties do not see."""
    return _move(context, case, staff, Move(Action.NOTE, Actor.STAFF, staff, text=clean_text(text)), seen)


def extend(context: Context, case: str, staff: Staff, reasons: str, *, seen: int | None = None) -> CaseRow:
    """Use the statute's extension, once, after new information from the person. The parties see the reasons."""
    return _move(context, case, staff, Move(Action.EXTEND, Actor.STAFF, staff, text=clean_text(reasons)), seen)


def decide(
    context: Context,
    case: str,
    staff: Staff,
    outcome: Outcome,
    reasons: str,
    *,
    conduct: Conduct | None = None,
    slots: Sequence[int] = (),
    seen: int | None = None,
) -> CaseRow:
    """Decide the case. A decision that needs two people is proposed instead: the case then awaits the second signature.

    `conduct` belongs to `amended`, `slots` to `unlinked`. Raises AppealInvalid (reasons), DecisionInvalid,
    ActionRefused, CaseTaken, ConflictOfInterest, NotFound.
    """
    text = clean_text(reasons)
    with changing(context) as batch:
        row = load_case(batch, case_number(context, case))
        severity = row.severity if conduct is None else batch.policy.severity[conduct]
        action = Action.PROPOSE if needs_signature(outcome, severity) else Action.DECIDE
        move = Move(action, Actor.STAFF, staff, text=text, outcome=outcome, conduct=conduct, slots=tuple(slots))
        return _act(batch, row, staff, move, seen)


def sign(context: Context, case: str, staff: Staff, *, seen: int | None = None) -> CaseRow:
    """Give the second signature: the proposed decision is made.

    Raises ConflictOfInterest also if both accounts were enrolled by the same admin alone.
    """
    with changing(context) as batch:
        row = load_case(batch, case_number(context, case))
        if row.proposer_id is not None and row.proposer_id != staff.id:
            check_independent_signers(batch.connection, row.proposer_id, staff.id)
        return _act(batch, row, staff, Move(Action.SIGN, Actor.STAFF, staff), seen)


def decline(context: Context, case: str, staff: Staff, reasons: str, *, seen: int | None = None) -> CaseRow:
    """Refuse the second signature: the case goes back to the first reviewer, with reasons."""
    return _move(context, case, staff, Move(Action.DECLINE, Actor.STAFF, staff, text=clean_text(reasons)), seen)


def _move(context: Context, case: str, staff: Staff, move: Move, seen: int | None) -> CaseRow:
    with changing(context) as batch:
        return _act(batch, load_case(batch, case_number(context, case)), staff, move, seen)


def _act(batch: EntryBatch, row: CaseRow, staff: Staff, move: Move, seen: int | None) -> CaseRow:
    if seen is not None and case_queries.newest_event(batch.connection, row.id) != seen:
        raise ActionRefused("The case has moved on since you opened it. Read what is new, then decide.")
    new = apply_action(batch, row, move)
    # A proposal is not in the audit log before it is decided: the log has more readers than the case.
    outcome = new.outcome.value if new.outcome is not None and new.state is CaseState.DECIDED else None
    public = encode_id("ap", row.id, batch.service)
    action = f"case_{move.action.value}"
    record(batch.connection, batch.now, staff.id, action, "appeal", public, outcome, about_group=row.control_group)
    return new


# --- preview of a decision ---------------------------------------------------------------------------------------


_ANY_SIGNER = Staff(0, "supervisor")
"""A placeholder for the second person, who is not known yet."""


@dataclass(frozen=True, slots=True)
class DraftDecision:
    """A decision that a reviewer has not made yet."""

    outcome: Outcome
    reasons: str
    conduct: Conduct | None = None
    slots: tuple[int, ...] = ()


def proposed_decision(row: CaseRow) -> DraftDecision | None:
    """Return the decision that awaits a second signature, None if there is none."""
    if row.proposed is None or row.state != CaseState.AWAITING_SIGNOFF:
        return None
    conduct = None if row.proposed_conduct is None else Conduct(row.proposed_conduct)
    return DraftDecision(row.proposed, row.reasons or "", conduct)


def preview(
    connection: Connection, context: Context, row: CaseRow, staff: Staff, draft: DraftDecision, locale: str
) -> tuple[Letter, bool]:
    """Return the letter that this decision would send, and whether a second person must sign it.

    Raises the errors of `decide`: AppealInvalid (the reasons), DecisionInvalid, ActionRefused, CaseTaken,
    ConflictOfInterest.
    """
    draft = replace(draft, reasons=clean_text(draft.reasons))
    policy, now = context.policy, context.now()
    row = with_handlers(connection, row)
    severity = row.severity if draft.conduct is None else policy.severity[draft.conduct]
    two_people = needs_signature(draft.outcome, severity)
    after = advance(
        row, Action.PROPOSE if two_people else Action.DECIDE, Actor.STAFF, now, policy, zone_of(policy, row.profile),
        staff=staff, outcome=draft.outcome, severity=severity, in_force=in_force(connection, row),
        expires_at=_expires_at(connection, context, row, draft.conduct),
    )  # fmt: skip
    check_named(connection, row, draft.outcome, draft.conduct, draft.slots)
    if two_people:
        after = _signed(connection, context, after, now, draft.conduct)
    return _letter(connection, context, after, draft, locale), two_people


def proposal_letter(connection: Connection, context: Context, row: CaseRow, locale: str) -> Letter:
    """Return the letter that the proposed decision would send. Raises NotFound if no decision is proposed."""
    draft = proposed_decision(row)
    if draft is None:
        raise NotFound("Nothing waits for a second signature in this case.")
    after = _signed(connection, context, row, context.now(), draft.conduct)
    return _letter(connection, context, after, draft, locale)


def open_outcomes(row: CaseRow) -> list[Outcome]:
    """Return the outcomes possible in this round: those that leave the person no worse off than the previous one."""
    before = row.previous_outcome
    return [outcome for outcome in Outcome if before is None or not is_worse(outcome, before)]


def lighter_conducts(row: CaseRow, policy: Policy) -> list[Conduct]:
    """Return the conducts that an `amended` report may name: others of the policy, of the same or a lower severity, and
    not of severity 0."""
    return [
        conduct
        for conduct in Conduct
        if conduct in policy.reportable
        and conduct.value != row.current_conduct
        and 0 < policy.severity[conduct] <= row.severity
    ]


def _signed(connection: Connection, context: Context, row: CaseRow, now: datetime, conduct: Conduct | None) -> CaseRow:
    """Return the case as if any other member of staff had signed the proposal."""
    return advance(
        replace(row, handlers=frozenset()), Action.SIGN, Actor.STAFF, now, context.policy,
        zone_of(context.policy, row.profile), staff=_ANY_SIGNER, in_force=in_force(connection, row),
        expires_at=_expires_at(connection, context, row, conduct),
    )  # fmt: skip


def _expires_at(connection: Connection, context: Context, row: CaseRow, conduct: Conduct | None) -> datetime | None:
    report = report_queries.reports_by_id(connection, [row.report_id]).get(row.report_id)
    return expires_at(context.policy, report, row, conduct)


def _letter(connection: Connection, context: Context, after: CaseRow, draft: DraftDecision, locale: str) -> Letter:
    decided = replace(
        after,
        reasons=draft.reasons,
        amended_conduct=after.amended_conduct if draft.conduct is None else draft.conduct.value,
        unlinked_slots=" ".join(str(slot) for slot in draft.slots) or None,
    )
    return render(LetterKind.DECIDED, facts_of(connection, decided, context, after.filed_via), locale)
