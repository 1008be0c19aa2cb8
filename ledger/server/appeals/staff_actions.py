"""What reviewers and supervisors do in a case. Each is one transaction, and each is in the case's timeline.

The rules about who may (role, conflict of interest, four eyes, one reviewer a case) are
`rules.case_machine.check_staff`; two reviewers who take the same case at once meet at the log's head, and the second
gets CaseTaken or ActionRefused.

`seen` is the id of the newest event of the case that the person had before them: when the case has moved on since,
nothing is done (ActionRefused). Each action is in the audit log too, which outlives the case.
"""

from __future__ import annotations

from collections.abc import Sequence

from ledger.errors import ActionRefused
from ledger.protocol.public_ids import encode_id
from ledger.rules.appeals import Action, Actor, CaseState, Outcome, needs_signature
from ledger.rules.case_machine import Staff
from ledger.rules.clean_text import cleaned
from ledger.rules.conduct import Conduct
from ledger.server.appeals.filing import clean_text
from ledger.server.appeals.perform import Move, perform
from ledger.server.appeals.queue_queries import pass_over
from ledger.server.appeals.transaction import case_number, changing, load_case
from ledger.server.records import case_queries as store
from ledger.server.records.case_queries import CaseRow
from ledger.server.records.transaction import Context, EntryBatch
from ledger.server.staff.audit import record
from ledger.server.staff.enrolment import check_hands


def take(context: Context, case: str, staff: Staff, *, seen: int | None = None) -> CaseRow:
    """Put a waiting case into this reviewer's hands."""
    return _move(context, case, staff, Move(Action.TAKE, Actor.STAFF, staff), seen)


def assign(context: Context, case: str, staff: Staff, assignee: Staff, *, seen: int | None = None) -> CaseRow:
    """A supervisor gives the case to somebody."""
    return _move(context, case, staff, Move(Action.ASSIGN, Actor.STAFF, staff, assignee=assignee), seen)


def hand_back(
    context: Context, case: str, staff: Staff, note: str | None = None, *, seen: int | None = None
) -> CaseRow:
    """Put the case back into the queue. It is not offered to this person again today (UTC)."""
    text = clean_text(note) if note and cleaned(note) else None
    with changing(context) as batch:
        row = load_case(batch, case_number(context, case))
        pass_over(batch.connection, row.id, staff.id, batch.now)
        return _act(batch, row, staff, Move(Action.HAND_BACK, Actor.STAFF, staff, text=text), seen)


def ask_reporter(context: Context, case: str, staff: Staff, question: str, *, seen: int | None = None) -> CaseRow:
    """Ask the reporter, who has 7 days; silence overturns."""
    text = clean_text(question)
    return _move(
        context, case, staff, Move(Action.ASK_REPORTER, Actor.STAFF, staff, text=text, visible_to="reporter"), seen
    )


def ask_subject(context: Context, case: str, staff: Staff, question: str, *, seen: int | None = None) -> CaseRow:
    """Ask the person, who has 7 days; without an answer the case is decided on what there is."""
    text = clean_text(question)
    return _move(
        context, case, staff, Move(Action.ASK_SUBJECT, Actor.STAFF, staff, text=text, visible_to="subject"), seen
    )


def note(context: Context, case: str, staff: Staff, text: str, *, seen: int | None = None) -> CaseRow:
    """An internal note, which no party ever sees."""
    return _move(context, case, staff, Move(Action.NOTE, Actor.STAFF, staff, text=clean_text(text)), seen)


def extend(context: Context, case: str, staff: Staff, reasons: str, *, seen: int | None = None) -> CaseRow:
    """Use the statute's extension, once, after new information from the person. The parties are told why."""
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
    """Decide. A decision that takes two people is proposed instead: the case then awaits the second signature.

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
    """Give the second signature: what was proposed is decided.

    Raises ConflictOfInterest also where both accounts rest on the word of the same admin alone.
    """
    with changing(context) as batch:
        row = load_case(batch, case_number(context, case))
        if row.proposer_id is not None and row.proposer_id != staff.id:
            check_hands(batch.connection, row.proposer_id, staff.id)
        return _act(batch, row, staff, Move(Action.SIGN, Actor.STAFF, staff), seen)


def decline(context: Context, case: str, staff: Staff, reasons: str, *, seen: int | None = None) -> CaseRow:
    """Do not sign: back to the first reviewer, with a note."""
    return _move(context, case, staff, Move(Action.DECLINE, Actor.STAFF, staff, text=clean_text(reasons)), seen)


def _move(context: Context, case: str, staff: Staff, move: Move, seen: int | None) -> CaseRow:
    with changing(context) as batch:
        return _act(batch, load_case(batch, case_number(context, case)), staff, move, seen)


def _act(batch: EntryBatch, row: CaseRow, staff: Staff, move: Move, seen: int | None) -> CaseRow:
    if seen is not None and store.newest_event(batch.connection, row.id) != seen:
        raise ActionRefused("The case has moved on since you opened it. Read what is new, then decide.")
    done = perform(batch, row, move)
    # What is proposed stays in the case until it is decided: the audit log has more readers than the case.
    outcome = done.outcome if done.state == CaseState.DECIDED else None
    public = encode_id("ap", row.id, batch.service)
    action = f"case_{move.action.value}"
    record(batch.connection, batch.now, staff.id, action, "appeal", public, outcome, about_group=row.control_group)
    return done
