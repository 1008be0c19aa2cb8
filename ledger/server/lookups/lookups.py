"""Direct lookups: tags of one person in, a standing with reasons and guidance out.

The desk answers what waits in batches, like the appender: one query for all tags, and, if any answer discloses an
event, one durable insert of who asked before any of those answers leaves. Clean lookups are only counted, in memory,
and the counts are added to the database once a second: a log of clean buyers would be a record of their shopping.

Every answer has the same number of bytes (`ANSWER_BYTES`), hit or miss. Latency still tells (docs/threat-model.md).

Most lookups are clean and never get to the desk: `answer_from_memory` answers those that
`ledger.server.lookups.clear_cache` can vouch for, and what it leaves comes here.
"""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import Engine

from ledger.errors import DatabaseUnavailable, IndexNotReached, InvalidRequest, LedgerError, StaleEpoch
from ledger.protocol.encoding import day_floor, hour_floor
from ledger.protocol.identifiers import Kind
from ledger.rules.consent import check_consent
from ledger.rules.policy.timeline import PolicySource
from ledger.rules.policy.values import Policy
from ledger.rules.standing import Event, Standing, fold, merge
from ledger.server.db.engine import (
    answers_within,
    by_statement,
    read_again,
    reading_first,
    transaction,
    within,
    writing,
)
from ledger.server.jobs.watch import Watch
from ledger.server.keys.epochs import read_epochs
from ledger.server.keys.files import LOOKUP_STATES, ServerKeys
from ledger.server.lookups import queries as store
from ledger.server.lookups.answers import Answers, Question
from ledger.server.lookups.id_block import IdBlock
from ledger.server.lookups.queries import ListingRow
from ledger.server.lookups.view_queries import LookupView, look
from ledger.server.platforms.members import Member, Members
from ledger.server.process.batcher import Batcher
from ledger.server.process.loop_waiters import LoopWaiters
from ledger.server.process.supervision import Worker
from ledger.server.settings import Settings

if TYPE_CHECKING:
    from ledger.server.runtime import Runtime

MIN_INDEX_WAIT_MS = 500
"""How long a lookup waits for `min_index` before 503 `index_not_reached`."""

EPOCHS_REREAD_MS = 50
"""How often, at most, lookups under an epoch that this process does not know make it read the epochs again."""

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


class _Asked(NamedTuple):
    member: Member
    request: LookupRequest


class _Answered(NamedTuple):
    """A batch: answers or errors in order, rows of the lookups that disclosed something and of their tags, and numbers
    of clean and disclosing answers by platform and UTC day."""

    outcomes: list[bytes | LedgerError]
    lookups: list[dict[str, Any]]
    tags: list[dict[str, Any]]
    counts: dict[tuple[str, int], tuple[int, int]]


async def lookup(rt: Runtime, member: Member, request: LookupRequest) -> bytes:
    """The JSON answer, `ANSWER_BYTES` long. Waits for `min_index` up to `MIN_INDEX_WAIT_MS`.

    Raises ConsentMissing, InvalidRequest (a blank consent_ref), StaleEpoch, IndexNotReached, DatabaseUnavailable,
    Overloaded.
    """
    answer = answer_from_memory(rt, member, request)
    return await answer_from_database(rt, member, request) if answer is None else answer


def answer_from_memory(rt: Runtime, member: Member, request: LookupRequest) -> bytes | None:
    """The answer, if it is clean and this process knows it without the database; touches none. Otherwise None.

    Every lookup begins here. Raises ConsentMissing and InvalidRequest as `check_lookup_consent` does.
    """
    now = rt.now()  # one moment for the check and for the answer: a report may come into effect between two
    check_lookup_consent(rt, member, request, now)
    watermark = rt.presence.clean(request.epoch, [tag for _, tag in request.subjects], request.min_index, now)
    return None if watermark is None else rt.desk.clean(member, request, watermark, now)


async def answer_from_database(rt: Runtime, member: Member, request: LookupRequest) -> bytes:
    """The answer to a lookup that memory could not answer. Waits and raises as `lookup` does."""
    deadline = time.monotonic() + MIN_INDEX_WAIT_MS / 1000
    if not rt.keys.looks_up(request.epoch):
        await asyncio.to_thread(rt.desk.reread_epochs)
    while True:
        try:
            if not rt.keys.looks_up(request.epoch):
                raise _stale(rt.keys.epoch)
            return await rt.desk.ask(member, request)
        except IndexNotReached:
            if time.monotonic() >= deadline:
                raise
        await asyncio.sleep(_POLL_MS / 1000)
        answer = answer_from_memory(rt, member, request)
        if answer is not None:
            return answer


def submit_lookup(rt: Runtime, member: Member, request: LookupRequest) -> Future[bytes]:
    """Ask the desk, without waiting for `min_index`. Raises ConsentMissing, InvalidRequest, StaleEpoch,
    DatabaseUnavailable, Overloaded."""
    check_lookup_consent(rt, member, request, rt.now())
    if not rt.keys.looks_up(request.epoch):
        rt.desk.reread_epochs()
    if not rt.keys.looks_up(request.epoch):
        raise _stale(rt.keys.epoch)
    return rt.desk.submit(member, request)


def check_lookup_consent(rt: Runtime, member: Member, request: LookupRequest, now: datetime) -> None:
    """Raises ConsentMissing where the policy in effect at `now` asks for a consent under the member's profile and the
    lookup refers to none, whatever its purpose; InvalidRequest for a blank reference elsewhere; PolicyUnreadable."""
    asked = rt.policies.at(now).consent_for_lookups
    required = member.profile in asked
    if required or request.consent_ref is not None:
        check_consent(request.consent_ref, profile=member.profile, required=required, of="lookup", unfit=InvalidRequest)


def _late() -> DatabaseUnavailable:
    return DatabaseUnavailable("The database does not answer. Try again.", retry_after_seconds=1)


def _stale(current: int | None) -> StaleEpoch:
    return StaleEpoch("The tags were made under another key epoch.", epoch=current)


class LookupDesk:
    """Answers lookups in batches; see the module."""

    def __init__(
        self,
        settings: Settings,
        engine: Engine,
        keys: ServerKeys,
        policies: PolicySource,
        members: Members,
        watch: Watch,
        now: Callable[[], datetime],
    ) -> None:
        soon = within(engine, settings.read_deadline_ms)
        self._reads = soon
        self._writes = within(engine, settings.write_deadline_ms)
        self._by_statement = by_statement(soon)
        self._deadline_seconds = answers_within(engine, settings.read_deadline_ms)
        """How long a lookup waits for the database's answer before it is refused; None: as long as it takes."""
        self._keys = keys
        self._policies = policies
        self._members = members
        self._watch = watch
        self._now = now
        self._answers = Answers(policies, settings.service, settings.environment)
        self._ids = IdBlock(soon, "lk", settings.service)
        self._epochs_lock = threading.Lock()
        self._epochs_read_at = -math.inf
        self._counts: dict[tuple[str, int], tuple[int, int]] = {}
        self._clean: dict[tuple[str, int], int] = {}
        """Answered from memory since the last flush, by platform and UTC day."""
        self._counts_lock = threading.Lock()
        self._waiters: LoopWaiters[bytes] | None = None
        self._closing = False
        self._batcher: Batcher[_Asked, bytes] = Batcher(
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

    def submit(self, member: Member, request: LookupRequest) -> Future[bytes]:
        """Queue one lookup. Raises Overloaded."""
        return self._batcher.submit(_Asked(member, request))

    def ask(self, member: Member, request: LookupRequest) -> asyncio.Future[bytes]:
        """As `submit`, for the running event loop. Raises DatabaseUnavailable when the database does not answer in
        time."""
        loop = asyncio.get_running_loop()
        if self._waiters is None or self._waiters.loop is not loop:
            self._waiters = LoopWaiters(loop, self._deadline_seconds, _late)
        waiter = self._waiters.new()
        self._batcher.put([(_Asked(member, request), waiter)])
        return waiter.future

    def clean(self, member: Member, request: LookupRequest, size: int, now: datetime) -> bytes | None:
        """The answer at `now` to `request` about a person of whom the first `size` entries tell nothing, counted; None
        where it would have to wait for the database, and while closing. The caller vouches for `size` (see
        `ledger.server.lookups.clear_cache`)."""
        taken = None if self._closing else self._ids.take()
        if taken is None:
            return None
        question = Question(member.platform, request.epoch, request.nonce, request.digest)
        answer, day = self._answers.clean(taken[1], size, now, question)
        key = (member.platform, day)
        with self._counts_lock:
            self._clean[key] = self._clean.get(key, 0) + 1
        return answer

    def reread_epochs(self) -> None:
        """Take over the key epochs as they are now, unless this process did so a moment ago (EPOCHS_REREAD_MS).
        Raises DatabaseUnavailable."""
        with self._epochs_lock:  # who waits here gets what the one before has read
            started = time.monotonic()
            if started - self._epochs_read_at < EPOCHS_REREAD_MS / 1000:
                return
            rows = read_again(self._reads, read_epochs)
            self._keys.update(rows)
            self._epochs_read_at = started

    def alive(self) -> bool:
        """Whether lookups are being answered."""
        return self._batcher.alive()

    @property
    def batcher(self) -> Batcher[_Asked, bytes]:
        """What the lookups wait in."""
        return self._batcher

    def close(self, timeout_seconds: float | None = None) -> None:
        """Answer what waits and write the counts."""
        self._closing = True
        self._batcher.close(timeout_seconds)
        for worker in self.workers:
            worker.stop()
        for worker in self.workers:
            worker.close(timeout_seconds)

    def _answer_all(self, asked: Sequence[_Asked]) -> list[bytes | LedgerError]:
        now = self._now()
        tags, hour = [tag for one in asked for _, tag in one.request.subjects], hour_floor(now)
        with reading_first(self._by_statement, lambda connection: look(connection, tags, hour)) as (connection, view):
            outcomes, lookups, looked_up, counts = self._answers_from(view, asked, now)
            if lookups:
                with transaction(connection, writes=True):
                    store.log_disclosures(connection, lookups, looked_up)
        self._count(counts)
        self._watch.looked_up(sum(c for c, _ in counts.values()), sum(d for _, d in counts.values()), "database")
        return outcomes

    def _answers_from(self, view: LookupView, asked: Sequence[_Asked], now: datetime) -> _Answered:
        weights, policy = self._members.weights(now), self._policies.at(now)
        size, day = view.size, day_floor(now)
        outcomes: list[bytes | LedgerError] = []
        lookups: list[dict[str, Any]] = []
        tags: list[dict[str, Any]] = []
        counts: dict[tuple[str, int], tuple[int, int]] = {}
        for member, request in asked:
            if view.epochs.get(request.epoch) not in LOOKUP_STATES:
                current = [epoch for epoch, state in view.epochs.items() if state == "current"]
                outcomes.append(_stale(current[0] if current else None))
                continue
            if request.min_index is not None and size < request.min_index:
                outcomes.append(
                    IndexNotReached("The log has not reached `min_index` yet. Try again.", retry_after_seconds=1)
                )
                continue
            standing = self._fold(request, view.listings, weights, policy, now)
            number, public_id = self._ids.next()
            question = Question(member.platform, request.epoch, request.nonce, request.digest)
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
        found: Mapping[bytes, Sequence[ListingRow]],
        weights: Mapping[str, int],
        policy: Policy,
        now: datetime,
    ) -> Standing:
        events = [
            listing_event(row, kind)
            for kind, tag in request.subjects
            for row in found.get(tag, ())
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
        self._watch.looked_up(sum(clean.values()), 0, "memory")
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
    """Whether an answer tells of an event: counting, disputed or protective."""
    return bool(standing.events or standing.disputed or standing.protected)


def listing_event(row: ListingRow, kind: Kind) -> Event:
    """A listing that an identifier of `kind` met, as a fold takes it."""
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
