"""Queries behind lookups: listings by tag, the log of disclosures, counts, id blocks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any, NamedTuple

from sqlalchemy import (
    Connection,
    Integer,
    LargeBinary,
    String,
    and_,
    any_,
    bindparam,
    cast,
    delete,
    func,
    select,
)
from sqlalchemy.dialects.postgresql import ARRAY

from ledger.protocol.identifiers import Kind
from ledger.rules.standing import Event
from ledger.server.db.bulk import chunks, insert_together, table_of, upsert
from ledger.server.db.tables.keys import KeyEpoch
from ledger.server.db.tables.log import LogHead
from ledger.server.db.tables.lookups import LookupCount, LookupLog, LookupTag
from ledger.server.db.tables.reports import Listing


class ListingRow(NamedTuple):
    """One subject of one live report, as folding needs it."""

    tag: bytes
    report_id: int
    kind: str
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


@dataclass(frozen=True, slots=True)
class DisclosureRow:
    """A lookup that disclosed an event: who asked, why and when, and how much of the log it saw."""

    id: int
    platform: str
    purpose: str
    as_of_index: int
    asked_at: datetime


LISTING_COLUMNS = [getattr(Listing, name) for name in ListingRow._fields]


def listing_event(row: ListingRow, kind: Kind) -> Event:
    """Return the event of a listing that an identifier of `kind` matched, as a fold takes it."""
    return Event(
        report_id=row.report_id,
        act_id=row.act_id,
        control_group=row.control_group,
        conduct=row.conduct,
        act_day=row.act_day,
        effective_hour=row.effective_hour,
        expires_day=row.expires_day,
        disputed=row.disputed,
        unconfirmed=row.unconfirmed,
        restituted=row.restituted,
        has_statement=row.has_statement,
        matched=frozenset({kind}),
    )


def listings(connection: Connection, tags: Iterable[bytes]) -> dict[bytes, list[ListingRow]]:
    """Return listings by tag."""
    by_tag: dict[bytes, list[ListingRow]] = {}
    for some in chunks(tags):
        for row in connection.execute(select(*LISTING_COLUMNS).where(Listing.tag.in_(some))):
            listing = ListingRow(*row)
            by_tag.setdefault(bytes(listing.tag), []).append(listing)
    return by_tag


def log_disclosures(
    connection: Connection, lookups: Sequence[Mapping[str, Any]], tags: Sequence[Mapping[str, Any]]
) -> None:
    """Record lookups that disclosed an event, and the tags they were about; on PostgreSQL in one statement."""
    insert_together(connection, ((LookupLog, lookups), (LookupTag, tags)))


def disclosure(connection: Connection, lookup_id: int) -> tuple[DisclosureRow, list[bytes]] | None:
    """Return a lookup that disclosed an event, with its tags."""
    columns = [getattr(LookupLog, name) for name in DisclosureRow.__dataclass_fields__]
    row = connection.execute(select(*columns).where(LookupLog.id == lookup_id)).one_or_none()
    if row is None:
        return None
    tags = connection.scalars(select(LookupTag.tag).where(LookupTag.lookup_id == lookup_id))
    return DisclosureRow(*row), [bytes(tag) for tag in tags]


def forget_disclosures(connection: Connection, before: datetime, limit: int) -> int:
    """Delete records of lookups asked before `before`, at most `limit` of them; returns how many."""
    old = list(connection.scalars(select(LookupLog.id).where(LookupLog.asked_at < before).limit(limit)))
    for some in chunks(old):
        connection.execute(delete(LookupTag).where(LookupTag.lookup_id.in_(some)))
        connection.execute(delete(LookupLog).where(LookupLog.id.in_(some)))
    return len(old)


def count_lookups(connection: Connection, counts: Mapping[tuple[str, int], tuple[int, int]]) -> None:
    """Add (clean, disclosed) to the counts of each (platform, UTC day)."""
    if not counts:
        return
    table, statement = table_of(LookupCount), upsert(connection, LookupCount)
    statement = statement.on_conflict_do_update(
        index_elements=[table.c.platform, table.c.day],
        set_={
            "clean": table.c.clean + statement.excluded.clean,
            "disclosed": table.c.disclosed + statement.excluded.disclosed,
        },
    )
    # Sorted, so that two processes lock the rows in the same order.
    rows = [
        {"platform": platform, "day": day, "clean": clean, "disclosed": disclosed}
        for (platform, day), (clean, disclosed) in sorted(counts.items())
    ]
    connection.execute(statement, rows)


def read_counts(connection: Connection, day: int) -> list[tuple[str, int, int]]:
    """Return (platform, clean, disclosed) of a UTC day, as far as written."""
    rows = connection.execute(
        select(LookupCount.platform, LookupCount.clean, LookupCount.disclosed).where(LookupCount.day == day)
    )
    return [(platform, clean, disclosed) for platform, clean, disclosed in rows]


@dataclass(frozen=True, slots=True)
class LookupView:
    """The log's size, the key epochs that are not retired with their states, and listings in effect by tag.

    What the first `size` entries list is in `listings`, but for epochs that are not in `epochs`: the size is never
    newer than the listings, the epochs never older. (An epoch's listings are deleted some time after it is retired.)
    """

    size: int
    epochs: dict[int, str]
    listings: dict[bytes, list[ListingRow]]


def read_view(connection: Connection, tags: Sequence[bytes], hour: int) -> LookupView:
    """Return the view for these tags at `hour` (since the Unix epoch). Listings that come into effect later are left
    out, so that a tag which only cools is answered in the same way as one that has none.

    One statement sees one moment; of several, for more than 500 tags, each sees what was committed before it: the size
    is taken from the first and the epochs from the last.
    """
    statement = _view_statement(connection.dialect.name)
    by_tag: dict[bytes, list[ListingRow]] = {}
    heads: list[tuple[int, str]] = []
    for some in chunks(tags) or [[]]:
        rows = connection.execute(statement, {"tags": some, "hour": hour}).all()
        heads += [(row[0], row[1] or "") for row in rows[:1]]
        for row in rows:
            if row[2] is not None:
                by_tag.setdefault(bytes(row[2]), []).append(ListingRow(*row[2:]))
    if not heads:
        return LookupView(0, {}, {})
    states = [part.split(":") for part in heads[-1][1].split(",") if part]
    return LookupView(heads[0][0], {int(epoch): state for epoch, state in states}, by_tag)


@cache
def _view_statement(dialect: str) -> Any:
    """Return the statement of a view. It gives one row for each listing, or one row without any; each has the log's
    size and the epochs as `epoch:state,...`."""
    named = cast(KeyEpoch.epoch, String) + ":" + KeyEpoch.state
    epochs = select(func.aggregate_strings(named, ",")).where(KeyEpoch.state != "retired").scalar_subquery()
    if dialect == "postgresql":
        listed = Listing.tag == any_(bindparam("tags", type_=ARRAY(LargeBinary)))
    else:
        listed = Listing.tag.in_(bindparam("tags", expanding=True))
    return (
        select(LogHead.size, epochs, *LISTING_COLUMNS)
        .select_from(LogHead)
        .join(Listing, and_(listed, Listing.effective_hour <= bindparam("hour", type_=Integer)), isouter=True)
        .where(LogHead.id == 1)
    )
