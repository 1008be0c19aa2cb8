"""A person's own cases, read in their session: the case, its letters, its files, and a file added to it.

Whoever cannot show an identifier of the person gets NotFound, as for a case that does not exist.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection

from ledger.errors import InvalidRequest, NotFound
from ledger.i18n import LOCALES
from ledger.protocol.public_ids import decode_id
from ledger.server.appeals import attachment_queries as attachment_store
from ledger.server.appeals import attachments
from ledger.server.appeals.attachment_queries import AttachmentRow
from ledger.server.appeals.case_letters import letter_of
from ledger.server.appeals.files import drafted, keep_file
from ledger.server.appeals.own_record import subject_case_view
from ledger.server.appeals.session_queries import SessionRow
from ledger.server.appeals.subject import speaker_of
from ledger.server.appeals.transaction import case_number, changing, load_case
from ledger.server.appeals.views import attachment_view
from ledger.server.db.engine import reading, snapshot_reading
from ledger.server.records import case_queries as store
from ledger.server.records import queries as report_store
from ledger.server.records.case_queries import CaseRow
from ledger.server.records.transaction import Context
from ledger.server.settings import Settings
from ledger.server.texts.letters import Letter


def own_case(context: Context, session: SessionRow, case: str) -> dict[str, Any]:
    """The whole case as the person sees it, with the letters that there are. Raises NotFound, DatabaseUnavailable."""
    with snapshot_reading(context.engine) as connection:
        row = _own(connection, context, session, case)
        cases = store.all_cases_of_reports(connection, [row.report_id])[row.report_id]
        report = report_store.reports_by_id(connection, [row.report_id]).get(row.report_id)
        return subject_case_view(connection, row, cases, report, context)


def own_letter(
    context: Context, session: SessionRow, case: str, kind: str, locale: str, number: int | None = None
) -> Letter:
    """A letter about the case, in `locale`, of round `number` or the newest of its kind. It names the platform that
    opened the session where the appeal came through it. Raises NotFound, DatabaseUnavailable."""
    with snapshot_reading(context.engine) as connection:
        row = _own(connection, context, session, case)
        opener = row.filed_via if row.filed_via == session.platform else None
        return letter_of(connection, row, context, kind, locale if locale in LOCALES else None, opener, number)


def own_file(
    context: Context, settings: Settings, session: SessionRow, case: str, attachment: str
) -> tuple[AttachmentRow, bytes]:
    """A file of the case, whichever party handed it in, with its bytes. Raises NotFound, DatabaseUnavailable."""
    with reading(context.engine) as connection:
        row = _own(connection, context, session, case)
        found = attachment_store.get(connection, _attachment_number(context, attachment))
    if found is None or found.case_id != row.id:
        raise NotFound("The case has no such file.")
    return found, attachments.read(settings, found.file)


def add_file(
    context: Context,
    settings: Settings,
    session: SessionRow,
    case: str,
    data: bytes,
    name: str,
    random_bytes: Callable[[int], bytes],
) -> dict[str, Any]:
    """Add a file to the case; what is known of it. The case is asked for first, so that nobody fills a disk with files
    for cases that are not theirs.

    Raises NotFound, AttachmentRefused, AppealInvalid, ActionRefused, LogFrozen, DatabaseUnavailable.
    """
    number = case_number(context, case)
    with reading(context.engine) as connection:
        _own(connection, context, session, case)
    checked = attachments.check_file(data, name, settings)
    with drafted(settings, data, random_bytes) as draft, changing(context) as batch:
        row, _ = keep_file(batch, settings, load_case(batch, number), speaker_of(session), checked, draft)
        return attachment_view(row, context.service)


def _own(connection: Connection, context: Context, session: SessionRow, case: str) -> CaseRow:
    row = store.case(connection, case_number(context, case))
    if row is None or row.report_id not in store.reports_of_tags(connection, [tag for _, tag in session.subjects]):
        raise NotFound("You have no case of this id.")
    return row


def _attachment_number(context: Context, public: str) -> int:
    try:
        return decode_id("at", public, context.service)
    except InvalidRequest as error:
        raise NotFound("The case has no such file.") from error
