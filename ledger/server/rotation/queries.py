"""Queries of a key rotation: rows of one epoch that another lacks, pairs of rows, filling, and deleting at the end.

The *place* of a subject is (report_id, slot). Every query follows the primary key in that order, in chunks, so that no
transaction is long and a new run can continue a killed one from the data alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, cast

from sqlalchemy import ColumnElement, Connection, delete, exists, func, literal, select, text, tuple_
from sqlalchemy.orm import aliased

from ledger.server.db.bulk import chunks, table_of, upsert
from ledger.server.db.index_walks import by_index, by_table
from ledger.server.db.tables.appeals import CaseTag
from ledger.server.db.tables.lookups import LookupTag
from ledger.server.db.tables.oprf import OprfUse
from ledger.server.db.tables.reports import Listing, Subject
from ledger.server.db.tables.snapshots import Snapshot
from ledger.server.lookups.disclosure_queries import move_counts

Place = tuple[int, int]
START: Place = (-1, -1)
"""A value before every place."""

Model = type[Subject] | type[Listing] | type[CaseTag]


class EpochSubjectRow(NamedTuple):
    """A subject under one epoch. (Queries return rows of the database driver with these members, because copying them
    would take as long as reading them.)"""

    report_id: int
    slot: int
    kind: str
    element: bytes


class PairRow(NamedTuple):
    """A subject under two epochs; elements and salts have 32 bytes. (These are rows of the driver, as for
    `EpochSubjectRow`.)"""

    report_id: int
    slot: int
    kind: str
    old_element: bytes
    new_element: bytes
    old_salt: bytes
    new_salt: bytes


class FilledRow(NamedTuple):
    """The values of a subject under the new epoch: element, new random salt, and the tag of its listing."""

    report_id: int
    slot: int
    element: bytes
    salt: bytes
    tag: bytes


class Missing(NamedTuple):
    """Numbers of rows under the old epoch that have no row under the new one."""

    subjects: int
    listings: int


def count_rows(connection: Connection, model: Model, epoch: int, after: Place = START) -> int:
    """Return the number of rows of `model` under `epoch` after the place `after`."""
    query = select(func.count()).select_from(model).where(model.epoch == epoch)
    if after != START:
        by_index(connection)
        query = query.where(_beyond(model, after))
    return connection.execute(query).scalar_one()


def unfilled(connection: Connection, old: int, new: int, after: Place, limit: int) -> list[EpochSubjectRow]:
    """Return the subjects under epoch `old` without a row under `new`, after the place `after`, in order, at most
    `limit`."""
    by_index(connection)
    columns = (Subject.report_id, Subject.slot, Subject.kind, Subject.element)
    query = select(*columns).where(Subject.epoch == old, _beyond(Subject, after), _lacks(Subject, new))
    rows = connection.execute(query.order_by(Subject.report_id, Subject.slot).limit(limit))
    return cast("list[EpochSubjectRow]", rows.all())


def pairs(connection: Connection, old: int, new: int, after: Place, limit: int) -> list[PairRow]:
    """Return the subjects that have rows under both epochs, after the place `after`, in order, at most `limit`."""
    by_index(connection)
    query, other = _pairs(old, new)
    # The condition is on both sides, so that the one which the database reads first starts at the right place.
    query = query.where(_beyond(Subject, after), _beyond(other, after))
    rows = connection.execute(query.order_by(Subject.report_id, Subject.slot).limit(limit))
    return cast("list[PairRow]", rows.all())


def pairs_between(connection: Connection, old: int, new: int, after: int, last: int) -> list[PairRow]:
    """Return the same pairs for the reports `after` < id <= `last`, in no order."""
    query, other = _pairs(old, new)
    for model in (Subject, other):
        query = query.where(model.report_id > after, model.report_id <= last)
    return cast("list[PairRow]", connection.execute(query).all())


def _pairs(old: int, new: int) -> tuple[Any, Any]:
    other = aliased(Subject)
    query = (
        select(
            Subject.report_id,
            Subject.slot,
            Subject.kind,
            Subject.element.label("old_element"),
            other.element.label("new_element"),
            Subject.salt.label("old_salt"),
            other.salt.label("new_salt"),
        )
        .join(other, (other.report_id == Subject.report_id) & (other.slot == Subject.slot))
        .where(Subject.epoch == old, other.epoch == new)
    )
    return query, other


def missing(connection: Connection, old: int, new: int) -> Missing:
    """Return how many subjects and listings under epoch `old` have no row under `new`. Reads both tables once."""
    by_table(connection)
    models: tuple[Model, ...] = (Subject, Listing)
    counts = []
    for model in models:
        other: Any = aliased(model)
        same = (other.report_id == model.report_id, other.slot == model.slot, other.epoch == literal(new))
        query = select(func.count()).select_from(model).where(model.epoch == old, ~exists().where(*same))
        counts.append(connection.execute(query).scalar_one())
    return Missing(*counts)


def _lacks(model: Model, new: int) -> ColumnElement[bool]:
    """Return the condition that a row of `model` has no row under `new`: a subquery for each row, which no planner
    changes into a join."""
    other = aliased(model)
    same_place = (
        select(other.slot)
        .where(other.report_id == model.report_id, other.slot == model.slot, other.epoch == literal(new))
        .correlate(model)
        .limit(1)
        .scalar_subquery()
    )
    return same_place.is_(None)


def _beyond(model: Any, after: Place) -> ColumnElement[bool]:
    return tuple_(model.report_id, model.slot) > tuple_(literal(after[0]), literal(after[1]))


# --- filling ------------------------------------------------------------------------------------------------

_NAMED = ("tag", "report_id", "slot", "epoch")
_COPIED = ", ".join([f"l.{column.name}" for column in table_of(Listing).columns if column.name not in _NAMED])
_LISTING_COLUMNS = f"tag, report_id, slot, epoch, {_COPIED.replace('l.', '')}"
# A row that was erased meanwhile is not copied, and a row that exists already stays. LATERAL with LIMIT makes a lookup
# for each value, whatever statistics the planner has of the tables.
_FILL_POSTGRESQL = text(
    "WITH v AS MATERIALIZED (SELECT * FROM unnest(CAST(:report_id AS bigint[]), CAST(:slot AS smallint[]), "
    "CAST(:element AS bytea[]), CAST(:salt AS bytea[]), CAST(:tag AS bytea[])) "
    "AS v(report_id, slot, element, salt, tag)), "
    "filled AS (INSERT INTO subject (report_id, slot, epoch, kind, element, salt) "
    "SELECT v.report_id, v.slot, :new, s.kind, v.element, v.salt FROM v CROSS JOIN LATERAL "
    "(SELECT * FROM subject WHERE report_id = v.report_id AND slot = v.slot AND epoch = :old LIMIT 1) s "
    "ON CONFLICT DO NOTHING) "
    f"INSERT INTO listing ({_LISTING_COLUMNS}) "
    f"SELECT v.tag, v.report_id, v.slot, :new, {_COPIED} FROM v CROSS JOIN LATERAL "
    "(SELECT * FROM listing WHERE report_id = v.report_id AND slot = v.slot AND epoch = :old LIMIT 1) l "
    "ON CONFLICT DO NOTHING"
)
_FILL_SQLITE = (
    text(
        "INSERT INTO subject (report_id, slot, epoch, kind, element, salt) "
        "SELECT s.report_id, s.slot, :new, s.kind, :element, :salt FROM subject s "
        "WHERE s.report_id = :report_id AND s.slot = :slot AND s.epoch = :old ON CONFLICT DO NOTHING"
    ),
    text(
        f"INSERT INTO listing ({_LISTING_COLUMNS}) SELECT :tag, l.report_id, l.slot, :new, {_COPIED} FROM listing l "
        "WHERE l.report_id = :report_id AND l.slot = :slot AND l.epoch = :old ON CONFLICT DO NOTHING"
    ),
)


def fill(connection: Connection, old: int, new: int, rows: Sequence[FilledRow]) -> None:
    """Insert rows under `new` for the subjects and listings of `rows` that still have a row under `old`.

    The caller holds the log's head, so no other transaction changes a listing meanwhile.
    """
    if not rows:
        return
    epochs = {"old": old, "new": new}
    _fill_case_tags(connection, old, new, rows)
    by_index(connection)
    if connection.dialect.name != "postgresql":
        for statement in _FILL_SQLITE:
            connection.execute(statement, [{**row._asdict(), **epochs} for row in rows])
        return
    columns = {name: _array([row[i] for row in rows]) for i, name in enumerate(FilledRow._fields)}
    connection.execute(_FILL_POSTGRESQL, {**columns, **epochs})


def _fill_case_tags(connection: Connection, old: int, new: int, rows: Sequence[FilledRow]) -> None:
    """Insert tags of cases under `new`, so that people find their case also if its report is not listed any longer."""
    tags = {(row.report_id, row.slot): row.tag for row in rows}
    fresh = upsert(connection, CaseTag).on_conflict_do_nothing()
    for chunk in chunks({row.report_id for row in rows}):
        places = connection.execute(
            select(CaseTag.report_id, CaseTag.slot).where(CaseTag.report_id.in_(chunk), CaseTag.epoch == old)
        )
        values = [
            {"tag": tags[place[0], place[1]], "report_id": place[0], "slot": place[1], "epoch": new}
            for place in places
            if (place[0], place[1]) in tags
        ]
        if values:
            connection.execute(fresh, values)


def _array(values: Sequence[int | bytes]) -> str:
    """Return a PostgreSQL array literal. The conversion of the driver, value by value, takes as long as the
    multiplications."""
    texts = [f'"\\\\x{value.hex()}"' if isinstance(value, bytes) else str(value) for value in values]
    return "{" + ",".join(texts) + "}"


# --- the end of an epoch ------------------------------------------------------------------------------------


def tag_pairs(connection: Connection, old: int, new: int, after: int, last: int) -> list[tuple[bytes, bytes]]:
    """Return (old tag, new tag) of the listings of the reports `after` < id <= `last`."""
    other = aliased(Listing)
    rows = connection.execute(
        select(Listing.tag, other.tag)
        .join(other, (other.report_id == Listing.report_id) & (other.slot == Listing.slot))
        .where(Listing.report_id > after, Listing.report_id <= last, Listing.epoch == old)
        .where(other.report_id > after, other.report_id <= last, other.epoch == new)
    )
    return [(bytes(old_tag), bytes(new_tag)) for old_tag, new_tag in rows]


def move_lookups(connection: Connection, tags: Mapping[bytes, bytes]) -> None:
    """Move records of lookups from old tags to new ones (`tags` maps old to new), so that people can still see which
    platforms looked them up."""
    for chunk in chunks(tags):
        lookups = connection.execute(select(LookupTag.tag, LookupTag.lookup_id).where(LookupTag.tag.in_(chunk))).all()
        if lookups:
            rows = [{"tag": tags[bytes(tag)], "lookup_id": lookup_id} for tag, lookup_id in lookups]
            connection.execute(upsert(connection, LookupTag).on_conflict_do_nothing(), rows)
            connection.execute(delete(LookupTag).where(LookupTag.tag.in_(chunk)))
    move_counts(connection, tags)


def any_in(connection: Connection, model: Model, epoch: int, after: int, last: int) -> bool:
    """True if a report `after` < id <= `last` has rows of `model` under `epoch`."""
    where = (model.report_id > after, model.report_id <= last, model.epoch == epoch)
    return connection.execute(select(model.report_id).where(*where).limit(1)).first() is not None


def delete_epoch(connection: Connection, model: Model, epoch: int, after: int, last: int) -> int:
    """Delete the rows of `epoch` of the reports `after` < id <= `last`; return their number."""
    where = (model.report_id > after, model.report_id <= last, model.epoch == epoch)
    return int(connection.execute(delete(model).where(*where)).rowcount)


def snapshots_of(connection: Connection, epoch: int) -> list[bytes]:
    """Return the versions of the snapshots that were built under `epoch`."""
    return [bytes(version) for version in connection.scalars(select(Snapshot.version).where(Snapshot.epoch == epoch))]


def oprf_uses(connection: Connection) -> dict[str, int]:
    """Return the number of elements evaluated so far, by platform."""
    rows = connection.execute(select(OprfUse.platform, func.sum(OprfUse.elements)).group_by(OprfUse.platform))
    return {platform: int(elements) for platform, elements in rows}
