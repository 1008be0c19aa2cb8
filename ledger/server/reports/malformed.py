"""Taking back reports that were recorded under an element in another spelling than its canonical one.

Earlier versions took such elements because libsodium 1.0.18 ignores bit 255 of a point. The tag of such a spelling is
another one than the person's: no lookup and no record of theirs showed the report, so they could not contest it, and
the next key rotation would have spelled the element canonically and made it count at once. The identity in that
spelling belongs to no person, and no key changes it.

Intake refuses such a report today, so the ledger takes back those that it accepted by mistake:

- a withdrawal for the reason `malformed_subject` is appended: the report does not count any longer, now and after a
  rotation, reports that rest on it fall with it, and its order may be reported again, with a notice of its own;
- the platform reads the reason in its report, and gets the webhook `report.voided`;
- the person finds the report in their own record, under the tag of the canonical element;
- the element is stored in its canonical spelling, so that a rotation can convert it; a subject that is the identity is
  deleted.

A report that had been taken back before only has its elements spelled anew.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, Engine

from ledger.protocol.public_ids import encode_id
from ledger.protocol.tags import tag
from ledger.protocol.voprf import canonical_spelling
from ledger.server.appeals.case_changes import changing
from ledger.server.context import Context
from ledger.server.db.due_rows import work_off
from ledger.server.db.engine import reading
from ledger.server.log.policies import read_timeline
from ledger.server.records import appeal_effects as effects
from ledger.server.records.transaction import EntryBatch
from ledger.server.reports import malformed_queries as store
from ledger.server.reports.malformed_queries import ReportName, ReportSubjectRow
from ledger.server.settings import Settings
from ledger.tlog.entries import SALT_BYTES, WithdrawalReason

WINDOW = 20_000
"""Subjects that one query reads."""

MAX_REPORTS = 100
"""Reports that one transaction takes back at most: it holds the log's head."""

START = -1
"""Before every report."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class MalformedReport:
    """A report with a malformed subject; `taken_back` is true once the ledger has withdrawn it for
    that."""

    report_id: int
    platform: str
    recorded_at: datetime
    taken_back: bool


def take_back_malformed(
    context: Context, after: int = START, stop: Callable[[], bool] = lambda: False
) -> tuple[int, list[int]]:
    """Take back every report beyond `after` that has a malformed subject; return (the last report that was checked, the
    reports that were changed). Reads every subject beyond `after`, in pieces; `stop` ends it early.

    Doing it again changes nothing. A report that fails stops no other: its error is logged (`malformed_report_failed`
    with the report's id), and the first one is raised at the end. Raises LogFrozen, DatabaseUnavailable. What was done
    stays.
    """
    changed: list[int] = []
    windows = _windows(context.engine, after)
    looked = after

    def due(last: int | None) -> list[int]:
        nonlocal looked
        if last is not None and stop():
            return []
        for end, malformed in windows:
            looked = end
            if malformed:
                return malformed
            if stop():
                break
        return []

    def work(ids: Sequence[int]) -> int:
        with changing(context) as batch:
            _take_back(batch, ids)
        changed.extend(ids)
        log.warning("malformed_reports_taken_back", extra={"reports": len(ids)})
        return len(ids)

    work_off(
        due,
        work,
        event="malformed_report_failed",
        name=lambda number: encode_id("rp", number, context.service),
        together=MAX_REPORTS,
    )
    return looked, changed


def context_of(settings: Settings, engine: Engine, clock: Callable[[], datetime]) -> Context:
    """Return the context of `take_back_malformed` in a command that runs without a server. Raises ConfigurationError
    before genesis, DatabaseUnavailable."""
    with reading(engine) as connection:
        policies = read_timeline(connection)
    return Context(
        engine, policies, settings.service, clock, lambda: secrets.token_bytes(SALT_BYTES), settings.environment
    )


def malformed_reports(engine: Engine) -> list[MalformedReport]:
    """Return all reports with a malformed subject that are in the database, by id: those taken back, and those that the
    next round of a server's maintenance or the next run of `rotate` takes back. Reads every subject."""
    with reading(engine) as connection:
        done = store.taken_back(connection, WithdrawalReason.MALFORMED_SUBJECT.value)
    waiting: list[ReportName] = []
    for _, malformed in _windows(engine, START):
        with reading(engine) as connection:
            waiting += store.names(connection, malformed)
    rows = [MalformedReport(*row, taken_back=True) for row in done]
    rows += [MalformedReport(*row, taken_back=False) for row in waiting]
    return sorted(rows, key=lambda row: row.report_id)


def _windows(engine: Engine, after: int) -> Iterator[tuple[int, list[int]]]:
    """Yield (last report of a window, malformed reports in it), window by window, each read in a transaction of its
    own."""
    while True:
        with reading(engine) as connection:
            last = store.window(connection, after, WINDOW)
            malformed = [] if last is None else store.malformed_reports(connection, after, last)
        if last is None:
            return
        yield last, malformed
        after = last


def _take_back(batch: EntryBatch, ids: Sequence[int]) -> None:
    rows = store.subjects_of(batch.connection, ids)
    batch.load_reports([], ids)
    live = {report_id for report_id in ids if report_id in batch.reports and batch.reports[report_id].live}
    spelled = {(row.report_id, row.slot, row.epoch): canonical_spelling(bytes(row.element)) for row in rows}
    _remember(batch.connection, [row for row in rows if row.report_id in live], spelled)
    # Newest first: an `account_farm` report that is malformed itself is taken back for that, not for what it rests on.
    for report_id in sorted(live, reverse=True):
        if report_id not in batch.reversals:
            batch.withdraw(batch.reports[report_id], WithdrawalReason.MALFORMED_SUBJECT)
    _respell(batch.connection, rows, spelled)


Spelled = dict[tuple[int, int, int], bytes | None]
"""The canonical encoding of each (report, slot, epoch); None for the identity."""


def _remember(connection: Connection, rows: Sequence[ReportSubjectRow], spelled: Spelled) -> None:
    """Keep the tags under which the persons find the reports in their records."""
    tags = []
    for row in rows:
        element = spelled[row.report_id, row.slot, row.epoch]
        if element is not None:
            place = {"report_id": row.report_id, "slot": row.slot, "epoch": row.epoch}
            tags.append({"tag": tag(row.kind, element), **place})
    store.add_tags(connection, tags)


def _respell(connection: Connection, rows: Sequence[ReportSubjectRow], spelled: Spelled) -> None:
    for row in rows:
        element = spelled[row.report_id, row.slot, row.epoch]
        if element is None:
            effects.unlink(connection, row.report_id, [row.slot])
        elif element != bytes(row.element):
            store.respell(connection, row, element, tag(row.kind, element))
