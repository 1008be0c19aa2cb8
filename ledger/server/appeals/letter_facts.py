"""Letters to the person of a case: which exist, and the facts of the stored case that each one states."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from sqlalchemy import Connection

from ledger.errors import NotFound
from ledger.protocol.encoding import day_floor, from_day
from ledger.protocol.identifiers import Kind
from ledger.protocol.public_ids import encode_id
from ledger.rules.appeals import OPEN_STATES, Action, CaseState, Outcome
from ledger.rules.conduct import Conduct
from ledger.rules.policy.values import Policy
from ledger.server.appeals.case_changes import protected_until, zone_of
from ledger.server.context import Context
from ledger.server.log import queries as log_queries
from ledger.server.records import case_queries
from ledger.server.records import queries as report_queries
from ledger.server.records.case_queries import CaseEventRow, CaseRow, RoundRow
from ledger.server.records.queries import ReportRow
from ledger.server.texts.letters import CaseFacts, Letter, LetterKind, render


def letters_of(row: CaseRow) -> list[LetterKind]:
    """Return the letters of the current round that apply now: the receipt always, a question while its answer is
    awaited, the delay while the case is overdue, and the decision once there is one."""
    kinds = [LetterKind.RECEIVED]
    if row.state == CaseState.AWAITING_SUBJECT and row.question_due_at is not None:
        kinds.append(LetterKind.QUESTION)
    if row.overdue and row.state in OPEN_STATES:
        kinds.append(LetterKind.OVERDUE)
    if row.outcome is not None and row.state in (CaseState.DECIDED, CaseState.CLOSED):
        kinds.append(LetterKind.DECIDED)
    return kinds


def earlier_letters(kept: RoundRow) -> list[LetterKind]:
    """Return the letters of a round that was decided before the case was reopened."""
    return [LetterKind.DECIDED] if kept.due_at is None else [LetterKind.RECEIVED, LetterKind.DECIDED]


def all_letters(connection: Connection, row: CaseRow) -> list[tuple[int, LetterKind]]:
    """Return (round, kind) of every letter that can be read, oldest round first."""
    letters = [(kept.round, kind) for kept in case_queries.rounds(connection, row.id) for kind in earlier_letters(kept)]
    return letters + [(row.round, kind) for kind in letters_of(row)]


def letter_of(
    connection: Connection,
    row: CaseRow,
    context: Context,
    kind: str,
    locale: str | None = None,
    opener: str | None = None,
    number: int | None = None,
) -> Letter:
    """Return the letter of this kind in `locale` (default: the language of the case), of round `number` or the newest
    round that has one. `opener` is the platform that may be named. Raises NotFound if there is no such letter now."""
    rounds = [held for held, name in all_letters(connection, row) if name == kind and number in (None, held)]
    if not rounds:
        raise NotFound("There is no such letter about this case now.")
    return render(LetterKind(kind), facts_of(connection, row, context, opener, max(rounds)), locale or row.locale)


def facts_of(
    connection: Connection, row: CaseRow, context: Context, opener: str | None = None, number: int | None = None
) -> CaseFacts:
    """Return the facts that letters state about the case, in its current round or in round `number`. Raises NotFound if
    the report was erased."""
    kept = {kept.round: kept for kept in case_queries.rounds(connection, row.id)}.get(number or row.round)
    if kept is not None:
        row = _as_it_was(row, kept)
    report = report_queries.reports_by_id(connection, [row.report_id]).get(row.report_id)
    if report is None:
        raise NotFound("The report of this case is not in the ledger any more.")
    events = [event for event in case_queries.events(connection, row.id) if event.round == row.round]
    outcome = row.outcome
    return CaseFacts(
        case_id=encode_id("ap", row.id, context.service),
        report_id=encode_id("rp", row.report_id, context.service),
        profile=row.profile,
        zone=zone_of(context.policy, row.profile),
        conduct=Conduct(row.conduct),
        opened_at=row.opened_at,
        due_at=row.due_at,
        round=row.round,
        opener=opener,
        question=_question(events) if row.state == CaseState.AWAITING_SUBJECT else None,
        question_due_at=row.question_due_at if row.state == CaseState.AWAITING_SUBJECT else None,
        outcome=outcome,
        amended_conduct=None if row.amended_conduct is None else Conduct(row.amended_conduct),
        reasons=row.reasons,
        decided_at=row.decided_at,
        reopen_until=row.reopen_until,
        expires_at=kept.expires_at
        if kept is not None and kept.expires_at is not None
        else _expires_at(row, report, outcome, context.policy),
        unlinked_kinds=_unlinked(connection, row) if outcome is not None and outcome.spec.names_slots else (),
        silent_reporter=any(event.action == Action.REPORTER_SILENT for event in events),
        suspends=row.suspends,
        own=row.filed_by_subject,
        reporters=row.round == row.reporter_round,
        appeals=row.round - (row.reporter_round is not None and row.reporter_round <= row.round),
    )


def _as_it_was(row: CaseRow, kept: RoundRow) -> CaseRow:
    """Return the case as it was at the end of an earlier round."""
    return replace(
        row,
        round=kept.round,
        state=CaseState.DECIDED,
        opened_at=kept.opened_at,
        due_at=kept.due_at or row.due_at,
        outcome=kept.outcome,
        amended_conduct=kept.amended_conduct,
        unlinked_slots=kept.unlinked_slots,
        reasons=kept.reasons,
        decided_at=kept.decided_at,
        reopen_until=kept.reopen_until,
    )


def _question(events: Sequence[CaseEventRow]) -> str | None:
    """Return the last question to the person."""
    questions = [event.text for event in events if event.action == Action.ASK_SUBJECT]
    return questions[-1] if questions else None


def _expires_at(row: CaseRow, report: ReportRow, outcome: Outcome | None, policy: Policy) -> datetime | None:
    """Return when the remaining record expires: the protective note or the report; None if nothing remains."""
    effect = None if outcome is None else outcome.spec.effect
    if effect is not None and effect.protects:
        return None if row.decided_at is None else from_day(protected_until(policy, report, row.decided_at))
    if effect is not None and effect.reverses:
        return None
    return from_day(policy.expiry_day(row.current_conduct, day_floor(report.act_ended_at), report.expires_day))


def _unlinked(connection: Connection, row: CaseRow) -> tuple[Kind, ...]:
    """Return the kinds of the detached identifiers, as the signed report names them."""
    opened = log_queries.read_body(connection, row.report_id)
    if opened is None or row.unlinked_slots is None:
        return ()
    subjects = json.loads(opened[2])["body"]["subjects"]
    kinds = [Kind(subjects[int(slot)]["kind"]) for slot in row.unlinked_slots.split()]
    return tuple(dict.fromkeys(kinds))
