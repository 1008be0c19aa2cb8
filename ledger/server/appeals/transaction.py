"""The transaction that changes cases: it holds the log's head, and what it appends and writes it does at the end."""

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
    """One transaction; commits on success, nothing is left of it otherwise. Raises LogFrozen, DatabaseUnavailable."""
    with writing(context.engine) as connection:
        head, now = open_head(connection, context.now())
        batch = EntryBatch(context, connection, head, now, report_gone)
        yield batch
        batch.finish()


def load_case(batch: EntryBatch, case_id: int) -> CaseRow:
    """The case, with its report and whatever falls with it. Raises NotFound."""
    row = case_queries.case(batch.connection, case_id)
    if row is None:
        raise NotFound("There is no such case.")
    batch.load_reports([row.report_id], [row.report_id])
    return row


def case_number(context: Context, public: str) -> int:
    """The number of a public case id. Raises NotFound for anything malformed."""
    try:
        return decode_id("ap", public, context.service)
    except InvalidRequest as error:
        raise NotFound("There is no such case.") from error


def report_number(context: Context, public: str) -> int:
    """The number of a public report id. Raises NotFound for anything malformed."""
    try:
        return decode_id("rp", public, context.service)
    except InvalidRequest as error:
        raise NotFound("There is no such report.") from error


def report_numbers(context: Context, public: Sequence[str]) -> list[int]:
    """The numbers of public report ids. A malformed one gets a negative number of its own, under which nothing is ever
    stored: it is looked up, and answered, like every other id that the ledger does not know."""
    unknown: dict[str, int] = {}
    found = []
    for one in public:
        try:
            found.append(decode_id("rp", one, context.service))
        except InvalidRequest:
            found.append(unknown.setdefault(one, -1 - len(unknown)))
    return found
