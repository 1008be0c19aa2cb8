"""Reused pictures: in how many confirmed reports of others a picture, or one that looks the same, was used.

Each process keeps the hashes in memory, indexed (`ledger.core.hash_index`), and reads what is new at the start of every
search; ids grow with the log, so nothing that was committed before is missed. The index only proposes. What a hit means
is read from the database in the same search: a report that is disputed, taken back, unconfirmed, cooling, expired or
erased, or whose control group is suspended, does not count (docs/decisions/0011-reused-pictures.md).
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import orjson
from sqlalchemy import Connection, Engine

from ledger.core.conduct import Conduct
from ledger.core.encoding import DAY_SECONDS, day_floor, format_time, hour_floor, unix_seconds
from ledger.core.hash_index import HashIndex
from ledger.core.ids import decode_id
from ledger.core.pictures import MAX_SEARCHED, is_degenerate
from ledger.core.policy import Policy, is_expired
from ledger.errors import InvalidRequest, NotFound, PictureUnfit, QuotaExceeded
from ledger.service.erasure import DISCLOSURE_DAYS, MAX_DISCLOSURES
from ledger.service.members import Member
from ledger.store import pictures as store
from ledger.store.engine import reading, writing
from ledger.store.pictures import HitRow
from ledger.store.reports import reports_by_id

if TYPE_CHECKING:
    from ledger.service.runtime import Runtime

ANSWER_BYTES = 1024
"""Size of every answer, hit or miss."""

MAX_MATCHES = 2_000
"""Matching hashes whose reports are looked at, newest first; beyond it the answer says that there are more."""

_READ_AT_ONCE = 50_000


class Pictures:
    """The hashes of this process. Thread-safe; empty until the first search reads them."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._index = HashIndex()
        self._lock = threading.Lock()

    def near(self, connection: Connection, hashes: Sequence[bytes]) -> list[list[int]]:
        """For each hash, the ids of all committed ones within the distance, newest first, at most one more than
        `MAX_MATCHES`. Raises DatabaseUnavailable."""
        with self._lock:
            _fill(connection, self._index)
            return [self._index.near(pdq)[::-1][: MAX_MATCHES + 1].tolist() for pdq in hashes]

    def drop_erased(self) -> bool:
        """Read everything anew if hashes are held that the database has no more; whether that was so. What was erased
        is never answered; this is so that it is not kept either."""
        with reading(self._engine) as connection:
            with self._lock:
                if len(self._index) == 0:
                    return False
                _fill(connection, self._index)
                if store.count(connection) >= len(self._index):
                    return False
            fresh = HashIndex()
            _fill(connection, fresh)
        with self._lock:
            self._index = fresh
        return True


def _fill(connection: Connection, index: HashIndex) -> None:
    while True:
        ids, hashes = store.newer(connection, index.last_id, _READ_AT_ONCE)
        index.add(ids, hashes)
        if len(ids) < _READ_AT_ONCE:
            return


def search(rt: Runtime, member: Member, hashes: Sequence[bytes], order_ref: bytes) -> bytes:
    """The JSON answer for 1 to `MAX_SEARCHED` hashes, `ANSWER_BYTES` long: one result each, in order.

    The quota is counted first, and a search that met somebody is on record before it is answered.
    Raises PictureUnfit, QuotaExceeded, DatabaseUnavailable.
    """
    if not 1 <= len(hashes) <= MAX_SEARCHED:
        raise InvalidRequest(f"A search carries 1 to {MAX_SEARCHED} hashes.")
    if any(is_degenerate(pdq) for pdq in hashes):
        raise PictureUnfit("One of the hashes is not of a picture with anything in it; it would meet too many others.")
    return _answer(rt, member, hashes, order_ref, None)


def search_own(rt: Runtime, member: Member, report_id: str) -> bytes:
    """As `search`, for the pictures of a report of this platform, which itself is left out; as many results as it has
    searchable ones. Raises NotFound."""
    try:
        number = decode_id("rp", report_id, rt.settings.service)
    except InvalidRequest as error:
        raise NotFound("You have no report of this id.") from error
    with reading(rt.engine) as connection:
        row = reports_by_id(connection, [number]).get(number)
        if row is None or row.platform != member.platform:
            raise NotFound("You have no report of this id.")
        hashes = store.hashes_of(connection, number)[:MAX_SEARCHED]
    return _answer(rt, member, hashes, row.order_ref, number)


def reuse(rt: Runtime, report_id: int) -> dict[bytes, dict[str, Any]]:
    """For a reviewer: what a search for each picture of a report, by its hash, would say now to somebody of no control
    group, the report itself left out. Neither counted nor logged here; reading a case is."""
    with reading(rt.engine) as connection:
        hashes = store.hashes_of(connection, report_id)[:MAX_SEARCHED]
        results, _ = _results(rt, connection, hashes, None, report_id)
    return dict(zip(hashes, results, strict=True))


def _answer(rt: Runtime, member: Member, hashes: Sequence[bytes], order_ref: bytes, leave_out: int | None) -> bytes:
    now = rt.now()
    _count(rt, member, len(hashes), now)
    with reading(rt.engine) as connection:
        results, met = _results(rt, connection, hashes, member.control_group, leave_out)
    if met:
        with writing(rt.engine) as connection:
            store.log_search(connection, member.platform, order_ref, now, sorted(met))
    return _padded({"results": results, "as_of": format_time(now)})


def _count(rt: Runtime, member: Member, hashes: int, now: datetime) -> None:
    if not hashes:
        return
    quota = rt.settings.pictures_daily_quota_hashes
    with writing(rt.engine) as connection:
        if not store.take_quota(connection, member.platform, day_floor(now), hashes, quota):
            raise QuotaExceeded(
                "Your platform's daily quota of searched pictures does not cover this search.",
                limit="daily",
                retry_after_seconds=DAY_SECONDS - unix_seconds(now) % DAY_SECONDS,
            )


def _results(
    rt: Runtime, connection: Connection, hashes: Sequence[bytes], control_group: str | None, leave_out: int | None
) -> tuple[list[dict[str, Any]], set[int]]:
    """(one result for each hash, the reports of others that count in any of them)."""
    found = rt.pictures.near(connection, hashes)
    rows = store.hits(connection, {number for ids in found for number in ids[:MAX_MATCHES]})
    now, weights = rt.now(), rt.members.weights()
    counting = {number: row for number, row in rows.items() if _counts(row, weights, rt.policy, now)}
    results: list[dict[str, Any]] = []
    met: set[int] = set()
    for ids in found:
        reports = {row.report_id: row.control_group for one in ids[:MAX_MATCHES] if (row := counting.get(one))}
        reports.pop(-1 if leave_out is None else leave_out, None)
        others = {report: group for report, group in reports.items() if group != control_group}
        met |= others.keys()
        results.append(
            {
                "reports": len(others),
                "platforms": len(set(others.values())),
                "own_reports": len(reports) - len(others),
                "more": len(ids) > MAX_MATCHES,
            }
        )
    return results, met


def _counts(row: HitRow, weights: Mapping[str, int], policy: Policy, now: datetime) -> bool:
    """Whether a report is one that a lookup would count: confirmed, effective, not contested, of somebody in good
    standing."""
    conduct = Conduct(row.conduct)
    if conduct is Conduct.IMPERSONATED or row.disputed or row.unconfirmed or weights.get(row.control_group, 1) == 0:
        return False
    expires_day = policy.expiry_day(conduct, row.act_day, row.expires_day)
    return row.effective_hour <= hour_floor(now) and not is_expired(expires_day, now)


def _padded(answer: dict[str, Any]) -> bytes:
    bare = orjson.dumps({**answer, "padding": ""})
    missing = ANSWER_BYTES - len(bare)
    if missing < 0:
        raise AssertionError("an answer about pictures outgrew ANSWER_BYTES")
    return bare[:-2] + b"." * missing + bare[-2:]


def forget_searches(engine: Engine, now: datetime) -> int:
    """Delete records of who searched after `DISCLOSURE_DAYS`, and the counts of days past; returns how many records."""
    with writing(engine) as connection:
        store.forget_use(connection, day_floor(now))
        return store.forget_searches(connection, now - timedelta(days=DISCLOSURE_DAYS), MAX_DISCLOSURES)
