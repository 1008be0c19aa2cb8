"""What reviewers and supervisors do in a case. Each is one transaction, and each is in the case's timeline.

The rules about who may (role, conflict of interest, four eyes, one reviewer a case) are `core.cases.check_staff`; two
reviewers who take the same case at once meet at the log's head, and the second gets CaseTaken or ActionRefused.
"""

from __future__ import annotations

from collections.abc import Sequence

from ledger.core.appeals import Action, Actor, Outcome, needs_signature
from ledger.core.cases import Staff
from ledger.core.conduct import Conduct
from ledger.errors import DecisionInvalid
from ledger.service.appeals.filing import clean_text
from ledger.service.appeals.perform import Move, perform
from ledger.service.appeals.transaction import case_number, changing, load_case
from ledger.service.entry_batch import Context
from ledger.store.appeals import CaseRow


def take(context: Context, case: str, staff: Staff) -> CaseRow:
    """Put a waiting case into this reviewer's hands."""
    return _move(context, case, Move(Action.TAKE, Actor.STAFF, staff))


def assign(context: Context, case: str, staff: Staff, assignee: Staff) -> CaseRow:
    """A supervisor gives the case to somebody."""
    return _move(context, case, Move(Action.ASSIGN, Actor.STAFF, staff, assignee=assignee))


def hand_back(context: Context, case: str, staff: Staff, note: str | None = None) -> CaseRow:
    """Put the case back into the queue."""
    text = None if not note else clean_text(note)
    return _move(context, case, Move(Action.HAND_BACK, Actor.STAFF, staff, text=text))


def ask_reporter(context: Context, case: str, staff: Staff, question: str) -> CaseRow:
    """Ask the reporter, who has 7 days; silence overturns."""
    text = clean_text(question)
    return _move(context, case, Move(Action.ASK_REPORTER, Actor.STAFF, staff, text=text, visible_to="reporter"))


def ask_subject(context: Context, case: str, staff: Staff, question: str) -> CaseRow:
    """Ask the person, who has 7 days; without an answer the case is decided on what there is."""
    text = clean_text(question)
    return _move(context, case, Move(Action.ASK_SUBJECT, Actor.STAFF, staff, text=text, visible_to="subject"))


def note(context: Context, case: str, staff: Staff, text: str) -> CaseRow:
    """An internal note, which no party ever sees."""
    return _move(context, case, Move(Action.NOTE, Actor.STAFF, staff, text=clean_text(text)))


def extend(context: Context, case: str, staff: Staff, reasons: str) -> CaseRow:
    """Use the statute's extension, once, after new information from the person. The parties are told why."""
    return _move(context, case, Move(Action.EXTEND, Actor.STAFF, staff, text=clean_text(reasons)))


def decide(
    context: Context,
    case: str,
    staff: Staff,
    outcome: Outcome,
    reasons: str,
    *,
    conduct: Conduct | None = None,
    slots: Sequence[int] = (),
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
        return perform(batch, row, move)


def sign(context: Context, case: str, staff: Staff) -> CaseRow:
    """Give the second signature: what was proposed is decided."""
    return _move(context, case, Move(Action.SIGN, Actor.STAFF, staff))


def decline(context: Context, case: str, staff: Staff, reasons: str) -> CaseRow:
    """Do not sign: back to the first reviewer, with a note."""
    return _move(context, case, Move(Action.DECLINE, Actor.STAFF, staff, text=clean_text(reasons)))


def _move(context: Context, case: str, move: Move) -> CaseRow:
    with changing(context) as batch:
        return perform(batch, load_case(batch, case_number(context, case)), move)
