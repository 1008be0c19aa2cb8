"""Queries on who was shown something of a record: rows of single lookups, and the counts that they become.

A person's record is read from both: the single rows of about a day (`lookup_log`, grouped by the database) and the
counts of what came before. Both are bounded for each tag, platform and day, whatever a platform looks up.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, and_, case, delete, func, or_, select

from ledger.protocol.encoding import day_floor
from ledger.rules.disclosures import MAX_ORDERS, LookupGroup
from ledger.server.db.bulk import MAX_IN_LIST, chunks, table_of, upsert
from ledger.server.db.engine import lock_table
from ledger.server.db.tables.lookups import DisclosureCount, LookupLog, LookupTag

MAX_ROWS = 12
"""Counts that a platform gets for one tag and UTC day; further lookups share one row a purpose."""

SEVERAL, NO_SET = bytes(32), bytes(16)
"""`order_ref` and `lookup_set` of such a shared row. (Both are zeros: the record of an opened session has no order, but
a set.)"""

_TABLE = table_of(DisclosureCount)
_NAMES = tuple(_TABLE.c.keys())
_KEY = ("tag", "platform", "day", "purpose", "order_ref", "lookup_set")


@dataclass(frozen=True, slots=True)
class LookupRow:
    """A single lookup that disclosed an event."""

    id: int
    platform: str
    purpose: str
    order_ref: bytes
    consent_ref: str | None
    claim: str | None
    tier: str
    asked_at: datetime


_LOOKUP = select(*[getattr(LookupLog, name) for name in LookupRow.__dataclass_fields__])


def lock_counts(connection: Connection) -> None:
    """Let no other transaction change the counts until this one ends."""
    lock_table(connection, _TABLE.name)


# --- reading --------------------------------------------------------------------------------------------------


def lookups_about(connection: Connection, tags: Iterable[bytes]) -> list[LookupGroup]:
    """Return lookups about any of `tags` (those of one session: few), each counted once. A platform's orders of one UTC
    day are listed one by one up to `MAX_ORDERS`, the newest ones.

    Of lookups in shared rows (`SEVERAL`) that were about several of the tags, the number is the least that it can be.
    """
    distinct = list(dict.fromkeys(tags))
    return _single(connection, distinct) + _counted(connection, distinct)


def _single(connection: Connection, tags: Sequence[bytes]) -> list[LookupGroup]:
    about = select(LookupTag.lookup_id).where(LookupTag.tag.in_(tags)).distinct().subquery()
    day = func.date(LookupLog.asked_at)
    orders = (
        select(
            LookupLog.platform,
            LookupLog.purpose,
            LookupLog.order_ref,
            day.label("day"),
            func.count().label("times"),
            func.min(LookupLog.asked_at).label("first_at"),
            func.max(LookupLog.asked_at).label("last_at"),
            func.max(LookupLog.id).label("newest"),
        )
        .join(about, about.c.lookup_id == LookupLog.id)
        .group_by(LookupLog.platform, LookupLog.purpose, LookupLog.order_ref, day)
        .subquery()
    )
    of_a_day = (orders.c.platform, orders.c.purpose, orders.c.day)
    place = func.row_number().over(partition_by=of_a_day, order_by=(orders.c.last_at.desc(), orders.c.order_ref))
    placed = select(orders, place.label("place")).subquery()
    order = case((placed.c.place <= MAX_ORDERS, placed.c.order_ref), else_=None)
    rows = connection.execute(
        select(
            placed.c.platform,
            placed.c.purpose,
            order.label("own_order"),
            func.sum(placed.c.times),
            func.min(placed.c.first_at),
            func.max(placed.c.last_at),
            func.max(placed.c.newest),
        ).group_by(placed.c.platform, placed.c.purpose, placed.c.day, order)
    ).all()
    said = _said(connection, [row[-1] for row in rows])
    return [
        LookupGroup(
            platform, purpose, None if own is None else bytes(own), int(times), first_at, last_at, *said[newest]
        )
        for platform, purpose, own, times, first_at, last_at, newest in rows
    ]


def _said(connection: Connection, ids: Sequence[int]) -> dict[int, tuple[str | None, str, bool]]:
    """Return (claim, tier, whether there is a consent_ref) of these lookups."""
    details: dict[int, tuple[str | None, str, bool]] = {}
    columns = select(LookupLog.id, LookupLog.claim, LookupLog.tier, LookupLog.consent_ref.is_not(None))
    for some in chunks(ids):
        rows = connection.execute(columns.where(LookupLog.id.in_(some)))
        details.update({number: (claim, tier, bool(consent)) for number, claim, tier, consent in rows})
    return details


def _counted(connection: Connection, tags: Sequence[bytes]) -> list[LookupGroup]:
    columns = [_TABLE.c[name] for name in (*_KEY[1:], "times", "first_at", "last_at", "claim", "tier", "consent_ref")]
    by_key: dict[tuple[Any, ...], LookupGroup] = {}
    for row in connection.execute(select(*columns).where(_TABLE.c.tag.in_(tags))):
        platform, day, purpose, order_ref, lookup_set, times, first_at, last_at, claim, tier, consent_ref = row
        order, marker = bytes(order_ref), bytes(lookup_set)
        key = (platform, day, purpose, order, marker)
        own, consent = None if marker == NO_SET else order, consent_ref is not None
        group = LookupGroup(platform, purpose, own, times, first_at, last_at, claim, tier, consent)
        if key not in by_key or by_key[key].times < times:  # the same lookups, under another of the person's tags
            by_key[key] = group
    return list(by_key.values())


# --- counting -------------------------------------------------------------------------------------------------


def single_before(
    connection: Connection, before: datetime, limit: int, after: tuple[datetime, int] | None = None
) -> list[LookupRow]:
    """Return single lookups that were made before `before`, the oldest first, at most `limit` beyond `after`, an
    (asked_at, id)."""
    statement = _LOOKUP.where(LookupLog.asked_at < before)
    if after is not None:
        asked_at, number = after
        beyond = or_(LookupLog.asked_at > asked_at, and_(LookupLog.asked_at == asked_at, LookupLog.id > number))
        statement = statement.where(beyond)
    rows = connection.execute(statement.order_by(LookupLog.asked_at, LookupLog.id).limit(limit))
    return [LookupRow(*row) for row in rows]


def single_of(connection: Connection, ids: Iterable[int]) -> list[LookupRow]:
    """Return the lookups of `ids` that are still single, the oldest first."""
    single: list[LookupRow] = []
    for some in chunks(ids):
        single += [LookupRow(*row) for row in connection.execute(_LOOKUP.where(LookupLog.id.in_(some)))]
    return sorted(single, key=lambda row: (row.asked_at, row.id))


def crowded_tags(connection: Connection, least: int) -> list[bytes]:
    """Return the tags with more than `least` single lookups. Reads all single lookups."""
    statement = select(LookupTag.tag).group_by(LookupTag.tag).having(func.count() > least)
    return [bytes(tag) for tag in connection.scalars(statement)]


def tags_crowded_lately(connection: Connection, least: int, newest: int) -> list[bytes]:
    """Return the tags that occur in more than `least` of the `newest` single lookups."""
    ids = list(connection.scalars(select(LookupLog.id).order_by(LookupLog.asked_at.desc()).limit(newest)))
    times: Counter[bytes] = Counter()
    for some in chunks(ids):
        times.update(connection.scalars(select(LookupTag.tag).where(LookupTag.lookup_id.in_(some))))
    return [bytes(tag) for tag, count in times.items() if count > least]


def single_beyond(connection: Connection, tag: bytes, newest: int, limit: int) -> list[LookupRow]:
    """Return single lookups of a tag without its `newest` ones, at most `limit`."""
    numbers = select(LookupTag.lookup_id).where(LookupTag.tag == tag).order_by(LookupTag.lookup_id.desc())
    ids = list(connection.scalars(numbers.offset(newest).limit(limit)))
    single: list[LookupRow] = []
    for some in chunks(ids):
        single += [LookupRow(*row) for row in connection.execute(_LOOKUP.where(LookupLog.id.in_(some)))]
    return single


def count_single(connection: Connection, rows: Sequence[LookupRow]) -> None:
    """Turn these single lookups into counts, under each of their tags. The caller holds `lock_counts`."""
    tags = _tags_of(connection, [row.id for row in rows])
    counts = _Counts(
        connection, {tag for some in tags.values() for tag in some}, {day_floor(row.asked_at) for row in rows}
    )
    for row in rows:
        about = sorted(tags.get(row.id, ()))
        day = day_floor(row.asked_at)
        marker = hashlib.sha256(b"\x00".join([row.platform.encode(), b"%d" % day, *about])).digest()[:16]
        for tag in about:
            counts.add(
                {
                    "tag": tag,
                    "platform": row.platform,
                    "day": day,
                    "purpose": row.purpose,
                    "order_ref": bytes(row.order_ref),
                    "lookup_set": marker,
                    "times": 1,
                    "first_at": row.asked_at,
                    "last_at": row.asked_at,
                    "claim": row.claim,
                    "tier": row.tier,
                    "consent_ref": row.consent_ref,
                    "lookup_id": row.id,
                }
            )
    counts.write()
    for some in chunks([row.id for row in rows]):
        connection.execute(delete(LookupTag).where(LookupTag.lookup_id.in_(some)))
        connection.execute(delete(LookupLog).where(LookupLog.id.in_(some)))


class _Counts:
    """The counts of some tags and days, as they are and as they become."""

    def __init__(self, connection: Connection, tags: Iterable[bytes], days: set[int]) -> None:
        self._connection = connection
        self._rows: dict[tuple[Any, ...], dict[str, Any]] = {}
        self._held: dict[tuple[bytes, str, int], int] = {}
        self._changed: dict[tuple[Any, ...], dict[str, Any]] = {}
        for some in chunks(tags):
            for row in connection.execute(
                select(_TABLE).where(_TABLE.c.tag.in_(some), _TABLE.c.day.in_(days))
            ).mappings():
                values = dict(row)
                for name in ("tag", "order_ref", "lookup_set"):
                    values[name] = bytes(values[name])
                self._keep(values)

    def add(self, new: dict[str, Any]) -> None:
        """Count the lookups of a row like those of the table."""
        key = _key(new)
        if key not in self._rows and self._held.get(_place(new), 0) >= MAX_ROWS:
            new = {**new, "order_ref": SEVERAL, "lookup_set": NO_SET}
            key = _key(new)
        before = self._rows.get(key)
        if before is None:
            self._keep(new)
        else:
            last = new if new["last_at"] >= before["last_at"] else before
            self._rows[key] = {
                **last,
                "times": before["times"] + new["times"],
                "first_at": min(before["first_at"], new["first_at"]),
            }
        self._changed[key] = self._rows[key]

    def write(self) -> None:
        """Write what changed."""
        statement = upsert(self._connection, DisclosureCount)
        statement = statement.on_conflict_do_update(
            index_elements=[_TABLE.c[name] for name in _KEY],
            set_={name: statement.excluded[name] for name in _NAMES if name not in _KEY},
        )
        rows = list(self._changed.values())
        for start in range(0, len(rows), MAX_IN_LIST):
            self._connection.execute(statement, rows[start : start + MAX_IN_LIST])

    def _keep(self, row: dict[str, Any]) -> None:
        self._rows[_key(row)] = row
        if row["lookup_set"] != NO_SET:
            self._held[_place(row)] = self._held.get(_place(row), 0) + 1


def _key(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(row[name] for name in _KEY)


def _place(row: Mapping[str, Any]) -> tuple[bytes, str, int]:
    return row["tag"], row["platform"], row["day"]


def _tags_of(connection: Connection, ids: Sequence[int]) -> dict[int, set[bytes]]:
    by_lookup: dict[int, set[bytes]] = {}
    for some in chunks(ids):
        rows = connection.execute(select(LookupTag.lookup_id, LookupTag.tag).where(LookupTag.lookup_id.in_(some)))
        for number, tag in rows:
            by_lookup.setdefault(number, set()).add(bytes(tag))
    return by_lookup


# --- the end of a tag, and of a count ---------------------------------------------------------------------------


def move_counts(connection: Connection, tags: Mapping[bytes, bytes]) -> None:
    """Move counts to a new tag (old tag -> new tag), and add them to the counts that the new tag has."""
    lock_counts(connection)
    for some in chunks(tags):
        counted = [dict(row) for row in connection.execute(select(_TABLE).where(_TABLE.c.tag.in_(some))).mappings()]
        if not counted:
            continue
        counts = _Counts(connection, [tags[bytes(row["tag"])] for row in counted], {row["day"] for row in counted})
        for row in counted:
            own = {name: bytes(row[name]) for name in ("order_ref", "lookup_set")}
            counts.add({**row, **own, "tag": tags[bytes(row["tag"])]})
        counts.write()
        connection.execute(delete(DisclosureCount).where(DisclosureCount.tag.in_(some)))


def forget_counts(connection: Connection, before_day: int, limit: int) -> int:
    """Delete counts of UTC days before `before_day`, at most `limit`; returns how many."""
    columns = [_TABLE.c[name] for name in _KEY]
    old = connection.execute(select(*columns).where(_TABLE.c.day < before_day).limit(limit)).all()
    for row in old:
        connection.execute(
            delete(DisclosureCount).where(*[column == value for column, value in zip(columns, row, strict=True)])
        )
    return len(old)
