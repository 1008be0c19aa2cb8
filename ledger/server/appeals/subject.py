"""What a person does in their own session: contest a report, add to the case, state their view, take it back."""

from __future__ import annotations

from collections.abc import Sequence

from ledger.errors import AppealInvalid, NotFound
from ledger.i18n import LOCALES
from ledger.server.appeals.concessions import agree
from ledger.server.appeals.filing import clean_text, filing
from ledger.server.appeals.own_record import MAX_STATEMENTS
from ledger.server.appeals.parties import Party, Speaker, file, reopen, say, withdraw_appeal
from ledger.server.appeals.session_queries import SessionRow
from ledger.server.appeals.transaction import case_number, changing, load_case, report_number, report_numbers
from ledger.server.records import appeal_effects as effects
from ledger.server.records import case_queries as store
from ledger.server.records.case_queries import CaseRow, StatementRow
from ledger.server.records.transaction import Context
from ledger.tlog.entries import EventType, statement_entry


def speaker_of(session: SessionRow) -> Speaker:
    """The person, as parties are checked."""
    return Speaker(Party.SUBJECT, tags=frozenset(tag for _, tag in session.subjects))


def appeal(
    context: Context, session: SessionRow, reports: Sequence[str], grounds: str, statement: str, locale: str
) -> list[CaseRow]:
    """Contest reports. "This is not me" is `grounds="not_me"`. Raises AppealInvalid, NotFound, CaseExists."""
    numbers = report_numbers(context, reports)
    wanted = filing(numbers, grounds, statement, locale, session.platform, session.profile, group=None)
    with changing(context) as batch:
        return file(batch, wanted, speaker_of(session))


def add(context: Context, session: SessionRow, case: str, text: str) -> CaseRow:
    """Answer a question, or add something. Raises NotFound, AppealInvalid, ActionRefused."""
    with changing(context) as batch:
        return say(batch, load_case(batch, case_number(context, case)), speaker_of(session), text)


def take_back(context: Context, session: SessionRow, case: str) -> CaseRow:
    """Withdraw the appeal; the report counts as before. Raises NotFound, ActionRefused."""
    with changing(context) as batch:
        return withdraw_appeal(batch, load_case(batch, case_number(context, case)), speaker_of(session))


def contest_again(context: Context, session: SessionRow, case: str, text: str) -> CaseRow:
    """Reopen a decided case, once. Raises NotFound, AppealInvalid, ActionRefused."""
    with changing(context) as batch:
        return reopen(batch, load_case(batch, case_number(context, case)), speaker_of(session), text)


def agree_to_concession(context: Context, session: SessionRow, case: str) -> CaseRow:
    """Agree to the conduct that the reporter conceded. Raises NotFound, ActionRefused."""
    with changing(context) as batch:
        return agree(batch, load_case(batch, case_number(context, case)), speaker_of(session))


def state(context: Context, session: SessionRow, report: str, text: str, locale: str) -> StatementRow:
    """Put a statement of one's own beside a report: members who look the person up can read it (FCRA 15 U.S.C.
    1681i(b); Credit Reporting Regulation art. 25). A new one takes the old one's place, at most `MAX_STATEMENTS` times.

    Raises AppealInvalid, NotFound.
    """
    if locale not in LOCALES:
        raise AppealInvalid(f"`locale` is {' or '.join(LOCALES)}.")
    cleaned = clean_text(text)
    report_id = report_number(context, report)
    with changing(context) as batch:
        found = store.reports_of_tags(batch.connection, [tag for _, tag in session.subjects])
        batch.load_reports([report_id], [])
        row = batch.reports.get(report_id)
        if report_id not in found or row is None or not row.live:
            raise NotFound("This report is not in the ledger (any more), or not about you.")
        before = store.statements(batch.connection, [report_id]).get(report_id)
        revision = 1 if before is None else before.revision + 1
        if revision > MAX_STATEMENTS:
            raise AppealInvalid(f"A statement is worded anew at most {MAX_STATEMENTS} times.")
        body = statement_entry(
            report_id=batch.public(report_id), revision=revision, text=cleaned, locale=locale, recorded_at=batch.now
        )
        index = batch.draft(EventType.STATEMENT, body)
        entry = {"entry_index": index, "report_id": report_id, "type": EventType.STATEMENT.value, "outcome": None}
        store.add_entries(batch.connection, [{**entry, "recorded_at": batch.now}])
        made = StatementRow(report_id, revision, cleaned, locale, batch.now, index)
        store.put_statement(batch.connection, made)
        effects.set_statement_mark(batch.connection, [report_id])
        return made
