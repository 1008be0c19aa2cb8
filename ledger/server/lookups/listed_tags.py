"""Queries on which tags are listed at all, under any key epoch and whatever their listings say."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing, suppress
from typing import NamedTuple

from sqlalchemy import Connection, bindparam, select, text

from ledger.rules.appeals import Outcome
from ledger.server.db.engine import take_time
from ledger.server.db.tables.appeals import CaseEntry
from ledger.server.db.tables.orders import HeldReport
from ledger.server.db.tables.reports import Listing

_ROWS_AT_ONCE = 10_000
_PACKING_SECONDS = 600
"""More than ten times what 10^7 listings take."""

_SINCE = select(Listing.tag, Listing.effective_hour)

# Packed by the server into at most 256 values: a value a tag would cost more to receive than to read.
_PACKED = text("SELECT string_agg(tag, ''::bytea) FROM listing WHERE effective_hour <= :hour GROUP BY get_byte(tag, 0)")


_IN_EFFECT = select(Listing.tag).where(Listing.effective_hour <= bindparam("hour"))


class ListedTag(NamedTuple):
    """A tag (32 bytes) of a listing, and the hour since the Unix epoch from which the listing is in effect."""

    tag: bytes
    effective_hour: int


def tags_since(connection: Connection, entry_index: int) -> list[ListedTag]:
    """Return the tags of all listings that the log's entries from `entry_index` on have made or brought into effect: of
    reports recorded since, of held reports released since, and of reports that a decision since has made protect the
    person (they are in effect from the decision on, even where the report still cooled)."""
    tags = [
        ListedTag(bytes(tag), hour) for tag, hour in connection.execute(_SINCE.where(Listing.report_id >= entry_index))
    ]
    changed = set(connection.scalars(select(HeldReport.report_id).where(HeldReport.released_index >= entry_index)))
    changed.update(
        connection.scalars(
            select(CaseEntry.report_id).where(
                CaseEntry.entry_index >= entry_index, CaseEntry.outcome == Outcome.VICTIM.value
            )
        )
    )
    if changed:
        rows = connection.execute(_SINCE.where(Listing.report_id.in_(sorted(changed))))
        tags += [ListedTag(bytes(tag), hour) for tag, hour in rows]
    return tags


def packed_tags(connection: Connection, hour: int, look: Callable[[], None] = lambda: None) -> bytes:
    """Return the tags of all listings in effect by `hour` (since the Unix epoch), 32 bytes each, one after the other in
    no order; some may be there more than once.

    Needs 64 bytes of memory a listing while it runs, and may take as long as `_PACKING_SECONDS`. `look` is called
    between parts of the answer; what it raises ends the reading. (The server may take long for the first part: see
    `ledger.server.db.engine.interrupt`.)
    """
    if connection.dialect.name == "postgresql":
        take_time(connection, _PACKING_SECONDS)
        rows = connection.execution_options(yield_per=1).execute(_PACKED, {"hour": hour})
    else:
        rows = connection.execution_options(yield_per=_ROWS_AT_ONCE).execute(_IN_EFFECT, {"hour": hour})
    parts: list[bytes] = []
    cursor = rows.cursor
    try:
        with closing(rows):  # also where `look` ends it
            for some in rows.scalars().partitions():
                look()
                parts += some
    finally:
        with suppress(Exception):  # where the connection was cut only the second attempt closes it
            cursor.close()
    return b"".join(parts)


def cooling_tags(connection: Connection, hour: int) -> list[ListedTag]:
    """Return the tags of all listings that come into effect after `hour`: of the reports of the last four days, at
    most."""
    rows = connection.execute(_SINCE.where(Listing.effective_hour > hour))
    return [ListedTag(bytes(tag), effective_hour) for tag, effective_hour in rows]
