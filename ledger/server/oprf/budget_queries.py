"""Budgets of blinded evaluation: a burst allowance, a daily quota and grants, all spent in one transaction.

The burst row is written first, so its lock serialises all spending of one platform: the rest of the transaction sees
the result of the transaction before it. A refusal rolls the whole transaction back.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, case, insert, select, update

from ledger.server.db.bulk import table_of, upsert
from ledger.server.db.tables.oprf import OprfBurst, OprfGrant, OprfUse

CLOCK_TOLERANCE_US = 60_000_000
"""A server's clock is set back by more than this only by an operator."""

_BURST, _USE = table_of(OprfBurst), table_of(OprfUse)


@dataclass(frozen=True, slots=True)
class GrantRow:
    """Elements granted beyond the daily quota, and the number of used ones."""

    id: int
    platform: str
    elements: int
    used: int
    reason: str
    granted_at: datetime
    expires_at: datetime


_GRANT = select(*[getattr(OprfGrant, name) for name in GrantRow.__dataclass_fields__])


def take_burst(connection: Connection, platform: str, now_us: int, cost_us: int, span_us: int) -> bool:
    """Spend `cost_us` of an allowance of `span_us` that renews with time. True if there was enough of it.

    The generic cell rate algorithm (ITU-T I.371) as one statement: the row holds the time when the allowance is full
    again.
    """
    if cost_us > span_us:
        return False
    stored = _BURST.c.whole_at_us
    start = case((stored < now_us, now_us), else_=stored)
    statement = (
        upsert(connection, OprfBurst)
        .values(platform=platform, whole_at_us=now_us + cost_us)
        .on_conflict_do_update(
            index_elements=[_BURST.c.platform],
            set_={"whole_at_us": start + cost_us},
            where=start + cost_us <= now_us + span_us,
        )
        .returning(_BURST.c.platform)
    )
    return len(connection.execute(statement).all()) == 1


def empty_burst(connection: Connection, platform: str, empty_us: int) -> None:
    """Set an allowance to empty if it is full much later than an empty one could be: the clock was set back, and the
    platform would wait until the clock reaches its old time. A smaller difference stays, so that small changes of the
    clock give no free elements."""
    late = OprfBurst.whole_at_us > empty_us + CLOCK_TOLERANCE_US
    connection.execute(update(OprfBurst).where(OprfBurst.platform == platform, late).values(whole_at_us=empty_us))


def read_whole_at(connection: Connection, platform: str) -> int | None:
    """Return when the platform's burst allowance is full again, in microseconds since the Unix epoch; None: it
    is full."""
    return connection.execute(select(_BURST.c.whole_at_us).where(_BURST.c.platform == platform)).scalar_one_or_none()


def read_oprf_use(connection: Connection, platform: str, day: int) -> int:
    """Return the elements counted for the platform on UTC `day`."""
    query = select(OprfUse.elements).where(OprfUse.platform == platform, OprfUse.day == day)
    return connection.execute(query).scalar_one_or_none() or 0


def take_daily(connection: Connection, platform: str, day: int, elements: int, quota_elements: int) -> int:
    """Count as many of `elements` on UTC `day` as the quota allows, and return their number. Call after
    `take_burst`."""
    taken = min(elements, quota_elements - read_oprf_use(connection, platform, day))
    if taken <= 0:
        return 0
    connection.execute(
        upsert(connection, OprfUse)
        .values(platform=platform, day=day, elements=taken)
        .on_conflict_do_update(index_elements=[_USE.c.platform, _USE.c.day], set_={"elements": _USE.c.elements + taken})
    )
    return taken


def take_granted(connection: Connection, platform: str, elements: int, now: datetime) -> int:
    """Take up to `elements` from the platform's grants, those that expire first before others, and return the number
    taken. Call after `take_burst`."""
    taken = 0
    for grant in open_grants(connection, platform, now):
        part = min(elements - taken, grant.elements - grant.used)
        if part > 0:
            connection.execute(update(OprfGrant).where(OprfGrant.id == grant.id).values(used=OprfGrant.used + part))
            taken += part
    return taken


def open_grants(connection: Connection, platform: str, now: datetime) -> list[GrantRow]:
    """Return the platform's grants that are neither used up nor expired, those that expire first before others."""
    query = _GRANT.where(
        OprfGrant.platform == platform, OprfGrant.expires_at > now, OprfGrant.used < OprfGrant.elements
    ).order_by(OprfGrant.expires_at, OprfGrant.id)
    return [GrantRow(*row) for row in connection.execute(query)]


def read_grants(connection: Connection, platform: str) -> list[GrantRow]:
    """Return all grants of a platform, oldest first."""
    return [
        GrantRow(*row)
        for row in connection.execute(_GRANT.where(OprfGrant.platform == platform).order_by(OprfGrant.id))
    ]


def insert_grant(
    connection: Connection, *, platform: str, elements: int, reason: str, granted_at: datetime, expires_at: datetime
) -> None:
    """Insert one grant of `elements` (at least 1), valid until `expires_at`."""
    connection.execute(
        insert(OprfGrant).values(
            platform=platform, elements=elements, used=0, reason=reason, granted_at=granted_at, expires_at=expires_at
        )
    )
