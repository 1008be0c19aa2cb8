"""The newest snapshot, verified, in a cache that the processes of a host share.

A snapshot is accepted only if the pinned log key signed its manifest, if the log holds that very manifest as an entry
under a checkpoint that continues the history seen before, and if it is neither past its end nor older than one that was
seen before. Filter and buckets are checked against the manifest, when they are fetched and again when a process opens
them.

`<state>/snapshots/<version>/` holds `latest.json` (manifest, signature, entry, proof and policy as they were answered),
`filter.bin`, `buckets.bin`, and in `buckets/` those that were fetched one by one. Files are replaced by renaming, never
changed, and deleted when the snapshot is past its end or a newer one is there.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeVar

from ledger.client.identity.suite import Suite
from ledger.client.snapshots.cache import BUCKETS_FILE, FILTER_FILE, SnapshotCache
from ledger.client.snapshots.files import BucketsSink, FilterSink, Latest, checked_buckets, open_latest
from ledger.client.state import SeenCheckpoint
from ledger.client.transport.budgets import Deadline
from ledger.client.transport.forks import ForkLock
from ledger.client.transport.http import Transport, WrongLength
from ledger.client.verify.receipts import log_fetcher
from ledger.errors import (
    InvalidBucket,
    InvalidFilter,
    InvalidManifest,
    LedgerError,
    LimitExceeded,
    NewerFormat,
    SnapshotExpired,
    SnapshotStale,
    SnapshotUnknown,
    Unavailable,
    UnexpectedAnswer,
)
from ledger.extras import is_installed, need
from ledger.protocol.encoding import b64url, day_floor
from ledger.snapshots.buckets import check_bucket, split_answer
from ledger.snapshots.manifest import Manifest, check_current

if TYPE_CHECKING:
    from ledger.snapshots.fuse_filter import FuseFilter

REFRESH_SECONDS = 3600
"""A snapshot older than this, or of an earlier UTC day, is replaced if the server has a newer one. (Reports begin to
count at UTC midnight, and one is cut then.)"""
POLL_SECONDS = 60
"""At least so long between two questions for a newer one."""
DOWNLOAD_SECONDS = 900.0
"""For the filter, and for the whole of the buckets."""
_ATTEMPT_SECONDS = 5.0
NUMPY = "numpy"
"""The modules that the extra `filter` installs."""

_OUTAGES = (Unavailable, LimitExceeded, SnapshotUnknown, UnexpectedAnswer, NewerFormat)
"""Errors after which a snapshot that is not past its end is still used."""


T = TypeVar("T")
Fetch = Literal["wait", "skip", "never"]
"""Whether a missing file is fetched, and what if another process is at it: wait for it, or raise Unavailable."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A verified snapshot. `filter` and `buckets` (all of them, in order of prefix) are there if they were fetched."""

    latest: Latest
    filter: FuseFilter | None = None
    buckets: memoryview | None = None

    @property
    def manifest(self) -> Manifest:
        """The manifest, which the log's key signed."""
        return self.latest.manifest


class _Part(NamedTuple):
    """A file of a snapshot: its name in the cache, its path at the server, its bytes, and what checks it."""

    name: str
    path: str
    size: int
    sink: Callable[[], FilterSink | BucketsSink]


class Snapshots:
    """The newest snapshot of one service. `hold` makes sure that an epoch's keys are known, `budget_seconds` bounds a
    small request with its retries. Thread-safe.

    A download holds up only those other threads and processes that have no snapshot to go on with."""

    def __init__(
        self,
        cache: SnapshotCache,
        suite: Suite,
        transport: Transport,
        seen: SeenCheckpoint,
        hold: Callable[[int], None],
        now: Callable[[], datetime],
        budget_seconds: float,
    ) -> None:
        self._cache = cache
        self._suite = suite
        self._transport = transport
        self._seen = seen
        self._hold = hold
        self._now = now
        self._budget_seconds = budget_seconds
        self._lock = ForkLock()
        self._opened: Snapshot | None = None
        self._local: Snapshot | None = None
        self._asked_at: datetime | None = None
        self._looked_at: datetime | None = None

    def close(self) -> None:
        """Forget the opened snapshot; the files stay."""
        self._opened = self._local = None

    def local(self) -> Snapshot | None:
        """Return the newest opened snapshot with a filter, if it is not past its end. Reads nothing."""
        local = self._local
        return local if local is not None and self._is_current(local.latest) else None

    def may_look(self) -> bool:
        """True if a minute has passed since the last `look`."""
        return self._looked_at is None or not self._within_minute(self._looked_at)

    def look(self) -> None:
        """Open the newest cached snapshot with a filter, if it is newer than the opened one, and delete expired ones.
        No network. Does nothing while a snapshot is fetched, or without the extra `filter`."""
        if not self._lock.acquire(blocking=False):
            return
        try:
            now = self._looked_at = self._now()
            self._cache.prune(now)
            if not is_installed(NUMPY):
                return
            for latest in self._cached():
                local = self.local()
                if local is not None and local.manifest.cut >= latest.manifest.cut:
                    return
                if self._with_filter(Snapshot(latest), "never").filter is not None:
                    return
        finally:
            self._lock.release()

    def ready(self, *, whole_filter: bool, whole_buckets: bool) -> Snapshot | None:
        """Return the opened snapshot if it is not past its end and has the requested parts. Reads nothing."""
        return self._ready(whole_filter, whole_buckets)

    def is_due(self, snapshot: Snapshot) -> bool:
        """True if the server should be asked for a newer one."""
        return self._is_due(snapshot.latest)

    def current(
        self, *, whole_filter: bool, whole_buckets: bool, fresh: bool = False, limit: Deadline | None = None
    ) -> Snapshot:
        """Return a usable snapshot with the requested parts; refreshed when it is older than an hour or of an earlier
        UTC day, or if `fresh`. While another thread refreshes it, the one before goes on being used. With `limit`,
        another thread's refresh is waited for until then, and the question for the newest takes half of the time, so
        that in an outage the one before can still be used; a download that has begun goes on.

        Raises SnapshotUnknown or Unavailable when there is none, and the error of what is false: InvalidManifest,
        InvalidInclusion and the other errors of a false proof, Equivocation, PolicyInvalid, SnapshotExpired,
        SnapshotStale, StaleEpoch, InvalidFilter, InvalidBucket; NewerFormat when the newest snapshot is in a format
        that only a later version reads, and there is no earlier one to go on with.
        """
        ready = None if fresh else self._ready(whole_filter, whole_buckets)
        if ready is not None and not self._is_due(ready.latest):
            return ready
        if ready is not None:
            if not self._lock.acquire(blocking=False):
                return ready
        elif not self._lock.acquire(timeout=-1 if limit is None else limit.left()):
            raise Unavailable("The snapshot is still being fetched.", reason="timeout")
        try:
            return self._refreshed(whole_filter, whole_buckets, fresh, limit)
        finally:
            self._lock.release()

    def _ready(self, whole_filter: bool, whole_buckets: bool) -> Snapshot | None:
        opened = self._opened
        if opened is None or not self._is_current(opened.latest):
            return None
        return opened if _has(opened, whole_filter, whole_buckets) else None

    def _refreshed(
        self, whole_filter: bool, whole_buckets: bool, fresh: bool, limit: Deadline | None = None
    ) -> Snapshot:
        ready = self._ready(whole_filter, whole_buckets)
        known = self._known()
        seconds = self._budget_seconds if limit is None else min(self._budget_seconds, limit.left() / 2)
        newest = self._asked(known, seconds) if known is None or fresh or self._is_due(known.latest) else known
        try:
            completed = self._completed(newest, whole_filter, whole_buckets, "skip" if ready else "wait")
        except _OUTAGES:
            whole = ready or self._complete_on_disk(whole_filter, whole_buckets)
            if whole is None:
                raise
            completed = whole
        self._opened = completed
        self._cache.prune(self._now())
        return completed

    def bucket(self, snapshot: Snapshot, prefix: int) -> bytes:
        """Return one bucket of `snapshot`, from the cache or by a request of its own, checked against the manifest's
        root.

        Raises InvalidBucket, SnapshotUnknown (the server has dropped this version), Unavailable.
        """
        manifest = snapshot.manifest
        kept = self._cache.read_bucket(manifest.version, prefix)
        if kept is not None:
            with suppress(InvalidBucket):  # damaged on disk: fetched anew
                return _checked(kept, prefix, manifest)
        path = f"/v1/snapshots/{b64url(manifest.version)}/buckets/{prefix:08x}"
        answer = self._get(path, self._budget_seconds)
        bucket = _checked(answer, prefix, manifest)
        self._cache.keep_bucket(manifest.version, prefix, answer)
        return bucket

    # --- the manifest ---------------------------------------------------------------------------------------------

    def _known(self) -> Snapshot | None:
        """Return the opened snapshot, or the newest of the cache if another process has fetched a newer one; None if
        all are past their end."""
        opened = self._opened
        if opened is not None and not self._is_current(opened.latest):
            opened = None
        if opened is None or self._is_due(opened.latest):
            self._cache.prune(self._now())
            newest = next(iter(self._cached()), None)
            if newest is not None and (opened is None or newest.manifest.cut > opened.manifest.cut):
                opened = Snapshot(newest)
        self._opened = opened
        return opened

    def _cached(self) -> list[Latest]:
        """Return verified answers in the cache that may be used now, newest first. Others are deleted."""
        snapshots = []
        for version, answer in self._cache.answers():
            try:
                snapshots.append(open_latest(answer, self._suite))
            except NewerFormat:  # of a later version of the SDK that shares this cache
                continue
            except LedgerError:
                self._cache.delete(version)
        return sorted(filter(self._is_current, snapshots), key=lambda latest: latest.manifest.cut, reverse=True)

    def _asked(self, known: Snapshot | None, seconds: float) -> Snapshot:
        """Return the newest snapshot as the server says within `seconds`, or in an outage the known one."""
        try:
            latest = self._verified(known is not None, seconds)
        except _OUTAGES:
            self._asked_at = self._now()
            if known is None:
                raise
            return known
        self._asked_at = self._now()
        if known is not None and known.manifest == latest.manifest:
            return known
        self._cache.keep(latest)
        return Snapshot(latest)

    def _verified(self, one_attempt: bool, seconds: float) -> Latest:
        latest = open_latest(self._get("/v1/snapshots/latest", seconds, one_attempt), self._suite)
        manifest = latest.manifest
        self._seen.accept(latest.note, log_fetcher(self._transport, _ATTEMPT_SECONDS))
        check_current(manifest, self._now())
        if manifest.cut < self._cache.newest_cut():
            raise SnapshotStale("The server shows an older snapshot than one that was seen before.")
        self._hold(manifest.epoch)
        self._cache.raise_newest_cut(manifest.cut)
        return latest

    def _is_current(self, latest: Latest) -> bool:
        try:
            check_current(latest.manifest, self._now())
        except (SnapshotExpired, InvalidManifest):
            return False
        return True

    def _is_due(self, latest: Latest) -> bool:
        now, as_of = self._now(), latest.manifest.as_of
        if now - as_of < timedelta(seconds=REFRESH_SECONDS) and day_floor(now) <= day_floor(as_of):
            return False
        return self._asked_at is None or not self._within_minute(self._asked_at)

    def _within_minute(self, then: datetime) -> bool:
        """True if `then` is less than POLL_SECONDS ago. A clock that was set back must not stop the questions."""
        return timedelta(0) <= self._now() - then < timedelta(seconds=POLL_SECONDS)

    # --- its files ------------------------------------------------------------------------------------------------

    def _completed(self, snapshot: Snapshot, whole_filter: bool, whole_buckets: bool, fetch: Fetch) -> Snapshot:
        """Return `snapshot` with the requested parts, as far as `fetch` allows."""
        if whole_filter and snapshot.filter is None:
            snapshot = self._with_filter(snapshot, fetch)
        if whole_buckets and snapshot.buckets is None:
            snapshot = self._with_buckets(snapshot, fetch)
        return snapshot

    def _complete_on_disk(self, whole_filter: bool, whole_buckets: bool) -> Snapshot | None:
        """Return the newest snapshot whose parts are in the cache."""
        for latest in self._cached():
            completed = self._completed(Snapshot(latest), whole_filter, whole_buckets, "never")
            if _has(completed, whole_filter, whole_buckets):
                return completed
        return None

    def _with_filter(self, snapshot: Snapshot, fetch: Fetch) -> Snapshot:
        """Return `snapshot` with its filter, as far as `fetch` allows. Raises ConfigurationError if the extra is
        missing."""
        need("filter", (NUMPY,), "A lookup in a snapshot's filter")
        from ledger.snapshots.fuse_filter import FuseFilter  # here: numpy is an extra, and a fifth of the import time

        manifest = snapshot.manifest
        part = _Part(FILTER_FILE, "filter", manifest.filter_bytes, partial(FilterSink, manifest))
        opened = self._part(manifest, part, lambda data: FuseFilter.open(data, manifest.filter_sha256), fetch)
        if opened is None:
            return snapshot
        self._local = replace(snapshot, filter=opened)
        return self._local

    def _with_buckets(self, snapshot: Snapshot, fetch: Fetch) -> Snapshot:
        manifest = snapshot.manifest
        part = _Part(BUCKETS_FILE, BUCKETS_FILE, manifest.buckets_bytes, partial(BucketsSink, manifest))
        return replace(snapshot, buckets=self._part(manifest, part, partial(checked_buckets, manifest), fetch))

    def _part(self, manifest: Manifest, part: _Part, verify: Callable[[memoryview], T], fetch: Fetch) -> T | None:
        """Return what `verify` makes of a file of the snapshot, which is fetched first where it is missing or
        damaged."""
        for attempt in range(2):
            data = self._cache.map(manifest.version, part.name, part.size)
            if data is not None:
                try:
                    return verify(data)
                except (InvalidFilter, InvalidBucket):
                    self._cache.delete_file(manifest.version, part.name)
            if fetch == "never":
                return None
            if not attempt:
                self._download(manifest, part, fetch == "wait")
        raise Unavailable("A file of the snapshot was replaced meanwhile. Try again.", retry_after_seconds=1)

    def _download(self, manifest: Manifest, part: _Part, wait: bool) -> None:
        """Fetch a file into the cache unless another process has done so meanwhile; checked before it gets its name."""
        path = f"/v1/snapshots/{b64url(manifest.version)}/{part.path}"

        def attempt(limit: Deadline) -> None:
            checked = part.sink()
            with self._cache.new_file(manifest.version, part.name) as file:

                def write(data: bytes) -> None:
                    checked.write(data)
                    file.write(data)

                try:
                    self._transport.download(path, part.size, write, limit)
                except WrongLength as error:
                    raise checked.wrong(str(error)) from error
                checked.finish()

        with self._cache.locked(manifest.version, part.name, wait):
            if self._cache.map(manifest.version, part.name, part.size) is None:
                self._transport.retrying(self._budget_seconds, lambda _: attempt(Deadline(DOWNLOAD_SECONDS)))

    def _get(self, path: str, seconds: float, one_attempt: bool = False) -> bytes:
        def attempt(limit: Deadline) -> bytes:
            return self._transport.send("GET", path, limit).body

        if one_attempt:
            return attempt(Deadline(min(seconds, _ATTEMPT_SECONDS)))
        return self._transport.retrying(seconds, attempt, _ATTEMPT_SECONDS)


def _has(snapshot: Snapshot, whole_filter: bool, whole_buckets: bool) -> bool:
    """True if the requested parts are there."""
    return not (whole_filter and snapshot.filter is None) and not (whole_buckets and snapshot.buckets is None)


def _checked(answer: bytes, prefix: int, manifest: Manifest) -> bytes:
    bucket, path = split_answer(answer, manifest)
    check_bucket(bucket, path, prefix, manifest.version, manifest.bits, manifest.buckets_root)
    return bucket
