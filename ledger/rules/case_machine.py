"""What an action makes of a case: the table of `rules.appeals` applied, with its clocks and the rules about who
decides.

Pure: `now`, the policy and the time zone are arguments. The service loads a case, asks `advance`, and writes down what
comes back.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta, tzinfo

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
    """What the rules need to know of a case. Times are aware UTC; `due_at` and `question_due_at` are the first moments
    that are too late. `handlers` are the staff who ever held, proposed or signed it, with the round they did it in.

    `own`: the person filed it through their own verified access; otherwise a platform filed it for them. `suspends`:
    the report does not count while the case is open (`rules.rounds`). `withdrawals` counts the appeals against the
    report that the same side took back."""

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
    previous: Outcome | None = None
    decided_at: datetime | None = None
    reopen_until: datetime | None = None
    closed_at: datetime | None = None
    handlers: frozenset[tuple[int, int]] = frozenset()
    """(round, staff id)"""
    own: bool = True
    suspends: bool = True
    withdrawals: int = 0
    reporter_round: int | None = None
    """The round that the reporter was granted for new evidence, which is not the person's."""

    @property
    def is_open(self) -> bool:
        """Whether a decision is owed."""
        return self.state in OPEN_STATES

    @property
    def is_reporters(self) -> bool:
        """Whether the round that runs (or was decided last) is one that the reporter was granted."""
        return self.round == self.reporter_round

    @property
    def rounds_used(self) -> int:
        """Rounds so far, without the reporter's."""
        return self.round - (self.reporter_round is not None)


@dataclass(frozen=True, slots=True)
class Staff:
    """A member of staff as the rules see them; `control_group` is the one they belong to, if any."""

    id: int
    role: str
    control_group: str | None = None


DECIDING_ROLES = frozenset({"reviewer", "supervisor"})
"""Who works on cases. An admin runs the service and an auditor reads; neither decides about a person."""


def allowed(case: Case, actor: Actor) -> frozenset[Action]:
    """What `actor` may do in the state that the case is in, as far as state alone decides."""
    return frozenset(action for action in TRANSITIONS[case.state] if actor in ACTORS[action])


def advance(
    case: Case,
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
) -> Case:
    """The case after `action`. `zone` is that of its profile's clock, `staff` who acts where `actor` is staff,
    `outcome` what is proposed or decided, with the `severity` that an amended report has then, `assignee` whom a
    supervisor gives the case to.

    `in_force` is the newest decision about the report in any of its cases (by default the one before this round): no
    later one leaves the person worse off. `expires_at` is when the record expires after this action: nothing is
    promised to the person for a time after it.

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
    if action is Action.WITHDRAW and case.is_reporters:
        raise ActionRefused("The reporter was granted this round; it is no appeal to take back.", action=action.value)
    decided = case.proposed if action is Action.SIGN else outcome
    before = in_force if in_force is not None else case.previous
    # The reporter's round, for new evidence after `unconfirmed`, may find that the report is right after all.
    bound = not (case.is_reporters and before is not None and before.spec.effect.unconfirmed)
    if decided is not None and before is not None and bound and is_worse(decided, before):
        raise DecisionInvalid("A report that was decided before is not decided worse for the person than then.")
    if action in (Action.REOPEN, Action.GRANT_REOPENING):
        case = replace(case, previous=in_force or case.outcome or case.previous)
    new = replace(case, state=after)
    return _after(new, case, action, actor, now, policy, zone, staff, outcome, severity, assignee, expires_at)


def _after(
    new: Case,
    old: Case,
    action: Action,
    actor: Actor,
    now: datetime,
    policy: Policy,
    zone: tzinfo,
    staff: Staff | None,
    outcome: Outcome | None,
    severity: int,
    assignee: Staff | None,
    expires_at: datetime | None,
) -> Case:
    question = now + timedelta(days=policy.appeals.question_days)
    window_end = _no_later(now + timedelta(days=policy.appeals.reopen_days), expires_at)
    clock = policy.appeals.clocks[old.profile]
    if action is Action.TAKE and staff is not None:
        return replace(new, reviewer_id=staff.id)
    if action is Action.ASSIGN and assignee is not None:
        return replace(new, reviewer_id=assignee.id)
    if action is Action.HAND_BACK:
        return replace(new, reviewer_id=None)
    if action is Action.ASK_REPORTER:
        return replace(new, question_due_at=question)
    if action is Action.ASK_SUBJECT:
        return replace(new, question_due_at=_no_later(question, expires_at))
    if action in (Action.REPORTER_ANSWERED, Action.SUBJECT_SILENT):
        return replace(new, question_due_at=None)
    if action is Action.SUBJECT_ANSWERED:
        return replace(new, question_due_at=None, information_at=now)
    if action is Action.ADD:
        informed = now if actor is Actor.SUBJECT else old.information_at
        if old.state is CaseState.AWAITING_SIGNOFF:
            return replace(new, information_at=informed, proposer_id=None, proposed=None)
        return replace(new, information_at=informed)
    if action in (Action.CONCEDE, Action.AGREE):
        answered = new.state is not old.state
        return replace(new, question_due_at=None, proposer_id=None, proposed=None) if answered else new
    if action is Action.ADOPT:
        if old.own:
            raise ActionRefused("This case is the person's own already.", action=action.value)
        return replace(new, own=True, suspends=True, information_at=now, proposer_id=None, proposed=None)
    if action is Action.EXTEND:
        if not _may_extend(old, clock):
            raise ActionRefused(
                "The clock is extended once, where the law has an extension, after new information from the person.",
                action=action.value,
            )
        return replace(new, extended=True, due_at=extended_due_at(old.due_at, clock, zone))
    if action is Action.OVERDUE:
        return replace(new, overdue=True)
    if action is Action.PROPOSE and staff is not None:
        if outcome is None or not needs_signature(outcome, severity):
            raise DecisionInvalid("This decision needs no second signature.")
        return replace(new, proposer_id=staff.id, proposed=outcome)
    if action is Action.DECLINE:
        return replace(new, proposer_id=None, proposed=None)
    if action is Action.SIGN:
        return _decided(new, old.proposed, now, window_end)
    if action is Action.DECIDE:
        if outcome is not None and needs_signature(outcome, severity):
            raise DecisionInvalid("This decision needs a second signature: propose it.")
        return _decided(new, outcome, now, window_end)
    if action is Action.REPORTER_SILENT:
        return _decided(new, Outcome.OVERTURNED, now, window_end)
    if action is Action.WITHDRAW:
        if old.withdrawals >= MAX_WITHDRAWALS:
            raise ActionRefused(
                f"Appeals against a report are taken back at most {MAX_WITHDRAWALS} times: this one is decided.",
                action=action.value,
                limit=MAX_WITHDRAWALS,
            )
        return replace(_settled(new, window_end if window_end > now else None), withdrawals=old.withdrawals + 1)
    if action is Action.REOPEN:
        if old.reopen_until is None or now >= old.reopen_until:
            _check_not_expired(action, now, expires_at)
            raise ActionRefused("This case can no longer be reopened.", action=action.value)
        return _reopened(new, old, action, now, clock, zone, expires_at)
    if action is Action.GRANT_REOPENING:
        if old.outcome is None or not old.outcome.spec.effect.unconfirmed or old.reporter_round is not None:
            raise ActionRefused(
                "A case is opened again for its reporter once, after it was decided `unconfirmed`.", action=action.value
            )
        again = _reopened(new, old, action, now, clock, zone, expires_at)
        return replace(again, reporter_round=again.round, closed_at=None)
    if action in (Action.REPORT_GONE, Action.CLOSE):
        return replace(_settled(new, reopen_until=None), closed_at=now)
    return new


def _no_later(moment: datetime, than: datetime | None) -> datetime:
    return moment if than is None else min(moment, than)


def _may_extend(case: Case, clock: AppealClock) -> bool:
    return bool(clock.extension_days) and not case.extended and not case.overdue and case.information_at is not None


def _settled(new: Case, reopen_until: datetime | None) -> Case:
    return replace(new, question_due_at=None, proposer_id=None, proposed=None, reopen_until=reopen_until)


def _decided(new: Case, outcome: Outcome | None, now: datetime, window_end: datetime) -> Case:
    if outcome is None:
        raise DecisionInvalid("A decision needs an outcome.")
    until = None
    if outcome in REOPENED and new.rounds_used < LAST_ROUND and window_end > now:
        until = window_end
    return replace(_settled(new, until), outcome=outcome, decided_at=now)


def _check_not_expired(action: Action, now: datetime, expires_at: datetime | None) -> None:
    if expires_at is not None and now >= expires_at:
        raise ActionRefused(
            "The record has expired: there is nothing left to contest.", action=action.value, expired=True
        )


def _reopened(
    new: Case, old: Case, action: Action, now: datetime, clock: AppealClock, zone: tzinfo, expires_at: datetime | None
) -> Case:
    """The next round after a decision; after a withdrawal the same round once more, because that used up nothing."""
    _check_not_expired(action, now, expires_at)
    return replace(
        new,
        round=old.round if old.state is CaseState.WITHDRAWN else old.round + 1,
        due_at=due_at(now, old.profile, clock, zone),
        extended=False,
        overdue=False,
        information_at=None,
        reviewer_id=None,
        proposer_id=None,
        outcome=None,
        previous=old.previous,
        decided_at=None,
        reopen_until=None,
    )


def check_staff(case: Case, action: Action, staff: Staff, assignee: Staff | None = None) -> None:
    """Whether this member of staff may do this in this case.

    Nobody decides about a report of their own control group, a reopened case goes to somebody new, the second signature
    is another person's who did not work on the case, and only who has a case in hand works on it.
    Raises ActionRefused, CaseTaken, ConflictOfInterest.
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
        raise CaseTaken("This case is in somebody else's hands.", action=action.value)


def _check_conflict(case: Case, staff: Staff, action: Action) -> None:
    check_group(case.control_group, staff)
    rounds = {number for number, handler in case.handlers if handler == staff.id}
    if any(number < case.round for number in rounds):
        raise ConflictOfInterest("You handled this case before it was reopened; somebody new decides.")
    if action in (Action.GRANT_REOPENING, Action.REFUSE_REOPENING) and rounds:
        raise ConflictOfInterest("You handled this case; somebody else says whether it is opened again.")
    if action in (Action.SIGN, Action.DECLINE) and (staff.id == case.proposer_id or case.round in rounds):
        raise ConflictOfInterest("The second signature is for somebody who did not work on this case.")


def check_group(reporting: str, staff: Staff) -> None:
    """Whether this member of staff may have any part in a case about a report of the control group `reporting`.

    Raises ConflictOfInterest.
    """
    if staff.control_group is not None and staff.control_group == reporting:
        raise ConflictOfInterest("Whoever belongs to the control group that made this report has no part in the case.")


_HANDLING = frozenset(
    {Action.TAKE, Action.PROPOSE, Action.DECIDE, Action.SIGN, Action.ASK_REPORTER, Action.ASK_SUBJECT}
)


def _handlers(case: Case, action: Action, staff: Staff, assignee: Staff | None) -> set[tuple[int, int]]:
    found = {(case.round, staff.id)} if action in _HANDLING else set()
    return found | ({(case.round, assignee.id)} if action is Action.ASSIGN and assignee is not None else set())


def due_actions(case: Case, now: datetime) -> list[Action]:
    """What time alone does to the case at `now`, in this order."""
    found: list[Action] = []
    if case.is_open and not case.overdue and now >= case.due_at:
        found.append(Action.OVERDUE)
    if case.question_due_at is not None and now >= case.question_due_at:
        if case.state is CaseState.AWAITING_REPORTER:
            found.append(Action.REPORTER_SILENT)
        elif case.state is CaseState.AWAITING_SUBJECT:
            found.append(Action.SUBJECT_SILENT)
    if case.state in (CaseState.DECIDED, CaseState.WITHDRAWN) and (
        case.reopen_until is None or now >= case.reopen_until
    ):
        found.append(Action.CLOSE)
    return found


def next_deadline(case: Case) -> datetime | None:
    """When time will do something to the case by itself; None only for a case that is closed, or is overdue and waits
    for nobody's answer: then a decision is owed now."""
    if case.state is CaseState.CLOSED:
        return None
    if not case.is_open:
        return case.reopen_until or case.decided_at
    moments = [moment for moment in (case.question_due_at, None if case.overdue else case.due_at) if moment is not None]
    return min(moments, default=None)


def offered(case: Case, staff: Staff, policy: Policy) -> frozenset[Action]:
    """What this member of staff may do now: what the page of a case offers. (`advance` decides all the same; a
    reporter's request to open the case again has a page of its own.) `assign` says that
    they may give the case to somebody, not to whom."""
    found = set()
    for action in allowed(case, Actor.STAFF) - {Action.GRANT_REOPENING, Action.REFUSE_REOPENING}:
        try:
            check_staff(case, action, staff, _ANYBODY if action is Action.ASSIGN else None)
        except (ActionRefused, CaseTaken, ConflictOfInterest):
            continue
        found.add(action)
    if not _may_extend(case, policy.appeals.clocks[case.profile]):
        found.discard(Action.EXTEND)
    return frozenset(found)


_ANYBODY = Staff(0, "reviewer")
