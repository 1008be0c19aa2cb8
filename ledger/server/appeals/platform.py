"""What platforms do in appeals over the API: file for a customer, answer as reporter, add files, read cases and
letters, and read the statements of persons whom they looked up.

A platform may be both the filer and the reporter of a case, so each request names its party. For a platform that is
neither, the case does not exist. A platform that only opened the session in which the person filed by themselves reads
only the state.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import orjson

from ledger.errors import InvalidRequest, LedgerError, NotFound, ScopeMissing
from ledger.protocol.encoding import b64url, format_time
from ledger.protocol.identifiers import Kind
from ledger.protocol.public_ids import decode_id, encode_id
from ledger.rules.appeals import MAX_REPORTS
from ledger.rules.conduct import Conduct
from ledger.rules.standing import visible_events
from ledger.server.appeals import attachments, filing, participants
from ledger.server.appeals.attachments import written_file
from ledger.server.appeals.case_changes import case_number, changing, load_case, report_numbers
from ledger.server.appeals.filing import checked_filing, clean_text, count_attempt, log_attempt_outcome
from ledger.server.appeals.letter_facts import all_letters, letter_of
from ledger.server.appeals.participants import Participant, Party
from ledger.server.appeals.sessions import SESSION_PURPOSE, Link, check_epoch, open_link
from ledger.server.appeals.views import attachment_view, case_state, case_view, party_of
from ledger.server.context import Context
from ledger.server.db.engine import reading, snapshot_reading
from ledger.server.lookups import queries as lookup_queries
from ledger.server.lookups.disclosures import READABLE_HOURS
from ledger.server.lookups.queries import ListingRow, listing_event
from ledger.server.platforms.members import Member
from ledger.server.records import case_queries
from ledger.server.records.case_queries import CaseRow
from ledger.server.records.idempotency import IdempotentRequest, ResponseStore, StoredResponse, idempotent_request
from ledger.server.records.transaction import EntryBatch
from ledger.server.settings import Settings

Subjects = Sequence[tuple[Kind, bytes]]


@dataclass(frozen=True, slots=True)
class Caller:
    """A platform that calls. `for_person`: its token has the scope `appeal`, so it may act for its customers; with
    `report` alone it answers for its own reports."""

    member: Member
    for_person: bool


@dataclass(frozen=True, slots=True)
class AppealService:
    """The context of platforms' actions in appeals, with the settings (quotas, files, the public address) and the key
    of the MACs over idempotent requests."""

    context: Context
    settings: Settings
    idempotency_key: bytes


# --- filing -------------------------------------------------------------------------------------------------------


def open_cases(
    service: AppealService,
    member: Member,
    *,
    reports: Sequence[str],
    grounds: str,
    statement: str,
    locale: str,
    epoch: int | None,
    subjects: Subjects,
    idempotency_key: str,
) -> StoredResponse:
    """Contest `reports` for the customer with these (kind, tag) pairs under key `epoch`. All cases are opened or none.

    Every attempt is counted, and listed in the person's record if there is one. Raises InvalidRequest, AppealInvalid,
    QuotaExceeded, StaleEpoch, NotFound, CaseExists, ConflictOfInterest, IdempotencyMismatch, LogFrozen,
    DatabaseUnavailable.
    """
    if (epoch is None) != (not subjects):
        raise InvalidRequest("`epoch` and `subjects` come together.")
    numbers = report_numbers(service.context, reports[: MAX_REPORTS + 1])  # one too many is enough
    appeal = checked_filing(
        numbers, grounds, statement, locale, member.platform, member.profile, group=member.control_group
    )
    content = {
        "reports": list(reports),
        "grounds": grounds,
        "statement": appeal.statement,
        "locale": locale,
        "epoch": epoch,
        "subjects": [[kind.value, b64url(tag)] for kind, tag in subjects],
    }
    participant = Participant(
        Party.SUBJECT, member.platform, member.control_group, frozenset(tag for _, tag in subjects)
    )

    def work(batch: EntryBatch) -> tuple[int, int, dict[str, Any]]:
        if epoch is not None:
            check_epoch(batch.connection, epoch)
        rows = filing.open_cases(batch, appeal, participant.tags)
        return rows[0].report_id, 201, _filed(rows, batch.service)

    request = idempotent_request(service.idempotency_key, member, idempotency_key, content, "appeal")
    count_attempt(service.context.engine, service.settings, member, participant.tags, service.context.now(), request)
    try:
        done = _once(service, request, work)
    except LedgerError as error:
        log_attempt_outcome(member, error.code)
        raise
    log_attempt_outcome(member, "filed")
    return done


def _filed(rows: Sequence[CaseRow], service: str) -> dict[str, Any]:
    return {
        "group": encode_id("ap", rows[0].group_id, service),
        "appeals": [
            {
                "id": encode_id("ap", row.id, service),
                "report": encode_id("rp", row.report_id, service),
                "state": row.state.value,
                "due_at": format_time(row.due_at),
            }
            for row in rows
        ],
    }


def open_record(
    service: AppealService, member: Member, epoch: int, subjects: Subjects, locale: str, base_url: str
) -> Link:
    """Create a single-use link to the record of the customer with these (kind, tag) pairs.

    Raises AppealInvalid, StaleEpoch, QuotaExceeded, DatabaseUnavailable.
    """
    return open_link(
        service.context.engine,
        service.settings,
        member,
        epoch=epoch,
        subjects=subjects,
        locale=locale,
        now=service.context.now(),
        random_bytes=secrets.token_bytes,
        base_url=(service.settings.public_url or base_url).rstrip("/"),
    )


# --- reading ------------------------------------------------------------------------------------------------------


def get_appeal(service: AppealService, caller: Caller, appeal_id: str, party: Party | None) -> dict[str, Any]:
    """Return the case for `party`, by default the party that the caller is. Raises NotFound, ScopeMissing."""
    with snapshot_reading(service.context.engine) as connection:
        row = _case(case_queries.case(connection, case_number(service.context, appeal_id)))
        reads_as = _reads_as(row, caller, party)
        if reads_as is not None:
            return case_view(connection, row, reads_as, service.context.service)
    if party is None and _opened_session(row, caller):
        return case_state(row, service.context.service)
    raise _not_yours()


def list_appeals(
    service: AppealService, caller: Caller, role: str | None, state: str | None, limit: int, starting_after: str | None
) -> dict[str, Any]:
    """Return {data, has_more}: cases filed through this platform (`role` filed), cases about its reports (reported), or
    both, newest first. Raises InvalidRequest for a malformed cursor, ScopeMissing."""
    filed = role == "filed" or (role is None and caller.for_person)
    if filed:
        _check_scope(caller)
    before_id = None if starting_after is None else decode_id("ap", starting_after, service.context.service)
    with reading(service.context.engine) as connection:
        rows = case_queries.cases_page(
            connection,
            platform=caller.member.platform,
            filed=filed,
            reported=role != "filed",
            state=state,
            limit=limit + 1,
            before_id=before_id,
        )
    party = {"filed": Party.SUBJECT, "reported": Party.REPORTER}.get(role or "")
    return {
        "data": [_summary(row, caller, party, service.context.service) for row in rows[:limit]],
        "has_more": len(rows) > limit,
    }


def _summary(row: CaseRow, caller: Caller, party: Party | None, service: str) -> dict[str, Any]:
    reads_as = party_of(row, caller.member.platform)
    if reads_as is Party.SUBJECT and (party is Party.REPORTER or not caller.for_person):
        reads_as = Party.REPORTER
    elif reads_as is Party.REPORTER and party is Party.SUBJECT:
        reads_as = None  # it only opened the person's session; what it knows as the reporter is in the other list
    asks = None if reads_as is None else f"awaiting_{reads_as.value}"
    known = reads_as is not None
    return {
        **case_state(row, service),
        "party": reads_as.value if reads_as is not None else None,
        "report": encode_id("rp", row.report_id, service) if known else None,
        "outcome": row.outcome.value if known and row.outcome is not None else None,
        "answer_due_at": None if row.state != asks or row.question_due_at is None else format_time(row.question_due_at),
    }


def list_letters(service: AppealService, caller: Caller, appeal_id: str) -> dict[str, Any]:
    """Return {data, earlier}: the letters of the current round, and those of earlier rounds. Raises NotFound,
    ScopeMissing."""
    with reading(service.context.engine) as connection:
        row = _persons_case(case_queries.case(connection, case_number(service.context, appeal_id)), caller)
        letters = all_letters(connection, row)
    items = [{"kind": kind.value, "locale": row.locale, "round": number} for number, kind in letters]
    return {
        "data": [item for item in items if item["round"] == row.round],
        "earlier": [item for item in items if item["round"] != row.round],
    }


def get_letter(
    service: AppealService, caller: Caller, appeal_id: str, kind: str, locale: str | None, number: int | None = None
) -> dict[str, Any]:
    """Return a letter in `locale` (default: the language of the case), of round `number` or the newest of its kind.
    Raises NotFound, ScopeMissing."""
    with snapshot_reading(service.context.engine) as connection:
        row = _persons_case(case_queries.case(connection, case_number(service.context, appeal_id)), caller)
        letter = letter_of(connection, row, service.context, kind, locale, row.filed_via, number)
    return {**letter.to_dict(), "text": letter.to_text()}


def get_attachment(
    service: AppealService, caller: Caller, appeal_id: str, attachment_id: str
) -> tuple[attachments.AttachmentRow, bytes]:
    """Return a file of the case and its bytes, for either party. Raises NotFound."""
    number = case_number(service.context, appeal_id)
    try:
        place = decode_id("at", attachment_id, service.context.service)
    except InvalidRequest as error:
        raise NotFound("There is no such file.") from error
    with reading(service.context.engine) as connection:
        row = _case(case_queries.case(connection, number))
        file = attachments.file_row(connection, place)
    if _reads_as(row, caller, None) is None:
        raise _not_yours()
    if file is None or file.case_id != row.id:
        raise NotFound("There is no such file.")
    return file, attachments.read(service.settings, file.file)


# --- acting -------------------------------------------------------------------------------------------------------


def add_message(
    service: AppealService, caller: Caller, appeal_id: str, party: Party, text: str, idempotency_key: str
) -> StoredResponse:
    """Answer the open question to `party`, or add an unrequested message. Raises NotFound, ScopeMissing, AppealInvalid,
    ActionRefused."""
    participant, cleaned = _participant(caller, party), clean_text(text)
    content = {"appeal": appeal_id, "party": party.value, "text": cleaned}
    request = _identify(service, caller, idempotency_key, content, "appeal_message")
    return _in_case(
        service,
        request,
        appeal_id,
        participant,
        lambda batch, row: participants.add_message(batch, row, participant, cleaned),
    )


def withdraw(service: AppealService, caller: Caller, appeal_id: str, idempotency_key: str) -> StoredResponse:
    """Withdraw the appeal at the person's wish. Raises NotFound, ScopeMissing, ConflictOfInterest, ActionRefused."""
    participant = _participant(caller, Party.SUBJECT)
    request = _identify(service, caller, idempotency_key, {"appeal": appeal_id}, "appeal_withdraw")
    return _in_case(
        service, request, appeal_id, participant, lambda batch, row: participants.withdraw(batch, row, participant)
    )


def reopen(service: AppealService, caller: Caller, appeal_id: str, text: str, idempotency_key: str) -> StoredResponse:
    """Reopen a decided case, once. Raises NotFound, ScopeMissing, ConflictOfInterest, AppealInvalid, ActionRefused."""
    participant, cleaned = _participant(caller, Party.SUBJECT), clean_text(text)
    request = _identify(service, caller, idempotency_key, {"appeal": appeal_id, "text": cleaned}, "appeal_reopen")
    return _in_case(
        service,
        request,
        appeal_id,
        participant,
        lambda batch, row: participants.reopen(batch, row, participant, cleaned),
    )


def concede(
    service: AppealService, caller: Caller, appeal_id: str, conduct: Conduct, idempotency_key: str
) -> StoredResponse:
    """Propose, as the reporter, a conduct of no higher severity. Raises NotFound, AppealInvalid, ConductNotInPolicy,
    ActionRefused."""
    participant = _participant(caller, Party.REPORTER)
    content = {"appeal": appeal_id, "conduct": conduct.value}
    request = _identify(service, caller, idempotency_key, content, "appeal_concede")
    return _in_case(
        service,
        request,
        appeal_id,
        participant,
        lambda batch, row: participants.concede(batch, row, participant, conduct),
    )


def agree(service: AppealService, caller: Caller, appeal_id: str, idempotency_key: str) -> StoredResponse:
    """Agree, for the person, to the concession of the reporter. Raises NotFound, ScopeMissing, ConflictOfInterest,
    ActionRefused."""
    participant = _participant(caller, Party.SUBJECT)
    request = _identify(service, caller, idempotency_key, {"appeal": appeal_id}, "appeal_agree")
    return _in_case(
        service, request, appeal_id, participant, lambda batch, row: participants.agree(batch, row, participant)
    )


def ask_reopening(
    service: AppealService, caller: Caller, appeal_id: str, evidence_sha256: bytes, text: str, idempotency_key: str
) -> StoredResponse:
    """Request, as the reporter, that a case decided `unconfirmed` is reopened for new evidence. Raises NotFound,
    AppealInvalid, ActionRefused."""
    participant, cleaned = _participant(caller, Party.REPORTER), clean_text(text)
    content = {"appeal": appeal_id, "evidence_sha256": b64url(evidence_sha256), "text": cleaned}
    request = _identify(service, caller, idempotency_key, content, "appeal_reopen_request")
    return _in_case(
        service,
        request,
        appeal_id,
        participant,
        lambda batch, row: participants.ask_reopening(batch, row, participant, evidence_sha256, cleaned),
    )


def add_file(
    service: AppealService,
    caller: Caller,
    appeal_id: str,
    party: Party,
    data: bytes,
    name: str,
    evidence_index: int | None,
    idempotency_key: str,
) -> StoredResponse:
    """Add a file for `party`. The status is 201, or 200 with the attachment if these bytes were added before.

    Raises NotFound, ScopeMissing, AppealInvalid, AttachmentRefused, ActionRefused.
    """
    participant, number = _participant(caller, party), case_number(service.context, appeal_id)
    with reading(service.context.engine) as connection:  # a stranger must not write to the disk
        row = _case(case_queries.case(connection, number))
    if _reads_as(row, caller, party) is None:
        raise _not_yours()
    checked = attachments.check_file(data, name, service.settings)
    content = {
        "appeal": appeal_id,
        "party": party.value,
        "sha256": b64url(checked.sha256),
        "name": checked.name,
        "evidence_index": evidence_index,
    }
    request = _identify(service, caller, idempotency_key, content, "appeal_attachment")
    with written_file(service.settings, data, secrets.token_bytes) as written, changing(service.context) as batch:
        responses = ResponseStore(batch, [request])
        stored = responses.recall(request)
        if stored is not None:
            return stored
        row = load_case(batch, number)
        file, fresh = participants.add_file(batch, service.settings, row, participant, checked, written, evidence_index)
        body = orjson.dumps(attachment_view(file, batch.service)).decode()
        return responses.remember(request, row.report_id, 201 if fresh else 200, body)


# --- inside -------------------------------------------------------------------------------------------------------


def _identify(
    service: AppealService, caller: Caller, idempotency_key: str, content: Mapping[str, Any], operation: str
) -> IdempotentRequest:
    """Return the identity of a write request."""
    return idempotent_request(service.idempotency_key, caller.member, idempotency_key, content, operation)


def _once(
    service: AppealService, request: IdempotentRequest, work: Callable[[EntryBatch], tuple[int, int, dict[str, Any]]]
) -> StoredResponse:
    """Do `work` once per idempotency key; it returns (report to be erased with, status, body)."""
    with changing(service.context) as batch:
        responses = ResponseStore(batch, [request])
        stored = responses.recall(request)
        if stored is not None:
            return stored
        report_id, status, body = work(batch)
        return responses.remember(request, report_id, status, orjson.dumps(body).decode())


def _in_case(
    service: AppealService,
    request: IdempotentRequest,
    appeal_id: str,
    participant: Participant,
    act: Callable[[EntryBatch, CaseRow], CaseRow],
) -> StoredResponse:
    number = case_number(service.context, appeal_id)

    def work(batch: EntryBatch) -> tuple[int, int, dict[str, Any]]:
        row = act(batch, load_case(batch, number))
        return row.report_id, 200, case_view(batch.connection, row, participant.party, batch.service)

    return _once(service, request, work)


def _participant(caller: Caller, party: Party) -> Participant:
    if party is Party.SUBJECT:
        _check_scope(caller)
    return Participant(party, caller.member.platform, caller.member.control_group)


def _check_scope(caller: Caller) -> None:
    if not caller.for_person:
        raise ScopeMissing("To speak for a person needs the scope appeal.", scope="appeal")


def _reads_as(row: CaseRow, caller: Caller, party: Party | None) -> Party | None:
    """Return the party as which the caller reads this case if it asks for `party`; None if it may not. Raises
    ScopeMissing."""
    if party is Party.SUBJECT:
        _check_scope(caller)
    own = party_of(row, caller.member.platform)
    reporter = Party.REPORTER if row.platform == caller.member.platform else None
    if party is Party.REPORTER or (own is Party.SUBJECT and not caller.for_person):
        return reporter
    return own if party in (None, own) else None


def _opened_session(row: CaseRow, caller: Caller) -> bool:
    return caller.for_person and row.filed_by_subject and row.filed_via == caller.member.platform


def _persons_case(row: CaseRow | None, caller: Caller) -> CaseRow:
    """Return the case if the caller filed it for the person; other platforms do not read the person's letters. Raises
    NotFound."""
    case = _case(row)
    if _reads_as(case, caller, Party.SUBJECT) is None:
        raise _not_yours()
    return case


def _case(row: CaseRow | None) -> CaseRow:
    if row is None:
        raise _not_yours()
    return row


def _not_yours() -> NotFound:
    return NotFound("There is no such case.")


# --- statements of persons -------------------------------------------------------------------------------------------


def statements_of_lookup(
    context: Context, member: Member, lookup_id: str, weights: Mapping[str, int]
) -> dict[str, Any]:
    """Return {statements}: what the person says of the reports that this lookup disclosed and that a lookup would
    disclose now, oldest first, without the reports that they are about. `weights` are those of control groups.

    Raises NotFound for the lookups of others, for those that disclosed nothing, and for old ones.
    """
    number, now = _lookup_number(context, lookup_id), context.now()
    with snapshot_reading(context.engine) as connection:
        disclosed = lookup_queries.disclosure(connection, number)
        if disclosed is None:
            raise _no_disclosure()
        lookup, tags = disclosed
        if (
            lookup.platform != member.platform
            or lookup.purpose == SESSION_PURPOSE
            or now - lookup.asked_at > timedelta(hours=READABLE_HOURS)
        ):
            raise _no_disclosure()

        def is_disclosed(row: ListingRow) -> bool:
            visible = visible_events([listing_event(row, Kind(row.kind))], weights, context.policy, now)
            return bool(visible.counting or visible.disputed or visible.protected)

        listed = [row for rows in lookup_queries.listings(connection, tags).values() for row in rows]
        # A report's id is its entry's index: the lookup disclosed none that came after it.
        reports = {row.report_id for row in listed if row.report_id < lookup.as_of_index and is_disclosed(row)}
        rows = sorted(
            case_queries.statements(connection, reports).values(), key=lambda row: (row.made_at, row.entry_index)
        )
    return {
        "statements": [{"text": row.text, "locale": row.locale, "made_at": format_time(row.made_at)} for row in rows]
    }


def _lookup_number(context: Context, lookup_id: str) -> int:
    try:
        return decode_id("lk", lookup_id, context.service)
    except InvalidRequest as error:
        raise _no_disclosure() from error


def _no_disclosure() -> NotFound:
    return NotFound("You made no lookup of this id in the last 24 hours that disclosed anything.")
