"""Queries on the budgets of control groups and on used tokens.

The token's row is written first and the burst row second. The lock of the burst row serialises all spending of one
control group: the rest of the transaction sees the result of the transaction before it. The statements of every
evaluation are made once, because making them takes longer than running them.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import cache

from sqlalchemy import BigInteger, Connection, Executable, bindparam, case, delete, func, insert, select, update

from ledger.errors import TokenUsed
from ledger.holder.tables import GroupBurst, GroupGrant, GroupUse, UsedToken
from ledger.server.db.bulk import insert_of, table_of

CLOCK_TOLERANCE_US = 60_000_000
"""A clock is set back by more than this only by an operator."""

_BURST, _USE = table_of(GroupBurst), table_of(GroupUse)


@dataclass(frozen=True, slots=True)
class GroupGrantRow:
    """Elements granted to a control group beyond its daily budget, and the number of used ones."""

    id: int
    control_group: str
    elements: int
    used: int
    reason: str
    granted_at: datetime
    expires_at: datetime


_GRANT = select(*[getattr(GroupGrant, name) for name in GroupGrantRow.__dataclass_fields__])


def use_token(connection: Connection, digest: bytes, expires_at: int) -> None:
    """Record a token as used. Raises TokenUsed if it was used before, by whatever process."""
    values = {"digest": digest, "expires_at": expires_at}
    if not connection.execute(_token_statement(connection.dialect.name), values).all():
        raise TokenUsed("This token was used before. Sign a new one for each request.")


@cache
def _token_statement(dialect: str) -> Executable:
    statement: Executable = (
        insert_of(dialect, UsedToken)
        .values(digest=bindparam("digest"), expires_at=bindparam("expires_at"))
        .on_conflict_do_nothing()
        .returning(UsedToken.expires_at)
    )
    return statement


def forget_tokens(connection: Connection, expired_before: int) -> int:
    """Delete the tokens that expired before a time (Unix seconds), and return their number."""
    return connection.execute(delete(UsedToken).where(UsedToken.expires_at < expired_before)).rowcount


def take_group_burst(connection: Connection, control_group: str, now_us: int, cost_us: int, span_us: int) -> bool:
    """Spend `cost_us` of an allowance of `span_us` that renews with time. True if there was enough of it.

    The generic cell rate algorithm (ITU-T I.371) as one statement: the row holds the time when the allowance is full
    again.
    """
    if cost_us > span_us:
        return False
    values = {
        "control_group": control_group,
        "first_us": now_us + cost_us,
        "now_us": now_us,
        "cost_us": cost_us,
        "limit_us": now_us + span_us,
    }
    return len(connection.execute(_burst_statement(connection.dialect.name), values).all()) == 1


@cache
def _burst_statement(dialect: str) -> Executable:
    now_us, cost_us, limit_us = [bindparam(name, type_=BigInteger) for name in ("now_us", "cost_us", "limit_us")]
    stored = _BURST.c.whole_at_us
    spent = case((stored < now_us, now_us), else_=stored) + cost_us
    statement: Executable = (
        insert_of(dialect, GroupBurst)
        .values(control_group=bindparam("control_group"), whole_at_us=bindparam("first_us"))
        .on_conflict_do_update(
            index_elements=[_BURST.c.control_group], set_={"whole_at_us": spent}, where=spent <= limit_us
        )
        .returning(_BURST.c.control_group)
    )
    return statement


def empty_group_burst(connection: Connection, control_group: str, empty_us: int) -> None:
    """Set an allowance to empty if it is full much later than an empty one could be, because the clock was set back."""
    late = GroupBurst.whole_at_us > empty_us + CLOCK_TOLERANCE_US
    connection.execute(
        update(GroupBurst).where(GroupBurst.control_group == control_group, late).values(whole_at_us=empty_us)
    )


def read_group_whole_at(connection: Connection, control_group: str) -> int | None:
    """Return when the allowance is full again, in microseconds since the Unix epoch; None: it is full."""
    query = select(GroupBurst.whole_at_us).where(GroupBurst.control_group == control_group)
    return connection.execute(query).scalar_one_or_none()


def take_day(connection: Connection, control_group: str, day: int, elements: int, daily_elements: int) -> int:
    """Count as many of `elements` on UTC `day` as the daily budget allows, and return their number. Call after
    `take_group_burst`."""
    if elements <= daily_elements and _count_use(connection, control_group, day, elements, daily_elements):
        return elements
    used = read_group_use(connection, day).get(control_group, 0)
    taken = max(0, min(elements, daily_elements - used))
    if taken and not _count_use(connection, control_group, day, taken, daily_elements):
        raise AssertionError("the burst row's lock serialises all spending of a control group")
    return taken


def _count_use(connection: Connection, control_group: str, day: int, elements: int, daily_elements: int) -> bool:
    values = {"control_group": control_group, "day": day, "count": elements, "most": daily_elements}
    return len(connection.execute(_use_statement(connection.dialect.name), values).all()) == 1


@cache
def _use_statement(dialect: str) -> Executable:
    total = _USE.c.elements + bindparam("count", type_=BigInteger)
    statement: Executable = (
        insert_of(dialect, GroupUse)
        .values(control_group=bindparam("control_group"), day=bindparam("day"), elements=bindparam("count"))
        .on_conflict_do_update(
            index_elements=[_USE.c.control_group, _USE.c.day],
            set_={"elements": total},
            where=total <= bindparam("most", type_=BigInteger),
        )
        .returning(_USE.c.elements)
    )
    return statement


def read_group_use(connection: Connection, day: int) -> dict[str, int]:
    """Return the elements counted on UTC `day`, by control group."""
    query = select(GroupUse.control_group, GroupUse.elements).where(GroupUse.day == day)
    return {group: int(elements) for group, elements in connection.execute(query)}


def take_group_granted(connection: Connection, control_group: str, elements: int, now: datetime) -> int:
    """Take up to `elements` from the grants, those that expire first before others, and return the number taken. Call
    after `take_group_burst`."""
    query = _GRANT.where(
        GroupGrant.control_group == control_group, GroupGrant.expires_at > now, GroupGrant.used < GroupGrant.elements
    ).order_by(GroupGrant.expires_at, GroupGrant.id)
    taken = 0
    for row in [GroupGrantRow(*row) for row in connection.execute(query)]:
        part = min(elements - taken, row.elements - row.used)
        if part > 0:
            connection.execute(update(GroupGrant).where(GroupGrant.id == row.id).values(used=GroupGrant.used + part))
            taken += part
    return taken


def read_open_grants(connection: Connection, now: datetime) -> dict[str, int]:
    """Return the elements left in grants that have not expired, by control group."""
    left = func.sum(GroupGrant.elements - GroupGrant.used)
    query = select(GroupGrant.control_group, left).where(GroupGrant.expires_at > now)
    return {group: int(elements) for group, elements in connection.execute(query.group_by(GroupGrant.control_group))}


def read_group_grants(connection: Connection) -> list[GroupGrantRow]:
    """Return all grants, oldest first."""
    return [GroupGrantRow(*row) for row in connection.execute(_GRANT.order_by(GroupGrant.id))]


def insert_group_grant(
    connection: Connection,
    *,
    control_group: str,
    elements: int,
    reason: str,
    granted_at: datetime,
    expires_at: datetime,
) -> None:
    """Insert one grant of `elements` (at least 1), valid until `expires_at`."""
    connection.execute(
        insert(GroupGrant).values(
            control_group=control_group,
            elements=elements,
            used=0,
            reason=reason,
            granted_at=granted_at,
            expires_at=expires_at,
        )
    )
