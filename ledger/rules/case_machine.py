"""The state machine of a case: apply the table of `rules.appeals`, the clocks, and the rules about who decides.

Pure: the time, the policy and the time zone are arguments. The service loads a case, calls `advance` and stores the
case that it returns.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, tzinfo
from typing import Protocol, TypeVar

from ledger.errors import ActionRefused, CaseTaken, ConflictOfInterest, DecisionInvalid
from ledger.rules.appeals import (
    ACTORS,
    LAST_ROUND,
    MAX_WITHDRAWALS,
    OPEN_STATES,
    REOPENED,
    TRANSITIONS,
    Action,
    Actor,
    CaseState,
    Outcome,
    is_worse,
    needs_signature,
)
from ledger.rules.deadlines import due_at, extended_due_at
from ledger.rules.policy.values import AppealClock, Policy, Profile


@dataclass(frozen=True, slots=True)
class Case:
    """The part of a case that the rules decide about. Times are aware UTC; `due_at` and `question_due_at` are the first
    moments that are too late.

    `filed_by_subject`: the person filed the case through their own verified access; otherwise a platform filed it for
    them. `suspends`: the report does not count while the case is open (`rules.rounds`). `withdrawals` counts the
    appeals against the report that the same side withdrew. `previous_outcome` is the decision about the report that was
    in force when this round began. `information_at` is when the person last added something. `reviewer_id` is the
    member of staff who works on the case, `proposer_id` the one who requested a second signature for `proposed`.
    `reporter_round` is the round that the reporter was granted for new evidence; it is not a round of the person.
    `handlers` are the (round, staff id) of each member of staff who took the case, proposed a decision or signed one.
    """

    state: CaseState
    round: int
    profile: Profile
    severity: int
    control_group: str
    due_at: datetime
    extended: bool = False
    overdue: bool = False
    information_at: datetime | None = None
    question_due_at: datetime | None = None
    reviewer_id: int | None = None
    proposer_id: int | None = None
    proposed: Outcome | None = None
    outcome: Outcome | None = None
    previous_outcome: Outcome | None = None
    decided_at: datetime | None = None
    reopen_until: datetime | None = None
    closed_at: datetime | None = None
    handlers: frozenset[tuple[int, int]] = frozenset()
    filed_by_subject: bool = True
    suspends: bool = True
    withdrawals: int = 0
    reporter_round: int | None = None

    @property
    def is_open(self) -> bool:
        """True while a decision is owed."""
        return self.state in OPEN_STATES

    @property
    def is_reporters(self) -> bool:
        """True if the current (or last decided) round is the one that the reporter was granted."""
        return self.round == self.reporter_round

    @property
    def rounds_used(self) -> int:
        """The number of rounds so far, without the reporter's."""
        return self.round - (self.reporter_round is not None)


C = TypeVar("C", bound=Case)
"""A case, also one with further fields that the rules do not change."""


@dataclass(frozen=True, slots=True)
class Staff:
    """A member of staff as the rules see them; `control_group` is the one they belong to, if any."""

    id: int
    role: str
    control_group: str | None = None


DECIDING_ROLES = frozenset({"reviewer", "supervisor"})
"""Roles that work on cases. An admin runs the service and an auditor reads; neither decides about a person."""


@dataclass(frozen=True, slots=True)
class _Step:
    """One action on the case `before`, with everything that its effect depends on. See `advance`."""

    before: Case
    action: Action
    actor: Actor
    now: datetime
    policy: Policy
    zone: tzinfo
    staff: Staff | None
    outcome: Outcome | None
    severity: int
    assignee: Staff | None
    expires_at: datetime | None

    @property
    def clock(self) -> AppealClock:
        """The clock of the case's jurisdiction."""
        return self.policy.appeals.clocks[self.before.profile]

    @property
    def question_due_at(self) -> datetime:
        """The deadline of a question asked now."""
        return self.now + timedelta(days=self.policy.appeals.question_days)

    @property
    def window_end(self) -> datetime:
        """The end of the time in which the person may reopen a case settled now: never after the record expires."""
        return _no_later(self.now + timedelta(days=self.policy.appeals.reopen_days), self.expires_at)

    def refused(self, message: str) -> ActionRefused:
        """The error for this action."""
        return ActionRefused(message, action=self.action.value)


class _Effect(Protocol):
    """Return `new` (the case in its new state) with the other changes of a step."""

    def __call__(self, new: C, step: _Step) -> C: ...


def allowed(case: Case, actor: Actor) -> frozenset[Action]:
    """The actions that the state of the case permits to `actor`. `advance` may still refuse one for other reasons."""
    return frozenset(action for action in TRANSITIONS[case.state] if actor in ACTORS[action])


def advance(
    case: C,
    action: Action,
    actor: Actor,
    now: datetime,
    policy: Policy,
    zone: tzinfo,
    *,
    staff: Staff | None = None,
    outcome: Outcome | None = None,
    severity: int | None = None,
    assignee: Staff | None = None,
    in_force: Outcome | None = None,
    expires_at: datetime | None = None,
) -> C:
    """Return the case after `action`. `zone` is that of its profile's clock. `staff` acts where `actor` is staff,
    `outcome` is proposed or decided, `severity` is that of an amended report, and `assignee` gets the case from a
    supervisor.

    `in_force` is the newest decision about the report in any of its cases (by default the one before this round): no
    later decision leaves the person worse off. `expires_at` is when the record expires after this action: no deadline
    of the person is after it.

    Raises ActionRefused (the table, the actor or a clock does not allow it), CaseTaken (another reviewer has it),
    ConflictOfInterest, DecisionInvalid (an outcome is missing, or needs a second signature).
    """
    if actor not in ACTORS[action]:
        raise ActionRefused(f"{actor.value} may not do this.", action=action.value)
    after = TRANSITIONS[case.state].get(action)
    if after is None:
        raise ActionRefused(
            f"A case that is {case.state.value} does not allow this.", action=action.value, state=case.state.value
        )
    if actor is Actor.STAFF:
        if staff is None:
            raise ActionRefused("Only a member of staff may do this.", action=action.value)
        check_staff(case, action, staff, assignee)
        case = replace(case, handlers=case.handlers | _handlers(case, action, staff, assignee))
    if actor is Actor.CLOCK and action not in due_actions(case, now):
        raise ActionRefused("The time for this has not come.", action=action.value)
    if outcome is not None and outcome.spec.names_conduct:
        if severity is None or not 0 < severity <= case.severity:
            raise DecisionInvalid("An amended report names a conduct of no higher severity, and of some.")
    else:
        severity = case.severity
    _check_not_worse(case, case.proposed if action is Action.SIGN else outcome, in_force)
    if action in (Action.REOPEN, Action.GRANT_REOPENING):
        case = replace(case, previous_outcome=in_force or case.outcome or case.previous_outcome)
    step = _Step(case, action, actor, now, policy, zone, staff, outcome, severity, assignee, expires_at)
    return _EFFECTS[action](replace(case, state=after), step)


def _check_not_worse(case: Case, decided: Outcome | None, in_force: Outcome | None) -> None:
    before = in_force if in_force is not None else case.previous_outcome
    if decided is None or before is None:
        return
    # The reporter's round, for new evidence after `unconfirmed`, may find that the report is right after all.
    if case.is_reporters and before.spec.effect.unconfirmed:
        return
    if is_worse(decided, before):
        raise DecisionInvalid("A report that was decided before is not decided worse for the person than then.")


# --- effects ------------------------------------------------------------------------------------------------------


def _nothing(new: C, step: _Step) -> C:
    return new


def _take(new: C, step: _Step) -> C:
    return new if step.staff is None else replace(new, reviewer_id=step.staff.id)


def _assign(new: C, step: _Step) -> C:
    return new if step.assignee is None else replace(new, reviewer_id=step.assignee.id)


def _hand_back(new: C, step: _Step) -> C:
    return replace(new, reviewer_id=None)


def _ask_reporter(new: C, step: _Step) -> C:
    return replace(new, question_due_at=step.question_due_at)


def _ask_subject(new: C, step: _Step) -> C:
    return replace(new, question_due_at=_no_later(step.question_due_at, step.expires_at))


def _end_question(new: C, step: _Step) -> C:
    return replace(new, question_due_at=None)


def _subject_answered(new: C, step: _Step) -> C:
    return replace(new, question_due_at=None, information_at=step.now)


def _add(new: C, step: _Step) -> C:
    if step.actor is Actor.SUBJECT:
        new = replace(new, information_at=step.now)
    return _without_proposal(new) if step.before.state is CaseState.AWAITING_SIGNOFF else new


def _concede_or_agree(new: C, step: _Step) -> C:
    answered = new.state is not step.before.state
    return _without_proposal(replace(new, question_due_at=None)) if answered else new


def _adopt(new: C, step: _Step) -> C:
    if step.before.filed_by_subject:
        raise step.refused("This case is the person's own already.")
    return _without_proposal(replace(new, filed_by_subject=True, suspends=True, information_at=step.now))


def _extend(new: C, step: _Step) -> C:
    if not _may_extend(step.before, step.clock):
        raise step.refused(
            "The clock is extended once, where the law has an extension, after new information from the person."
        )
    return replace(new, extended=True, due_at=extended_due_at(step.before.due_at, step.clock, step.zone))


def _overdue(new: C, step: _Step) -> C:
    return replace(new, overdue=True)


def _propose(new: C, step: _Step) -> C:
    if step.outcome is None or not needs_signature(step.outcome, step.severity):
        raise DecisionInvalid("This decision needs no second signature.")
    return new if step.staff is None else replace(new, proposer_id=step.staff.id, proposed=step.outcome)


def _decline(new: C, step: _Step) -> C:
    return _without_proposal(new)


def _sign(new: C, step: _Step) -> C:
    return _decided(new, step.before.proposed, step)


def _decide(new: C, step: _Step) -> C:
    if step.outcome is not None and needs_signature(step.outcome, step.severity):
        raise DecisionInvalid("This decision needs a second signature: propose it.")
    return _decided(new, step.outcome, step)


def _reporter_silent(new: C, step: _Step) -> C:
    return _decided(new, Outcome.OVERTURNED, step)


def _withdraw(new: C, step: _Step) -> C:
    if step.before.is_reporters:
        raise step.refused("The reporter was granted this round; it is no appeal to take back.")
    if step.before.withdrawals >= MAX_WITHDRAWALS:
        raise ActionRefused(
            f"Appeals against a report are taken back at most {MAX_WITHDRAWALS} times: this one is decided.",
            action=step.action.value,
            limit=MAX_WITHDRAWALS,
        )
    until = step.window_end if step.window_end > step.now else None
    return replace(_settled(new, until), withdrawals=step.before.withdrawals + 1)


def _reopen(new: C, step: _Step) -> C:
    until = step.before.reopen_until
    if until is None or step.now >= until:
        _check_not_expired(step)
        raise step.refused("This case can no longer be reopened.")
    return _next_round(new, step)


def _grant_reopening(new: C, step: _Step) -> C:
    outcome = step.before.outcome
    if outcome is None or not outcome.spec.effect.unconfirmed or step.before.reporter_round is not None:
        raise step.refused("A case is opened again for its reporter once, after it was decided `unconfirmed`.")
    again = _next_round(new, step)
    return replace(again, reporter_round=again.round, closed_at=None)


def _close(new: C, step: _Step) -> C:
    return replace(_settled(new, reopen_until=None), closed_at=step.now)


_EFFECTS: Mapping[Action, _Effect] = {
    Action.TAKE: _take,
    Action.ASSIGN: _assign,
    Action.HAND_BACK: _hand_back,
    Action.ASK_REPORTER: _ask_reporter,
    Action.ASK_SUBJECT: _ask_subject,
    Action.REPORTER_ANSWERED: _end_question,
    Action.SUBJECT_ANSWERED: _subject_answered,
    Action.SUBJECT_SILENT: _end_question,
    Action.REPORTER_SILENT: _reporter_silent,
    Action.ADD: _add,
    Action.ADOPT: _adopt,
    Action.CONCEDE: _concede_or_agree,
    Action.AGREE: _concede_or_agree,
    Action.NOTE: _nothing,
    Action.EXTEND: _extend,
    Action.OVERDUE: _overdue,
    Action.PROPOSE: _propose,
    Action.DECLINE: _decline,
    Action.SIGN: _sign,
    Action.DECIDE: _decide,
    Action.WITHDRAW: _withdraw,
    Action.REOPEN: _reopen,
    Action.ASK_REOPENING: _nothing,
    Action.GRANT_REOPENING: _grant_reopening,
    Action.REFUSE_REOPENING: _nothing,
    Action.REPORT_GONE: _close,
    Action.CLOSE: _close,
}
"""What each action of `TRANSITIONS` changes besides the state."""


def _no_later(moment: datetime, limit: datetime | None) -> datetime:
    return moment if limit is None else min(moment, limit)


def _may_extend(case: Case, clock: AppealClock) -> bool:
    return bool(clock.extension_days) and not case.extended and not case.overdue and case.information_at is not None


def _without_proposal(case: C) -> C:
    return replace(case, proposer_id=None, proposed=None)


def _settled(new: C, reopen_until: datetime | None) -> C:
    return replace(_without_proposal(new), question_due_at=None, reopen_until=reopen_until)


def _decided(new: C, outcome: Outcome | None, step: _Step) -> C:
    if outcome is None:
        raise DecisionInvalid("A decision needs an outcome.")
    until = None
    if outcome in REOPENED and new.rounds_used < LAST_ROUND and step.window_end > step.now:
        until = step.window_end
    return replace(_settled(new, until), outcome=outcome, decided_at=step.now)


def _check_not_expired(step: _Step) -> None:
    if step.expires_at is not None and step.now >= step.expires_at:
        raise ActionRefused(
            "The record has expired: there is nothing left to contest.", action=step.action.value, expired=True
        )


def _next_round(new: C, step: _Step) -> C:
    """Return the next round after a decision; after a withdrawal the same round again, as that used up nothing."""
    _check_not_expired(step)
    before = step.before
    return replace(
        new,
        round=before.round if before.state is CaseState.WITHDRAWN else before.round + 1,
        due_at=due_at(step.now, before.profile, step.clock, step.zone),
        extended=False,
        overdue=False,
        information_at=None,
        reviewer_id=None,
        proposer_id=None,
        outcome=None,
        decided_at=None,
        reopen_until=None,
    )


# --- who and when ---------------------------------------------------------------------------------------------------


def check_staff(case: Case, action: Action, staff: Staff, assignee: Staff | None = None) -> None:
    """Check that this member of staff may do `action` in this case.

    Staff do not decide about reports of their own control group. A reopened case goes to a reviewer who did not work on
    it before. The second signature comes from a person who did not work on the case. Only the reviewer of a case works
    on it. Raises ActionRefused, CaseTaken, ConflictOfInterest.
    """
    if staff.role not in DECIDING_ROLES:
        raise ActionRefused("This role does not work on cases.", action=action.value)
    if action is Action.ASSIGN:
        if staff.role != "supervisor" or assignee is None or assignee.role not in DECIDING_ROLES:
            raise ActionRefused("A supervisor gives a case to a reviewer or supervisor.", action=action.value)
        check_group(case.control_group, staff)
        _check_conflict(case, assignee, action)
        return
    _check_conflict(case, staff, action)
    if action in (Action.TAKE, Action.SIGN, Action.DECLINE, Action.GRANT_REOPENING, Action.REFUSE_REOPENING):
        return
    if case.reviewer_id != staff.id:
        raise CaseTaken("This case is assigned to another member of staff.", action=action.value)


def _check_conflict(case: Case, staff: Staff, action: Action) -> None:
    check_group(case.control_group, staff)
    rounds = {number for number, handler in case.handlers if handler == staff.id}
    if any(number < case.round for number in rounds):
        raise ConflictOfInterest("You handled this case before it was reopened; another member of staff decides now.")
    if action in (Action.GRANT_REOPENING, Action.REFUSE_REOPENING) and rounds:
        raise ConflictOfInterest("You handled this case; another member of staff decides whether it is reopened.")
    if action in (Action.SIGN, Action.DECLINE) and (staff.id == case.proposer_id or case.round in rounds):
        raise ConflictOfInterest("A member of staff who did not work on this case gives the second signature.")


def check_group(reporting: str, staff: Staff) -> None:
    """Check that this member of staff is not of the control group `reporting` that made the report. Raises
    ConflictOfInterest."""
    if staff.control_group is not None and staff.control_group == reporting:
        raise ConflictOfInterest("Staff of the control group that made this report take no part in the case.")


_HANDLING = frozenset(
    {Action.TAKE, Action.PROPOSE, Action.DECIDE, Action.SIGN, Action.ASK_REPORTER, Action.ASK_SUBJECT}
)


def _handlers(case: Case, action: Action, staff: Staff, assignee: Staff | None) -> set[tuple[int, int]]:
    acting = {(case.round, staff.id)} if action in _HANDLING else set()
    return acting | ({(case.round, assignee.id)} if action is Action.ASSIGN and assignee is not None else set())


def due_actions(case: Case, now: datetime) -> list[Action]:
    """Return the actions that time alone causes at `now`, in the order in which they apply."""
    actions: list[Action] = []
    if case.is_open and not case.overdue and now >= case.due_at:
        actions.append(Action.OVERDUE)
    if case.question_due_at is not None and now >= case.question_due_at:
        if case.state is CaseState.AWAITING_REPORTER:
            actions.append(Action.REPORTER_SILENT)
        elif case.state is CaseState.AWAITING_SUBJECT:
            actions.append(Action.SUBJECT_SILENT)
    if case.state in (CaseState.DECIDED, CaseState.WITHDRAWN) and (
        case.reopen_until is None or now >= case.reopen_until
    ):
        actions.append(Action.CLOSE)
    return actions


def offered(case: Case, staff: Staff, policy: Policy) -> frozenset[Action]:
    """Return the actions that the case page offers to this member of staff now.

    `advance` still checks each of them. `assign` means that they may assign the case, not to whom. Answers to a
    reporter's request to reopen are not among them: those have a page of their own.
    """
    actions = set()
    for action in allowed(case, Actor.STAFF) - {Action.GRANT_REOPENING, Action.REFUSE_REOPENING}:
        try:
            check_staff(case, action, staff, _ANY_REVIEWER if action is Action.ASSIGN else None)
        except (ActionRefused, CaseTaken, ConflictOfInterest):
            continue
        actions.add(action)
    if not _may_extend(case, policy.appeals.clocks[case.profile]):
        actions.discard(Action.EXTEND)
    return frozenset(actions)


_ANY_REVIEWER = Staff(0, "reviewer")
