"""The transaction that changes cases: it holds the log's head, and writes at its end what was appended and changed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from ledger.errors import InvalidRequest, NotFound
from ledger.protocol.public_ids import decode_id
from ledger.server.appeals.case_service import report_gone
from ledger.server.db.engine import writing
from ledger.server.log.writer import open_head
from ledger.server.records import case_queries
from ledger.server.records.case_queries import CaseRow
from ledger.server.records.transaction import Context, EntryBatch


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
