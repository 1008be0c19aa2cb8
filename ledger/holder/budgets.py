"""Budgets of control groups: a burst allowance, a daily budget and grants, for all epochs and generations together.

They matter because a holder is a part of the oracle that an attacker needs to enumerate identifiers.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Engine

from ledger.errors import InvalidRequest, NotFound, QuotaExceeded
from ledger.holder import budget_queries
from ledger.holder import queries as store
from ledger.holder.settings import HolderSettings
from ledger.protocol.encoding import DAY_SECONDS, day_floor, unix_seconds
from ledger.server.db.engine import writing

MICROSECONDS = 1_000_000
MAX_GRANT_ELEMENTS = 10**9
MAX_GRANT_DAYS = 366
MAX_REASON_CHARS = 200

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class GroupLimits:
    """The budgets of a control group in elements: in a UTC day, at once, and the rate at which the allowance renews."""

    daily_elements: int
    burst_elements: int
    rate_elements_per_second: int

    @classmethod
    def of(cls, settings: HolderSettings, daily_elements: int | None) -> GroupLimits:
        """Return the budgets of a group with its own daily budget, or with the default for None."""
        daily = settings.daily_quota_elements if daily_elements is None else daily_elements
        return cls(daily, settings.burst_elements, settings.rate_elements_per_second)


def spend(
    engine: Engine, control_group: str, limits: GroupLimits, elements: int, token: tuple[bytes, int], now: datetime
) -> None:
    """Record a token (digest, expiry) as used and count `elements` against the budgets of its control group, in one
    transaction, all or nothing.

    The burst allowance is taken first, then the rest of the budget of the UTC day of `now`, then grants. Only the
    holder's clock counts, and processes share the budgets through the database. A refused batch leaves the token
    unused. Raises TokenUsed; QuotaExceeded, with `limit` ("burst" or "daily") and the seconds until a repetition can
    succeed; DatabaseUnavailable.
    """
    us_per_element = MICROSECONDS // limits.rate_elements_per_second or 1
    now_us = unix_seconds(now) * MICROSECONDS + now.microsecond
    span_us = limits.burst_elements * us_per_element
    try:
        with writing(engine) as connection:
            budget_queries.use_token(connection, *token)
            cost_us = elements * us_per_element
            if not budget_queries.take_group_burst(connection, control_group, now_us, cost_us, span_us):
                whole_at = budget_queries.read_group_whole_at(connection, control_group) or now_us
                missing_us = min(whole_at - now_us, span_us) + cost_us - span_us
                raise QuotaExceeded(
                    "Your control group asks for more elements at once than it may. Go on more slowly.",
                    limit="burst",
                    retry_after_seconds=max(1, -(-missing_us // MICROSECONDS)),
                )
            taken = budget_queries.take_day(connection, control_group, day_floor(now), elements, limits.daily_elements)
            rest = elements - taken
            if rest and budget_queries.take_group_granted(connection, control_group, rest, now) < rest:
                raise QuotaExceeded(
                    "The daily budget of your control group does not cover this batch.",
                    limit="daily",
                    retry_after_seconds=DAY_SECONDS - unix_seconds(now) % DAY_SECONDS,
                )
    except QuotaExceeded as error:
        if error.details["limit"] == "burst":
            with writing(engine) as connection:
                budget_queries.empty_group_burst(connection, control_group, now_us + span_us)
        raise


def grant_elements(engine: Engine, *, control_group: str, elements: int, reason: str, days: int, now: datetime) -> None:
    """Let a control group have `elements` evaluated beyond its daily budget within `days`, for the first tagging of a
    user base or after a rotation. Raises InvalidRequest, NotFound, DatabaseUnavailable."""
    if not 1 <= elements <= MAX_GRANT_ELEMENTS:
        raise InvalidRequest(f"A grant is 1 to {MAX_GRANT_ELEMENTS:,} elements.")
    if not 1 <= days <= MAX_GRANT_DAYS:
        raise InvalidRequest(f"A grant lasts 1 to {MAX_GRANT_DAYS} days.")
    if not 1 <= len(reason) <= MAX_REASON_CHARS:
        raise InvalidRequest(f"A grant needs a reason of 1 to {MAX_REASON_CHARS} characters.")
    with writing(engine) as connection:
        if not store.has_group(connection, control_group):
            raise NotFound("No admitted platform is in this control group.")
        budget_queries.insert_group_grant(
            connection,
            control_group=control_group,
            elements=elements,
            reason=reason,
            granted_at=now,
            expires_at=now + timedelta(days=days),
        )
    log.info("elements_granted", extra={"control_group": control_group, "elements": elements, "days": days})
