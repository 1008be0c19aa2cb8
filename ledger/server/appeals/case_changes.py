"""Change cases: open the transaction that holds the log's head (`changing`), apply an action (`apply_action`), and
apply the actions that time causes (`run_clocks`).

`apply_action` is the only function that changes a case. It asks the rules, then writes the log entry, the report's
marks, the timeline and the notices in the caller's transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, tzinfo
from zoneinfo import ZoneInfo

from sqlalchemy import Connection

from ledger.errors import ActionRefused, AlreadyReversed, DecisionInvalid, InvalidRequest, NotFound
from ledger.protocol.encoding import day_floor, from_day, hour_floor
from ledger.protocol.public_ids import decode_id, encode_id
from ledger.rules.appeals import EFFECTS, OPEN_STATES, Action, Actor, CaseState, Outcome
from ledger.rules.case_machine import Staff, advance, due_actions
from ledger.rules.conduct import Conduct
from ledger.rules.order_lines import check_conceded
from ledger.rules.policy.values import Policy, Profile
from ledger.rules.rounds import next_to_suspend, report_marks
from ledger.rules.rounds import suspends as may_suspend
from ledger.rules.webhooks import Recipient, WebhookType
from ledger.server.appeals.weights import count_outcome
from ledger.server.context import Context
from ledger.server.db.due_rows import work_off
from ledger.server.db.engine import reading, writing
from ledger.server.log.writer import open_head
from ledger.server.records import appeal_effects, case_queries, order_line_queries
from ledger.server.records.case_queries import CaseRow, RoundRow
from ledger.server.records.queries import ReportRow, ReversalRow
from ledger.server.records.rows import listing_values
from ledger.server.records.transaction import EntryBatch
from ledger.tlog.entries import EventType, WithdrawalReason, dispute_entry, reopening_entry, resolution_entry

STAFF_ONLY = frozenset({Action.TAKE, Action.ASSIGN, Action.HAND_BACK, Action.NOTE, Action.PROPOSE, Action.DECLINE})
"""Actions that the parties do not see: who works on a case, and what is not decided yet."""

_DECISIONS = frozenset({Action.DECIDE, Action.SIGN, Action.REPORTER_SILENT})

_BY_REPORTER = frozenset({"withdrawal", "replacement"})
"""Kinds of reversal by the reporter itself."""


@dataclass(frozen=True, slots=True)
class Move:
    """An action to apply to a case. `text` was written by the actor, for `visible_to` (all, reporter, subject or
    staff). `outcome`, `conduct` and `slots` belong to a decision or proposal, `assignee` to an assignment."""

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
    """Apply `move` to the case and return the case as stored afterwards.

    Where the report may be reversed, it and the reports that rest on it must be loaded (`EntryBatch.load_reports`).
    Raises ActionRefused, CaseTaken, ConflictOfInterest, DecisionInvalid, AlreadyReversed.
    """
    row = with_handlers(batch.connection, row)
    if move.action is Action.REOPEN:
        row = _with_listed_conduct(batch, row)
    if move.conduct is not None and move.conduct not in batch.policy.reportable:
        raise DecisionInvalid("The policy in effect does not name this conduct.")
    severity = None if move.conduct is None else batch.policy.severity[move.conduct]
    conceded = order_line_queries.concession(batch.connection, row.id, row.round) if move.outcome is not None else None
    check_conceded(move.outcome, severity, None if conceded is None else conceded.severity)
    conduct = move.conduct
    if move.action is Action.SIGN and row.proposed_conduct is not None:
        conduct = Conduct(row.proposed_conduct)
    new = advance(
        row,
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
        expires_at=expires_at(batch.policy, batch.reports.get(row.report_id), row, conduct),
    )
    if new.filed_by_subject:
        new = replace(new, filing_group=None)
    if move.action is Action.PROPOSE:
        check_named(batch.connection, row, move.outcome, move.conduct, move.slots)
        new = replace(new, proposed_conduct=None if move.conduct is None else move.conduct.value, reasons=move.text)
    if new.proposer_id is None and move.action is not Action.SIGN:
        new = replace(new, proposed_conduct=None)
    entry_index, new, text = _consequences(batch, row, new, move)
    case_queries.save_case(batch.connection, new)
    case_queries.add_handlers(batch.connection, row.id, new.handlers - row.handlers)
    add_event(batch, new, move, text=text, entry_index=entry_index)
    _notify(batch, new, move)
    return new


def with_handlers(connection: Connection, row: CaseRow) -> CaseRow:
    """Return the case with its `handlers` loaded."""
    return replace(row, handlers=case_queries.handlers(connection, row.id))


def _consequences(batch: EntryBatch, row: CaseRow, new: CaseRow, move: Move) -> tuple[int | None, CaseRow, str | None]:
    """Append the log entry and change the report; return (entry index, the case, text of the event)."""
    if move.action in _DECISIONS:
        return _decide(batch, row, new, move)
    if move.action in (Action.OVERDUE, Action.WITHDRAW):
        index = add_resolution_entry(batch, new, "overdue" if move.action is Action.OVERDUE else "withdrawn")
    elif move.action is Action.ADOPT:
        index = add_dispute_entry(batch, new)
    elif move.action is Action.REOPEN:
        new = _next_round(batch, row, new)
        index = add_dispute_entry(batch, new)
    elif move.action is Action.GRANT_REOPENING:
        stored = case_queries.case(batch.connection, row.id)
        _keep_round(batch, row if stored is None else stored)
        return _add_reopening_entry(batch, new, move), replace(new, reasons=None), move.text
    else:
        return None, new, move.text
    update_marks(batch, new)
    return index, new, move.text


def _decide(batch: EntryBatch, row: CaseRow, new: CaseRow, move: Move) -> tuple[int | None, CaseRow, str | None]:
    """Record the decision and its effect on the report and on the reporter's weight."""
    outcome = new.outcome
    assert outcome is not None
    effect = EFFECTS[outcome]
    conduct, reasons = move.conduct, move.text
    staff = [] if move.staff is None else [move.staff.id]
    if move.action is Action.SIGN:
        conduct = None if row.proposed_conduct is None else Conduct(row.proposed_conduct)
        reasons = row.reasons
        staff = [staff_id for staff_id in (row.proposer_id, *staff) if staff_id is not None]
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
        new = _keep_report(batch, report, new, outcome, conduct, move.slots)
    count_outcome(batch, report, "nothing" if _is_agreed(batch, row, conduct) else effect.counts_as)
    return index, new, reasons


def _is_agreed(batch: EntryBatch, row: CaseRow, conduct: Conduct | None) -> bool:
    """True if the report is amended to what its reporter conceded and the person agreed to. Such a decision does not
    count for or against the reporter."""
    if conduct is None:
        return False
    conceded = order_line_queries.concession(batch.connection, row.id, row.round)
    return conceded is not None and conceded.agreed_at is not None and conceded.conduct == conduct.value


def check_named(
    connection: Connection, row: CaseRow, outcome: Outcome | None, conduct: Conduct | None, slots: Sequence[int]
) -> None:
    """Check that a decision names the conduct or the identifiers that its outcome needs. Raises DecisionInvalid."""
    names_conduct = outcome is not None and outcome.spec.names_conduct
    names_slots = outcome is not None and outcome.spec.names_slots
    if names_conduct != (conduct is not None) or names_slots != bool(slots):
        raise DecisionInvalid("`amended` names a conduct, `unlinked` names identifiers, nothing else does.")
    if conduct is Conduct.IMPERSONATED or (conduct is not None and conduct.value == row.current_conduct):
        raise DecisionInvalid("An amended report names another conduct, and one that accuses the person.")
    if slots and not set(slots) < case_queries.listed_slots(connection, row.report_id).keys():
        raise DecisionInvalid("Unlink identifiers that the report has, and leave at least one.")


def _keep_report(
    batch: EntryBatch,
    report: ReportRow,
    new: CaseRow,
    outcome: Outcome,
    conduct: Conduct | None,
    slots: Sequence[int],
) -> CaseRow:
    """Keep the report: amended, unlinked from some identifiers, without points, or unchanged."""
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
    """Detach identifiers from the report. An `account_farm` report that shared one of them with this report, and shares
    none any longer, is withdrawn."""
    before = order_line_queries.subject_tags(batch.connection, report.id)
    appeal_effects.unlink(batch.connection, report.id, slots)
    after = order_line_queries.subject_tags(batch.connection, report.id)
    for farm in batch.dependants.get(report.id, ()):
        tags = order_line_queries.subject_tags(batch.connection, farm.id)
        if farm.id not in batch.reversals and not tags.isdisjoint(before) and tags.isdisjoint(after):
            batch.withdraw(farm, WithdrawalReason.LINKED_REPORT_VOID)


def _note_in_other_cases(batch: EntryBatch, decided: CaseRow, outcome: Outcome) -> None:
    """Store a decision that keeps the report in the undecided other cases about it: the conduct that they are about
    from now on, and the outcome that none of them may make worse."""
    for other in _others(batch, decided):
        if other.state in OPEN_STATES or other.state is CaseState.WITHDRAWN:
            changed = replace(
                other, amended_conduct=decided.amended_conduct, severity=decided.severity, previous_outcome=outcome
            )
            case_queries.save_case(batch.connection, changed)


def _others(batch: EntryBatch, row: CaseRow) -> list[CaseRow]:
    """Return the other cases about the same report, as stored now."""
    cases = case_queries.all_cases_of_reports(batch.connection, [row.report_id]).get(row.report_id, [])
    return [case for case in cases if case.id != row.id]


def in_force(connection: Connection, row: CaseRow) -> Outcome | None:
    """Return the newest decision on the merits about the report of this case, in whichever case; None without one."""
    outcome = case_queries.decision_in_force(connection, row.report_id)
    return None if outcome is None else Outcome(outcome)


def expires_at(policy: Policy, report: ReportRow | None, row: CaseRow, conduct: Conduct | None) -> datetime | None:
    """Return when the record expires if it is kept as `conduct` (None: as its current conduct); None without the
    report."""
    if report is None:
        return None
    kept_as = Conduct(row.current_conduct) if conduct is None else conduct
    return from_day(policy.expiry_day(kept_as, day_floor(report.act_ended_at), report.expires_day))


def _with_listed_conduct(batch: EntryBatch, row: CaseRow) -> CaseRow:
    """Return the case with the conduct that decisions in other cases gave the report meanwhile."""
    conduct = case_queries.listed_conduct(batch.connection, row.report_id)
    if conduct is None or conduct == row.current_conduct:
        return row
    return replace(row, amended_conduct=conduct, severity=batch.policy.severity[Conduct(conduct)])


def _next_round(batch: EntryBatch, old: CaseRow, new: CaseRow) -> CaseRow:
    """Return the reopened case. A decided round is kept for its letters. After a withdrawal the same round starts
    again; if a platform filed it, it suspends the report only if no other round of its group ever did."""
    if old.state is CaseState.DECIDED:
        stored = case_queries.case(batch.connection, old.id)  # without later changes to the report by other cases
        _keep_round(batch, old if stored is None else stored)
    else:
        rounds = [case.as_round for case in (old, *_others(batch, old))]
        suspends = may_suspend(rounds, old.filing_group, old.control_group)
        new = replace(new, opened_at=batch.now, suspends=suspends)
    return replace(new, reasons=None)


def _keep_round(batch: EntryBatch, row: CaseRow) -> None:
    """Store the decided round of a case for its letters, before the next round starts."""
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
    """Replace the report by a protective note for a year from today, at most for the longest time that data about the
    act may be kept. A held report is listed first, as it has no listings yet that could become the note."""
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
    """Return the day (since the Unix epoch) at whose UTC midnight a protective note decided at `decided_at` expires."""
    latest = day_floor(report.act_ended_at) + policy.erasure.at_latest_days - policy.erasure.after_expiry_days
    return min(policy.expiry_day(Conduct.IMPERSONATED, day_floor(decided_at)), latest)


def update_marks(batch: EntryBatch, changed: CaseRow) -> None:
    """Set the report's marks by all its cases, with `changed` as it is from now on.

    If the first round of a platform was withdrawn and a case of another platform is open, that case suspends the report
    now, which is a log entry of its own.
    """
    others = _others(batch, changed)
    rounds = [case.as_round for case in (changed, *others)]
    following = next_to_suspend(rounds, changed.control_group) if changed.state is CaseState.WITHDRAWN else None
    for place, other in enumerate(others):
        if following is not None and other.id == following.case_id:
            others[place] = replace(other, suspends=True)
            case_queries.save_case(batch.connection, others[place])
            add_dispute_entry(batch, others[place])
    rounds = [case.as_round for case in (changed, *others)]
    disputed, unconfirmed = report_marks(rounds, in_force(batch.connection, changed))
    appeal_effects.set_marks(batch.connection, changed.report_id, disputed=disputed, unconfirmed=unconfirmed)


# --- entries, timeline, notices ---------------------------------------------------------------------------------


def add_dispute_entry(batch: EntryBatch, row: CaseRow) -> int:
    """Append the entry that the report is disputed; return its index."""
    body = dispute_entry(
        report_id=batch.public(row.report_id),
        case_id=encode_id("ap", row.id, batch.service),
        round_number=row.round,
        grounds=row.grounds,
        recorded_at=batch.now,
        suspends=row.suspends,
    )
    return _entry(batch, row.report_id, EventType.DISPUTE, body, None)


def _add_reopening_entry(batch: EntryBatch, row: CaseRow, move: Move) -> int:
    """Append the entry that the case is open again for the reporter's new evidence; return its index. The report keeps
    its marks."""
    request = order_line_queries.request(batch.connection, row.id)
    if request is None or move.staff is None:
        raise ActionRefused("The reporter has not asked for this.", action=move.action.value)
    body = reopening_entry(
        report_id=batch.public(row.report_id),
        case_id=encode_id("ap", row.id, batch.service),
        round_number=row.round,
        evidence_sha256=bytes(request.evidence_sha256),
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
    """Append the entry of a resolution (an outcome, `overdue` or `withdrawn`); return its index."""
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
    """Add a line to the timeline of the case."""
    outcome = row.outcome if row.state is CaseState.DECIDED else row.proposed
    case_queries.add_event(
        batch.connection,
        case_id=row.id,
        round=row.round,
        at=batch.now,
        action=move.action.value,
        actor=move.actor.value,
        staff_id=None if move.staff is None else move.staff.id,
        platform=move.platform,
        state=row.state.value,
        outcome=None if outcome is None else outcome.value,
        text=text,
        visible_to="staff" if move.action in STAFF_ONLY else move.visible_to,
        entry_index=entry_index,
    )


def _notify(batch: EntryBatch, row: CaseRow, move: Move) -> None:
    """Send webhooks to the reporter and to the platform through which the person appealed, each with its own facts."""
    appeal, question = encode_id("ap", row.id, batch.service), WebhookType.APPEAL_QUESTION_ASKED
    state = row.state.value
    if move.action is Action.ASK_REPORTER:
        report = batch.public(row.report_id)
        values = {"appeal": appeal, "report": report, "state": state, "party": "reporter"}
        batch.notify(row.platform, question, Recipient.REPORTER, **values)
    elif move.action is Action.ASK_SUBJECT:
        batch.notify(row.filed_via, question, Recipient.FILER, appeal=appeal, state=state, party="subject")
    elif move.action in (Action.REOPEN, Action.GRANT_REOPENING):
        notify_parties(batch, row, WebhookType.APPEAL_OPENED)
    elif move.action is Action.WITHDRAW:
        notify_parties(batch, row, WebhookType.APPEAL_ENDED)
    elif move.action in _DECISIONS:
        notify_parties(batch, row, WebhookType.APPEAL_DECIDED)
        if row.report_id in batch.reversals:
            assert row.outcome is not None
            batch.notify_voided(batch.reports[row.report_id], row.outcome.value)


def notify_parties(batch: EntryBatch, row: CaseRow, type_: WebhookType) -> None:
    """Send the event to the reporter, and without the report's id to the platform through which the person appealed,
    unless that is the reporter too."""
    appeal, state = encode_id("ap", row.id, batch.service), row.state.value
    report = batch.public(row.report_id)
    batch.notify(row.platform, type_, Recipient.REPORTER, appeal=appeal, report=report, state=state)
    if row.filed_via != row.platform:
        batch.notify(row.filed_via, type_, Recipient.FILER, appeal=appeal, state=state)


def report_gone(batch: EntryBatch, row: CaseRow, reversal: ReversalRow) -> CaseRow:
    """Close a case whose report was withdrawn, replaced, or reversed by a decision in another case; return the case.

    A reporter who withdraws a contested report has lost the case (docs/standing.md), also where an `account_farm`
    report falls with one that it rests on. One act of the reporter counts once, however many cases it ends. A decision
    in another case counts there.
    """
    if row.state is CaseState.CLOSED:
        return row
    contested = row.is_open
    new = apply_action(batch, row, Move(Action.REPORT_GONE, Actor.LEDGER))
    if contested and reversal.kind in _BY_REPORTER:
        counts_as = batch.charge(row.report_id)
        if counts_as is not None:
            count_outcome(batch, batch.reports[row.report_id], counts_as)
    notify_parties(batch, new, WebhookType.APPEAL_ENDED)
    return new


def zone_of(policy: Policy, profile: str) -> tzinfo:
    """Return the time zone in which days of this profile are counted and shown."""
    return ZoneInfo(policy.appeals.clocks[Profile(profile)].time_zone)


def zones(policy: Policy) -> Mapping[Profile, tzinfo]:
    """Return the time zone of every profile."""
    return {profile: zone_of(policy, profile) for profile in Profile}


# --- transaction and ids ----------------------------------------------------------------------------------------------


@contextmanager
def changing(context: Context) -> Iterator[EntryBatch]:
    """Open one transaction; it commits on success and leaves nothing otherwise. Raises LogFrozen,
    DatabaseUnavailable."""
    with writing(context.engine) as connection:
        head, now = open_head(connection, context.now())
        batch = EntryBatch(context, connection, head, now, report_gone)
        yield batch
        batch.finish()


def load_case(batch: EntryBatch, case_id: int) -> CaseRow:
    """Return the case, with its report and the reports that rest on it loaded. Raises NotFound."""
    row = case_queries.case(batch.connection, case_id)
    if row is None:
        raise NotFound("There is no such case.")
    batch.load_reports([row.report_id], [row.report_id])
    return row


def case_number(context: Context, public: str) -> int:
    """Return the number of a public case id. Raises NotFound for a malformed one."""
    try:
        return decode_id("ap", public, context.service)
    except InvalidRequest as error:
        raise NotFound("There is no such case.") from error


def report_number(context: Context, public: str) -> int:
    """Return the number of a public report id. Raises NotFound for a malformed one."""
    try:
        return decode_id("rp", public, context.service)
    except InvalidRequest as error:
        raise NotFound("There is no such report.") from error


def report_numbers(context: Context, public: Sequence[str]) -> list[int]:
    """Return the numbers of public report ids. A malformed id gets a negative number of its own, under which nothing is
    stored: it is looked up and answered like every other unknown id."""
    unknown: dict[str, int] = {}
    numbers = []
    for report in public:
        try:
            numbers.append(decode_id("rp", report, context.service))
        except InvalidRequest:
            numbers.append(unknown.setdefault(report, -1 - len(unknown)))
    return numbers


# --- what time causes -------------------------------------------------------------------------------------------------


MAX_CASES = 100
"""Cases per query. Each is processed in a transaction of its own, so the log is never locked for long."""


def run_clocks(context: Context, stopped: Callable[[], bool] = lambda: False) -> int:
    """Apply all due actions, oldest deadline first; return the number of cases that changed. `stopped` ends it early.

    A failing case does not stop the others: its error is logged (`appeal_clock_failed` with the case's id), and the
    first error is raised at the end. Raises LogFrozen, DatabaseUnavailable.
    """
    now = context.now()

    def due(last: CaseRow | None) -> list[CaseRow]:
        after = None if last is None else (last.due_at, last.id)
        with reading(context.engine) as connection:
            return case_queries.due_cases(connection, now, day_floor(now), MAX_CASES, after)

    def work(rows: Sequence[CaseRow]) -> int:
        (row,) = rows
        with changing(context) as batch:
            return int(_apply_due_actions(batch, load_case(batch, row.id)))

    return work_off(
        due,
        work,
        event="appeal_clock_failed",
        name=lambda row: encode_id("ap", row.id, context.service),
        stopped=stopped,
    )


def _apply_due_actions(batch: EntryBatch, row: CaseRow) -> bool:
    """Apply the due actions to one case, and close it if its report has expired; return True if it changed."""
    before = row
    for action in due_actions(row, batch.now):
        row = apply_action(batch, row, Move(action, Actor.CLOCK))
    report = batch.reports.get(row.report_id)
    expired = report is None or batch.policy.expiry_day(
        row.current_conduct, day_floor(report.act_ended_at), report.expires_day
    ) <= day_floor(batch.now)
    if expired and row.is_open:
        row = apply_action(batch, row, Move(Action.REPORT_GONE, Actor.LEDGER))
        # Reports that rest on an expired report stay, and lose the marks of a case that ended with it.
        appeal_effects.pass_marks_on(batch.connection, row.report_id, disputed=False, unconfirmed=False)
    return row is not before
