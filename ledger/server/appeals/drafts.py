"""A decision as it would be, before it is made: checked by the rules, and as the letter that the person would get."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy import Connection

from ledger.errors import NotFound
from ledger.rules.appeals import Action, Actor, CaseState, Outcome, is_worse, needs_signature
from ledger.rules.case_machine import Case, Staff, advance
from ledger.rules.conduct import Conduct
from ledger.rules.policy.values import Policy
from ledger.server.appeals.case_letters import facts_of
from ledger.server.appeals.filing import clean_text
from ledger.server.appeals.perform import check_named, expires_at, in_force
from ledger.server.appeals.rows import to_core, with_core, zone_of
from ledger.server.records import case_queries as store
from ledger.server.records import queries as report_store
from ledger.server.records.case_queries import CaseRow
from ledger.server.records.transaction import Context
from ledger.server.texts.letters import Letter, LetterKind, render

_SOMEBODY = Staff(0, "supervisor")
"""Stands for whoever signs."""


@dataclass(frozen=True, slots=True)
class Draft:
    """What a reviewer is about to decide."""

    outcome: Outcome
    reasons: str
    conduct: Conduct | None = None
    slots: tuple[int, ...] = ()


def proposed(row: CaseRow) -> Draft | None:
    """What waits for a second signature."""
    if row.proposed is None or row.state != CaseState.AWAITING_SIGNOFF:
        return None
    conduct = None if row.proposed_conduct is None else Conduct(row.proposed_conduct)
    return Draft(Outcome(row.proposed), row.reasons or "", conduct)


def preview(
    connection: Connection, context: Context, row: CaseRow, staff: Staff, draft: Draft, locale: str
) -> tuple[Letter, bool]:
    """The letter that this decision would send, and whether a second person must sign before.

    Raises what deciding would raise: AppealInvalid (the reasons), DecisionInvalid, ActionRefused, CaseTaken,
    ConflictOfInterest.
    """
    reasons, policy, now = clean_text(draft.reasons), context.policy, context.now()
    case = to_core(row, store.handlers(connection, row.id))
    severity = row.severity if draft.conduct is None else policy.severity[draft.conduct]
    two = needs_signature(draft.outcome, severity)
    zone = zone_of(policy, row.profile)
    after = advance(
        case, Action.PROPOSE if two else Action.DECIDE, Actor.STAFF, now, policy, zone,
        staff=staff, outcome=draft.outcome, severity=severity, in_force=in_force(connection, row),
        expires_at=_expires_at(connection, context, row, draft.conduct),
    )  # fmt: skip
    check_named(connection, row, draft.outcome, draft.conduct, draft.slots)
    if two:
        after = _signed(connection, after, now, context, row, draft.conduct)
    return _letter(connection, context, row, after, replace(draft, reasons=reasons), locale), two


def proposal_letter(connection: Connection, context: Context, row: CaseRow, locale: str) -> Letter:
    """The letter that what is proposed would send. Raises NotFound when nothing is."""
    draft = proposed(row)
    if draft is None:
        raise NotFound("Nothing waits for a second signature in this case.")
    case = _signed(connection, to_core(row, frozenset()), context.now(), context, row, draft.conduct)
    return _letter(connection, context, row, case, draft, locale)


def open_outcomes(row: CaseRow) -> list[Outcome]:
    """Decisions that are possible in this round: none that leaves the person worse off than the first one did."""
    before = None if row.previous_outcome is None else Outcome(row.previous_outcome)
    return [outcome for outcome in Outcome if before is None or not is_worse(outcome, before)]


def lighter_conducts(row: CaseRow, policy: Policy) -> list[Conduct]:
    """What an `amended` report may name: another conduct that the policy names, of no higher severity, and of some."""
    return [
        conduct
        for conduct in Conduct
        if conduct in policy.reportable
        and conduct.value != row.current_conduct
        and 0 < policy.severity[conduct] <= row.severity
    ]


def _signed(
    connection: Connection, case: Case, now: datetime, context: Context, row: CaseRow, conduct: Conduct | None
) -> Case:
    return advance(
        replace(case, handlers=frozenset()), Action.SIGN, Actor.STAFF, now, context.policy,
        zone_of(context.policy, row.profile), staff=_SOMEBODY, in_force=in_force(connection, row),
        expires_at=_expires_at(connection, context, row, conduct),
    )  # fmt: skip


def _expires_at(connection: Connection, context: Context, row: CaseRow, conduct: Conduct | None) -> datetime | None:
    report = report_store.reports_by_id(connection, [row.report_id]).get(row.report_id)
    return expires_at(context.policy, report, row, conduct)


def _letter(connection: Connection, context: Context, row: CaseRow, after: Case, draft: Draft, locale: str) -> Letter:
    decided = replace(
        with_core(row, after),
        reasons=draft.reasons,
        amended_conduct=row.amended_conduct if draft.conduct is None else draft.conduct.value,
        unlinked_slots=" ".join(str(slot) for slot in draft.slots) or None,
    )
    return render(LetterKind.DECIDED, facts_of(connection, decided, context, row.filed_via), locale)
