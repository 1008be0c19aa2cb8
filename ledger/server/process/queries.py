"""Queries on heartbeats and on the publisher's lease, all by the database's own clock."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection, delete, func, select, update

from ledger.server.db.bulk import upsert
from ledger.server.db.tables.log import CheckpointRow
from ledger.server.db.tables.processes import ProcessHeartbeat, PublisherLease

FORGET_SECONDS = 60.0
"""The row of a process whose last heartbeat is older than this is deleted."""


@dataclass(frozen=True, slots=True)
class LeaseRow:
    """The lease as stored; the columns of `PublisherLease`."""

    fence: int
    holder: str | None
    place: str
    guard_lock: str
    renewed_at: datetime


@dataclass(frozen=True, slots=True)
class ProcessRow:
    """A process with a recent heartbeat."""

    process: str
    role: str
    host: str
    state: str
    beat_at: datetime


def database_now(connection: Connection) -> datetime:
    """Return the database's clock, to the millisecond at least. advances within a transaction."""
    if connection.dialect.name == "postgresql":
        moment: datetime = connection.execute(select(func.clock_timestamp())).scalar_one()
        return moment.astimezone(UTC)
    text = connection.execute(select(func.strftime("%Y-%m-%dT%H:%M:%f", "now"))).scalar_one()
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


# --- heartbeats -----------------------------------------------------------------------------------------------


def beat(connection: Connection, process: str, role: str, host: str, state: str = "") -> datetime:
    """Record that the process runs, delete rows of processes without recent heartbeats, and return the
    database's time."""
    now = database_now(connection)
    values = {"process": process, "role": role, "host": host[:255], "state": state[:200]}
    statement = upsert(connection, ProcessHeartbeat).values(**values, started_at=now, beat_at=now)
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=["process"],
            set_={"state": statement.excluded.state, "beat_at": statement.excluded.beat_at},
        )
    )
    connection.execute(
        delete(ProcessHeartbeat).where(ProcessHeartbeat.beat_at < now - timedelta(seconds=FORGET_SECONDS))
    )
    return now


def forget(connection: Connection, process: str) -> None:
    """Delete the row of a process that ends."""
    connection.execute(delete(ProcessHeartbeat).where(ProcessHeartbeat.process == process))


_PROCESSES = select(
    ProcessHeartbeat.process,
    ProcessHeartbeat.role,
    ProcessHeartbeat.host,
    ProcessHeartbeat.state,
    ProcessHeartbeat.beat_at,
).order_by(ProcessHeartbeat.role, ProcessHeartbeat.host, ProcessHeartbeat.process)


def read_processes(connection: Connection, since: datetime) -> Sequence[ProcessRow]:
    """Return the processes whose reported at `since` (the database's time) or later."""
    rows = connection.execute(_PROCESSES.where(ProcessHeartbeat.beat_at >= since))
    return [ProcessRow(*row) for row in rows]


# --- the publisher's lease ------------------------------------------------------------------------------------


_READ_LEASE = select(
    PublisherLease.fence,
    PublisherLease.holder,
    PublisherLease.place,
    PublisherLease.guard_lock,
    PublisherLease.renewed_at,
).where(PublisherLease.id == 1)
_LOCK_LEASE = _READ_LEASE.with_for_update()


def read_lease(connection: Connection) -> LeaseRow | None:
    """Return the lease as committed; None if no publisher ever held it."""
    row = connection.execute(_READ_LEASE).one_or_none()
    return None if row is None else LeaseRow(*row)


def lock_lease(connection: Connection) -> LeaseRow | None:
    """Return the lease, locked until this transaction ends. (On SQLite a transaction of `writing` locks the file.)"""
    row = connection.execute(_LOCK_LEASE).one_or_none()
    return None if row is None else LeaseRow(*row)


def create_lease(connection: Connection, now: datetime) -> None:
    """Insert an a lease without a holder and with fence 0, unless there is a row."""
    connection.execute(
        upsert(connection, PublisherLease)
        .values(id=1, fence=0, holder=None, place="", guard_lock="", renewed_at=now)
        .on_conflict_do_nothing()
    )


def set_lease(connection: Connection, lease: LeaseRow) -> None:
    """Replace the locked row."""
    connection.execute(
        update(PublisherLease)
        .where(PublisherLease.id == 1)
        .values(
            fence=lease.fence,
            holder=lease.holder,
            place=lease.place,
            guard_lock=lease.guard_lock,
            renewed_at=lease.renewed_at,
        )
    )


def checkpoint_state(connection: Connection) -> tuple[int, datetime] | None:
    """Return the size of the newest published checkpoint and its time of publication; None before the first."""
    row = connection.execute(
        select(CheckpointRow.size, CheckpointRow.published_at).order_by(CheckpointRow.size.desc()).limit(1)
    ).one_or_none()
    return None if row is None else (row[0], row[1])
