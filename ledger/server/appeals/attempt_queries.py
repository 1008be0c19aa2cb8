"""Queries on attempts to file appeals: their number by platform and day, and their place in a person's record."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, delete, insert, literal, select

from ledger.server.db.bulk import upsert
from ledger.server.db.tables.appeals import CaseTag, FilingUse
from ledger.server.db.tables.ledger import Listing, LookupLog, LookupTag
from ledger.server.db.types import BigInt, Bytes32, UtcDateTime


def attempts(connection: Connection, platform: str, day: int) -> int:
    """Attempts of the platform in the UTC day (days since the Unix epoch)."""
    mine = (FilingUse.platform == platform, FilingUse.day == day)
    return connection.execute(select(FilingUse.attempts).where(*mine)).scalar_one_or_none() or 0


def count(connection: Connection, platform: str, day: int) -> None:
    """One more."""
    statement = upsert(connection, FilingUse).values(platform=platform, day=day, attempts=1)
    connection.execute(
        statement.on_conflict_do_update(index_elements=["platform", "day"], set_={"attempts": FilingUse.attempts + 1})
    )


def log_attempt(
    connection: Connection, number: int, platform: str, purpose: str, tags: Sequence[bytes], now: datetime
) -> None:
    """Write the attempt among the lookups about the person with these tags, as lookup `number`, if a report is or was
    listed under one of them. The statements are the same if there is none: they insert nothing then."""
    this = literal(number, BigInt)
    listed = select(Listing.tag, this).where(Listing.tag.in_(tags))
    appealed = select(CaseTag.tag, this).where(CaseTag.tag.in_(tags))
    connection.execute(insert(LookupTag).from_select(["tag", "lookup_id"], listed.union(appealed)))
    values: dict[str, Any] = {
        "id": this,
        "platform": literal(platform),
        "purpose": literal(purpose),
        "order_ref": literal(bytes(32), Bytes32()),
        "tier": literal("none"),
        "as_of_index": literal(0, BigInt),
        "asked_at": literal(now, UtcDateTime()),
    }
    matched = select(LookupTag.lookup_id).where(LookupTag.lookup_id == number)
    connection.execute(insert(LookupLog).from_select(list(values), select(*values.values()).where(matched.exists())))


def forget(connection: Connection, before_day: int) -> None:
    """Delete the counts of days before `before_day`."""
    connection.execute(delete(FilingUse).where(FilingUse.day < before_day))
