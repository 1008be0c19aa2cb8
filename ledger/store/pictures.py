"""Queries on hashes of pictures: what is new for an index in memory, what a hit means now, quota, disclosures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select

from ledger.core.conduct import MAX_EVIDENCE_ITEMS
from ledger.store.bulk import insert_rows, table_of, upsert
from ledger.store.picture_tables import PictureHash, PictureHit, PictureSearch, PictureUse
from ledger.store.tables import Listing, Report

_CHUNK = 500
_USE = table_of(PictureUse)


@dataclass(frozen=True, slots=True)
class HitRow:
    """A report whose picture was met, as it stands: what decides whether it counts."""

    report_id: int
    control_group: str
    conduct: str
    act_day: int
    effective_hour: int
    expires_day: int
    disputed: bool
    unconfirmed: bool


def picture_id(report_id: int, place: int) -> int:
    """The id of a report's hash in its `place`: later reports have higher ones."""
    return report_id * MAX_EVIDENCE_ITEMS + place


def newer(connection: Connection, after: int, limit: int) -> tuple[list[int], bytes]:
    """(ids, packed hashes) with ids above `after`, ascending, at most `limit`."""
    rows = connection.execute(
        select(PictureHash.id, PictureHash.pdq).where(PictureHash.id > after).order_by(PictureHash.id).limit(limit)
    ).all()
    return [row[0] for row in rows], b"".join([row[1] for row in rows])


def count(connection: Connection) -> int:
    """How many hashes there are."""
    return connection.execute(select(func.count()).select_from(PictureHash)).scalar_one()


def hashes_of(connection: Connection, report_id: int) -> list[bytes]:
    """The hashes of a report, in the order of its evidence."""
    found = connection.scalars(
        select(PictureHash.pdq).where(PictureHash.report_id == report_id).order_by(PictureHash.id)
    )
    return [bytes(pdq) for pdq in found]


def hits(connection: Connection, ids: Iterable[int]) -> dict[int, HitRow]:
    """By picture id, its report as it stands, where that lives. An id whose hash was erased has none."""
    found: dict[int, HitRow] = {}
    wanted = list(ids)
    columns: list[Any] = [getattr(Listing, name) for name in HitRow.__dataclass_fields__]
    for start in range(0, len(wanted), _CHUNK):
        # All listings of a report say the same of it, whatever their identifier and key epoch.
        statement = (
            select(PictureHash.id, *columns)
            .join(Report, Report.id == PictureHash.report_id)
            .join(Listing, Listing.report_id == PictureHash.report_id)
            .where(PictureHash.id.in_(wanted[start : start + _CHUNK]), Report.live)
            .distinct()
        )
        for row in connection.execute(statement):
            found[row[0]] = HitRow(*row[1:])
    return found


def take_quota(connection: Connection, platform: str, day: int, hashes: int, quota: int) -> bool:
    """Count `hashes` on UTC `day`, all or none; whether the quota had room for them."""
    if hashes > quota:
        return False
    used = _USE.c.hashes + hashes
    statement = (
        upsert(connection, PictureUse)
        .values(platform=platform, day=day, hashes=hashes)
        .on_conflict_do_update(index_elements=[_USE.c.platform, _USE.c.day], set_={"hashes": used}, where=used <= quota)
        .returning(_USE.c.platform)
    )
    return len(connection.execute(statement).all()) == 1


def log_search(
    connection: Connection, platform: str, order_ref: bytes | None, asked_at: datetime, reports: Sequence[int]
) -> None:
    """Record a search that met `reports`, each named once."""
    statement = insert(PictureSearch).values(platform=platform, order_ref=order_ref, asked_at=asked_at)
    number = connection.execute(statement.returning(PictureSearch.id)).scalar_one()
    insert_rows(connection, PictureHit, [{"search_id": number, "report_id": report} for report in reports])


def searches_of(connection: Connection, report_ids: Iterable[int]) -> list[tuple[str, datetime]]:
    """(platform, when) of the searches that met any of these reports, newest first."""
    rows = connection.execute(
        select(PictureSearch.platform, PictureSearch.asked_at, PictureSearch.id)
        .join(PictureHit, PictureHit.search_id == PictureSearch.id)
        .where(PictureHit.report_id.in_(list(report_ids)))
        .distinct()
        .order_by(PictureSearch.id.desc())
    )
    return [(platform, asked_at) for platform, asked_at, _ in rows]


def forget_searches(connection: Connection, before: datetime, limit: int) -> int:
    """Delete records of searches asked before `before`, at most `limit` of them; returns how many."""
    old = list(connection.scalars(select(PictureSearch.id).where(PictureSearch.asked_at < before).limit(limit)))
    for start in range(0, len(old), _CHUNK):
        some = old[start : start + _CHUNK]
        connection.execute(delete(PictureHit).where(PictureHit.search_id.in_(some)))
        connection.execute(delete(PictureSearch).where(PictureSearch.id.in_(some)))
    return len(old)


def forget_use(connection: Connection, before_day: int) -> None:
    """Delete counts of UTC days before `before_day`."""
    connection.execute(delete(PictureUse).where(PictureUse.day < before_day))
