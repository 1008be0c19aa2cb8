"""Who was shown something of a person's record: kept one by one for a day, and as counts for three years.

A lookup that disclosed an event is a row of its own for as long as its platform may ask for the person's statements
(`READABLE_HOURS`). After that, and before it where one identifier has more than `MAX_SINGLE` such rows, lookups are
counted by platform, UTC day, purpose and order (`ledger.server.lookups.disclosure_queries`). So neither the rows of a
person nor the time to read them grow with what one platform asks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Engine

from ledger.protocol.encoding import day_floor, format_time
from ledger.rules.disclosures import lines
from ledger.server.db.due_rows import work_off
from ledger.server.db.engine import reading, writing
from ledger.server.lookups import disclosure_queries as store
from ledger.server.lookups.disclosure_queries import LookupRow

READABLE_HOURS = 24
"""How long after a lookup its statements can be read: one decision, not an archive."""

SINGLE_HOURS = READABLE_HOURS + 1
"""How long a lookup stays a row of its own."""

MAX_SINGLE = 1000
"""Lookups of one identifier that stay rows of their own; beyond them the oldest are counted early."""

NEWEST = 5_000
"""Newest lookups of all that `count_crowded` looks at between two whole rounds."""

MAX_COUNTED = 500
"""Lookups that one transaction counts at most, so that the counts are never locked for long."""


def shown_lookups(connection: Connection, tags: Sequence[bytes], named: str) -> list[dict[str, Any]]:
    """Return the lookups about `tags` as the person reads them, newest first; of all platforms only `named` is
    named."""
    return [
        {
            "asked_at": format_time(line.last_at),
            "first_asked_at": format_time(line.first_at),
            "times": line.times,
            "asked_by": line.platform if line.platform == named else None,
            "purpose": line.purpose,
            "orders": "several" if line.order is None else "one",
            "claim": line.claim,
            "consent": line.consent,
            "tier": None if line.tier == "none" else line.tier,
        }
        for line in lines(store.lookups_about(connection, tags))
    ]


def count_old(engine: Engine, now: datetime, stopped: Callable[[], bool] = lambda: False) -> int:
    """Count all lookups that are older than `SINGLE_HOURS`; returns how many. `stopped` ends it early. A lookup that
    fails stops no other: it is logged (`lookup_not_counted`), and the first error is raised at the end. Raises
    DatabaseUnavailable."""
    before = now - timedelta(hours=SINGLE_HOURS)

    def due(last: LookupRow | None) -> list[LookupRow]:
        after = None if last is None else (last.asked_at, last.id)
        with reading(engine) as connection:  # look first: counting locks the counts
            return store.single_before(connection, before, MAX_COUNTED, after)

    def work(rows: Sequence[LookupRow]) -> int:
        with writing(engine) as connection:
            store.lock_counts(connection)
            still = store.single_of(connection, [row.id for row in rows])
            store.count_single(connection, still)
        return len(still)

    return work_off(
        due,
        work,
        event="lookup_not_counted",
        name=lambda row: str(row.id),
        together=MAX_COUNTED,
        stopped=stopped,
    )


def count_crowded(engine: Engine, *, whole: bool, stopped: Callable[[], bool] = lambda: False) -> int:
    """Count lookups of identifiers that have more than `MAX_SINGLE` of them, all but the newest ones; returns how many.

    `whole` looks through all identifiers; otherwise only those are found that many of the `NEWEST` lookups are about.
    `stopped` ends it early. An identifier that fails stops no other: its error is logged (`crowded_lookups_failed`,
    with its number in this run, because logs hold no tags), and the first one is raised at the end. Raises
    DatabaseUnavailable.
    """
    with reading(engine) as connection:
        if whole:
            crowded = store.crowded_tags(connection, MAX_SINGLE)
        else:
            crowded = store.tags_crowded_lately(connection, NEWEST // 10, NEWEST)

    def work(rows: Sequence[tuple[int, bytes]]) -> int:
        ((_, tag),) = rows
        return _count_crowded(engine, tag, stopped)

    return work_off(
        lambda last: list(enumerate(crowded)) if last is None else [],
        work,
        event="crowded_lookups_failed",
        name=lambda row: str(row[0]),
        stopped=stopped,
    )


def _count_crowded(engine: Engine, tag: bytes, stopped: Callable[[], bool]) -> int:
    counted = 0
    while not stopped():
        with writing(engine) as connection:
            store.lock_counts(connection)
            rows = store.single_beyond(connection, tag, MAX_SINGLE, MAX_COUNTED)
            store.count_single(connection, rows)
        counted += len(rows)
        if len(rows) < MAX_COUNTED:
            break
    return counted


def forget_counts(engine: Engine, before: datetime, limit: int) -> int:
    """Delete counts of UTC days before that of `before`, at most `limit`; returns how many."""
    with writing(engine) as connection:
        return store.forget_counts(connection, day_floor(before), limit)
