"""Statements of persons, for the platform that looked them up."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from ledger.errors import InvalidRequest, NotFound
from ledger.protocol.encoding import format_time
from ledger.protocol.identifiers import Kind
from ledger.protocol.public_ids import decode_id
from ledger.rules.standing import visible_events
from ledger.server.appeals.sessions import SESSION_PURPOSE
from ledger.server.db.engine import snapshot_reading
from ledger.server.lookups import queries as lookup_queries
from ledger.server.lookups.disclosures import READABLE_HOURS
from ledger.server.lookups.lookups import listing_event
from ledger.server.lookups.queries import ListingRow
from ledger.server.platforms.members import Member
from ledger.server.records import case_queries

if TYPE_CHECKING:
    from ledger.server.runtime import Runtime


def statements_of_lookup(rt: Runtime, member: Member, lookup_id: str) -> dict[str, Any]:
    """{statements}: what the person says of the reports that this lookup disclosed and that would be told now, oldest
    first. Which report a statement is about, and who made it, is not told.

    Raises NotFound for the lookups of others, for those that disclosed nothing, and for old ones.
    """
    number, now = _number(rt, lookup_id), rt.now()
    weights = rt.members.weights()
    with snapshot_reading(rt.engine) as connection:
        found = lookup_queries.disclosure(connection, number)
        if found is None:
            raise _not_found()
        asked, tags = found
        if (
            asked.platform != member.platform
            or asked.purpose == SESSION_PURPOSE
            or now - asked.asked_at > timedelta(hours=READABLE_HOURS)
        ):
            raise _not_found()

        def told(row: ListingRow) -> bool:
            one = visible_events([listing_event(row, Kind(row.kind))], weights, rt.policy, now)
            return bool(one.counting or one.disputed or one.protected)

        listed = [row for rows in lookup_queries.listings(connection, tags).values() for row in rows]
        # A report's id is its entry's index: the lookup disclosed none that came after it.
        reports = {row.report_id for row in listed if row.report_id < asked.as_of_index and told(row)}
        rows = sorted(
            case_queries.statements(connection, reports).values(), key=lambda row: (row.made_at, row.entry_index)
        )
    return {
        "statements": [{"text": row.text, "locale": row.locale, "made_at": format_time(row.made_at)} for row in rows]
    }


def _number(rt: Runtime, lookup_id: str) -> int:
    try:
        return decode_id("lk", lookup_id, rt.settings.service)
    except InvalidRequest as error:
        raise _not_found() from error


def _not_found() -> NotFound:
    return NotFound("You made no lookup of this id in the last 24 hours that disclosed anything.")
