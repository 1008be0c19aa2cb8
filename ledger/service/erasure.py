"""Erasure: what is due goes for good, and the log says that it went.

Bodies and elements are deleted 60 days after expiry (docs/reports.md): entry bodies with their salts, subjects,
listings, idempotency rows and the report itself, all in the transaction that appends the `erasure` entry. The leaves
stay, so every proof still verifies; without the salts the commitments in them say nothing.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import Engine

from ledger.core.encoding import day_floor
from ledger.core.entries import EventType, erasure_entry
from ledger.core.ids import encode_id
from ledger.service.attachments import delete_many
from ledger.service.disclosures import forget_counts
from ledger.service.entry_batch import Context
from ledger.service.log_writer import Draft, EventDraft, append, open_head
from ledger.settings import Settings
from ledger.store import erasure as store
from ledger.store import lookups as lookup_store
from ledger.store import reports as report_store
from ledger.store.engine import reading, writing

MAX_REPORTS = 200
"""Reports that one transaction erases at most, so that the log is never held for long."""


DISCLOSURE_DAYS = 1095
"""Three years, as long as the gravest report is listed."""

MAX_DISCLOSURES = 1000
"""Records of lookups that one transaction deletes at most."""


def erase_due(context: Context, settings: Settings) -> int:
    """Erase reports whose time is over, at most `MAX_REPORTS`, with their appeals; returns how many.

    A report with an open case waits for the case, but never past the longest time that anything may be kept.
    Raises LogFrozen (nothing is erased that could not be logged) and DatabaseUnavailable.
    """
    policy, now = context.policy, context.now()
    today = day_floor(now)
    last_day = today - policy.erasure.after_expiry_days
    longest = now - timedelta(days=policy.erasure.at_latest_days)
    with reading(context.engine) as connection:
        if not store.due(connection, last_day, longest, 1):
            return 0  # look first: the head is every writer's lock
    with writing(context.engine) as connection:
        head, recorded_at = open_head(connection, now)
        due = store.due(connection, last_day, longest, MAX_REPORTS)
        drafts: list[Draft] = [
            EventDraft(
                EventType.ERASURE,
                erasure_entry(
                    report_id=encode_id("rp", report_id, context.service), reason="retention", recorded_at=recorded_at
                ),
                context.new_salt(),
            )
            for report_id in due
        ]
        append(connection, head, drafts, recorded_at)
        files = store.erase(connection, due)
    # After the commit: a row without its file would be a broken case, a file without its row is swept away later.
    delete_many(settings, files)
    return len(due)


def forget_disclosures(engine: Engine, now: datetime) -> int:
    """Delete records of who looked whom up after `DISCLOSURE_DAYS`; returns how many. They tell a person who asked;
    kept for ever they would outlive every report they were about."""
    before = now - timedelta(days=DISCLOSURE_DAYS)
    with writing(engine) as connection:
        single = lookup_store.forget_disclosures(connection, before, MAX_DISCLOSURES)
    return single + forget_counts(engine, before, MAX_DISCLOSURES)


def forget_answers(engine: Engine, before: datetime) -> None:
    """Delete idempotency rows older than `before`."""
    with writing(engine) as connection:
        report_store.forget_answers(connection, before)
