"""Queries on hashes of pictures: new hashes for an index in memory, the present state of a hit, quota, disclosures, and
the operator's list of benign pictures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, delete, exists, func, insert, select, update

from ledger.rules.conduct import MAX_EVIDENCE_ITEMS
from ledger.server.db.bulk import chunks, insert_rows, table_of, upsert
from ledger.server.db.engine import lock_table
from ledger.server.db.tables.pictures import PictureBenign, PictureHash, PictureHit, PictureSearch, PictureUse
from ledger.server.db.tables.reports import Listing, Report

_USE = table_of(PictureUse)


@dataclass(frozen=True, slots=True)
class HitRow:
    """A report that a search met, in its present state, with the columns that decide whether it counts."""

    report_id: int
    act_id: int
    control_group: str
    conduct: str
    act_day: int
    effective_hour: int
    expires_day: int
    disputed: bool
    unconfirmed: bool


@dataclass(frozen=True, slots=True)
class SearchRow:
    """The searches of a platform on one UTC day that met reports of one person: the times of the last search
    (`asked_at`) and of the first, their number, and the reports of the person that they met."""

    platform: str
    asked_at: datetime
    first_asked_at: datetime
    times: int
    reports: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class BenignRow:
    """A picture that searches do not match, and the reason."""

    id: int
    pdq: bytes
    reason: str
    added_at: datetime


def picture_id(report_id: int, place: int) -> int:
    """Return the id of the hash at position `place` in a report's evidence. Later reports have higher ids."""
    return report_id * MAX_EVIDENCE_ITEMS + place


def report_of(picture: int) -> int:
    """Return the id of the report that a hash belongs to, from the hash's id."""
    return picture // MAX_EVIDENCE_ITEMS


def newer(connection: Connection, after: int, limit: int) -> tuple[list[int], bytes]:
    """Return (ids, packed hashes) of the hashes with ids above `after`, ascending, at most `limit`."""
    rows = connection.execute(
        select(PictureHash.id, PictureHash.pdq).where(PictureHash.id > after).order_by(PictureHash.id).limit(limit)
    ).all()
    return [row[0] for row in rows], b"".join([row[1] for row in rows])


def count(connection: Connection, last_id: int) -> int:
    """Return the number of hashes with ids up to `last_id`."""
    return connection.execute(select(func.count()).where(PictureHash.id <= last_id)).scalar_one()


def hashes_of(connection: Connection, report_id: int) -> list[bytes]:
    """Return the hashes of a report, in the order of its evidence."""
    hashes = connection.scalars(
        select(PictureHash.pdq).where(PictureHash.report_id == report_id).order_by(PictureHash.id)
    )
    return [bytes(pdq) for pdq in hashes]


def hits(connection: Connection, report_ids: Iterable[int]) -> dict[int, HitRow]:
    """Return the present state of each of these reports, by its id; reports that are not live are left out."""
    hits_by_report: dict[int, HitRow] = {}
    columns = [getattr(Listing, name) for name in HitRow.__dataclass_fields__]
    for chunk in chunks(report_ids):
        # All listings of a report have the same values here, whatever their identifier and key epoch.
        statement = (
            select(*columns)
            .join(Report, Report.id == Listing.report_id)
            .where(Listing.report_id.in_(chunk), Report.live)
            .distinct()
        )
        for row in connection.execute(statement):
            hits_by_report[row.report_id] = HitRow(*row)
    return hits_by_report


def tags_of(connection: Connection, report_ids: Sequence[int]) -> dict[int, set[bytes]]:
    """Return the tags under which each of these reports is listed, by the report's id."""
    tags: dict[int, set[bytes]] = {}
    for chunk in chunks(report_ids):
        for report_id, tag in connection.execute(
            select(Listing.report_id, Listing.tag).where(Listing.report_id.in_(chunk))
        ):
            tags.setdefault(report_id, set()).add(bytes(tag))
    return tags


def take_quota(connection: Connection, platform: str, day: int, hashes: int, quota: int) -> bool:
    """Count `hashes` hashes on UTC `day` if the quota has room for all of them; return False if it has not."""
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
    """Record a search that met `reports`, in which each id is present once."""
    statement = insert(PictureSearch).values(platform=platform, order_ref=order_ref, asked_at=asked_at)
    number = connection.execute(statement.returning(PictureSearch.id)).scalar_one()
    insert_rows(connection, PictureHit, [{"search_id": number, "report_id": report} for report in reports])


def searches_of(connection: Connection, report_ids: Iterable[int]) -> list[SearchRow]:
    """Return the searches that met any of these reports, newest first. The reports are those of one person, so they are
    few. There is one row for each platform and UTC day, so that one platform's searches do not displace another's."""
    reports = list(report_ids)
    met = select(PictureHit.search_id).where(PictureHit.report_id.in_(reports)).distinct().subquery()
    day = func.date(PictureSearch.asked_at)
    times = connection.execute(
        select(
            PictureSearch.platform,
            day,
            func.count(),
            func.min(PictureSearch.asked_at),
            func.max(PictureSearch.asked_at),
        )
        .join(met, met.c.search_id == PictureSearch.id)
        .group_by(PictureSearch.platform, day)
    ).all()
    met_reports: dict[tuple[str, object], list[int]] = {}
    for platform, on, report_id in connection.execute(
        select(PictureSearch.platform, day, PictureHit.report_id)
        .join(PictureHit, PictureHit.search_id == PictureSearch.id)
        .where(PictureHit.report_id.in_(reports))
        .distinct()
        .order_by(PictureHit.report_id)
    ):
        met_reports.setdefault((platform, on), []).append(report_id)
    rows = [
        SearchRow(platform, last_at, first_at, count, tuple(met_reports[platform, on]))
        for platform, on, count, first_at, last_at in times
    ]
    return sorted(rows, key=lambda row: (row.asked_at, row.platform), reverse=True)


def erase(connection: Connection, report_ids: Sequence[int]) -> None:
    """Delete the hashes of reports that are being erased, and the searches that met only these reports."""
    met = select(PictureHit.search_id).where(PictureHit.report_id.in_(report_ids))
    others = exists().where(PictureHit.search_id == PictureSearch.id, PictureHit.report_id.not_in(report_ids))
    connection.execute(delete(PictureSearch).where(PictureSearch.id.in_(met), ~others))
    for model in (PictureHit, PictureHash):
        connection.execute(delete(model).where(model.report_id.in_(report_ids)))


def forget_searches(connection: Connection, before: datetime, limit: int) -> int:
    """Delete records of searches from before `before`, at most `limit` of them; return their number."""
    old = list(connection.scalars(select(PictureSearch.id).where(PictureSearch.asked_at < before).limit(limit)))
    for chunk in chunks(old):
        connection.execute(delete(PictureHit).where(PictureHit.search_id.in_(chunk)))
        connection.execute(delete(PictureSearch).where(PictureSearch.id.in_(chunk)))
    return len(old)


def forget_use(connection: Connection, before_day: int) -> None:
    """Delete counts of UTC days before `before_day`."""
    connection.execute(delete(PictureUse).where(PictureUse.day < before_day))


# --- benign pictures ------------------------------------------------------------------------------------------


def lock_benign(connection: Connection) -> None:
    """Lock the list of benign pictures, so that no other transaction changes it until this one ends."""
    lock_table(connection, PictureBenign.__tablename__)


def benign_version(connection: Connection) -> tuple[int, int]:
    """Return a value that changes with every change of the list: the numbers of pictures ever added and removed."""
    counts = select(func.count(), func.count(PictureBenign.removed_at)).select_from(PictureBenign)
    added, removed = connection.execute(counts).one()
    return added, removed


def benign_pictures(connection: Connection) -> list[BenignRow]:
    """Return the pictures that are in the list now, oldest first."""
    columns = [getattr(PictureBenign, name) for name in BenignRow.__dataclass_fields__]
    rows = connection.execute(select(*columns).where(PictureBenign.removed_at.is_(None)).order_by(PictureBenign.id))
    return [BenignRow(row.id, bytes(row.pdq), row.reason, row.added_at) for row in rows]


def add_benign(connection: Connection, pdq: bytes, reason: str, now: datetime) -> int:
    """Add a picture to the list; return the id of its row. Raises SQLAlchemy's IntegrityError if it is in the list."""
    statement = insert(PictureBenign).values(pdq=pdq, reason=reason, added_at=now)
    return connection.execute(statement.returning(PictureBenign.id)).scalar_one()


def remove_benign(connection: Connection, pdq: bytes, now: datetime) -> int | None:
    """Remove a picture from the list; return the id of its row, None if it was not in the list."""
    statement = update(PictureBenign).where(PictureBenign.pdq == pdq, PictureBenign.removed_at.is_(None))
    return connection.execute(statement.values(removed_at=now).returning(PictureBenign.id)).scalar_one_or_none()
