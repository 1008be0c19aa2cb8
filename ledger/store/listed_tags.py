"""Queries on which tags are listed at all, under any key epoch and whatever their listings say."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing, suppress

from sqlalchemy import Connection, select, text

from ledger.store.engine import take_time
from ledger.store.order_tables import HeldReport
from ledger.store.tables import Listing

_ROWS_AT_ONCE = 10_000
_PACKING_SECONDS = 600
"""More than ten times what 10^7 listings take."""

_SINCE = select(Listing.tag)

# Packed by the server into at most 256 values: a value a tag would cost more to receive than to read.
_PACKED = text("SELECT string_agg(tag, ''::bytea) FROM listing GROUP BY get_byte(tag, 0)")


def tags_since(connection: Connection, entry_index: int) -> list[bytes]:
    """The tags (32 bytes) of all listings that the log's entries from `entry_index` on have made: of reports recorded
    since, and of held reports released since."""
    tags = [bytes(tag) for tag in connection.scalars(_SINCE.where(Listing.report_id >= entry_index))]
    released = list(connection.scalars(select(HeldReport.report_id).where(HeldReport.released_index >= entry_index)))
    if released:
        tags += [bytes(tag) for tag in connection.scalars(_SINCE.where(Listing.report_id.in_(released)))]
    return tags


def packed_tags(connection: Connection, look: Callable[[], None] = lambda: None) -> bytes:
    """The tags of all listings, 32 bytes each, one after the other in no order; some may be there more than once.

    Needs 64 bytes of memory a listing while it runs, and may take as long as `_PACKING_SECONDS`. `look` is called
    between parts of the answer; what it raises ends the reading. (The server may take long for the first part: see
    `ledger.store.engine.interrupt`.)
    """
    if connection.dialect.name == "postgresql":
        take_time(connection, _PACKING_SECONDS)
        found = connection.execution_options(yield_per=1).execute(_PACKED)
    else:
        found = connection.execution_options(yield_per=_ROWS_AT_ONCE).execute(_SINCE)
    parts: list[bytes] = []
    cursor = found.cursor
    try:
        with closing(found):  # also where `look` ends it
            for some in found.scalars().partitions():
                look()
                parts += some
    finally:
        with suppress(Exception):  # where the connection was cut only the second attempt closes it
            cursor.close()
    return b"".join(parts)
