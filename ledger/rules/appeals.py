"""Appeals: the states of a case, the table of transitions, who may act, and limits.

A case is one appeal against one report. It changes only by this table: the service calls `rules.case_machine.advance`
and stores the result. Every open case has a deadline for its decision (`rules.deadlines`). When it passes, the report
does not count until the decision (`Action.OVERDUE`): the person has the benefit of the doubt.
"""

from __future__ import annotations

from enum import StrEnum

from ledger.rules.outcomes import EFFECTS as EFFECTS
from ledger.rules.outcomes import REOPENED as REOPENED
from ledger.rules.outcomes import Effect as Effect
from ledger.rules.outcomes import Outcome as Outcome
from ledger.rules.outcomes import is_worse as is_worse

MAX_REPORTS = 20
"""Reports per appeal; each becomes a case of its own."""

MAX_TEXT_CHARS = 2000
"""Longest statement, question, answer, note or reason."""

SIGNED_SEVERITY = 6
"""A decision that lets a report of this severity count again takes two people."""

LAST_ROUND = 2
"""Decisions of a case for the person, who may have it reopened once. A round granted to the reporter comes in
addition."""

MAX_WITHDRAWALS = 3
"""The number of times that one side may withdraw appeals against a report. A withdrawn round uses up nothing, so
without this limit a side could keep a report from counting for ever by filing and withdrawing in turn; the next round
is decided."""


class Grounds(StrEnum):
    """The grounds on which the person contests the report."""

    NOT_ME = "not_me"
    """Another person did it with this account, or the identifier is not this person's."""
    WRONG_FACTS = "wrong_facts"
    EVIDENCE_WRONG = "evidence_wrong"
    PAID_BACK = "paid_back"
    NOT_TOLD = "not_told"
    OTHER = "other"


class CaseState(StrEnum):
    """The state of a case."""

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
"""States in which a decision is owed. Whether the report counts meanwhile depends on the round (`rules.rounds`)."""


class Actor(StrEnum):
    """The actor of an action. `subject` is the consumer, also where their platform files for them; `clock` is time
    passing; `ledger` is a change to the report outside the appeal."""

    SUBJECT = "subject"
    REPORTER = "reporter"
    STAFF = "staff"
    CLOCK = "clock"
    LEDGER = "ledger"


class Action(StrEnum):
    """An action in a case."""

    OPEN = "open"
    ADOPT = "adopt"
    """The person makes a case their own that a platform filed for them."""
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
    """Either party adds an unrequested message or file."""
    NOTE = "note"
    EXTEND = "extend"
    OVERDUE = "overdue"
    PROPOSE = "propose"
    SIGN = "sign"
    DECLINE = "decline"
    """The second person does not sign: the case goes back to the first."""
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
    """Return the row of an open state: the actions of every open state, and its own."""
    always = dict.fromkeys((_A.ADD, _A.ADOPT, _A.OVERDUE, _A.CONCEDE, _A.AGREE), state)
    return {**always, _A.WITHDRAW: _S.WITHDRAWN, _A.REPORT_GONE: _S.CLOSED, **own}


def _in_hand(state: CaseState, own: dict[Action, CaseState]) -> dict[Action, CaseState]:
    """Return the row of an open state in which the case has a reviewer."""
    return _open(state, {**dict.fromkeys((_A.ASSIGN, _A.NOTE, _A.EXTEND), state), **own})


def _decided(state: CaseState) -> dict[Action, CaseState]:
    """Return the actions after a decision, also in a closed case: the reporter may have new evidence."""
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
            # the proposal was made without this information
            **dict.fromkeys((_A.ADD, _A.ADOPT, _A.CONCEDE, _A.AGREE), _S.UNDER_REVIEW),
        },
    ),
    _S.DECIDED: {**_SETTLED_ROW, **_decided(_S.DECIDED)},
    _S.WITHDRAWN: _SETTLED_ROW,
    _S.CLOSED: _decided(_S.CLOSED),
}
"""The next state by state and action. A pair that is not here is refused for every actor."""

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
"""The actors of each action. Which member of staff may act is checked by `check_staff`."""


def needs_signature(outcome: Outcome, severity: int) -> bool:
    """True if a second person must sign: a report of this `severity` would count again. For `amended` the severity is
    that of the new conduct."""
    return outcome.spec.counts_again and severity >= SIGNED_SEVERITY
