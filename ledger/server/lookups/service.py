"""Direct lookups: tags of one person in, a standing with reasons and guidance out.

Most lookups are about people without reports, and are answered from memory (`ledger.server.lookups.clear_cache`). All
others are answered from the database in batches: one query for all tags, and, if any answer discloses an event, one
durable insert of the lookups' records before any of those answers is sent. Lookups without a disclosure are only
counted, in memory, and the counts are added to the database once a second: a log of clean buyers would be a record of
their shopping.

Every answer has the same number of bytes (`ANSWER_BYTES`), with or without a report. Its latency still differs
(docs/threat-model.md).
"""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from ledger.errors import DatabaseUnavailable, IndexNotReached, InvalidRequest, LedgerError, StaleEpoch
from ledger.protocol.encoding import day_floor, hour_floor
from ledger.protocol.identifiers import Kind
from ledger.rules.consent import check_consent
from ledger.rules.policy.values import Policy
from ledger.rules.standing import Standing, fold, merge
from ledger.server.context import Context
from ledger.server.db.engine import (
    answers_within,
    by_statement,
    read_again,
    reading_first,
    transaction,
    within,
    writing,
)
from ledger.server.db.id_blocks import IdBlock
from ledger.server.keys.epochs import read_epochs
from ledger.server.keys.files import LOOKUP_STATES
from ledger.server.keys.server_keys import ServerKeys
from ledger.server.lookups import queries as store
from ledger.server.lookups.answers import LookupAnswers, QuestionEcho
from ledger.server.lookups.clear_cache import ClearLookupCache
from ledger.server.lookups.queries import ListingRow, LookupView, listing_event, read_view
from ledger.server.platforms.members import Member, Members
from ledger.server.process.batcher import Batcher
from ledger.server.process.loop_waiters import LoopWaiters
from ledger.server.process.metrics import Metrics
from ledger.server.process.supervision import Worker
from ledger.server.settings import Settings

MIN_INDEX_WAIT_MS = 500
"""The longest time that a lookup waits for `min_index` before 503 `index_not_reached`."""

EPOCHS_REREAD_MS = 50
"""The least time between two reads of the epochs that are caused by lookups under an unknown epoch."""

_POLL_MS = 25
_FLUSH_SECONDS = 1.0
_ANSWER_SECONDS = 5.0
_PATIENCE_SECONDS = 10.0
_QUEUE_LIMIT = 20_000
_MAX_BATCH = 500


class LookupRequest(NamedTuple):
    """One person's tags (1 to 8, each with its kind), and why they are looked up. The answer repeats `digest`, that of
    the question as it was sent (`ledger.protocol.request_digest`, 43 base64url characters), and the client's
    `nonce`."""

    epoch: int
    subjects: tuple[tuple[Kind, bytes], ...]
    purpose: str
    order_ref: bytes
    digest: str
    nonce: str | None = None
    consent_ref: str | None = None
    amount_minor: int | None = None
    currency: str | None = None
    claim: str | None = None
    min_index: int | None = None


class QueuedLookup(NamedTuple):
    """A lookup that waits for the database."""

    member: Member
    request: LookupRequest


class _Answered(NamedTuple):
    """A batch: answers or errors in order, rows of the lookups that disclosed something and of their tags, and numbers
    of clean and disclosing answers by platform and UTC day."""

    outcomes: list[bytes | LedgerError]
    lookups: list[dict[str, Any]]
    tags: list[dict[str, Any]]
    counts: dict[tuple[str, int], tuple[int, int]]


def _late() -> DatabaseUnavailable:
    return DatabaseUnavailable("The database does not answer. Try again.", retry_after_seconds=1)


def stale_epoch(current: int | None) -> StaleEpoch:
    """Return the error for tags of an epoch that is not looked up; `current` is the one that is."""
    return StaleEpoch("The tags were made under another key epoch.", epoch=current)


class LookupService:
    """Answers lookups, from memory or in batches from the database (see the module docstring)."""

    def __init__(
        self,
        context: Context,
        settings: Settings,
        keys: ServerKeys,
        members: Members,
        cache: ClearLookupCache,
        metrics: Metrics,
    ) -> None:
        engine, policies = context.engine, context.policies
        soon = within(engine, settings.read_deadline_ms)
        self._reads = soon
        self._writes = within(engine, settings.write_deadline_ms)
        self._by_statement = by_statement(soon)
        self._deadline_seconds = answers_within(engine, settings.read_deadline_ms)
        """The longest time that a lookup waits for the database's answer before it is refused; None: without a
        limit."""
        self._keys = keys
        self._policies = policies
        self._members = members
        self._cache = cache
        self._metrics = metrics
        self._now = context.now
        self._answers = LookupAnswers(policies, context.service, context.environment)
        self._ids = IdBlock(soon, "lk", context.service)
        self._epochs_lock = threading.Lock()
        self._epochs_read_at = -math.inf
        self._counts: dict[tuple[str, int], tuple[int, int]] = {}
        self._clean: dict[tuple[str, int], int] = {}
        """Answered from memory since the last flush, by platform and UTC day."""
        self._counts_lock = threading.Lock()
        self._waiters: LoopWaiters[bytes] | None = None
        self._closing = False
        self._batcher: Batcher[QueuedLookup, bytes] = Batcher(
            "lookups",
            self._answer_all,
            max_batch=_MAX_BATCH,
            linger_ms=settings.lookup_linger_ms,
            queue_limit=_QUEUE_LIMIT,
            answer_seconds=_ANSWER_SECONDS,
        )
        flush = self._flush_counts
        self.workers = (
            Worker("lookup-counts", flush, seconds=_FLUSH_SECONDS, patience_seconds=_PATIENCE_SECONDS, last=flush),
            Worker(
                "lookup-ids",
                self._ids.refill,
                seconds=None,
                patience_seconds=_PATIENCE_SECONDS,
                wake=self._ids.low,
            ),
        )
        for worker in self.workers:
            worker.start()

    async def lookup(self, member: Member, request: LookupRequest) -> bytes:
        """Return the JSON answer, `ANSWER_BYTES` long. Waits for `min_index` up to `MIN_INDEX_WAIT_MS`.

        Raises ConsentMissing, InvalidRequest (a blank consent_ref), StaleEpoch, IndexNotReached, DatabaseUnavailable,
        Overloaded, PolicyUnreadable.
        """
        answer = self.from_memory(member, request)
        return await self.from_database(member, request) if answer is None else answer

    def from_memory(self, member: Member, request: LookupRequest) -> bytes | None:
        """Return the answer if it is clean and this process knows it without the database, else None.

        Every lookup begins here. Raises as `check_consent` does.
        """
        now = self._now()  # one moment for the check and for the answer: a report may come into effect between two
        self.check_consent(member, request, now)
        size = self._cache.clean(request.epoch, [tag for _, tag in request.subjects], request.min_index, now)
        return None if size is None else self.clean(member, request, size, now)

    def check_consent(self, member: Member, request: LookupRequest, now: datetime) -> None:
        """Raises ConsentMissing where the policy in effect at `now` requires a consent under the member's profile and
        the lookup refers to none, whatever its purpose; InvalidRequest for a blank reference; PolicyUnreadable."""
        required, reference = member.profile in self._policies.at(now).consent_for_lookups, request.consent_ref
        if required or reference is not None:
            check_consent(reference, profile=member.profile, required=required, of="lookup", unfit=InvalidRequest)

    async def from_database(self, member: Member, request: LookupRequest) -> bytes:
        """Return the answer to a lookup that `from_memory` could not answer. Waits and raises as `lookup` does."""
        deadline = time.monotonic() + MIN_INDEX_WAIT_MS / 1000
        if not self._keys.looks_up(request.epoch):
            await asyncio.to_thread(self.reread_epochs)
        while True:
            if not self._keys.looks_up(request.epoch):
                raise stale_epoch(self._keys.epoch)
            try:
                return await self.enqueue(member, request)
            except IndexNotReached:
                if time.monotonic() >= deadline:
                    raise
            await asyncio.sleep(_POLL_MS / 1000)
            answer = self.from_memory(member, request)
            if answer is not None:
                return answer

    def enqueue(self, member: Member, request: LookupRequest) -> asyncio.Future[bytes]:
        """Queue one lookup for the database. Raises Overloaded, Unavailable; the future raises StaleEpoch,
        IndexNotReached, and DatabaseUnavailable when the database does not answer in time."""
        loop = asyncio.get_running_loop()
        if self._waiters is None or self._waiters.loop is not loop:
            self._waiters = LoopWaiters(loop, self._deadline_seconds, _late)
        waiter = self._waiters.new()
        self._batcher.put([(QueuedLookup(member, request), waiter)])
        return waiter.future

    def clean(self, member: Member, request: LookupRequest, size: int, now: datetime) -> bytes | None:
        """Return the answer at `now` to `request` about a person of whom the first `size` entries disclose nothing, and
        count it; None if it would have to wait for the database, and while closing. `size` comes from
        `ledger.server.lookups.clear_cache`."""
        taken = None if self._closing else self._ids.take()
        if taken is None:
            return None
        question = QuestionEcho(member.platform, request.epoch, request.nonce, request.digest)
        answer, day = self._answers.clean(taken[1], size, now, question)
        key = (member.platform, day)
        with self._counts_lock:
            self._clean[key] = self._clean.get(key, 0) + 1
        return answer

    def reread_epochs(self) -> None:
        """Take over the key epochs as they are now, unless this process did so a moment ago (EPOCHS_REREAD_MS).
        Raises DatabaseUnavailable."""
        with self._epochs_lock:  # a thread that waits here uses what the one before it has read
            started = time.monotonic()
            if started - self._epochs_read_at < EPOCHS_REREAD_MS / 1000:
                return
            rows = read_again(self._reads, read_epochs)
            self._keys.update(rows)
            self._epochs_read_at = started

    def alive(self) -> bool:
        """True if lookups are answered."""
        return self._batcher.alive()

    @property
    def batcher(self) -> Batcher[QueuedLookup, bytes]:
        """The queue of lookups that wait for the database."""
        return self._batcher

    def close(self, timeout_seconds: float | None = None) -> None:
        """Answer what waits and write the counts."""
        self._closing = True
        self._batcher.close(timeout_seconds)
        for worker in self.workers:
            worker.stop()
        for worker in self.workers:
            worker.close(timeout_seconds)

    def _answer_all(self, lookups_waiting: Sequence[QueuedLookup]) -> list[bytes | LedgerError]:
        now = self._now()
        tags, hour = [tag for queued in lookups_waiting for _, tag in queued.request.subjects], hour_floor(now)
        with reading_first(self._by_statement, lambda connection: read_view(connection, tags, hour)) as (
            connection,
            view,
        ):
            outcomes, lookups, looked_up, counts = self._answers_from(view, lookups_waiting, now)
            if lookups:
                with transaction(connection, writes=True):
                    store.log_disclosures(connection, lookups, looked_up)
        self._count(counts)
        self._metrics.count_lookups(sum(c for c, _ in counts.values()), sum(d for _, d in counts.values()), "database")
        return outcomes

    def _answers_from(self, view: LookupView, asked: Sequence[QueuedLookup], now: datetime) -> _Answered:
        weights, policy = self._members.weights(now), self._policies.at(now)
        size, day = view.size, day_floor(now)
        outcomes: list[bytes | LedgerError] = []
        lookups: list[dict[str, Any]] = []
        tags: list[dict[str, Any]] = []
        counts: dict[tuple[str, int], tuple[int, int]] = {}
        for member, request in asked:
            if view.epochs.get(request.epoch) not in LOOKUP_STATES:
                current = [epoch for epoch, state in view.epochs.items() if state == "current"]
                outcomes.append(stale_epoch(current[0] if current else None))
                continue
            if request.min_index is not None and size < request.min_index:
                outcomes.append(
                    IndexNotReached("The log has not reached `min_index` yet. Try again.", retry_after_seconds=1)
                )
                continue
            standing = self._fold(request, view.listings, weights, policy, now)
            number, public_id = self._ids.next()
            question = QuestionEcho(member.platform, request.epoch, request.nonce, request.digest)
            outcomes.append(self._answers.answer(public_id, standing, request.claim, size, now, question))
            disclosed = discloses(standing)
            if disclosed:
                lookups.append(_log_row(number, member, request, standing, size, now))
                tags.extend([{"tag": tag, "lookup_id": number} for tag in {tag for _, tag in request.subjects}])
            clean_count, disclosed_count = counts.get((member.platform, day), (0, 0))
            counts[member.platform, day] = (clean_count + (not disclosed), disclosed_count + disclosed)
        return _Answered(outcomes, lookups, tags, counts)

    def _fold(
        self,
        request: LookupRequest,
        listings: Mapping[bytes, Sequence[ListingRow]],
        weights: Mapping[str, int],
        policy: Policy,
        now: datetime,
    ) -> Standing:
        events = [
            listing_event(row, kind)
            for kind, tag in request.subjects
            for row in listings.get(tag, ())
            if row.kind == kind  # the tag binds its kind; a row under another one was never this identifier
        ]
        return fold(merge(events), weights, policy, now)

    def _count(self, counts: Mapping[tuple[str, int], tuple[int, int]]) -> None:
        with self._counts_lock:
            for key, (clean, disclosed) in counts.items():
                before = self._counts.get(key, (0, 0))
                self._counts[key] = (before[0] + clean, before[1] + disclosed)

    def _flush_counts(self) -> None:
        """Add the counts to the database's. Raises DatabaseUnavailable; they are kept for the next round then."""
        with self._counts_lock:
            clean, self._clean = self._clean, {}
        self._metrics.count_lookups(sum(clean.values()), 0, "memory")
        self._count({key: (number, 0) for key, number in clean.items()})
        with self._counts_lock:
            counts, self._counts = self._counts, {}
        if not counts:
            return
        try:
            with writing(self._writes) as connection:
                store.count_lookups(connection, counts)
        except BaseException:
            self._count(counts)
            raise


def discloses(standing: Standing) -> bool:
    """True if an answer discloses an event: counting, disputed or protective."""
    return bool(standing.events or standing.disputed or standing.protected)


def _log_row(
    number: int, member: Member, request: LookupRequest, standing: Standing, size: int, now: datetime
) -> dict[str, Any]:
    return {
        "id": number,
        "platform": member.platform,
        "purpose": request.purpose,
        "order_ref": request.order_ref,
        "consent_ref": request.consent_ref,
        "claim": request.claim,
        "tier": standing.tier,
        "as_of_index": size,
        "asked_at": now,
    }
