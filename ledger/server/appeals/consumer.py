"""What a person does and reads in their own session: contest a report, add to a case, withdraw or reopen it, letters,
files, and the statement on a report.

A session that shows no identifier of the case's person gets NotFound, as for a case that does not exist.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import Connection

from ledger.errors import AppealInvalid, InvalidRequest, NotFound
from ledger.i18n import LOCALES
from ledger.protocol.public_ids import decode_id
from ledger.server.appeals import attachments, filing, participants
from ledger.server.appeals.attachments import AttachmentRow, written_file
from ledger.server.appeals.case_changes import case_number, changing, load_case, report_number, report_numbers
from ledger.server.appeals.consumer_record import subject_case_view
from ledger.server.appeals.filing import checked_filing, clean_text
from ledger.server.appeals.letter_facts import letter_of
from ledger.server.appeals.participants import Participant, Party
from ledger.server.appeals.sessions import SubjectSessionRow
from ledger.server.appeals.views import attachment_view
from ledger.server.context import Context
from ledger.server.db.engine import reading, snapshot_reading
from ledger.server.records import appeal_effects, case_queries
from ledger.server.records import queries as report_queries
from ledger.server.records.case_queries import CaseRow, StatementRow
from ledger.server.settings import Settings
from ledger.server.texts.letters import Letter
from ledger.tlog.entries import EventType, statement_entry


def participant_of(session: SubjectSessionRow) -> Participant:
    """Return the person of a session as a participant."""
    return Participant(Party.SUBJECT, tags=frozenset(tag for _, tag in session.subjects))


def open_cases(
    context: Context, session: SubjectSessionRow, reports: Sequence[str], grounds: str, statement: str, locale: str
) -> list[CaseRow]:
    """Contest reports. "This is not me" is `grounds="not_me"`. Raises AppealInvalid, CaseExists, NotFound, LogFrozen,
    DatabaseUnavailable."""
    numbers = report_numbers(context, reports)
    appeal = checked_filing(numbers, grounds, statement, locale, session.platform, session.profile, group=None)
    with changing(context) as batch:
        return filing.open_cases(batch, appeal, participant_of(session).tags)


def add_message(context: Context, session: SubjectSessionRow, case: str, text: str) -> CaseRow:
    """Answer the open question, or add an unrequested message. Raises NotFound, AppealInvalid, ActionRefused,
    LogFrozen, DatabaseUnavailable."""
    with changing(context) as batch:
        return participants.add_message(
            batch, load_case(batch, case_number(context, case)), participant_of(session), text
        )


def withdraw(context: Context, session: SubjectSessionRow, case: str) -> CaseRow:
    """Withdraw the appeal; the report counts as before. Raises NotFound, ActionRefused, LogFrozen,
    DatabaseUnavailable."""
    with changing(context) as batch:
        return participants.withdraw(batch, load_case(batch, case_number(context, case)), participant_of(session))


def reopen(context: Context, session: SubjectSessionRow, case: str, text: str) -> CaseRow:
    """Reopen a decided case, once. Raises NotFound, AppealInvalid, ActionRefused, LogFrozen, DatabaseUnavailable."""
    with changing(context) as batch:
        return participants.reopen(batch, load_case(batch, case_number(context, case)), participant_of(session), text)


def agree(context: Context, session: SubjectSessionRow, case: str) -> CaseRow:
    """Agree to the conduct that the reporter conceded. Raises NotFound, ActionRefused, LogFrozen,
    DatabaseUnavailable."""
    with changing(context) as batch:
        return participants.agree(batch, load_case(batch, case_number(context, case)), participant_of(session))


def add_statement(context: Context, session: SubjectSessionRow, report: str, text: str, locale: str) -> StatementRow:
    """Store the person's statement on a report, which members who look the person up can read (FCRA 15 U.S.C. 1681i(b);
    Credit Reporting Regulation art. 25). It replaces an earlier one, up to `MAX_STATEMENTS` versions.

    Raises AppealInvalid, NotFound, LogFrozen, DatabaseUnavailable.
    """
    if locale not in LOCALES:
        raise AppealInvalid(f"`locale` is {' or '.join(LOCALES)}.")
    cleaned = clean_text(text)
    report_id = report_number(context, report)
    with changing(context) as batch:
        own_reports = case_queries.reports_of_tags(batch.connection, [tag for _, tag in session.subjects])
        batch.load_reports([report_id], [])
        row = batch.reports.get(report_id)
        if report_id not in own_reports or row is None or not row.live:
            raise NotFound("This report is not in the ledger (any more), or not about you.")
        before = case_queries.statements(batch.connection, [report_id]).get(report_id)
        revision = 1 if before is None else before.revision + 1
        if revision > MAX_STATEMENTS:
            raise AppealInvalid(f"A statement is worded anew at most {MAX_STATEMENTS} times.")
        body = statement_entry(
            report_id=batch.public(report_id), revision=revision, text=cleaned, locale=locale, recorded_at=batch.now
        )
        index = batch.draft(EventType.STATEMENT, body)
        entry = {"entry_index": index, "report_id": report_id, "type": EventType.STATEMENT.value, "outcome": None}
        case_queries.add_entries(batch.connection, [{**entry, "recorded_at": batch.now}])
        statement = StatementRow(report_id, revision, cleaned, locale, batch.now, index)
        case_queries.put_statement(batch.connection, statement)
        appeal_effects.set_statement_mark(batch.connection, [report_id])
        return statement


def own_case(context: Context, session: SubjectSessionRow, case: str) -> dict[str, Any]:
    """Return the whole case as the person sees it, with the kinds of its letters. Raises NotFound,
    DatabaseUnavailable."""
    with snapshot_reading(context.engine) as connection:
        row = _own(connection, context, session, case)
        cases = case_queries.all_cases_of_reports(connection, [row.report_id])[row.report_id]
        report = report_queries.reports_by_id(connection, [row.report_id]).get(row.report_id)
        return subject_case_view(connection, row, cases, report, context)


def own_letter(
    context: Context, session: SubjectSessionRow, case: str, kind: str, locale: str, number: int | None = None
) -> Letter:
    """Return a letter about the case in `locale`, of round `number` or the newest of its kind. It names the platform
    that opened the session if the appeal came through it. Raises NotFound, DatabaseUnavailable."""
    with snapshot_reading(context.engine) as connection:
        row = _own(connection, context, session, case)
        opener = row.filed_via if row.filed_via == session.platform else None
        return letter_of(connection, row, context, kind, locale if locale in LOCALES else None, opener, number)


def own_file(
    context: Context, settings: Settings, session: SubjectSessionRow, case: str, attachment: str
) -> tuple[AttachmentRow, bytes]:
    """Return a file of the case, from either party, with its bytes. Raises NotFound, DatabaseUnavailable."""
    with reading(context.engine) as connection:
        row = _own(connection, context, session, case)
        file = attachments.file_row(connection, _attachment_number(context, attachment))
    if file is None or file.case_id != row.id:
        raise NotFound("The case has no such file.")
    return file, attachments.read(settings, file.file)


def add_file(
    context: Context,
    settings: Settings,
    session: SubjectSessionRow,
    case: str,
    data: bytes,
    name: str,
    random_bytes: Callable[[int], bytes],
) -> dict[str, Any]:
    """Add a file to the case; return its description. The case is checked before anything is written to disk, so a
    stranger cannot fill the disk.

    Raises NotFound, AttachmentRefused, AppealInvalid, ActionRefused, LogFrozen, DatabaseUnavailable.
    """
    number = case_number(context, case)
    with reading(context.engine) as connection:
        _own(connection, context, session, case)
    checked = attachments.check_file(data, name, settings)
    with written_file(settings, data, random_bytes) as draft, changing(context) as batch:
        row, _ = participants.add_file(
            batch, settings, load_case(batch, number), participant_of(session), checked, draft
        )
        return attachment_view(row, context.service)


def _own(connection: Connection, context: Context, session: SubjectSessionRow, case: str) -> CaseRow:
    row = case_queries.case(connection, case_number(context, case))
    if row is None or row.report_id not in case_queries.reports_of_tags(
        connection, [tag for _, tag in session.subjects]
    ):
        raise NotFound("You have no case of this id.")
    return row


def _attachment_number(context: Context, public: str) -> int:
    try:
        return decode_id("at", public, context.service)
    except InvalidRequest as error:
        raise NotFound("The case has no such file.") from error


MAX_STATEMENTS = 5
"""Versions of a person's statement on one report."""
