"""Search for reused pictures: the number of confirmed reports of others with a picture, or one that looks the same.

Each process keeps the hashes in memory, indexed (`ledger.rules.hash_index`), and reads new ones at the start of every
search; ids grow with the log, so no hash that was committed before is missed. The index only proposes reports. Their
present state is read from the database in the same search: a report that a lookup would not count does not count here,
and a picture that the operator lists as benign, or that many unconnected reports have, is answered as `common`
(docs/decisions/0011-reused-pictures.md).
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray
from sqlalchemy import Connection, Engine

from ledger.errors import InvalidRequest, PictureUnfit, QuotaExceeded
from ledger.protocol.encoding import DAY_SECONDS, day_floor, format_time, unix_seconds
from ledger.rules.conduct import Conduct
from ledger.rules.disclosures import DISCLOSURE_DAYS
from ledger.rules.hash_index import HashIndex, distances
from ledger.rules.pictures import HASH_BYTES, MAX_DISTANCE, MAX_SEARCHED, Use, is_common, is_degenerate, may_be_common
from ledger.rules.standing import Event, visible_events
from ledger.server.context import Context
from ledger.server.db.engine import reading, writing
from ledger.server.pictures import queries as store
from ledger.server.pictures.queries import HitRow
from ledger.server.platforms.members import Member, Members
from ledger.server.records.queries import own_number, own_report, reports_by_id
from ledger.server.settings import Settings

ANSWER_BYTES = 1024
"""Size of every answer, hit or miss."""

MAX_MATCHES = 2_000
"""Number of matching reports that are read, newest first. If there are more, the answer says so."""

MAX_FORGOTTEN = 1000
"""The most records of searches that one transaction deletes."""

_READ_AT_ONCE = 50_000


@dataclass(frozen=True, slots=True)
class Near:
    """The reports with a picture like the given one: their ids, newest first, at most one more than `MAX_MATCHES`.
    `benign`: the picture is in the operator's list of benign pictures, and `reports` is empty."""

    reports: list[int]
    benign: bool = False


class PictureIndex:
    """The hashes in this process's memory. Thread-safe; empty until the first search or maintenance reads them."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._index = HashIndex()
        self._benign = b""  # packed, as the index takes them
        self._benign_version = (0, 0)
        self._lock = threading.Lock()

    def near(self, connection: Connection, hashes: Sequence[bytes]) -> list[Near]:
        """Return for each hash the reports with a committed hash within the distance. Raises DatabaseUnavailable."""
        with self._lock:
            _fill(connection, self._index)
            version = store.benign_version(connection)
            if version != self._benign_version:  # the list that is read now has this version or a newer one
                self._benign = b"".join([row.pdq for row in store.benign_pictures(connection)])
                self._benign_version = version
            return [self._near(pdq) for pdq in hashes]

    def refresh(self) -> bool:
        """Read what is new, or everything if this process holds hashes that the database does not have any longer;
        return True in that case. Erased hashes are never answered; this deletes them from memory too."""
        with reading(self._engine) as connection:
            with self._lock:
                _fill(connection, self._index)
                if store.count(connection, self._index.last_id) == len(self._index):
                    return False
            fresh = HashIndex()
            _fill(connection, fresh)
        with self._lock:
            self._index = fresh
        return True

    def _near(self, pdq: bytes) -> Near:
        benign = distances(self._benign, pdq)
        if np.any(benign <= MAX_DISTANCE):
            return Near([], True)
        ids: NDArray[np.int64] = self._index.near(pdq)
        # Two pictures with a common hash within MAX_DISTANCE are at most 2 * MAX_DISTANCE apart, so benign pictures
        # that # are farther away do not matter.
        for place in np.flatnonzero(benign <= 2 * MAX_DISTANCE).tolist():
            between = self._index.near(self._benign[place * HASH_BYTES : (place + 1) * HASH_BYTES])
            ids = np.setdiff1d(ids, between, assume_unique=True)
        reports = dict.fromkeys(store.report_of(picture) for picture in ids[::-1].tolist())
        return Near(list(reports)[: MAX_MATCHES + 1])


def _fill(connection: Connection, index: HashIndex) -> None:
    while True:
        ids, hashes = store.newer(connection, index.last_id, _READ_AT_ONCE)
        index.add(ids, hashes)
        if len(ids) < _READ_AT_ONCE:
            return


@dataclass(frozen=True, slots=True)
class PictureSearch:
    """The context of searches for pictures, with the settings (the quota), the members' weights, and the index."""

    context: Context
    settings: Settings
    members: Members
    index: PictureIndex


def search(pictures: PictureSearch, member: Member, hashes: Sequence[bytes], order_ref: bytes) -> bytes:
    """Return the JSON answer for 1 to `MAX_SEARCHED` hashes, `ANSWER_BYTES` long: one result each, in order.

    The quota is counted first, and a search that met a report of others is recorded before it is answered. Raises
    InvalidRequest (the number of hashes), PictureUnfit, QuotaExceeded, DatabaseUnavailable.
    """
    if not 1 <= len(hashes) <= MAX_SEARCHED:
        raise InvalidRequest(f"A search carries 1 to {MAX_SEARCHED} hashes.")
    if any(is_degenerate(pdq) for pdq in hashes):
        raise PictureUnfit("One of the hashes is not of a picture with anything in it; it would meet too many others.")
    return _answer(pictures, member, hashes, order_ref, None)


def search_own(pictures: PictureSearch, member: Member, report_id: str) -> bytes:
    """Return the JSON answer for the pictures of a report of this platform: one result for each picture that can be
    searched. The report's act is left out, with the reports of others that joined it: the same refund is no reuse, and
    the answer does not disclose that another member reported it. Raises NotFound, QuotaExceeded,
    DatabaseUnavailable."""
    number = own_number(pictures.context, report_id)
    with reading(pictures.context.engine) as connection:
        row = own_report(connection, member, number)
        hashes = store.hashes_of(connection, number)[:MAX_SEARCHED]
    return _answer(pictures, member, hashes, row.order_ref, row.act_id)


def reuse(pictures: PictureSearch, report_id: int) -> dict[bytes, dict[str, Any]]:
    """Return for a reviewer, by hash, the result of a search for each picture of a report by a reader of no control
    group, with the report's act left out. The search is neither counted nor logged here, because the reading of the
    case is logged. Raises DatabaseUnavailable."""
    with reading(pictures.context.engine) as connection:
        row = reports_by_id(connection, [report_id]).get(report_id)
        if row is None:
            return {}
        hashes = store.hashes_of(connection, report_id)[:MAX_SEARCHED]
        results, _ = _results(pictures, connection, hashes, None, row.act_id)
    return dict(zip(hashes, results, strict=True))


def _answer(
    pictures: PictureSearch, member: Member, hashes: Sequence[bytes], order_ref: bytes, leave_out: int | None
) -> bytes:
    now = pictures.context.now()
    _count(pictures, member, len(hashes), now)
    with reading(pictures.context.engine) as connection:
        results, met = _results(pictures, connection, hashes, member.control_group, leave_out)
    if met:
        with writing(pictures.context.engine) as connection:
            store.log_search(connection, member.platform, order_ref, now, sorted(met))
    return _padded({"results": results, "as_of": format_time(now)})


def _count(pictures: PictureSearch, member: Member, hashes: int, now: datetime) -> None:
    if not hashes:
        return
    quota = pictures.settings.pictures_daily_quota_hashes
    with writing(pictures.context.engine) as connection:
        if not store.take_quota(connection, member.platform, day_floor(now), hashes, quota):
            raise QuotaExceeded(
                "Your platform's daily quota of searched pictures does not cover this search.",
                limit="daily",
                retry_after_seconds=DAY_SECONDS - unix_seconds(now) % DAY_SECONDS,
            )


def _results(
    pictures: PictureSearch,
    connection: Connection,
    hashes: Sequence[bytes],
    control_group: str | None,
    leave_out: int | None,
) -> tuple[list[dict[str, Any]], set[int]]:
    """Return one result for each hash, and the ids of the reports of others that are counted in any of them.
    `leave_out` is the id of an act."""
    near = pictures.index.near(connection, hashes)
    rows = store.hits(connection, {report for picture in near for report in picture.reports[:MAX_MATCHES]})
    counting = _counting(pictures, rows.values())
    results: list[dict[str, Any]] = []
    met: set[int] = set()
    for picture in near:
        matches = [row for report in picture.reports[:MAX_MATCHES] if (row := rows.get(report))]
        alike = [row for row in matches if row.act_id != leave_out]
        counted = [row for row in alike if row.report_id in counting]
        if picture.benign or _is_common(connection, counted):
            results.append({"reports": 0, "platforms": 0, "own_reports": 0, "more": False, "common": True})
            continue
        own_acts = {row.act_id for row in alike if row.control_group == control_group}
        others = [row for row in counted if row.act_id not in own_acts]
        met.update(row.report_id for row in others)
        results.append(
            {
                "reports": len({row.act_id for row in others}),
                "platforms": len({row.control_group for row in others}),
                "own_reports": len({row.act_id for row in counted if row.control_group == control_group}),
                "more": len(picture.reports) > MAX_MATCHES,
                "common": False,
            }
        )
    return results, met


def _counting(pictures: PictureSearch, rows: Iterable[HitRow]) -> set[int]:
    """Return the ids of those reports that a lookup would count now."""
    events = [
        Event(
            row.report_id,
            row.act_id,
            row.control_group,
            row.conduct,
            row.act_day,
            row.effective_hour,
            row.expires_day,
            frozenset(),
            disputed=row.disputed,
            unconfirmed=row.unconfirmed,
        )
        for row in rows
    ]
    context = pictures.context
    visible = visible_events(events, pictures.members.weights(), context.policy, context.now())
    return {event.event.report_id for event in visible.counting}


def _is_common(connection: Connection, counted: Sequence[HitRow]) -> bool:
    uses = [Use(Conduct(row.conduct), row.control_group, ()) for row in counted]
    if not may_be_common(uses):
        return False
    tags = store.tags_of(connection, [row.report_id for row in counted])
    return is_common([replace(use, tags=tags.get(row.report_id, ())) for use, row in zip(uses, counted, strict=True)])


def _padded(answer: dict[str, Any]) -> bytes:
    bare = orjson.dumps({**answer, "padding": ""})
    missing = ANSWER_BYTES - len(bare)
    if missing < 0:
        raise AssertionError("an answer about pictures outgrew ANSWER_BYTES")
    return bare[:-2] + b"." * missing + bare[-2:]


def forget_searches(engine: Engine, now: datetime) -> int:
    """Delete records of searches after `DISCLOSURE_DAYS`, and the counts of past days; return the number of deleted
    records. Raises DatabaseUnavailable."""
    with writing(engine) as connection:
        store.forget_use(connection, day_floor(now))
        return store.forget_searches(connection, now - timedelta(days=DISCLOSURE_DAYS), MAX_FORGOTTEN)
