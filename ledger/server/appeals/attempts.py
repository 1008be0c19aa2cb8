"""Attempts of platforms to file appeals: counted and shown to the person, whatever comes of them.

An attempt is written down and committed before anything about the reports is read, and by the same statements whether
the ledger holds anything about the person or not: neither a refusal nor the time that it takes tells what is recorded.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from datetime import UTC, datetime, time, timedelta

from sqlalchemy import Engine

from ledger.errors import QuotaExceeded
from ledger.protocol.encoding import day_floor
from ledger.server.appeals import attempt_queries as store
from ledger.server.db.engine import writing
from ledger.server.db.id_blocks import reserve_ids
from ledger.server.platforms.members import Member
from ledger.server.platforms.queries import lock_platform
from ledger.server.records.idempotency import IdempotentRequest, is_stored
from ledger.server.settings import Settings

log = logging.getLogger(__name__)

FILING_PURPOSE = "appeal_filing"
"""How an attempt to file is told among the lookups."""


def count_attempt(
    engine: Engine, settings: Settings, member: Member, tags: Iterable[bytes], now: datetime, request: IdempotentRequest
) -> None:
    """Count an attempt of `member` to file an appeal for the person with these tags, and note it in the person's record
    if they have one. A repeated request that has its answer already is not counted again.

    Raises QuotaExceeded after `appeals_daily_quota` attempts in a UTC day, DatabaseUnavailable.
    """
    midnight = datetime.combine(now.astimezone(UTC).date(), time(0), tzinfo=UTC)
    with writing(engine) as connection:
        if is_stored(connection, request):
            return
        lock_platform(connection, member.platform)  # so that two at once do not both find room
        if store.attempts(connection, member.platform, day_floor(now)) >= settings.appeals_daily_quota:
            seconds = int((midnight + timedelta(days=1) - now).total_seconds()) + 1
            log.info("appeal_filing", extra={"platform": member.platform, "outcome": QuotaExceeded.code})
            raise QuotaExceeded("The daily quota of appeals to file is used up.", retry_after_seconds=seconds)
        store.count(connection, member.platform, day_floor(now))
        number = reserve_ids(connection, "lk", 1)
        store.log_attempt(connection, number, member.platform, FILING_PURPOSE, sorted(set(tags)), now)


def log_outcome(member: Member, outcome: str) -> None:
    """Log what came of an attempt: `filed`, or the code of the refusal. Neither reports nor persons are named."""
    log.info("appeal_filing", extra={"platform": member.platform, "outcome": outcome})


def forget_counts(engine: Engine, now: datetime) -> None:
    """Delete the counts of days before `now`'s."""
    with writing(engine) as connection:
        store.forget(connection, day_floor(now))
