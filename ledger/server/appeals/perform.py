"""Doing something in a case: the rules decide, then the entry, the report's marks, the timeline and the notices follow.

Everything is written in the caller's transaction, which holds the log's head (`server.records.transaction`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy import Connection

from ledger.errors import ActionRefused, AlreadyReversed, DecisionInvalid
from ledger.protocol.encoding import day_floor, from_day, hour_floor
from ledger.protocol.public_ids import encode_id
from ledger.rules.appeals import EFFECTS, OPEN_STATES, Action, Actor, CaseState, Outcome
from ledger.rules.case_machine import Case, Staff, advance
from ledger.rules.conduct import Conduct
from ledger.rules.order_lines import check_conceded
from ledger.rules.policy.values import Policy
from ledger.rules.rounds import next_to_suspend, report_marks
from ledger.rules.rounds import suspends as may_suspend
from ledger.rules.webhooks import Recipient, WebhookType
from ledger.server.appeals.rows import to_core, to_round, with_core, zone_of
from ledger.server.appeals.weights import count_outcome
from ledger.server.records import appeal_effects as effects
from ledger.server.records import case_queries as store
from ledger.server.records import order_line_queries as line_store
from ledger.server.records.case_queries import CaseRow, RoundRow
from ledger.server.records.queries import ReportRow, ReversalRow
from ledger.server.records.rows import listing_values
from ledger.server.records.transaction import EntryBatch
from ledger.tlog.entries import EventType, WithdrawalReason, dispute_entry, reopening_entry, resolution_entry

STAFF_ONLY = frozenset({Action.TAKE, Action.ASSIGN, Action.HAND_BACK, Action.NOTE, Action.PROPOSE, Action.DECLINE})
"""What the parties are not shown: who works on a case, and what is not decided yet."""

_DECISIONS = frozenset({Action.DECIDE, Action.SIGN, Action.REPORTER_SILENT})


_TAKEN_BACK = frozenset({"withdrawal", "replacement"})
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


def perform(batch: EntryBatch, row: CaseRow, move: Move) -> CaseRow:
    """Do it. The report and what falls with it must be loaded (`EntryBatch.load_reports`) where it may be taken back.

    Raises ActionRefused, CaseTaken, ConflictOfInterest, DecisionInvalid.
    """
    known = store.handlers(batch.connection, row.id)
    if move.action is Action.REOPEN:
        row = _with_report(batch, row)
    before = to_core(row, known)
    if move.conduct is not None and move.conduct not in batch.policy.reportable:
        raise DecisionInvalid("The policy in effect does not name this conduct.")
    severity = None if move.conduct is None else batch.policy.severity[move.conduct]
    conceded = line_store.concession(batch.connection, row.id, row.round) if move.outcome is not None else None
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
    store.save_case(batch.connection, new)
    store.add_handlers(batch.connection, row.id, case.handlers - known)
    add_event(batch, new, move, text=text, entry_index=entry_index)
    _tell(batch, new, move)
    return new


def _consequences(
    batch: EntryBatch, before: Case, row: CaseRow, case: Case, new: CaseRow, move: Move
) -> tuple[int | None, CaseRow, str | None]:
    """Entry and effect on the report; (entry's index, the case, text of the event)."""
    if move.action in _DECISIONS:
        return _decide(batch, row, case, new, move)
    if move.action in (Action.OVERDUE, Action.WITHDRAW):
        index = resolve(batch, new, "overdue" if move.action is Action.OVERDUE else "withdrawn")
        mark(batch, new)
        return index, new, move.text
    if move.action is Action.ADOPT:
        index = dispute(batch, new)
        mark(batch, new)
        return index, new, move.text
    if move.action is Action.REOPEN:
        new = _begun_again(batch, row, new)
        index = dispute(batch, new)
        mark(batch, new)
        return index, new, move.text
    if move.action is Action.GRANT_REOPENING:
        stored = store.case(batch.connection, row.id)
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
    index = resolve(batch, new, outcome.value, conduct=conduct, slots=move.slots, staff=staff)
    if effect.reverses:
        kind = "victim" if effect.protects else "overturned"
        batch.reverse(report, index, kind, outcome.value, keep_listed=effect.protects, decided_case=row.id)
        if effect.protects:
            _protect(batch, report, index)
    else:
        new = _keep(batch, report, new, outcome, conduct, move.slots)
    count_outcome(batch, report, "nothing" if _agreed(batch, row, conduct) else effect.counts_as)
    return index, new, reasons


def _agreed(batch: EntryBatch, row: CaseRow, conduct: Conduct | None) -> bool:
    """Whether a report is amended to what its reporter conceded and the person agreed to: that says nothing about how
    carefully the reporter works, either way."""
    if conduct is None:
        return False
    conceded = line_store.concession(batch.connection, row.id, row.round)
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
    if slots and not set(slots) < store.listed_slots(connection, row.report_id).keys():
        raise DecisionInvalid("Unlink identifiers that the report has, and leave at least one.")


def _keep(
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
        effects.amend(batch.connection, report.id, conduct.value, expires_day)
        new = replace(new, amended_conduct=conduct.value, severity=batch.policy.severity[conduct])
    if slots:
        _unlink(batch, report, sorted(set(slots)))
        new = replace(new, unlinked_slots=" ".join(str(slot) for slot in sorted(set(slots))))
    _tell_others(batch, new, outcome)
    mark(batch, new)
    return new


def _unlink(batch: EntryBatch, report: ReportRow, slots: Sequence[int]) -> None:
    """Detach identifiers. An `account_farm` report that shared one of them with this report, and shares none any more,
    has lost its link and falls."""
    before = line_store.subject_tags(batch.connection, report.id)
    effects.unlink(batch.connection, report.id, slots)
    after = line_store.subject_tags(batch.connection, report.id)
    for farm in batch.dependants.get(report.id, ()):
        theirs = line_store.subject_tags(batch.connection, farm.id)
        if farm.id not in batch.reversals and not theirs.isdisjoint(before) and theirs.isdisjoint(after):
            batch.withdraw(farm, WithdrawalReason.LINKED_REPORT_VOID)


def _tell_others(batch: EntryBatch, decided: CaseRow, outcome: Outcome) -> None:
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
            store.save_case(batch.connection, changed)


def _others(batch: EntryBatch, row: CaseRow) -> list[CaseRow]:
    """The other cases about the same report, as they are stored now."""
    found = store.all_cases_of_reports(batch.connection, [row.report_id]).get(row.report_id, [])
    return [one for one in found if one.id != row.id]


def in_force(connection: Connection, row: CaseRow) -> Outcome | None:
    """The newest decision on the merits about the report of this case, in whichever case."""
    outcome = store.decision_in_force(connection, row.report_id)
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
    conduct = store.listed_conduct(batch.connection, row.report_id)
    if conduct is None or conduct == row.current_conduct:
        return row
    return replace(row, amended_conduct=conduct, severity=batch.policy.severity[Conduct(conduct)])


def _begun_again(batch: EntryBatch, old: CaseRow, new: CaseRow) -> CaseRow:
    """The reopened case. A decided round is kept for its letters; after a withdrawal the same round begins anew, and
    where a platform filed it, it suspends the report only if no other one of its group ever did."""
    if old.state == CaseState.DECIDED:
        stored = store.case(batch.connection, old.id)  # without what other cases made of the report since
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
    store.add_round(batch.connection, kept)


def _protect(batch: EntryBatch, report: ReportRow, index: int) -> None:
    """A protective note in the place of the report: a year from today, and never past the longest time that anything
    about the act may be kept. A held report has no listings yet that could become the note."""
    held = line_store.held_reports(batch.connection, [report.id]).get(report.id)
    if held is not None and held.waits:
        line_store.list_released(batch.connection, report.id, listing_values(report))
        line_store.save_held(batch.connection, replace(held, released_index=index))
    effects.protect(
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


def mark(batch: EntryBatch, changed: CaseRow) -> None:
    """Mark the report as all its cases say, with `changed` as it is from now on. Where a platform's first round was
    taken back and another platform's is open, that one suspends the report now, which is an entry of its own."""
    others = _others(batch, changed)
    cases = [to_round(one) for one in (changed, *others)]
    following = next_to_suspend(cases, changed.control_group) if changed.state == CaseState.WITHDRAWN else None
    for place, other in enumerate(others):
        if following is not None and other.id == following.case_id:
            others[place] = replace(other, suspends=True)
            store.save_case(batch.connection, others[place])
            dispute(batch, others[place])
    disputed, unconfirmed = report_marks(
        [to_round(one) for one in (changed, *others)], in_force(batch.connection, changed)
    )
    effects.set_marks(batch.connection, changed.report_id, disputed=disputed, unconfirmed=unconfirmed)


# --- entries, timeline, notices ---------------------------------------------------------------------------------


def dispute(batch: EntryBatch, row: CaseRow) -> int:
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
    asked = line_store.request(batch.connection, row.id)
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


def resolve(
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
    store.add_entries(batch.connection, [{**entry, "recorded_at": batch.now}])
    return index


def add_event(batch: EntryBatch, row: CaseRow, move: Move, *, text: str | None, entry_index: int | None) -> None:
    """One more line of the timeline."""
    store.add_event(
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


def _tell(batch: EntryBatch, row: CaseRow, move: Move) -> None:
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
    new = perform(batch, row, Move(Action.REPORT_GONE, Actor.LEDGER))
    if contested and reversal.kind in _TAKEN_BACK:
        counts_as = batch.charge(row.report_id)
        if counts_as is not None:
            count_outcome(batch, batch.reports[row.report_id], counts_as)
    notify_parties(batch, new, WebhookType.APPEAL_ENDED)
    return new
