"""Reports that depend on a label which identified its file by the rules of their time, and would not today, for staff.

Such a report does not change. Its reporter sees the label in the report's view, the person in their record.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Engine

from ledger.protocol.public_ids import encode_id
from ledger.server.db.engine import reading
from ledger.server.records import former_label_queries as store
from ledger.server.staff.accounts import StaffMember

READER_ROLES = ("supervisor", "auditor")
MAX_LISTED = 200


@dataclass(frozen=True, slots=True)
class FormerLabels:
    """The number of live reports of a platform with such a label; `reports` are the newest of them, at most
    `MAX_LISTED`, None for staff who may not see reports there."""

    number: int
    reports: tuple[str, ...] | None


def former_labels(engine: Engine, service: str, platform: str, staff: StaffMember) -> FormerLabels:
    """Return the live reports of a platform with such a label, as far as this member of staff may see them: only
    supervisors and auditors who belong to no control group see the reports' ids. Raises DatabaseUnavailable."""
    with reading(engine) as connection:
        number = store.counts(connection).get(platform, 0)
        if staff.role not in READER_ROLES or staff.control_group is not None:
            return FormerLabels(number, None)
        ids = store.page(connection, platform, limit=MAX_LISTED)
    return FormerLabels(number, tuple(encode_id("rp", report_id, service) for report_id in ids))


def all_former_labels(engine: Engine, service: str) -> dict[str, list[str]]:
    """Return the ids of all live reports with such a label, by platform, for the operator. Raises
    DatabaseUnavailable."""
    with reading(engine) as connection:
        return {
            platform: [encode_id("rp", number, service) for number in store.page(connection, platform, limit=count)]
            for platform, count in sorted(store.counts(connection).items())
        }
