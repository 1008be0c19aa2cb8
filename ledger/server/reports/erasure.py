"""Erasure: reports that are due are deleted for good, and the log records it.

Bodies and elements are deleted 60 days after expiry (docs/reports.md): entry bodies with their salts, subjects,
listings, idempotency rows and the report itself, all in the transaction that appends the `erasure` entry. The leaves
stay, so every proof still verifies; without the salts the commitments in them say nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from sqlalchemy import Engine

from ledger.protocol.encoding import day_floor
from ledger.protocol.public_ids import encode_id
from ledger.rules.disclosures import DISCLOSURE_DAYS
from ledger.server.appeals.attachments import delete_many
from ledger.server.context import Context
from ledger.server.db.due_rows import work_off
from ledger.server.db.engine import reading, writing
from ledger.server.log.writer import Draft, EventDraft, append, open_head
from ledger.server.lookups import queries as lookup_store
from ledger.server.lookups.disclosures import forget_counts
from ledger.server.reports import erasure_queries as store
from ledger.server.settings import Settings
from ledger.tlog.entries import EventType, erasure_entry

MAX_REPORTS = 200
"""Reports that one transaction erases at most, so that the log is never held for long."""

MAX_DISCLOSURES = 1000
"""Records of lookups that one transaction deletes at most."""

log = logging.getLogger(__name__)


def erase_due(context: Context, settings: Settings, stopped: Callable[[], bool] = lambda: False) -> int:
    """Erase all reports whose time is over, with their appeals; returns how many. `stopped` ends it early.

    A report with an open case waits for the case, but never past the longest time that anything may be kept. A report
    that fails stops no other: its error is logged (`erasure_failed` with the report's id), and the first one is raised
    at the end. Raises LogFrozen (nothing is erased that could not be logged) and DatabaseUnavailable.
    """
    policy, now = context.policy, context.now()
    last_day = day_floor(now) - policy.erasure.after_expiry_days
    longest = now - timedelta(days=policy.erasure.at_latest_days)

    def due(last: tuple[int, int] | None) -> list[tuple[int, int]]:
        with reading(context.engine) as connection:  # look first: the head is every writer's lock
            return store.due(connection, last_day, longest, MAX_REPORTS, after=last)

    def work(rows: Sequence[tuple[int, int]]) -> int:
        with writing(context.engine) as connection:
            head, recorded_at = open_head(connection, now)
            # Another process may have erased some, and a case may have been opened, since they were read.
            still = store.due(connection, last_day, longest, len(rows), among=[number for _, number in rows])
            ids = [number for _, number in still]
            append(connection, head, [_erasure(context, number, recorded_at) for number in ids], recorded_at)
            files = store.erase(connection, ids)
        # After the commit: a row without its file would be a broken case. A file without its row is swept away later.
        _delete_files(settings, files)
        return len(ids)

    return work_off(
        due,
        work,
        event="erasure_failed",
        name=lambda row: encode_id("rp", row[1], context.service),
        together=MAX_REPORTS,
        stopped=stopped,
    )


def _delete_files(settings: Settings, files: Sequence[str]) -> None:
    try:
        delete_many(settings, files)
    except OSError:  # the rows are erased; the job `attachments` deletes files that no row names
        log.exception("erased_files_not_deleted", extra={"files": len(files)})


def _erasure(context: Context, report_id: int, recorded_at: datetime) -> Draft:
    public_id = encode_id("rp", report_id, context.service)
    body = erasure_entry(report_id=public_id, reason="retention", recorded_at=recorded_at)
    return EventDraft(EventType.ERASURE, body, context.new_salt())


def forget_disclosures(engine: Engine, now: datetime) -> int:
    """Delete records of who looked whom up after `DISCLOSURE_DAYS`; returns how many. They show a person who
    asked; kept for ever they would outlive every report that they were about."""
    before = now - timedelta(days=DISCLOSURE_DAYS)
    with writing(engine) as connection:
        single = lookup_store.forget_disclosures(connection, before, MAX_DISCLOSURES)
    return single + forget_counts(engine, before, MAX_DISCLOSURES)
