"""Appeals: the states of a case, the one table of what may follow what, who may do it, and what a decision does.

A case is one appeal against one report. It never leaves this table: the service asks `rules.case_machine.advance` what
an action makes of a case and writes down exactly that. Whatever happens, an open case has a date by which it must be
decided (`rules.deadlines`); when that passes, the doubt goes to the person (`Action.OVERDUE`), not to the report.
"""

from __future__ import annotations

from enum import StrEnum

from ledger.rules.outcomes import EFFECTS as EFFECTS
from ledger.rules.outcomes import REOPENED as REOPENED
from ledger.rules.outcomes import Effect as Effect
from ledger.rules.outcomes import Outcome as Outcome
from ledger.rules.outcomes import is_worse as is_worse

MAX_REPORTS = 20
"""Reports that one appeal may be filed against; each becomes a case of its own."""

MAX_TEXT_CHARS = 2000
"""Longest statement, question, answer, note or reason."""

SIGNED_SEVERITY = 6
"""A decision that lets a report of this severity count again takes two people."""

LAST_ROUND = 2
"""A case is decided at most twice for the person, who may have it reopened once; a round that the reporter was granted
comes on top."""

MAX_WITHDRAWALS = 3
"""How often one side may take appeals against a report back. A withdrawn round uses up nothing, so without this limit a
report could be kept from counting for ever by filing and withdrawing in turn; the next round is decided."""


class Grounds(StrEnum):
    """Why the person contests the report."""

    NOT_ME = "not_me"
    """Somebody else did it with this account, or the identifier is not this person's."""
    WRONG_FACTS = "wrong_facts"
    EVIDENCE_WRONG = "evidence_wrong"
    PAID_BACK = "paid_back"
    NOT_TOLD = "not_told"
    OTHER = "other"


class CaseState(StrEnum):
    """Where a case stands."""

    SUBMITTED = "submitted"
    UNDER_REVIEW = "under_review"
    AWAITING_REPORTER = "awaiting_reporter"
    AWAITING_SUBJECT = "awaiting_subject"
    AWAITING_SIGNOFF = "awaiting_signoff"
    DECIDED = "decided"
    CLOSED = "closed"
    WITHDRAWN = "withdrawn"


OPEN_STATES = frozenset(
    {
        CaseState.SUBMITTED,
        CaseState.UNDER_REVIEW,
        CaseState.AWAITING_REPORTER,
        CaseState.AWAITING_SUBJECT,
        CaseState.AWAITING_SIGNOFF,
    }
)
"""A decision is owed. Whether the report counts meanwhile depends on the round (`rules.rounds`)."""


class Actor(StrEnum):
    """Who acts. `subject` is the consumer, also where their platform files for them; `clock` is time passing, `ledger`
    what happens to the report apart from the appeal."""

    SUBJECT = "subject"
    REPORTER = "reporter"
    STAFF = "staff"
    CLOCK = "clock"
    LEDGER = "ledger"


class Action(StrEnum):
    """What can be done in a case."""

    OPEN = "open"
    ADOPT = "adopt"
    """The person makes a case that a platform filed for them their own."""
    TAKE = "take"
    ASSIGN = "assign"
    HAND_BACK = "hand_back"
    ASK_REPORTER = "ask_reporter"
    ASK_SUBJECT = "ask_subject"
    REPORTER_ANSWERED = "reporter_answered"
    SUBJECT_ANSWERED = "subject_answered"
    REPORTER_SILENT = "reporter_silent"
    SUBJECT_SILENT = "subject_silent"
    ADD = "add"
    """Either party adds a message or a file without having been asked."""
    NOTE = "note"
    EXTEND = "extend"
    OVERDUE = "overdue"
    PROPOSE = "propose"
    SIGN = "sign"
    DECLINE = "decline"
    """The second person does not sign: back to the first."""
    DECIDE = "decide"
    WITHDRAW = "withdraw"
    CONCEDE = "concede"
    """The reporter proposes a conduct of no higher severity."""
    AGREE = "agree"
    """The person agrees to what was conceded."""
    REOPEN = "reopen"
    ASK_REOPENING = "ask_reopening"
    """The reporter has new evidence for a report that was not confirmed."""
    GRANT_REOPENING = "grant_reopening"
    REFUSE_REOPENING = "refuse_reopening"
    REPORT_GONE = "report_gone"
    CLOSE = "close"


_S, _A = CaseState, Action


def _open(state: CaseState, own: dict[Action, CaseState]) -> dict[Action, CaseState]:
    """The row of an open state: what is always possible while a decision is owed, and what is its own."""
    always = dict.fromkeys((_A.ADD, _A.ADOPT, _A.OVERDUE, _A.CONCEDE, _A.AGREE), state)
    return {**always, _A.WITHDRAW: _S.WITHDRAWN, _A.REPORT_GONE: _S.CLOSED, **own}


def _in_hand(state: CaseState, own: dict[Action, CaseState]) -> dict[Action, CaseState]:
    """The row of an open state in which a reviewer has the case."""
    return _open(state, {**dict.fromkeys((_A.ASSIGN, _A.NOTE, _A.EXTEND), state), **own})


def _decided(state: CaseState) -> dict[Action, CaseState]:
    """What is possible after a decision, also when the case is closed: the reporter may have new evidence."""
    return {**dict.fromkeys((_A.ASK_REOPENING, _A.REFUSE_REOPENING), state), _A.GRANT_REOPENING: _S.SUBMITTED}


_SETTLED_ROW = {_A.REOPEN: _S.SUBMITTED, _A.REPORT_GONE: _S.CLOSED, _A.CLOSE: _S.CLOSED}

TRANSITIONS: dict[CaseState, dict[Action, CaseState]] = {
    _S.SUBMITTED: _open(_S.SUBMITTED, {_A.TAKE: _S.UNDER_REVIEW, _A.ASSIGN: _S.UNDER_REVIEW}),
    _S.UNDER_REVIEW: _in_hand(
        _S.UNDER_REVIEW,
        {
            _A.HAND_BACK: _S.SUBMITTED,
            _A.ASK_REPORTER: _S.AWAITING_REPORTER,
            _A.ASK_SUBJECT: _S.AWAITING_SUBJECT,
            _A.PROPOSE: _S.AWAITING_SIGNOFF,
            _A.DECIDE: _S.DECIDED,
        },
    ),
    _S.AWAITING_REPORTER: _in_hand(
        _S.AWAITING_REPORTER,
        {
            _A.REPORTER_ANSWERED: _S.UNDER_REVIEW,
            _A.CONCEDE: _S.UNDER_REVIEW,  # an answer too
            _A.REPORTER_SILENT: _S.DECIDED,
        },
    ),
    _S.AWAITING_SUBJECT: _in_hand(
        _S.AWAITING_SUBJECT,
        dict.fromkeys((_A.SUBJECT_ANSWERED, _A.AGREE, _A.SUBJECT_SILENT), _S.UNDER_REVIEW),
    ),
    _S.AWAITING_SIGNOFF: _in_hand(
        _S.AWAITING_SIGNOFF,
        {
            _A.SIGN: _S.DECIDED,
            _A.DECLINE: _S.UNDER_REVIEW,
            # what was proposed did not know this yet
            **dict.fromkeys((_A.ADD, _A.ADOPT, _A.CONCEDE, _A.AGREE), _S.UNDER_REVIEW),
        },
    ),
    _S.DECIDED: {**_SETTLED_ROW, **_decided(_S.DECIDED)},
    _S.WITHDRAWN: _SETTLED_ROW,
    _S.CLOSED: _decided(_S.CLOSED),
}
"""What may follow what. A pair that is not here is refused, whoever asks."""

ACTORS: dict[Action, frozenset[Actor]] = {
    _A.OPEN: frozenset({Actor.SUBJECT}),
    _A.ADOPT: frozenset({Actor.SUBJECT}),
    _A.ADD: frozenset({Actor.SUBJECT, Actor.REPORTER}),
    _A.SUBJECT_ANSWERED: frozenset({Actor.SUBJECT}),
    _A.REPORTER_ANSWERED: frozenset({Actor.REPORTER}),
    _A.WITHDRAW: frozenset({Actor.SUBJECT}),
    _A.CONCEDE: frozenset({Actor.REPORTER}),
    _A.AGREE: frozenset({Actor.SUBJECT}),
    _A.ASK_REOPENING: frozenset({Actor.REPORTER}),
    _A.REOPEN: frozenset({Actor.SUBJECT}),
    _A.REPORT_GONE: frozenset({Actor.LEDGER}),
    **dict.fromkeys((_A.REPORTER_SILENT, _A.SUBJECT_SILENT, _A.OVERDUE), frozenset({Actor.CLOCK})),
    _A.CLOSE: frozenset({Actor.CLOCK, Actor.LEDGER}),
    **dict.fromkeys(
        (
            _A.TAKE, _A.ASSIGN, _A.HAND_BACK, _A.ASK_REPORTER, _A.ASK_SUBJECT, _A.NOTE, _A.EXTEND, _A.PROPOSE,
            _A.SIGN, _A.DECLINE, _A.DECIDE, _A.GRANT_REOPENING, _A.REFUSE_REOPENING,
        ),
        frozenset({Actor.STAFF}),
    ),
}  # fmt: skip
"""Who may do what at all. Which member of staff is a further question (`check_staff`)."""


def needs_signature(outcome: Outcome, severity: int) -> bool:
    """Whether a second person must sign: the report, of `severity` as decided, would count again. For `amended` the
    severity is that of the new conduct."""
    return outcome.spec.counts_again and severity >= SIGNED_SEVERITY
