"""Change a case: `apply_action` asks the rules, then writes the log entry, the report's marks, the timeline and the
notices that follow.

All functions work in the caller's transaction, which holds the log's head (`server.records.transaction`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, tzinfo
from zoneinfo import ZoneInfo

from sqlalchemy import Connection

from ledger.errors import ActionRefused, AlreadyReversed, DecisionInvalid
from ledger.protocol.encoding import day_floor, from_day, hour_floor
from ledger.protocol.public_ids import encode_id
from ledger.rules.appeals import EFFECTS, OPEN_STATES, Action, Actor, CaseState, Outcome
from ledger.rules.case_machine import Case, Staff, advance
from ledger.rules.conduct import Conduct
from ledger.rules.order_lines import check_conceded
from ledger.rules.policy.values import Policy, Profile
from ledger.rules.rounds import Round, next_to_suspend, report_marks
from ledger.rules.rounds import suspends as may_suspend
from ledger.rules.webhooks import Recipient, WebhookType
from ledger.server.appeals.weights import count_outcome
from ledger.server.records import appeal_effects, case_queries, order_line_queries
from ledger.server.records.case_queries import CaseRow, RoundRow
from ledger.server.records.queries import ReportRow, ReversalRow
from ledger.server.records.rows import listing_values
from ledger.server.records.transaction import EntryBatch
from ledger.tlog.entries import EventType, WithdrawalReason, dispute_entry, reopening_entry, resolution_entry

STAFF_ONLY = frozenset({Action.TAKE, Action.ASSIGN, Action.HAND_BACK, Action.NOTE, Action.PROPOSE, Action.DECLINE})
"""What the parties are not shown: who works on a case, and what is not decided yet."""


_DECISIONS = frozenset({Action.DECIDE, Action.SIGN, Action.REPORTER_SILENT})


_BY_REPORTER = frozenset({"withdrawal", "replacement"})
"""Reversals by the reporter itself."""


@dataclass(frozen=True, slots=True)
class Move:
    """What is to be done in a case. `text` is what was written, for `visible_to` (all, reporter, subject or staff);
    `outcome`, `conduct` and `slots` are of a decision or proposal, `assignee` of an assignment."""

    action: Action
    actor: Actor
    staff: Staff | None = None
    platform: str | None = None
    text: str | None = None
    visible_to: str = "all"
    outcome: Outcome | None = None
    conduct: Conduct | None = None
    slots: tuple[int, ...] = ()
    assignee: Staff | None = None


def apply_action(batch: EntryBatch, row: CaseRow, move: Move) -> CaseRow:
    """Do it. The report and what falls with it must be loaded (`EntryBatch.load_reports`) where it may be taken back.

    Raises ActionRefused, CaseTaken, ConflictOfInterest, DecisionInvalid.
    """
    known = case_queries.handlers(batch.connection, row.id)
    if move.action is Action.REOPEN:
        row = _with_report(batch, row)
    before = to_core(row, known)
    if move.conduct is not None and move.conduct not in batch.policy.reportable:
        raise DecisionInvalid("The policy in effect does not name this conduct.")
    severity = None if move.conduct is None else batch.policy.severity[move.conduct]
    conceded = order_line_queries.concession(batch.connection, row.id, row.round) if move.outcome is not None else None
    check_conceded(move.outcome, severity, None if conceded is None else conceded.severity)
    named = move.conduct
    if move.action is Action.SIGN and row.proposed_conduct is not None:
        named = Conduct(row.proposed_conduct)
    case = advance(
        before,
        move.action,
        move.actor,
        batch.now,
        batch.policy,
        zone_of(batch.policy, row.profile),
        staff=move.staff,
        outcome=move.outcome,
        severity=severity,
        assignee=move.assignee,
        in_force=in_force(batch.connection, row),
        expires_at=expires_at(batch.policy, batch.reports.get(row.report_id), row, named),
    )
    new = with_core(row, case)
    if move.action is Action.PROPOSE:
        check_named(batch.connection, row, move.outcome, move.conduct, move.slots)
        new = replace(new, proposed_conduct=None if move.conduct is None else move.conduct.value, reasons=move.text)
    if case.proposer_id is None and move.action is not Action.SIGN:
        new = replace(new, proposed_conduct=None)
    entry_index, new, text = _consequences(batch, before, row, case, new, move)
    case_queries.save_case(batch.connection, new)
    case_queries.add_handlers(batch.connection, row.id, case.handlers - known)
    add_event(batch, new, move, text=text, entry_index=entry_index)
    _notify(batch, new, move)
    return new


def _consequences(
    batch: EntryBatch, before: Case, row: CaseRow, case: Case, new: CaseRow, move: Move
) -> tuple[int | None, CaseRow, str | None]:
    """Entry and effect on the report; (entry's index, the case, text of the event)."""
    if move.action in _DECISIONS:
        return _decide(batch, row, case, new, move)
    if move.action in (Action.OVERDUE, Action.WITHDRAW):
        index = add_resolution_entry(batch, new, "overdue" if move.action is Action.OVERDUE else "withdrawn")
        update_marks(batch, new)
        return index, new, move.text
    if move.action is Action.ADOPT:
        index = add_dispute_entry(batch, new)
        update_marks(batch, new)
        return index, new, move.text
    if move.action is Action.REOPEN:
        new = _next_round(batch, row, new)
        index = add_dispute_entry(batch, new)
        update_marks(batch, new)
        return index, new, move.text
    if move.action is Action.GRANT_REOPENING:
        stored = case_queries.case(batch.connection, row.id)
        keep_round(batch, row if stored is None else stored)
        return _reopen_for_reporter(batch, new, move), replace(new, reasons=None), move.text
    return None, new, move.text


def _decide(
    batch: EntryBatch, row: CaseRow, case: Case, new: CaseRow, move: Move
) -> tuple[int | None, CaseRow, str | None]:
    outcome = case.outcome
    assert outcome is not None
    effect = EFFECTS[outcome]
    conduct, reasons = move.conduct, move.text
    staff = [] if move.staff is None else [move.staff.id]
    if move.action is Action.SIGN:
        conduct = None if row.proposed_conduct is None else Conduct(row.proposed_conduct)
        reasons = row.reasons
        staff = [one for one in (row.proposer_id, *staff) if one is not None]
    new = replace(new, reasons=reasons, proposed_conduct=None)
    report = batch.reports.get(row.report_id)
    if report is None or row.report_id in batch.reversals:
        raise AlreadyReversed("This report was taken back before. Nothing is reversed twice.")
    check_named(batch.connection, row, outcome, conduct, move.slots)
    index = add_resolution_entry(batch, new, outcome.value, conduct=conduct, slots=move.slots, staff=staff)
    if effect.reverses:
        kind = "victim" if effect.protects else "overturned"
        batch.reverse(report, index, kind, outcome.value, keep_listed=effect.protects, decided_case=row.id)
        if effect.protects:
            _protect(batch, report, index)
    else:
        new = _apply_to_report(batch, report, new, outcome, conduct, move.slots)
    count_outcome(batch, report, "nothing" if _is_agreed(batch, row, conduct) else effect.counts_as)
    return index, new, reasons


def _is_agreed(batch: EntryBatch, row: CaseRow, conduct: Conduct | None) -> bool:
    """Whether a report is amended to what its reporter conceded and the person agreed to: that says nothing about how
    carefully the reporter works, either way."""
    if conduct is None:
        return False
    conceded = order_line_queries.concession(batch.connection, row.id, row.round)
    return conceded is not None and conceded.agreed_at is not None and conceded.conduct == conduct.value


def check_named(
    connection: Connection, row: CaseRow, outcome: Outcome | None, conduct: Conduct | None, slots: Sequence[int]
) -> None:
    """Whether a decision names the conduct or the identifiers that belong to its outcome. Raises DecisionInvalid."""
    names_conduct = outcome is not None and outcome.spec.names_conduct
    names_slots = outcome is not None and outcome.spec.names_slots
    if names_conduct != (conduct is not None) or names_slots != bool(slots):
        raise DecisionInvalid("`amended` names a conduct, `unlinked` names identifiers, nothing else does.")
    if conduct is Conduct.IMPERSONATED or (conduct is not None and conduct.value == row.current_conduct):
        raise DecisionInvalid("An amended report names another conduct, and one that somebody did.")
    if slots and not set(slots) < case_queries.listed_slots(connection, row.report_id).keys():
        raise DecisionInvalid("Unlink identifiers that the report has, and leave at least one.")


def _apply_to_report(
    batch: EntryBatch,
    report: ReportRow,
    new: CaseRow,
    outcome: Outcome,
    conduct: Conduct | None,
    slots: Sequence[int],
) -> CaseRow:
    """The report stays: amended, unlinked from some identifiers, without points, or as it was."""
    if conduct is not None:
        expires_day = batch.policy.expiry_day(conduct, day_floor(report.act_ended_at), report.expires_day)
        appeal_effects.amend(batch.connection, report.id, conduct.value, expires_day)
        new = replace(new, amended_conduct=conduct.value, severity=batch.policy.severity[conduct])
    if slots:
        _unlink(batch, report, sorted(set(slots)))
        new = replace(new, unlinked_slots=" ".join(str(slot) for slot in sorted(set(slots))))
    _note_in_other_cases(batch, new, outcome)
    update_marks(batch, new)
    return new


def _unlink(batch: EntryBatch, report: ReportRow, slots: Sequence[int]) -> None:
    """Detach identifiers. An `account_farm` report that shared one of them with this report, and shares none any more,
    has lost its link and falls."""
    before = order_line_queries.subject_tags(batch.connection, report.id)
    appeal_effects.unlink(batch.connection, report.id, slots)
    after = order_line_queries.subject_tags(batch.connection, report.id)
    for farm in batch.dependants.get(report.id, ()):
        theirs = order_line_queries.subject_tags(batch.connection, farm.id)
        if farm.id not in batch.reversals and not theirs.isdisjoint(before) and theirs.isdisjoint(after):
            batch.withdraw(farm, WithdrawalReason.LINKED_REPORT_VOID)


def _note_in_other_cases(batch: EntryBatch, decided: CaseRow, outcome: Outcome) -> None:
    """Note a decision that leaves the report in the other cases about it that are not decided: what they are about now,
    and what none of them may make worse."""
    for other in _others(batch, decided):
        if other.state in OPEN_STATES or other.state == CaseState.WITHDRAWN:
            changed = replace(
                other,
                amended_conduct=decided.amended_conduct,
                severity=decided.severity,
                previous_outcome=outcome.value,
            )
            case_queries.save_case(batch.connection, changed)


def _others(batch: EntryBatch, row: CaseRow) -> list[CaseRow]:
    """The other cases about the same report, as they are stored now."""
    found = case_queries.all_cases_of_reports(batch.connection, [row.report_id]).get(row.report_id, [])
    return [one for one in found if one.id != row.id]


def in_force(connection: Connection, row: CaseRow) -> Outcome | None:
    """The newest decision on the merits about the report of this case, in whichever case."""
    outcome = case_queries.decision_in_force(connection, row.report_id)
    return None if outcome is None else Outcome(outcome)


def expires_at(policy: Policy, report: ReportRow | None, row: CaseRow, conduct: Conduct | None) -> datetime | None:
    """When the record expires if it stays, as the `conduct` that a decision names or as what it is now; None without
    the report."""
    if report is None:
        return None
    now_it_is = Conduct(row.current_conduct) if conduct is None else conduct
    return from_day(policy.expiry_day(now_it_is, day_floor(report.act_ended_at), report.expires_day))


def _with_report(batch: EntryBatch, row: CaseRow) -> CaseRow:
    """The case with the conduct that other cases left the report with meanwhile."""
    conduct = case_queries.listed_conduct(batch.connection, row.report_id)
    if conduct is None or conduct == row.current_conduct:
        return row
    return replace(row, amended_conduct=conduct, severity=batch.policy.severity[Conduct(conduct)])


def _next_round(batch: EntryBatch, old: CaseRow, new: CaseRow) -> CaseRow:
    """The reopened case. A decided round is kept for its letters; after a withdrawal the same round begins anew, and
    where a platform filed it, it suspends the report only if no other one of its group ever did."""
    if old.state == CaseState.DECIDED:
        stored = case_queries.case(batch.connection, old.id)  # without what other cases made of the report since
        keep_round(batch, old if stored is None else stored)
    else:
        cases = [to_round(one) for one in (old, *_others(batch, old))]
        suspends = may_suspend(cases, old.filing_group, old.control_group)
        new = replace(new, opened_at=batch.now, suspends=suspends)
    return replace(new, reasons=None)


def keep_round(batch: EntryBatch, row: CaseRow) -> None:
    """Keep the decided round of a case for its letters, before the next one begins."""
    assert row.outcome is not None
    assert row.decided_at is not None
    kept = RoundRow(
        case_id=row.id,
        round=row.round,
        opened_at=row.opened_at,
        due_at=row.due_at,
        outcome=row.outcome,
        amended_conduct=row.amended_conduct,
        unlinked_slots=row.unlinked_slots,
        reasons=row.reasons,
        decided_at=row.decided_at,
        reopen_until=row.reopen_until,
        expires_at=expires_at(batch.policy, batch.reports.get(row.report_id), row, None),
    )
    case_queries.add_round(batch.connection, kept)


def _protect(batch: EntryBatch, report: ReportRow, index: int) -> None:
    """A protective note in the place of the report: a year from today, and never past the longest time that anything
    about the act may be kept. A held report has no listings yet that could become the note."""
    held = order_line_queries.held_reports(batch.connection, [report.id]).get(report.id)
    if held is not None and held.waits:
        order_line_queries.list_released(batch.connection, report.id, listing_values(report))
        order_line_queries.save_held(batch.connection, replace(held, released_index=index))
    appeal_effects.protect(
        batch.connection,
        report.id,
        conduct=Conduct.IMPERSONATED.value,
        day=day_floor(batch.now),
        hour=hour_floor(batch.now),
        expires_day=protected_until(batch.policy, report, batch.now),
    )


def protected_until(policy: Policy, report: ReportRow, decided_at: datetime) -> int:
    """The day (since the Unix epoch) at whose UTC midnight a protective note decided at `decided_at` is gone."""
    latest = day_floor(report.act_ended_at) + policy.erasure.at_latest_days - policy.erasure.after_expiry_days
    return min(policy.expiry_day(Conduct.IMPERSONATED, day_floor(decided_at)), latest)


def update_marks(batch: EntryBatch, changed: CaseRow) -> None:
    """Mark the report as all its cases say, with `changed` as it is from now on. Where a platform's first round was
    taken back and another platform's is open, that one suspends the report now, which is an entry of its own."""
    others = _others(batch, changed)
    cases = [to_round(one) for one in (changed, *others)]
    following = next_to_suspend(cases, changed.control_group) if changed.state == CaseState.WITHDRAWN else None
    for place, other in enumerate(others):
        if following is not None and other.id == following.case_id:
            others[place] = replace(other, suspends=True)
            case_queries.save_case(batch.connection, others[place])
            add_dispute_entry(batch, others[place])
    disputed, unconfirmed = report_marks(
        [to_round(one) for one in (changed, *others)], in_force(batch.connection, changed)
    )
    appeal_effects.set_marks(batch.connection, changed.report_id, disputed=disputed, unconfirmed=unconfirmed)


# --- entries, timeline, notices ---------------------------------------------------------------------------------


def add_dispute_entry(batch: EntryBatch, row: CaseRow) -> int:
    """Append that the report is disputed; the entry's index."""
    body = dispute_entry(
        report_id=batch.public(row.report_id),
        case_id=encode_id("ap", row.id, batch.service),
        round_number=row.round,
        grounds=row.grounds,
        recorded_at=batch.now,
        suspends=row.suspends,
    )
    return _entry(batch, row.report_id, EventType.DISPUTE, body, None)


def _reopen_for_reporter(batch: EntryBatch, row: CaseRow, move: Move) -> int:
    """Append that the case is open again for the reporter's new evidence; the report keeps its marks."""
    asked = order_line_queries.request(batch.connection, row.id)
    if asked is None or move.staff is None:
        raise ActionRefused("The reporter has not asked for this.", action=move.action.value)
    body = reopening_entry(
        report_id=batch.public(row.report_id),
        case_id=encode_id("ap", row.id, batch.service),
        round_number=row.round,
        evidence_sha256=bytes(asked.evidence_sha256),
        staff=[move.staff.id],
        recorded_at=batch.now,
    )
    return _entry(batch, row.report_id, EventType.REOPENING, body, None)


def add_resolution_entry(
    batch: EntryBatch,
    row: CaseRow,
    outcome: str,
    *,
    conduct: Conduct | None = None,
    slots: Sequence[int] = (),
    staff: Sequence[int] = (),
) -> int:
    """Append what the case came to; the entry's index."""
    body = resolution_entry(
        report_id=batch.public(row.report_id),
        case_id=encode_id("ap", row.id, batch.service),
        round_number=row.round,
        outcome=outcome,
        recorded_at=batch.now,
        conduct=None if conduct is None else conduct.value,
        slots=sorted(set(slots)),
        staff=staff,
    )
    return _entry(batch, row.report_id, EventType.RESOLUTION, body, outcome)


def _entry(batch: EntryBatch, report_id: int, type_: EventType, body: bytes, outcome: str | None) -> int:
    index = batch.draft(type_, body)
    entry = {"entry_index": index, "report_id": report_id, "type": type_.value, "outcome": outcome}
    case_queries.add_entries(batch.connection, [{**entry, "recorded_at": batch.now}])
    return index


def add_event(batch: EntryBatch, row: CaseRow, move: Move, *, text: str | None, entry_index: int | None) -> None:
    """One more line of the timeline."""
    case_queries.add_event(
        batch.connection,
        case_id=row.id,
        round=row.round,
        at=batch.now,
        action=move.action.value,
        actor=move.actor.value,
        staff_id=None if move.staff is None else move.staff.id,
        platform=move.platform,
        state=row.state,
        outcome=row.outcome if row.state == CaseState.DECIDED else (row.proposed or None),
        text=text,
        visible_to="staff" if move.action in STAFF_ONLY else move.visible_to,
        entry_index=entry_index,
    )


def _notify(batch: EntryBatch, row: CaseRow, move: Move) -> None:
    """Webhooks: to the reporter and to the platform through which the person appealed, each what concerns it."""
    appeal, asked = encode_id("ap", row.id, batch.service), WebhookType.APPEAL_QUESTION_ASKED
    if move.action is Action.ASK_REPORTER:
        report = batch.public(row.report_id)
        values = {"appeal": appeal, "report": report, "state": row.state, "party": "reporter"}
        batch.notify(row.platform, asked, Recipient.REPORTER, **values)
    elif move.action is Action.ASK_SUBJECT:
        batch.notify(row.filed_via, asked, Recipient.FILER, appeal=appeal, state=row.state, party="subject")
    elif move.action in (Action.REOPEN, Action.GRANT_REOPENING):
        notify_parties(batch, row, WebhookType.APPEAL_OPENED)
    elif move.action is Action.WITHDRAW:
        notify_parties(batch, row, WebhookType.APPEAL_ENDED)
    elif move.action in _DECISIONS:
        notify_parties(batch, row, WebhookType.APPEAL_DECIDED)
        if row.report_id in batch.reversals:
            assert row.outcome is not None
            batch.notify_voided(batch.reports[row.report_id], row.outcome)


def notify_parties(batch: EntryBatch, row: CaseRow, type_: WebhookType) -> None:
    """Send the event to the reporter, and without the report's id to the platform through which the person appealed,
    unless that is the reporter too."""
    appeal = encode_id("ap", row.id, batch.service)
    report = batch.public(row.report_id)
    batch.notify(row.platform, type_, Recipient.REPORTER, appeal=appeal, report=report, state=row.state)
    if row.filed_via != row.platform:
        batch.notify(row.filed_via, type_, Recipient.FILER, appeal=appeal, state=row.state)


def report_gone(batch: EntryBatch, row: CaseRow, reversal: ReversalRow) -> CaseRow:
    """The report was taken back, or decided in another case, while this one was open or not yet closed: it is over.

    A reporter who takes back what is contested has lost the case (docs/standing.md), also where an `account_farm`
    report falls with one that it rests on; but one act of the reporter costs once, however many cases it ends. A
    decision in another case counts there.
    """
    if row.state == CaseState.CLOSED:
        return row
    contested = row.state in OPEN_STATES
    new = apply_action(batch, row, Move(Action.REPORT_GONE, Actor.LEDGER))
    if contested and reversal.kind in _BY_REPORTER:
        counts_as = batch.charge(row.report_id)
        if counts_as is not None:
            count_outcome(batch, batch.reports[row.report_id], counts_as)
    notify_parties(batch, new, WebhookType.APPEAL_ENDED)
    return new


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
