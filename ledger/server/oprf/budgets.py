"""Budgets of blinded evaluation: how many elements a platform may have evaluated, at once, in a day and by grants."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Engine

from ledger.errors import InvalidRequest, NotFound, QuotaExceeded
from ledger.protocol.encoding import DAY_SECONDS, day_floor, format_time, unix_seconds
from ledger.server.context import Context
from ledger.server.db.engine import reading, writing
from ledger.server.keys.server_keys import ServerKeys
from ledger.server.oprf import budget_queries as store
from ledger.server.platforms.members import Member
from ledger.server.platforms.queries import lock_platform, read_platforms
from ledger.server.process.metrics import Metrics
from ledger.server.settings import Settings

MICROSECONDS = 1_000_000
MAX_GRANT_ELEMENTS = 10**9
MAX_GRANT_DAYS = 366
MAX_REASON_CHARS = 200

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Oprf:
    """The parts that blinded evaluation needs in addition to the context: settings (the budgets), keys and counters."""

    context: Context
    settings: Settings
    keys: ServerKeys
    metrics: Metrics


def deduct(oprf: Oprf, member: Member, elements: int, now: datetime) -> None:
    """Count `elements` against the platform's budgets, all or none: its burst allowance, then the rest of its quota of
    the UTC day of `now`, then its grants.

    Only the server's clock counts, and processes share the budgets through the database. Raises QuotaExceeded, with
    `limit` ("burst" or "daily") and the seconds until a repetition can succeed, and DatabaseUnavailable.
    """
    settings = oprf.settings
    quota = member.oprf_daily_quota_elements
    if quota is None:
        quota = settings.oprf_daily_quota_elements
    us_per_element = MICROSECONDS // settings.oprf_rate_elements_per_second or 1
    now_us = unix_seconds(now) * MICROSECONDS + now.microsecond
    span_us = settings.oprf_burst_elements * us_per_element
    try:
        with writing(oprf.context.engine) as connection:
            if not store.take_burst(connection, member.platform, now_us, elements * us_per_element, span_us):
                whole_at = store.read_whole_at(connection, member.platform) or now_us
                missing_us = min(whole_at - now_us, span_us) + elements * us_per_element - span_us
                raise QuotaExceeded(
                    "Your platform asks for more blinded elements at once than it may. Go on more slowly.",
                    limit="burst",
                    retry_after_seconds=max(1, -(-missing_us // MICROSECONDS)),
                )
            rest = elements - store.take_daily(connection, member.platform, day_floor(now), elements, quota)
            if rest and store.take_granted(connection, member.platform, rest, now) < rest:
                raise QuotaExceeded(
                    "Your platform's daily quota of blinded elements does not cover this batch.",
                    limit="daily",
                    retry_after_seconds=DAY_SECONDS - unix_seconds(now) % DAY_SECONDS,
                )
    except QuotaExceeded as error:
        oprf.metrics.count_refused(member.platform, str(error.details["limit"]))
        if error.details["limit"] == "burst":
            with writing(oprf.context.engine) as connection:
                store.empty_burst(connection, member.platform, now_us + span_us)
        raise
    oprf.metrics.count_evaluated(member.platform, elements)


def grant(engine: Engine, *, platform: str, elements: int, reason: str, days: int, now: datetime) -> None:
    """Let a platform have `elements` evaluated beyond its daily quota within `days`, for the first tagging of its
    users.

    The grant is stored with its reason, and logged. Raises InvalidRequest, NotFound, DatabaseUnavailable.
    """
    if not 1 <= elements <= MAX_GRANT_ELEMENTS:
        raise InvalidRequest(f"A grant is 1 to {MAX_GRANT_ELEMENTS:,} elements.")
    if not 1 <= days <= MAX_GRANT_DAYS:
        raise InvalidRequest(f"A grant lasts 1 to {MAX_GRANT_DAYS} days.")
    if not 1 <= len(reason) <= MAX_REASON_CHARS:
        raise InvalidRequest(f"A grant needs a reason of 1 to {MAX_REASON_CHARS} characters.")
    with writing(engine) as connection:
        if lock_platform(connection, platform) is None:
            raise NotFound("There is no platform of this name.")
        store.insert_grant(
            connection,
            platform=platform,
            elements=elements,
            reason=reason,
            granted_at=now,
            expires_at=now + timedelta(days=days),
        )
    log.info("oprf_granted", extra={"platform": platform, "elements": elements})


def budget(settings: Settings, engine: Engine, platform: str, now: datetime) -> dict[str, Any]:
    """Return the number of elements that a platform used of its quota on the UTC day of `now`, and all its grants.
    Raises NotFound, DatabaseUnavailable."""
    with reading(engine) as connection:
        row = {row.name: row for row in read_platforms(connection)}.get(platform)
        if row is None:
            raise NotFound("There is no platform of this name.")
        used = store.read_oprf_use(connection, platform, day_floor(now))
        grants = store.read_grants(connection, platform)
    quota = row.oprf_daily_quota_elements
    return {
        "platform": platform,
        "daily_quota": settings.oprf_daily_quota_elements if quota is None else quota,
        "used_today": used,
        "grants": [
            {
                "elements": row.elements,
                "used": row.used,
                "reason": row.reason,
                "granted_at": format_time(row.granted_at),
                "expires_at": format_time(row.expires_at),
            }
            for row in grants
        ],
    }
