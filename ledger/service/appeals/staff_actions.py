"""What reviewers and supervisors do in a case. Each is one transaction, and each is in the case's timeline.

The rules about who may (role, conflict of interest, four eyes, one reviewer a case) are `core.cases.check_staff`; two
reviewers who take the same case at once meet at the log's head, and the second gets CaseTaken or ActionRefused.

`seen` is the id of the newest event of the case that the person had before them: when the case has moved on since,
nothing is done (ActionRefused). Each action is in the audit log too, which outlives the case.
"""

from __future__ import annotations

from collections.abc import Sequence

from ledger.core.appeals import Action, Actor, Outcome, needs_signature
from ledger.core.cases import Staff
from ledger.core.conduct import Conduct
from ledger.core.ids import encode_id
from ledger.errors import ActionRefused, DecisionInvalid
from ledger.service.appeals.filing import clean_text
from ledger.service.appeals.perform import Move, perform
from ledger.service.appeals.transaction import case_number, changing, load_case
from ledger.service.audit import record
from ledger.service.entry_batch import Context, EntryBatch
from ledger.store import appeals as store
from ledger.store.appeals import CaseRow


def take(context: Context, case: str, staff: Staff, *, seen: int | None = None) -> CaseRow:
    """Put a waiting case into this reviewer's hands."""
    return _move(context, case, Move(Action.TAKE, Actor.STAFF, staff), seen)


def assign(context: Context, case: str, staff: Staff, assignee: Staff, *, seen: int | None = None) -> CaseRow:
    """A supervisor gives the case to somebody."""
    return _move(context, case, Move(Action.ASSIGN, Actor.STAFF, staff, assignee=assignee), seen)


def hand_back(
    context: Context, case: str, staff: Staff, note: str | None = None, *, seen: int | None = None
) -> CaseRow:
    """Put the case back into the queue."""
    text = None if not note else clean_text(note)
    return _move(context, case, Move(Action.HAND_BACK, Actor.STAFF, staff, text=text), seen)


def ask_reporter(context: Context, case: str, staff: Staff, question: str, *, seen: int | None = None) -> CaseRow:
    """Ask the reporter, who has 7 days; silence overturns."""
    text = clean_text(question)
    return _move(context, case, Move(Action.ASK_REPORTER, Actor.STAFF, staff, text=text, visible_to="reporter"), seen)


def ask_subject(context: Context, case: str, staff: Staff, question: str, *, seen: int | None = None) -> CaseRow:
    """Ask the person, who has 7 days; without an answer the case is decided on what there is."""
    text = clean_text(question)
    return _move(context, case, Move(Action.ASK_SUBJECT, Actor.STAFF, staff, text=text, visible_to="subject"), seen)


def note(context: Context, case: str, staff: Staff, text: str, *, seen: int | None = None) -> CaseRow:
    """An internal note, which no party ever sees."""
    return _move(context, case, Move(Action.NOTE, Actor.STAFF, staff, text=clean_text(text)), seen)


def extend(context: Context, case: str, staff: Staff, reasons: str, *, seen: int | None = None) -> CaseRow:
    """Use the statute's extension, once, after new information from the person. The parties are told why."""
    return _move(context, case, Move(Action.EXTEND, Actor.STAFF, staff, text=clean_text(reasons)), seen)


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
    if (outcome is Outcome.AMENDED) != (conduct is not None) or (outcome is Outcome.UNLINKED) != bool(slots):
        raise DecisionInvalid("`amended` names a conduct, `unlinked` names identifiers, nothing else does.")
    with changing(context) as batch:
        row = load_case(batch, case_number(context, case))
        severity = row.severity if conduct is None else batch.policy.severity[conduct]
        action = Action.PROPOSE if needs_signature(outcome, severity) else Action.DECIDE
        move = Move(action, Actor.STAFF, staff, text=text, outcome=outcome, conduct=conduct, slots=tuple(slots))
        check_seen(batch, row, seen)
        row = perform(batch, row, move)
        note_action(batch, row, staff.id, action, outcome)
        return row


def sign(context: Context, case: str, staff: Staff, *, seen: int | None = None) -> CaseRow:
    """Give the second signature: what was proposed is decided."""
    return _move(context, case, Move(Action.SIGN, Actor.STAFF, staff), seen)


def decline(context: Context, case: str, staff: Staff, reasons: str, *, seen: int | None = None) -> CaseRow:
    """Do not sign: back to the first reviewer, with a note."""
    return _move(context, case, Move(Action.DECLINE, Actor.STAFF, staff, text=clean_text(reasons)), seen)


def check_seen(batch: EntryBatch, row: CaseRow, seen: int | None) -> None:
    """Raises ActionRefused if something happened in the case after the event `seen`."""
    if seen is not None and store.newest_event(batch.connection, row.id) != seen:
        raise ActionRefused("The case has moved on since you opened it.", moved_on=True)


def note_action(batch: EntryBatch, row: CaseRow, staff_id: int, action: Action, outcome: Outcome | None = None) -> None:
    """Write it into the audit log, in the same transaction."""
    public = encode_id("ap", row.id, batch.service)
    detail = None if outcome is None else outcome.value
    record(batch.connection, batch.now, staff_id, f"case_{action.value}", "case", public, detail)


def _move(context: Context, case: str, move: Move, seen: int | None) -> CaseRow:
    with changing(context) as batch:
        row = load_case(batch, case_number(context, case))
        check_seen(batch, row, seen)
        row = perform(batch, row, move)
        if move.staff is not None:
            note_action(batch, row, move.staff.id, move.action, None if row.outcome is None else Outcome(row.outcome))
        return row
