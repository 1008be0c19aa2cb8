"""Statements of persons, for the platform that looked them up: what they say of what that lookup disclosed."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from ledger.errors import InvalidRequest, NotFound
from ledger.protocol.encoding import format_time
from ledger.protocol.identifiers import Kind
from ledger.protocol.public_ids import decode_id
from ledger.rules.standing import visible_events
from ledger.server.appeals.sessions import SESSION_PURPOSE
from ledger.server.context import Context
from ledger.server.db.engine import snapshot_reading
from ledger.server.lookups import queries as lookup_queries
from ledger.server.lookups.disclosures import READABLE_HOURS
from ledger.server.lookups.queries import ListingRow, listing_event
from ledger.server.platforms.members import Member
from ledger.server.records import case_queries


def statements_of_lookup(
    context: Context, member: Member, lookup_id: str, weights: Mapping[str, int]
) -> dict[str, Any]:
    """Return {statements}: what the person says of the reports that this lookup disclosed and that a lookup would
    disclose now, oldest first, without the reports that they are about. `weights` are those of control groups.

    Raises NotFound for the lookups of others, for those that disclosed nothing, and for old ones.
    """
    number, now = _number(context, lookup_id), context.now()
    with snapshot_reading(context.engine) as connection:
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

        def is_disclosed(row: ListingRow) -> bool:
            visible = visible_events([listing_event(row, Kind(row.kind))], weights, context.policy, now)
            return bool(visible.counting or visible.disputed or visible.protected)

        listed = [row for rows in lookup_queries.listings(connection, tags).values() for row in rows]
        # A report's id is its entry's index: the lookup disclosed none that came after it.
        reports = {row.report_id for row in listed if row.report_id < asked.as_of_index and is_disclosed(row)}
        rows = sorted(
            case_queries.statements(connection, reports).values(), key=lambda row: (row.made_at, row.entry_index)
        )
    return {
        "statements": [{"text": row.text, "locale": row.locale, "made_at": format_time(row.made_at)} for row in rows]
    }


def _number(context: Context, lookup_id: str) -> int:
    try:
        return decode_id("lk", lookup_id, context.service)
    except InvalidRequest as error:
        raise _not_found() from error


def _not_found() -> NotFound:
    return NotFound("You made no lookup of this id in the last 24 hours that disclosed anything.")
