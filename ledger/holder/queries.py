"""Queries on a key holder's database: admission, and the state of the log."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, delete, insert, select, update

from ledger.holder.tables import (
    AdmittedGroup,
    AdmittedKey,
    AdmittedPlatform,
    LoggedStatement,
    LogHead,
    LogRevocation,
    LogSuspension,
    RefusedStatement,
)
from ledger.server.db.bulk import upsert


@dataclass(frozen=True, slots=True)
class AdmittedRow:
    """An admitted platform as stored; `suspended_at` is the time of the holder's own suspension."""

    name: str
    control_group: str
    admitted_at: datetime
    suspended_at: datetime | None


@dataclass(frozen=True, slots=True)
class AdmittedKeyRow:
    """A key of an admitted platform as stored; `revoked_at` is the time of the holder's own revocation."""

    platform: str
    kid: str
    public_key: bytes
    endorsed_by: str | None
    admitted_at: datetime
    revoked_at: datetime | None


@dataclass(frozen=True, slots=True)
class HeadRow:
    """The last accepted head of the log as stored (`LogHead`)."""

    size: int
    root: bytes
    edge: bytes
    note: str
    seen_at: datetime
    current_epoch: int | None
    next_epoch: int | None
    fault: str | None
    fault_at: datetime | None
    fork_note: str | None


@dataclass(frozen=True, slots=True)
class AcceptedStatementRow:
    """An accepted key statement as stored: its canonical bytes, its entry, and when the holder saw it first."""

    epoch: int
    generation: int
    entry_index: int
    statement: bytes
    seen_at: datetime


@dataclass(frozen=True, slots=True)
class RevocationRow:
    """A key that the log says is revoked."""

    platform: str
    kid: str
    public_key: bytes


def _columns(model: Any, row: Any) -> list[Any]:
    return [getattr(model, name) for name in row.__dataclass_fields__]


_PLATFORMS = select(*_columns(AdmittedPlatform, AdmittedRow)).order_by(AdmittedPlatform.name)
_KEYS = select(*_columns(AdmittedKey, AdmittedKeyRow)).order_by(AdmittedKey.platform, AdmittedKey.kid)
_HEAD = select(*_columns(LogHead, HeadRow))
_STATEMENTS = select(*_columns(LoggedStatement, AcceptedStatementRow)).order_by(
    LoggedStatement.epoch, LoggedStatement.generation
)
_REVOCATIONS = select(*_columns(LogRevocation, RevocationRow))


# --- admission --------------------------------------------------------------------------------------------------


def read_admitted(connection: Connection) -> list[AdmittedRow]:
    """Return all admitted platforms, by name."""
    return [AdmittedRow(*row) for row in connection.execute(_PLATFORMS)]


def read_admitted_keys(connection: Connection) -> list[AdmittedKeyRow]:
    """Return all keys of admitted platforms, by platform and kid."""
    return [AdmittedKeyRow(*row) for row in connection.execute(_KEYS)]


def read_groups(connection: Connection) -> dict[str, int | None]:
    """Return the daily budget of each control group in elements, by name; None is the default."""
    query = select(AdmittedGroup.name, AdmittedGroup.daily_elements).order_by(AdmittedGroup.name)
    return {row[0]: row[1] for row in connection.execute(query)}


def lock_admitted(connection: Connection, platform: str) -> AdmittedRow | None:
    """Return an admitted platform, None if there is none, and block changes of it until the transaction ends."""
    query = _PLATFORMS.where(AdmittedPlatform.name == platform).with_for_update()
    row = connection.execute(query).one_or_none()
    return None if row is None else AdmittedRow(*row)


def read_keys_of(connection: Connection, platform: str) -> list[AdmittedKeyRow]:
    """Return all keys of one platform, by kid."""
    return [AdmittedKeyRow(*row) for row in connection.execute(_KEYS.where(AdmittedKey.platform == platform))]


def ensure_group(connection: Connection, name: str) -> None:
    """Insert a control group with the default budget unless it exists."""
    connection.execute(upsert(connection, AdmittedGroup).values(name=name).on_conflict_do_nothing())


def has_group(connection: Connection, name: str) -> bool:
    """True if the control group exists."""
    return connection.execute(select(AdmittedGroup.name).where(AdmittedGroup.name == name)).one_or_none() is not None


def set_daily(connection: Connection, name: str, elements: int | None) -> None:
    """Set a control group's daily budget; None is the default."""
    connection.execute(update(AdmittedGroup).where(AdmittedGroup.name == name).values(daily_elements=elements))


def insert_admitted(connection: Connection, name: str, control_group: str, admitted_at: datetime) -> None:
    """Insert a platform. Raises IntegrityError for a second one of the name."""
    values = {"name": name, "control_group": control_group, "admitted_at": admitted_at}
    connection.execute(insert(AdmittedPlatform).values(**values))


def insert_admitted_key(connection: Connection, row: AdmittedKeyRow) -> None:
    """Insert a key. Raises IntegrityError for a kid that the platform has, and for a public key that is known."""
    connection.execute(insert(AdmittedKey).values(**{name: getattr(row, name) for name in row.__dataclass_fields__}))


def delete_endorsed_key(connection: Connection, public_key: bytes, platform: str) -> str | None:
    """Delete a key that an admitted key of another platform than `platform` endorsed, and return that platform; None if
    there is none."""
    other = (AdmittedKey.public_key == public_key) & (AdmittedKey.platform != platform)
    query = delete(AdmittedKey).where(other, AdmittedKey.endorsed_by.is_not(None)).returning(AdmittedKey.platform)
    return connection.execute(query).scalar_one_or_none()


def set_suspended(connection: Connection, platform: str, suspended_at: datetime | None) -> None:
    """Set or lift the holder's own suspension of a platform."""
    connection.execute(
        update(AdmittedPlatform).where(AdmittedPlatform.name == platform).values(suspended_at=suspended_at)
    )


def revoke_admitted_key(connection: Connection, platform: str, kid: str, revoked_at: datetime) -> bool:
    """Revoke a key for good; the time of an earlier revocation stays. True if the key exists."""
    here = (AdmittedKey.platform == platform) & (AdmittedKey.kid == kid)
    if connection.execute(select(AdmittedKey.kid).where(here)).one_or_none() is None:
        return False
    connection.execute(update(AdmittedKey).where(here, AdmittedKey.revoked_at.is_(None)).values(revoked_at=revoked_at))
    return True


# --- the log ----------------------------------------------------------------------------------------------------


def read_head(connection: Connection) -> HeadRow | None:
    """Return the last accepted head of the log, None before the first one."""
    row = connection.execute(_HEAD).one_or_none()
    return None if row is None else HeadRow(*row)


def lock_head(connection: Connection) -> HeadRow | None:
    """Return the head as `read_head` does, and block changes of it until the transaction ends."""
    row = connection.execute(_HEAD.with_for_update()).one_or_none()
    return None if row is None else HeadRow(*row)


def insert_head(connection: Connection, row: HeadRow) -> None:
    """Insert the first head. Raises IntegrityError when there is one."""
    connection.execute(insert(LogHead).values(id=1, **{name: getattr(row, name) for name in row.__dataclass_fields__}))


def change_head(connection: Connection, **values: Any) -> None:
    """Set columns of the head."""
    connection.execute(update(LogHead).values(**values))


def read_statements(connection: Connection) -> list[AcceptedStatementRow]:
    """Return the accepted key statements, by epoch and generation."""
    return [AcceptedStatementRow(*row) for row in connection.execute(_STATEMENTS)]


def insert_statements(connection: Connection, rows: Sequence[AcceptedStatementRow]) -> None:
    """Insert accepted key statements."""
    for row in rows:
        values = {name: getattr(row, name) for name in row.__dataclass_fields__}
        connection.execute(insert(LoggedStatement).values(**values))


def read_refused_statements(connection: Connection) -> dict[int, str]:
    """Return the reason of refusal of each refused key statement, by the index of its entry."""
    query = select(RefusedStatement.entry_index, RefusedStatement.reason).order_by(RefusedStatement.entry_index)
    return {row[0]: row[1] for row in connection.execute(query)}


def insert_refused_statements(connection: Connection, refused: Iterable[tuple[int, str]]) -> None:
    """Insert refused key statements: (index of the entry, reason)."""
    for entry_index, reason in refused:
        connection.execute(insert(RefusedStatement).values(entry_index=entry_index, reason=reason))


def read_log_suspensions(connection: Connection) -> frozenset[str]:
    """Return the platforms that the log says are suspended."""
    return frozenset(connection.execute(select(LogSuspension.platform)).scalars())


def set_log_suspension(connection: Connection, platform: str, suspended: bool) -> None:
    """Record whether the log says that a platform is suspended."""
    if suspended:
        connection.execute(upsert(connection, LogSuspension).values(platform=platform).on_conflict_do_nothing())
    else:
        connection.execute(delete(LogSuspension).where(LogSuspension.platform == platform))


def read_log_revocations(connection: Connection) -> list[RevocationRow]:
    """Return the keys that the log says are revoked."""
    return [RevocationRow(*row) for row in connection.execute(_REVOCATIONS)]


def insert_log_revocation(connection: Connection, row: RevocationRow) -> None:
    """Record that the log says that a key is revoked. It stays revoked, whatever the log says later."""
    connection.execute(
        upsert(connection, LogRevocation)
        .values(platform=row.platform, kid=row.kid, public_key=row.public_key)
        .on_conflict_do_nothing()
    )
