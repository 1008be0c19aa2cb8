"""What an answer from the database is made of, read in one statement."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from sqlalchemy import Connection, Integer, LargeBinary, String, and_, any_, bindparam, cast, func, select
from sqlalchemy.dialects.postgresql import ARRAY

from ledger.server.db.tables.ledger import KeyEpoch, Listing, LogHead
from ledger.server.lookups.queries import LISTING_COLUMNS, ListingRow

_CHUNK = 500


@dataclass(frozen=True, slots=True)
class LookupView:
    """The log's size, the key epochs that are not retired with their states, and listings in effect by tag.

    What the first `size` entries list is in `listings`, but for epochs that are not in `epochs`: the size is never
    newer than the listings, the epochs never older. (An epoch's listings are deleted some time after it is retired.)
    """

    size: int
    epochs: dict[int, str]
    listings: dict[bytes, list[ListingRow]]


def look(connection: Connection, tags: Sequence[bytes], hour: int) -> LookupView:
    """The view for these tags at `hour` (since the Unix epoch). Listings that come into effect later are left out, so
    that a tag which only cools is answered in the same way as one that has none.

    One statement sees one moment; of several, for more than 500 tags, each sees what was committed before it: the size
    is taken from the first and the epochs from the last.
    """
    unique = list(dict.fromkeys(tags))
    statement = _statement(connection.dialect.name)
    found: dict[bytes, list[ListingRow]] = {}
    seen: list[tuple[int, str | None]] = []
    for start in range(0, max(1, len(unique)), _CHUNK):
        rows = connection.execute(statement, {"tags": unique[start : start + _CHUNK], "hour": hour}).all()
        seen += [(row[0], row[1]) for row in rows[:1]]
        for row in rows:
            if row[2] is not None:
                found.setdefault(bytes(row[2]), []).append(ListingRow(*row[2:]))
    return LookupView(seen[0][0], _parsed(seen[-1][1] or ""), found) if seen else LookupView(0, {}, {})


def _parsed(epochs: str) -> dict[int, str]:
    pairs = [one.split(":") for one in epochs.split(",") if one]
    return {int(epoch): state for epoch, state in pairs}


@cache
def _statement(dialect: str) -> Any:
    """One row a listing, or one without any; each with the log's size and the epochs as `epoch:state,...`."""
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
