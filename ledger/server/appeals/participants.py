"""Actions of the two participants of a case: the person (by their own session, or through the platform that filed for
them) and the reporter.

The *reporter* is the platform that made the report, the *filer* the one through which the person appealed. One platform
may be both, so each request names the party that it acts for. Platforms of the reporter's control group file, answer,
withdraw and reopen nothing for the person: the accused party must not act for the person who contests.

A reporter adds evidence only as files whose SHA-256 its report named. The exception is the new evidence for which a
case was opened again for its reporter, in the round that was granted for it. A reporter may also concede: propose a
conduct of no higher severity, to which the person may agree; no decision is worse for the person than a concession
(`rules.order_lines`).

Every function works in the caller's transaction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from enum import StrEnum

from ledger.errors import ActionRefused, AppealInvalid, ConflictOfInterest, NotFound
from ledger.protocol.encoding import b64url
from ledger.rules.appeals import Action, Actor, CaseState
from ledger.rules.conduct import Conduct
from ledger.rules.order_lines import Act, Refused, judge, replay
from ledger.rules.reports import check_conduct_in_policy
from ledger.rules.rounds import blocking, has_room
from ledger.server.appeals import attachments
from ledger.server.appeals.attachments import (
    AttachmentRow,
    CheckedFile,
    NewAttachment,
    WrittenFile,
    check_room,
    reported_evidence,
)
from ledger.server.appeals.case_changes import Move, apply_action
from ledger.server.appeals.file_types import refused
from ledger.server.appeals.filing import clean_text
from ledger.server.records import case_queries, order_line_queries
from ledger.server.records.case_queries import CaseRow
from ledger.server.records.order_line_queries import ConcessionRow, RequestRow
from ledger.server.records.order_lines import refuse
from ledger.server.records.transaction import EntryBatch
from ledger.server.settings import Settings

MAX_ADDITIONS = 50
"""Unrequested messages and files that a party may add to a case."""


class Party(StrEnum):
    """The party that a participant acts for."""

    SUBJECT = "subject"
    REPORTER = "reporter"


@dataclass(frozen=True, slots=True)
class Participant:
    """A participant of a case. `platform` is None in a person's own session, whose `tags` show which cases are
    theirs."""

    party: Party
    platform: str | None = None
    control_group: str | None = None
    tags: frozenset[bytes] = frozenset()


def check_participant(batch: EntryBatch, row: CaseRow, participant: Participant) -> None:
    """Check that the case belongs to this participant.

    Raises NotFound (a case of others does not exist for them), and ConflictOfInterest for a platform of the reporter's
    control group that acts for the person.
    """
    if participant.platform is None:
        is_theirs = participant.tags and row.report_id in case_queries.reports_of_tags(
            batch.connection, participant.tags
        )
    elif participant.party is Party.REPORTER:
        is_theirs = row.platform == participant.platform
    else:
        is_theirs = row.filed_via == participant.platform and not row.filed_by_subject
    if not is_theirs:
        raise NotFound("There is no such case.")
    if participant.party is Party.SUBJECT and participant.control_group == row.control_group:
        raise ConflictOfInterest(
            "The control group that made a report does not speak for the person. Give them a link to their own record."
        )


def add_message(batch: EntryBatch, row: CaseRow, participant: Participant, text: str) -> CaseRow:
    """Answer the open question to this party, or add an unrequested message.

    Raises NotFound, ConflictOfInterest, AppealInvalid, ActionRefused.
    """
    check_participant(batch, row, participant)
    move = _message_move(row, participant)
    _check_room(batch, row, move)
    return apply_action(batch, row, replace(move, text=clean_text(text)))


def _message_move(row: CaseRow, participant: Participant) -> Move:
    """Return an answer if this party's answer is awaited, else an addition. The other party sees either."""
    if participant.party is Party.REPORTER:
        answers = row.state == CaseState.AWAITING_REPORTER
        action = Action.REPORTER_ANSWERED if answers else Action.ADD
        return Move(action, Actor.REPORTER, platform=participant.platform)
    action = Action.SUBJECT_ANSWERED if row.state == CaseState.AWAITING_SUBJECT else Action.ADD
    return Move(action, Actor.SUBJECT, platform=participant.platform)


def _add_file_event(batch: EntryBatch, row: CaseRow, participant: Participant, name: str) -> CaseRow:
    """Record in the timeline that a file was added: new information, but not an answer. Raises AppealInvalid,
    ActionRefused."""
    check_participant(batch, row, participant)
    actor = Actor.REPORTER if participant.party is Party.REPORTER else Actor.SUBJECT
    move = Move(Action.ADD, actor, platform=participant.platform, text=name)
    _check_room(batch, row, move)
    return apply_action(batch, row, move)


def _check_room(batch: EntryBatch, row: CaseRow, move: Move) -> None:
    """Check that the party may add once more. Raises AppealInvalid."""
    if (
        move.action is Action.ADD
        and case_queries.additions(batch.connection, row.id, move.actor.value) >= MAX_ADDITIONS
    ):
        raise AppealInvalid(f"A party adds to a case at most {MAX_ADDITIONS} times.")


def withdraw(batch: EntryBatch, row: CaseRow, participant: Participant) -> CaseRow:
    """Withdraw the appeal for the person; the report counts as before. Raises NotFound, AppealInvalid,
    ConflictOfInterest, ActionRefused."""
    check_participant(batch, row, participant)
    if participant.party is not Party.SUBJECT:
        raise AppealInvalid("Only the person takes an appeal back.")
    return apply_action(batch, row, Move(Action.WITHDRAW, Actor.SUBJECT, platform=participant.platform))


def reopen(batch: EntryBatch, row: CaseRow, participant: Participant, text: str) -> CaseRow:
    """Reopen a decided case for the person; a reviewer who did not work on it decides.

    A session of the person reopens only cases that the person filed: after a decision in a platform's case their own
    appeal is still available. Raises NotFound, ConflictOfInterest, AppealInvalid, ActionRefused.
    """
    check_participant(batch, row, participant)
    if participant.party is not Party.SUBJECT:
        raise AppealInvalid("Only the person reopens a case.")
    if not can_be_reopened(batch.all_cases.get(row.report_id, [row]), row, own=participant.platform is None):
        raise ActionRefused("This case is not reopened: contest the report instead.", action=Action.REOPEN.value)
    move = Move(Action.REOPEN, Actor.SUBJECT, platform=participant.platform, text=clean_text(text))
    return apply_action(batch, row, move)


def can_be_reopened(cases: Sequence[CaseRow], row: CaseRow, *, own: bool) -> bool:
    """True if the rights of the report allow reopening this case. `cases` are all cases about the report.

    The side that filed it may (`own`: the person in their own session), unless another case takes its place. State and
    dates are checked by `rules.case_machine.advance`.
    """
    if row.filed_by_subject != own:
        return False
    others = [case.as_round for case in cases if case.id != row.id]
    if blocking(others, row.filing_group) is not None:
        return False
    return row.filing_group is None or has_room(others, row.filing_group, row.control_group)


def concede(batch: EntryBatch, row: CaseRow, participant: Participant, conduct: Conduct) -> CaseRow:
    """Propose `conduct` as the reporter, once in a round. Raises NotFound, AppealInvalid, ConductNotInPolicy,
    ActionRefused."""
    check_participant(batch, row, participant)
    if participant.party is not Party.REPORTER:
        raise AppealInvalid("Only the reporter concedes.")
    report = batch.reports[row.report_id]
    order = (report.control_group, report.order_ref)
    line = replay(order_line_queries.histories(batch.connection, [order]).get(order, ()))
    verdict = judge(line, Act.CONCEDE, batch.now, case_id=row.id)
    if isinstance(verdict, Refused):
        refuse(verdict, batch.service)
    check_conduct_in_policy(conduct, batch.policy)
    severity = batch.policy.severity[conduct]
    if not 0 < severity <= row.severity or conduct.value == row.current_conduct:
        raise AppealInvalid("A concession names another accusing conduct, of no higher severity.")
    if order_line_queries.concession(batch.connection, row.id, row.round) is not None:
        raise ActionRefused("You have conceded in this round already.", action=Action.CONCEDE.value)
    new = apply_action(batch, row, Move(Action.CONCEDE, Actor.REPORTER, platform=participant.platform))
    order_line_queries.insert_concession(
        batch.connection, ConcessionRow(row.id, row.round, conduct.value, severity, batch.now, agreed_at=None)
    )
    return new


def agree(batch: EntryBatch, row: CaseRow, participant: Participant) -> CaseRow:
    """Agree, for the person, to the concession of the reporter. Raises NotFound, AppealInvalid, ConflictOfInterest,
    ActionRefused."""
    check_participant(batch, row, participant)
    if participant.party is not Party.SUBJECT:
        raise AppealInvalid("Only the person agrees.")
    if participant.control_group is not None and participant.control_group == row.control_group:
        raise ConflictOfInterest("The reporter's own group cannot agree for the person.")
    conceded = order_line_queries.concession(batch.connection, row.id, row.round)
    if conceded is None or conceded.agreed_at is not None:
        raise ActionRefused("There is nothing (more) to agree to in this case.", action=Action.AGREE.value)
    new = apply_action(batch, row, Move(Action.AGREE, Actor.SUBJECT, platform=participant.platform))
    order_line_queries.agree(batch.connection, row.id, row.round, batch.now)
    return new


def add_file(
    batch: EntryBatch,
    settings: Settings,
    row: CaseRow,
    participant: Participant,
    checked: CheckedFile,
    written: WrittenFile,
    evidence_index: int | None = None,
) -> tuple[AttachmentRow, bool]:
    """Add a file to the case; return it, and True if it is new. The same bytes twice are one attachment.

    Raises NotFound, ConflictOfInterest, AppealInvalid, AttachmentRefused (`digest_mismatch`, `too_many_files`),
    ActionRefused.
    """
    check_participant(batch, row, participant)
    index = _evidence_index(batch, row, participant, checked, evidence_index)
    for known in attachments.files_of_case(batch.connection, row.id):
        if (known.party, bytes(known.sha256), known.evidence_index) == (participant.party.value, checked.sha256, index):
            return known, False
    check_room(batch.connection, row.id, settings, participant.party.value)
    _add_file_event(batch, row, participant, checked.name)
    new = NewAttachment(
        case_id=row.id,
        party=participant.party.value,
        platform=participant.platform,
        name=checked.name,
        media_type=checked.media_type,
        size_bytes=checked.size_bytes,
        width_px=checked.width_px,
        height_px=checked.height_px,
        sha256=checked.sha256,
        file=written.file,
        evidence_index=index,
        added_at=batch.now,
    )
    file_id = attachments.insert_file_row(batch.connection, new)
    written.named = True
    return AttachmentRow(**asdict(new), id=file_id), True


def _evidence_index(
    batch: EntryBatch, row: CaseRow, participant: Participant, checked: CheckedFile, evidence_index: int | None
) -> int | None:
    """Return the index of the reported item (0 is the first) that this file is. None for the person's files, and for
    the new evidence for which the case was opened again for its reporter. Raises AppealInvalid, AttachmentRefused."""
    if participant.party is Party.SUBJECT:
        if evidence_index is not None:
            raise AppealInvalid("Only the reporter's files are items of evidence.")
        return None
    digest = b64url(checked.sha256)
    reported = [item["sha256"] for item in reported_evidence(batch.connection, row.report_id)]
    if evidence_index is None:
        if digest not in reported and _is_new_evidence(batch, row, checked.sha256):
            return None
        if digest not in reported:
            raise refused("digest_mismatch", "The report named no item of evidence with this file's SHA-256.")
        return reported.index(digest)
    if not 0 <= evidence_index < len(reported) or reported[evidence_index] != digest:
        raise refused("digest_mismatch", "The report's item of this number has another SHA-256, or there is none.")
    return evidence_index


def _is_new_evidence(batch: EntryBatch, row: CaseRow, sha256: bytes) -> bool:
    """True if the current round was granted to the reporter for evidence with this SHA-256."""
    request = order_line_queries.request(batch.connection, row.id)
    granted = request is not None and request.granted is True and row.round == request.round
    return granted and request is not None and bytes(request.evidence_sha256) == sha256


def ask_reopening(
    batch: EntryBatch, row: CaseRow, participant: Participant, evidence_sha256: bytes, text: str
) -> CaseRow:
    """Request, as the reporter, that the case is reopened for new evidence with this SHA-256 (32 bytes). Raises
    NotFound, AppealInvalid, ActionRefused."""
    check_participant(batch, row, participant)
    if participant.party is not Party.REPORTER:
        raise AppealInvalid("Only the reporter asks for this; the person reopens the case.")
    report = batch.reports[row.report_id]
    order = (report.control_group, report.order_ref)
    line = replay(order_line_queries.histories(batch.connection, [order]).get(order, ()))
    reported = order_line_queries.evidence_of(batch.connection, [report.id]).get(report.id, frozenset())
    handed_in = {bytes(file.sha256) for file in attachments.files_of_case(batch.connection, row.id)}
    verdict = judge(
        line,
        Act.ASK_REOPENING,
        batch.now,
        case_id=row.id,
        known_evidence=evidence_sha256 in reported or evidence_sha256 in handed_in,
    )
    if isinstance(verdict, Refused):
        refuse(verdict, batch.service)
    cleaned = clean_text(text)
    new = apply_action(
        batch, row, Move(Action.ASK_REOPENING, Actor.REPORTER, platform=participant.platform, text=cleaned)
    )
    order_line_queries.insert_request(
        batch.connection,
        RequestRow(
            case_id=row.id,
            evidence_sha256=evidence_sha256,
            text=cleaned,
            requested_at=batch.now,
            granted=None,
            round=None,
            staff_id=None,
            reasons=None,
            decided_at=None,
        ),
    )
    return new
