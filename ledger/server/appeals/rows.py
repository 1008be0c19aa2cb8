"""Between the case as stored and the case as the rules see it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import tzinfo
from zoneinfo import ZoneInfo

from ledger.rules.appeals import CaseState, Outcome
from ledger.rules.case_machine import Case
from ledger.rules.policy.values import Policy, Profile
from ledger.rules.rounds import Round
from ledger.server.records.case_queries import CaseRow


def zone_of(policy: Policy, profile: str) -> tzinfo:
    """The time zone in which this profile's days are counted and told."""
    return ZoneInfo(policy.appeals.clocks[Profile(profile)].time_zone)


def zones(policy: Policy) -> Mapping[Profile, tzinfo]:
    """All of them."""
    return {profile: zone_of(policy, profile) for profile in Profile}


def to_core(row: CaseRow, handlers: frozenset[tuple[int, int]]) -> Case:
    """The case as the rules see it."""
    return Case(
        state=CaseState(row.state),
        round=row.round,
        profile=Profile(row.profile),
        severity=row.severity,
        control_group=row.control_group,
        due_at=row.due_at,
        extended=row.extended,
        overdue=row.overdue,
        information_at=row.information_at,
        question_due_at=row.question_due_at,
        reviewer_id=row.reviewer_id,
        proposer_id=row.proposer_id,
        proposed=None if row.proposed is None else Outcome(row.proposed),
        outcome=None if row.outcome is None else Outcome(row.outcome),
        previous=None if row.previous_outcome is None else Outcome(row.previous_outcome),
        decided_at=row.decided_at,
        reopen_until=row.reopen_until,
        closed_at=row.closed_at,
        handlers=handlers,
        reporter_round=row.reporter_round,
        own=row.filed_by_subject,
        suspends=row.suspends,
        withdrawals=row.withdrawals,
    )


def to_round(row: CaseRow) -> Round:
    """The case as the rules about the rights of a report see it (`rules.rounds`)."""
    return Round(
        case_id=row.id,
        group=row.filing_group,
        state=CaseState(row.state),
        was_decided=row.round > 1 or row.outcome is not None,
        # A round that the reporter was granted changes nothing before it is decided.
        suspends=row.suspends and row.round != row.reporter_round,
        overdue=row.overdue,
    )


def with_core(row: CaseRow, case: Case) -> CaseRow:
    """`row` with what the rules made of it."""
    return replace(
        row,
        state=case.state.value,
        round=case.round,
        due_at=case.due_at,
        extended=case.extended,
        overdue=case.overdue,
        information_at=case.information_at,
        question_due_at=case.question_due_at,
        reviewer_id=case.reviewer_id,
        proposer_id=case.proposer_id,
        proposed=None if case.proposed is None else case.proposed.value,
        outcome=None if case.outcome is None else case.outcome.value,
        previous_outcome=None if case.previous is None else case.previous.value,
        decided_at=case.decided_at,
        reopen_until=case.reopen_until,
        closed_at=case.closed_at,
        reporter_round=case.reporter_round,
        filed_by_subject=case.own,
        filing_group=None if case.own else row.filing_group,
        suspends=case.suspends,
        withdrawals=case.withdrawals,
    )
