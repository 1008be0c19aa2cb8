"""Queries on members: control groups, platforms, keys."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, func, insert, select, update

from ledger.server.db.bulk import upsert
from ledger.server.db.tables.appeals import CaseOutcome
from ledger.server.db.tables.platforms import ControlGroup, Platform, PlatformKey

FULL_WEIGHT_TWENTIETHS = 20
"""The weight of a new control group: 1.00."""


@dataclass(frozen=True, slots=True)
class PlatformRow:
    """A platform as stored. `scopes` are separated by single spaces. `weighed_before` is whether its reports carried
    weight before `status_changed_at`, the time of its last change of status."""

    name: str
    control_group: str
    profile: str
    scopes: str
    status: str
    oprf_daily_quota_elements: int | None
    created_at: datetime
    status_changed_at: datetime | None = None
    weighed_before: bool | None = None


@dataclass(frozen=True, slots=True)
class KeyRow:
    """A platform's public key as stored; `revoked_at` is None while it is valid."""

    kid: str
    platform: str
    public_key: bytes
    revoked_at: datetime | None


_PLATFORM = select(
    Platform.name,
    Platform.control_group,
    Platform.profile,
    Platform.scopes,
    Platform.status,
    Platform.oprf_daily_quota_elements,
    Platform.created_at,
    Platform.status_changed_at,
    Platform.weighed_before,
)
_KEY = select(PlatformKey.kid, PlatformKey.platform, PlatformKey.public_key, PlatformKey.revoked_at)
_ALL_PLATFORMS = _PLATFORM.order_by(Platform.name)
_ALL_KEYS = _KEY.order_by(PlatformKey.kid)


def read_platforms(connection: Connection) -> list[PlatformRow]:
    """Return all platforms, by name."""
    return [PlatformRow(*row) for row in connection.execute(_ALL_PLATFORMS)]


def read_keys(connection: Connection) -> list[KeyRow]:
    """Return all keys, including revoked ones, by kid."""
    return [KeyRow(*row) for row in connection.execute(_ALL_KEYS)]


def read_weights(connection: Connection) -> dict[str, int]:
    """Return the stored weight in twentieths by control group."""
    rows = connection.execute(select(ControlGroup.name, ControlGroup.weight_twentieths))
    return {row.name: row.weight_twentieths for row in rows}


def lock_platform(connection: Connection, name: str) -> PlatformRow | None:
    """Return the platform, locked until the transaction ends, so that its logged states have the order of its changes.
    None if there is no such platform."""
    row = connection.execute(_PLATFORM.where(Platform.name == name).with_for_update()).one_or_none()
    return None if row is None else PlatformRow(*row)


def read_platform_keys(connection: Connection, platform: str) -> list[KeyRow]:
    """Return the keys of one platform, oldest first."""
    query = _KEY.where(PlatformKey.platform == platform).order_by(PlatformKey.created_at, PlatformKey.kid)
    return [KeyRow(*row) for row in connection.execute(query)]


def read_key(connection: Connection, kid: str) -> KeyRow | None:
    """Return one key of any platform by its kid, None if there is none."""
    row = connection.execute(_KEY.where(PlatformKey.kid == kid)).one_or_none()
    return None if row is None else KeyRow(*row)


def public_key_known(connection: Connection, public_key: bytes) -> bool:
    """True if any platform has, or had, this 32-byte public key."""
    query = select(PlatformKey.kid).where(PlatformKey.public_key == public_key)
    return connection.execute(query).first() is not None


def ensure_control_group(connection: Connection, name: str) -> None:
    """Insert the control group with full weight unless it exists."""
    connection.execute(
        upsert(connection, ControlGroup)
        .values(name=name, weight_twentieths=FULL_WEIGHT_TWENTIETHS)
        .on_conflict_do_nothing(index_elements=["name"])
    )


def insert_platform(connection: Connection, row: PlatformRow) -> None:
    """Insert one platform. Raises IntegrityError for a second one of the same name."""
    connection.execute(
        insert(Platform).values(
            name=row.name,
            control_group=row.control_group,
            profile=row.profile,
            scopes=row.scopes,
            status=row.status,
            oprf_daily_quota_elements=row.oprf_daily_quota_elements,
            created_at=row.created_at,
        )
    )


def insert_key(connection: Connection, *, kid: str, platform: str, public_key: bytes, created_at: datetime) -> None:
    """Insert one key. Raises IntegrityError for a known kid or public key."""
    connection.execute(
        insert(PlatformKey).values(
            kid=kid, platform=platform, public_key=public_key, created_at=created_at, revoked_at=None
        )
    )


def set_key_revoked(connection: Connection, kid: str, revoked_at: datetime) -> bool:
    """Revoke a key permanently. True if it was not revoked before."""
    statement = (
        update(PlatformKey)
        .where(PlatformKey.kid == kid, PlatformKey.revoked_at.is_(None))
        .values(revoked_at=revoked_at)
        .returning(PlatformKey.kid)
    )
    return connection.execute(statement).first() is not None


def set_platform_status(
    connection: Connection, name: str, status: str, *, changed_at: datetime, weighed_before: bool
) -> None:
    """Set the status, `active` or `suspended`, and whether its reports carry weight until the next UTC midnight."""
    values = {"status": status, "status_changed_at": changed_at, "weighed_before": weighed_before}
    connection.execute(update(Platform).where(Platform.name == name).values(**values))


def set_platform_quota(connection: Connection, name: str, quota_elements: int | None) -> None:
    """Set the number of blinded elements per UTC day; None means the service's default."""
    connection.execute(update(Platform).where(Platform.name == name).values(oprf_daily_quota_elements=quota_elements))


def outcome_counts(connection: Connection, since: datetime, until: datetime | None = None) -> dict[str, dict[str, int]]:
    """Return {control group: {upheld | amended | overturned | nothing: number}} of decisions after `since`.

    With `until`, a UTC midnight, it counts decisions before it, as they were at that moment. The result is exact for
    the midnight of the day on which a report was last decided, and for later ones.
    """
    counts: dict[str, dict[str, int]] = {}
    decided, counts_as = CaseOutcome.decided_at, CaseOutcome.counts_as
    before, counted = CaseOutcome.previous_decided_at, CaseOutcome.previous_counts_as
    group = CaseOutcome.control_group
    queries: list[Any] = [
        select(group, counts_as, func.count())
        .where(decided > since, *(() if until is None else (decided < until,)))
        .group_by(group, counts_as)
    ]
    if until is not None:
        queries.append(
            select(group, counted, func.count())
            .where(decided >= until, before > since, before < until)
            .group_by(group, counted)
        )
    for query in queries:
        for name, outcome, number in connection.execute(query):
            of_group = counts.setdefault(name, {})
            of_group[outcome] = of_group.get(outcome, 0) + number
    return counts
