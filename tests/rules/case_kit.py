"""Cases and people for tests of the table of appeals."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo

from ledger.rules.appeals import OPEN_STATES, Action, Actor, CaseState, Outcome
from ledger.rules.case_machine import Case, Staff, advance
from ledger.rules.policy.shipped import shipped_policy
from ledger.rules.policy.values import Profile

POLICY = shipped_policy()[1]
ZONES: dict[Profile, tzinfo] = {profile: ZoneInfo(POLICY.appeals.clocks[profile].time_zone) for profile in Profile}
IN_HAND = OPEN_STATES - {CaseState.SUBMITTED}
"""Open states in which one reviewer has the case."""

NOW = datetime(2026, 3, 10, 9, 30, tzinfo=UTC)
ANNA, BEN, CLEO = Staff(1, "reviewer"), Staff(2, "reviewer"), Staff(3, "supervisor")
PEOPLE = (ANNA, BEN, CLEO, Staff(4, "reviewer", "acme-group"), Staff(5, "auditor"), Staff(6, "admin"))


def do(
    case: Case, action: Action, actor: Actor, now: datetime = NOW, staff: Staff | None = None, **more: object
) -> Case:
    """`advance` under the shipped policy."""
    return advance(case, action, actor, now, POLICY, ZONES[case.profile], staff=staff, **more)  # type: ignore[arg-type]


def case_in(state: CaseState, **changes: object) -> Case:
    """Return a plausible case in `state`, with Anna as its reviewer if it has one."""
    base = Case(state, 1, Profile.CN, 3, "acme-group", due_at=NOW + timedelta(days=20))
    if state in IN_HAND:
        base = replace(base, reviewer_id=ANNA.id, handlers=frozenset({(1, ANNA.id)}))
    if state in (CaseState.AWAITING_REPORTER, CaseState.AWAITING_SUBJECT):
        base = replace(base, question_due_at=NOW + timedelta(days=7))
    if state is CaseState.AWAITING_SIGNOFF:
        base = replace(base, severity=6, proposer_id=ANNA.id, proposed=Outcome.UPHELD)
    if state is CaseState.DECIDED:
        base = replace(base, outcome=Outcome.UPHELD, decided_at=NOW, reopen_until=NOW + timedelta(days=60))
    if state is CaseState.WITHDRAWN:
        base = replace(base, reopen_until=NOW + timedelta(days=60))
    return replace(base, **changes)  # type: ignore[arg-type]


def next_deadline(case: Case) -> datetime | None:
    """Return the next automatic deadline (UTC). None if the case is closed, or is overdue and awaits no answer."""
    if case.state is CaseState.CLOSED:
        return None
    if not case.is_open:
        return case.reopen_until or case.decided_at
    moments = [moment for moment in (case.question_due_at, None if case.overdue else case.due_at) if moment is not None]
    return min(moments, default=None)
