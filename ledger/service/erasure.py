"""Erasure: what is due goes for good, and the log says that it went.

Bodies and elements are deleted 60 days after expiry (DESIGN.md section 5): entry bodies with their salts, subjects,
listings, idempotency rows and the report itself, all in the transaction that appends the `erasure` entry. The leaves
stay, so every proof still verifies; without the salts the commitments in them say nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from sqlalchemy import Engine

from ledger.core.encoding import canonical_json, day_floor, format_time
from ledger.core.entries import EventType
from ledger.core.ids import encode_id
from ledger.core.policy import Policy
from ledger.service.log_writer import Draft, EventDraft, append, open_head
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


def erase_due(engine: Engine, policy: Policy, service: str, now: datetime, new_salt: Callable[[], bytes]) -> int:
    """Erase reports whose time is over, at most `MAX_REPORTS`; returns how many.

    Raises LogFrozen (nothing is erased that could not be logged) and DatabaseUnavailable.
    """
    last_day = day_floor(now) - policy.erasure.after_expiry_days
    with reading(engine) as connection:
        if not store.due(connection, last_day, 1):
            return 0  # look first: the head is every writer's lock
    with writing(engine) as connection:
        head, recorded_at = open_head(connection, now)
        due = store.due(connection, last_day, MAX_REPORTS)
        drafts: list[Draft] = [
            EventDraft(
                EventType.ERASURE,
                canonical_json(
                    {
                        "type": EventType.ERASURE.value,
                        "report": encode_id("rp", report_id, service),
                        "reason": "retention",
                        "recorded_at": format_time(recorded_at),
                    }
                ),
                new_salt(),
            )
            for report_id in due
        ]
        append(connection, head, drafts, recorded_at)
        store.erase(connection, due)
    return len(due)


def forget_disclosures(engine: Engine, now: datetime) -> int:
    """Delete records of who looked whom up after `DISCLOSURE_DAYS`; returns how many. They tell a person who asked;
    kept for ever they would outlive every report they were about."""
    before = now - timedelta(days=DISCLOSURE_DAYS)
    with writing(engine) as connection:
        return lookup_store.forget_disclosures(connection, before, MAX_DISCLOSURES)


def forget_answers(engine: Engine, before: datetime) -> None:
    """Delete idempotency rows older than `before`."""
    with writing(engine) as connection:
        report_store.forget_answers(connection, before)
