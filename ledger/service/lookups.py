"""Direct lookups: tags of one person in, a standing with reasons and guidance out.

The desk answers what waits in batches, like the appender: one query for all tags, and, if any answer discloses an
event, one durable insert of who asked before any of those answers leaves. Clean lookups are only counted, in memory,
and the counts are added to the database once a second: a log of clean buyers would be a record of their shopping.

Every answer has the same number of bytes (`ANSWER_BYTES`), hit or miss. Latency still tells (docs/threat-model.md).
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import orjson
from sqlalchemy import Engine

from ledger.core.encoding import day_floor, format_time
from ledger.core.guidance import Claim, advise
from ledger.core.identifiers import Kind
from ledger.core.ids import encode_id
from ledger.core.policy import Policy
from ledger.core.reasons import reason_text
from ledger.core.standing import Event, Standing, fold, merge
from ledger.errors import DatabaseUnavailable, IndexNotReached, LedgerError, StaleEpoch
from ledger.service.batcher import Batcher
from ledger.service.keys import ServerKeys
from ledger.service.members import Member, Members
from ledger.settings import Settings
from ledger.store import log as log_store
from ledger.store import lookups as store
from ledger.store.engine import reading, writing
from ledger.store.lookups import ListingRow

if TYPE_CHECKING:
    from ledger.service.runtime import Runtime

ANSWER_BYTES = 3072
"""Size of every answer. The longest possible one fits (tests/service/test_lookups.py tries them)."""

MIN_INDEX_WAIT_MS = 500
"""How long a lookup waits for `min_index` before 503 `index_not_reached`."""

_POLL_MS = 25
_ID_BLOCK = 10_000
_QUEUE_LIMIT = 20_000
_MAX_BATCH = 500

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LookupRequest:
    """One person's tags (1 to 8, each with its kind), and why they are looked up."""

    epoch: int
    subjects: tuple[tuple[Kind, bytes], ...]
    purpose: str
    order_ref: bytes
    consent_ref: str | None = None
    amount_minor: int | None = None
    currency: str | None = None
    claim: str | None = None
    min_index: int | None = None


@dataclass(frozen=True, slots=True)
class _Asked:
    member: Member
    request: LookupRequest


async def lookup(rt: Runtime, member: Member, request: LookupRequest) -> bytes:
    """The JSON answer, `ANSWER_BYTES` long. Waits for `min_index` up to `MIN_INDEX_WAIT_MS`.

    Raises StaleEpoch, IndexNotReached, DatabaseUnavailable, Overloaded.
    """
    deadline = time.monotonic() + MIN_INDEX_WAIT_MS / 1000
    while True:
        try:
            return await asyncio.wrap_future(submit_lookup(rt, member, request))
        except IndexNotReached:
            if time.monotonic() >= deadline:
                raise
        await asyncio.sleep(_POLL_MS / 1000)


def submit_lookup(rt: Runtime, member: Member, request: LookupRequest) -> Future[bytes]:
    """As `lookup`, without waiting for `min_index`."""
    if not rt.keys.looks_up(request.epoch):
        raise StaleEpoch("The tags were made under another key epoch.", epoch=rt.keys.epoch)
    return rt.desk.submit(member, request)


class LookupDesk:
    """Answers lookups in batches; see the module."""

    def __init__(
        self,
        settings: Settings,
        engine: Engine,
        keys: ServerKeys,
        policy: Policy,
        members: Members,
        now: Callable[[], datetime],
    ) -> None:
        self._service = settings.service
        self._engine = engine
        self._policy = policy
        self._members = members
        self._now = now
        self._next_id = self._last_id = 0
        self._counts: dict[tuple[str, int], tuple[int, int]] = {}
        self._counts_lock = threading.Lock()
        self._stop = threading.Event()
        self._batcher: Batcher[_Asked, bytes] = Batcher(
            "lookups",
            self._answer_all,
            max_batch=_MAX_BATCH,
            linger_ms=settings.lookup_linger_ms,
            queue_limit=_QUEUE_LIMIT,
        )
        self._flusher = threading.Thread(target=self._flush_counts, name="lookup-counts", daemon=True)
        self._flusher.start()

    def submit(self, member: Member, request: LookupRequest) -> Future[bytes]:
        """Queue one lookup. Raises Overloaded."""
        return self._batcher.submit(_Asked(member, request))

    def alive(self) -> bool:
        """Whether lookups are being answered."""
        return self._batcher.alive()

    def close(self) -> None:
        """Answer what waits and write the counts."""
        self._batcher.close()
        self._stop.set()
        self._flusher.join()

    def _answer_all(self, asked: Sequence[_Asked]) -> list[bytes | LedgerError]:
        now = self._now()
        weights = self._members.weights()
        with reading(self._engine) as connection:
            # The head first: what it counts is in the listings that are read after it.
            head = log_store.read_head(connection)
            size = 0 if head is None else head.size
            found = store.listings(connection, [tag for one in asked for _, tag in one.request.subjects])
        outcomes: list[bytes | LedgerError] = []
        lookups: list[dict[str, Any]] = []
        tags: list[dict[str, Any]] = []
        counts: dict[tuple[str, int], tuple[int, int]] = {}
        for one in asked:
            request = one.request
            if request.min_index is not None and size < request.min_index:
                outcomes.append(
                    IndexNotReached("The log has not reached `min_index` yet. Try again.", retry_after_seconds=1)
                )
                continue
            standing = self._fold(request, found, weights, now)
            number = self._id()
            outcomes.append(self._answer(number, standing, request, size, now))
            disclosed = discloses(standing)
            if disclosed:
                lookups.append(_log_row(number, one, standing, size, now))
                tags.extend({"tag": tag, "lookup_id": number} for tag in {tag for _, tag in request.subjects})
            day = (one.member.platform, day_floor(now))
            clean_count, disclosed_count = counts.get(day, (0, 0))
            counts[day] = (clean_count + (not disclosed), disclosed_count + disclosed)
        if lookups:
            with writing(self._engine) as connection:
                store.log_disclosures(connection, lookups, tags)
        self._count(counts)
        return outcomes

    def _fold(
        self,
        request: LookupRequest,
        found: Mapping[bytes, Sequence[ListingRow]],
        weights: Mapping[str, int],
        now: datetime,
    ) -> Standing:
        events = [
            _event(row, kind)
            for kind, tag in request.subjects
            for row in found.get(tag, ())
            if row.kind == kind  # the tag binds its kind; a row under another one was never this identifier
        ]
        return fold(merge(events), weights, self._policy, now)

    def _answer(self, number: int, standing: Standing, request: LookupRequest, size: int, now: datetime) -> bytes:
        answer = {
            "id": encode_id("lk", number, self._service),
            "tier": standing.tier,
            "credit": standing.credit,
            "points": standing.points,
            "events": standing.events,
            "reporters": standing.reporters,
            "disputed": standing.disputed,
            "protected": standing.protected,
            "has_statement": standing.has_statement,
            "reasons": [{"code": code, **_text(code)} for code in standing.reasons],
            "guidance": list(advise(standing, Claim(request.claim or Claim.OTHER))),
            "matched_kinds": list(standing.matched_kinds),
            "policy": self._policy.version,
            "as_of_index": size,
            "as_of": format_time(now),
            "expires_at": format_time(now + timedelta(minutes=self._policy.lookup_expiry_minutes)),
        }
        return padded(answer)

    def _id(self) -> int:
        if self._next_id == self._last_id:
            with writing(self._engine) as connection:
                self._next_id = store.reserve_ids(connection, "lk", _ID_BLOCK)
            self._last_id = self._next_id + _ID_BLOCK
        self._next_id += 1
        return self._next_id - 1

    def _count(self, counts: Mapping[tuple[str, int], tuple[int, int]]) -> None:
        with self._counts_lock:
            for key, (clean, disclosed) in counts.items():
                before = self._counts.get(key, (0, 0))
                self._counts[key] = (before[0] + clean, before[1] + disclosed)

    def _flush_counts(self) -> None:
        stopping = False
        while not stopping:
            stopping = self._stop.wait(1.0)
            with self._counts_lock:
                counts, self._counts = self._counts, {}
            if not counts:
                continue
            try:
                with writing(self._engine) as connection:
                    store.count_lookups(connection, counts)
            except DatabaseUnavailable:
                self._count(counts)  # kept for the next round
            except Exception:
                log.exception("lookup_counts_failed")
                self._count(counts)


def discloses(standing: Standing) -> bool:
    """Whether an answer tells of an event: counting, disputed or protective."""
    return bool(standing.events or standing.disputed or standing.protected)


def padded(answer: dict[str, Any]) -> bytes:
    """`answer` as JSON of exactly `ANSWER_BYTES` bytes."""
    bare = orjson.dumps({**answer, "padding": ""})
    missing = ANSWER_BYTES - len(bare)
    if missing < 0:
        raise AssertionError("a lookup answer outgrew ANSWER_BYTES")
    return bare[:-2] + b"." * missing + bare[-2:]


def _text(code: str) -> dict[str, str]:
    return {"en": reason_text(code, "en"), "zh_cn": reason_text(code, "zh-CN")}


def _event(row: ListingRow, kind: Kind) -> Event:
    return Event(
        report_id=row.report_id,
        act_id=row.act_id,
        control_group=row.control_group,
        conduct=row.conduct,
        act_day=row.act_day,
        effective_hour=row.effective_hour,
        expires_day=row.expires_day,
        disputed=row.disputed,
        unconfirmed=row.unconfirmed,
        restituted=row.restituted,
        has_statement=row.has_statement,
        matched=frozenset({kind}),
    )


def _log_row(number: int, asked: _Asked, standing: Standing, size: int, now: datetime) -> dict[str, Any]:
    request = asked.request
    return {
        "id": number,
        "platform": asked.member.platform,
        "purpose": request.purpose,
        "order_ref": request.order_ref,
        "consent_ref": request.consent_ref,
        "claim": request.claim,
        "tier": standing.tier,
        "as_of_index": size,
        "asked_at": now,
    }
