"""Queries on snapshots: their rows, and the listings from which a snapshot is built."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import ColumnElement, Connection, and_, delete, func, insert, not_, or_, select, text, update

from ledger.server.db.tables.reports import Listing, Subject
from ledger.server.db.tables.snapshots import Snapshot

_ROWS_AT_ONCE = 2000
_WORK_MEM = "256MB"


@dataclass(frozen=True, slots=True)
class SnapshotRow:
    """A snapshot as it is stored. `status` is building or published. `weights` is JSON of fortieths by control group
    (of twentieths in rows from before migration 0016, which are not read again).

    `secret` (32 bytes) is present only while the snapshot is being built; `manifest` (canonical JSON), `signature`
    (64 bytes), `entry_index` and `published_at` only after it is published.
    """

    version: bytes
    status: str
    cut: int
    as_of: datetime
    not_after: datetime
    epoch: int
    policy: int
    weights: str
    secret: bytes | None = field(default=None, repr=False)
    manifest: str | None = None
    signature: bytes | None = None
    entry_index: int | None = None
    published_at: datetime | None = None


class ListedRow(NamedTuple):
    """One listed report under one tag, with the element (32 bytes) from which the tag was computed."""

    tag: bytes
    report_id: int
    kind: str
    element: bytes
    act_id: int
    control_group: str
    conduct: str
    act_day: int
    effective_hour: int
    expires_day: int
    disputed: bool
    unconfirmed: bool
    restituted: bool
    has_statement: bool


_COLUMNS = [getattr(Snapshot, name) for name in SnapshotRow.__dataclass_fields__]
_LISTED = [Subject.element if name == "element" else getattr(Listing, name) for name in ListedRow._fields]


def insert_building(connection: Connection, row: SnapshotRow) -> None:
    """Add the row of a snapshot that will be built. Raises SQLAlchemy's IntegrityError if the version exists."""
    connection.execute(insert(Snapshot).values(**{name: getattr(row, name) for name in row.__dataclass_fields__}))


def published(connection: Connection, limit: int | None = None) -> list[SnapshotRow]:
    """Return the newest published snapshots, at most `limit` (None: all), newest first by log entry."""
    rows = connection.execute(
        select(*_COLUMNS).where(Snapshot.status == "published").order_by(Snapshot.entry_index.desc()).limit(limit)
    )
    return [SnapshotRow(*row) for row in rows]


def read_building(connection: Connection) -> list[SnapshotRow]:
    """Return the snapshots whose build was started and not finished."""
    return [SnapshotRow(*row) for row in connection.execute(select(*_COLUMNS).where(Snapshot.status == "building"))]


def mark_published(
    connection: Connection, version: bytes, *, manifest: str, signature: bytes, entry_index: int, published_at: datetime
) -> bool:
    """Mark a snapshot as published and delete its secret; return False if it has no row with status building any
    longer."""
    result = connection.execute(
        update(Snapshot)
        .where(Snapshot.version == version, Snapshot.status == "building")
        .values(
            status="published",
            manifest=manifest,
            signature=signature,
            entry_index=entry_index,
            published_at=published_at,
            secret=None,
        )
    )
    return result.rowcount == 1


def delete_snapshots(connection: Connection, versions: Iterable[bytes]) -> None:
    """Delete the rows of these snapshots; their log entries stay."""
    for version in versions:
        connection.execute(delete(Snapshot).where(Snapshot.version == version))


def listed_tags_count(connection: Connection, epoch: int, hour: int, day: int) -> int:
    """Return the number of different tags of `epoch` with a report that is in effect by `hour`, not expired on `day`
    and, unless disputed, not unconfirmed. Hours and days count from the Unix epoch.

    (A few of these tags may have no visible event, because a policy may end an event earlier, and the weight of a group
    may be 0.)
    """
    _prepare(connection)
    return connection.execute(select(func.count(Listing.tag.distinct())).where(_listed(epoch, hour, day))).scalar_one()


def stream_listed(connection: Connection, epoch: int, hour: int, day: int) -> Iterator[ListedRow]:
    """Yield the rows that `listed_tags_count` counts, ordered by (tag, report), with few of them in memory at a
    time."""
    _prepare(connection)
    statement = (
        select(*_LISTED)
        .join_from(
            Listing,
            Subject,
            and_(Subject.report_id == Listing.report_id, Subject.slot == Listing.slot, Subject.epoch == Listing.epoch),
        )
        .where(_listed(epoch, hour, day))
        .order_by(Listing.tag, Listing.report_id)
    )
    with connection.execution_options(yield_per=_ROWS_AT_ONCE).execute(statement) as rows:
        yield from map(ListedRow._make, rows)


def _prepare(connection: Connection) -> None:
    """Make PostgreSQL plan for reading all rows: sort in memory, and minimise the total cost, not that of the first
    row."""
    if connection.dialect.name == "postgresql":
        connection.execute(text(f"SET LOCAL work_mem = '{_WORK_MEM}'"))
        connection.execute(text("SET LOCAL cursor_tuple_fraction = 1.0"))


def _listed(epoch: int, hour: int, day: int) -> ColumnElement[bool]:
    return and_(
        Listing.epoch == epoch,
        Listing.effective_hour <= hour,
        Listing.expires_day > day,
        or_(Listing.disputed, not_(Listing.unconfirmed)),
    )
