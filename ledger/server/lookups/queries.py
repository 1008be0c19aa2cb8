"""Queries behind lookups: listings by tag, the log of disclosures, counts, id blocks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Connection, delete, select, update

from ledger.server.db.bulk import insert_together, table_of, upsert
from ledger.server.db.tables.ledger import IdBlock, Listing, LookupCount, LookupLog, LookupTag

_CHUNK = 500


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


def listings(connection: Connection, tags: Iterable[bytes]) -> dict[bytes, list[ListingRow]]:
    """Listings by tag."""
    found: dict[bytes, list[ListingRow]] = {}
    unique = list(dict.fromkeys(tags))
    for start in range(0, len(unique), _CHUNK):
        some = unique[start : start + _CHUNK]
        for row in connection.execute(select(*LISTING_COLUMNS).where(Listing.tag.in_(some))):
            listing = ListingRow(*row)
            found.setdefault(bytes(listing.tag), []).append(listing)
    return found


def log_disclosures(
    connection: Connection, lookups: Sequence[Mapping[str, Any]], tags: Sequence[Mapping[str, Any]]
) -> None:
    """Record lookups that disclosed an event, and the tags they were about; on PostgreSQL in one statement."""
    insert_together(connection, ((LookupLog, lookups), (LookupTag, tags)))


def disclosure(connection: Connection, lookup_id: int) -> tuple[DisclosureRow, list[bytes]] | None:
    """A lookup that disclosed an event, with the tags it was about."""
    columns = [getattr(LookupLog, name) for name in DisclosureRow.__dataclass_fields__]
    row = connection.execute(select(*columns).where(LookupLog.id == lookup_id)).one_or_none()
    if row is None:
        return None
    tags = connection.scalars(select(LookupTag.tag).where(LookupTag.lookup_id == lookup_id))
    return DisclosureRow(*row), [bytes(tag) for tag in tags]


def forget_disclosures(connection: Connection, before: datetime, limit: int) -> int:
    """Delete records of lookups asked before `before`, at most `limit` of them; returns how many."""
    old = list(connection.scalars(select(LookupLog.id).where(LookupLog.asked_at < before).limit(limit)))
    for start in range(0, len(old), _CHUNK):
        some = old[start : start + _CHUNK]
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
    """(platform, clean, disclosed) of a UTC day, as far as written."""
    rows = connection.execute(
        select(LookupCount.platform, LookupCount.clean, LookupCount.disclosed).where(LookupCount.day == day)
    )
    return [(platform, clean, disclosed) for platform, clean, disclosed in rows]


def reserve_ids(connection: Connection, name: str, count: int) -> int:
    """Reserve `count` integers of block `name`; returns the first. Other processes get others."""
    first = connection.execute(
        update(IdBlock).where(IdBlock.name == name).values(next=IdBlock.next + count).returning(IdBlock.next)
    ).scalar_one_or_none()
    if first is not None:
        return first - count
    fresh = upsert(connection, IdBlock).values(name=name, next=1)
    connection.execute(fresh.on_conflict_do_nothing(index_elements=["name"]))
    return reserve_ids(connection, name, count)
