"""Which tags are listed, in memory, so that a process can answer `clear` without the database.

Two fuse filters over every tag with a listing row that is in effect, under all key epochs, and a plain set of the tags
added since they were built. (With one filter, one clean lookup in 256 would ask the database, which costs a hundred
times as much; with two, one in 65,536. The second is asked only about what the first has.) Tags whose reports still
cool are kept apart, by the hour in which they come into effect: a lookup of one of them takes the same way as that of a
person who is not listed, and from that hour on, without any reading, the way of a listed one.

A background thread refreshes: it notes the monotonic time, then reads, all as of one moment after that time, the log's
head, the key epochs and the tags of reports recorded since the last time, and then replaces the *view*. From a view an
answer is given only if

- the refresh that made it started at most MAX_STALENESS_MS ago, at the moment of answering;
- it says that the request's epoch is looked up, and its watermark (the head) has reached the request's `min_index`;
- no tag of the request is in the filter or the set, or among those whose hour has come.

All other lookups are answered from the database. A listing that is deleted, or discloses nothing, still has its tag in
the filter, as some other tags have by chance; that costs a query and never a wrong answer.

**Why nothing is missed.** A report's listings are inserted by the transaction that moves the head past it, and the
writers follow one another, so a process that reads the head and then the tags, as of one moment (REPEATABLE READ on
PostgreSQL, any transaction on SQLite) or of later ones, has the tags of all entries below the head. A report's id is
its entry's index, so new tags are those of reports from the last head on, and of those that an entry since has released
or made protect the person (`server.lookups.listed_tags`). There is one exception: a key rotation inserts listings of
*old* reports. It does so while their epoch is `next`, which is not looked up, and the last of them in the transaction
that makes it current. That changes the epochs' rows. So a view whose epochs are not those that its filter was built
under is not made at all: the filter is built again from the whole table first. For the same reason a tag of the next
epoch may be missing from the filter before the switch, and no answer rests on it.

That bounds what is not seen yet of *other* processes' reports. A process's own are noted before they are acknowledged.

**Another history.** After a failover to a copy that lost the newest transactions, indexes are given out a second time.
A refresh therefore compares the newest log entry of the last one, and builds the filter again if it is another.

Building reads the whole table in a thread of its own; meanwhile refreshes go on, and the database answers where they
cannot. Memory: 2.26 bytes a listed tag in the filters (10^6 tags), some 120 bytes for each tag added since, of which
there are about ADDED_LIMIT at most, and as much for each that cools; while building, some 100 bytes a listing.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from operator import itemgetter

from sqlalchemy import Connection, Engine

from ledger.protocol.encoding import from_hour, hour_floor
from ledger.server.db.engine import interrupt, read_again, snapshot_reading, within
from ledger.server.keys.epochs import EpochRow, read_epochs
from ledger.server.keys.files import LOOKUP_STATES
from ledger.server.log import queries as log_store
from ledger.server.lookups.listed_tags import ListedTag, cooling_tags, packed_tags, tags_since
from ledger.server.process.supervision import Worker
from ledger.snapshots.fuse_filter import SEED_BYTES, FuseFilter, build

MAX_STALENESS_MS = 200
"""How old the start of the refresh behind an answer from memory may be."""

ADDED_LIMIT = 100_000
"""Rebuild the filter after this many added tags."""

REBUILD_SECONDS = 86_400.0
"""How often the filter is rebuilt in any case, to forget tags that are not listed any longer."""

PATIENCE_SECONDS = 5.0
"""How long refreshing may fail or hang before the process says so."""

BUILD_SECONDS = 600.0
"""How long one filter may take to build before the process says that building hangs."""


class BuildStoppedError(Exception):
    """The process stops: no filter is needed any more."""


_Filters = tuple[Callable[[bytes], bool], Callable[[bytes], bool]]


@dataclass(frozen=True, slots=True)
class _Mark:
    """The log as a transaction saw it: its size, and its newest leaf, which tells this history from another."""

    size: int
    leaf: bytes | None


@dataclass(frozen=True, slots=True)
class _Base:
    """A filter over all tags that were in effect when the log was at `mark` and the epochs were `rows`, and those that
    still cooled."""

    filters: _Filters
    filter_bytes: int
    cooling: tuple[ListedTag, ...]
    mark: _Mark
    rows: tuple[EpochRow, ...]
    built_at: float


@dataclass(frozen=True, slots=True)
class _View:
    """What a refresh saw. `added` is shared with the views after it and only grows: a tag too many costs a query.
    `cooling` has the tags that come into effect at a moment, for each moment to come, in the order of time."""

    started: float
    watermark: int
    epochs: frozenset[int]
    filters: _Filters
    added: set[bytes]
    cooling: tuple[tuple[datetime, set[bytes]], ...]


class ClearLookupCache:
    """The listed tags in this process's memory (see the module docstring). `clean` may be called from any thread and
    takes no lock; `monotonic` counts seconds, `now` is the clock by which reports come into effect."""

    def __init__(
        self,
        engine: Engine,
        monotonic: Callable[[], float] = time.monotonic,
        *,
        read_deadline_ms: int = 1_500,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._engine = engine
        self._soon = within(engine, read_deadline_ms)
        self._monotonic = monotonic
        self._now = now
        self._view: _View | None = None
        self._base: _Base | None = None
        self._built: _Base | None = None
        self._was_built = False
        self._mark = _Mark(0, None)
        self._added: set[bytes] = set()
        self._cooling: dict[int, set[bytes]] = {}
        """Tags by the hour in which they come into effect; they stay until a refresh after that."""
        self._noting = threading.Lock()
        """Held while tags are added, never while the database is read."""
        self._wanted = threading.Event()
        self._building = False
        self._reading: Connection | None = None
        self._reading_lock = threading.Lock()
        self._interval_seconds = 0.1
        self.workers = (
            Worker("presence", self._turn, seconds=0.1, patience_seconds=PATIENCE_SECONDS),
            Worker("presence-build", self._build, seconds=None, patience_seconds=BUILD_SECONDS, wake=self._wanted),
        )

    def start(self, refresh_ms: int) -> ClearLookupCache:
        """Refresh every `refresh_ms` from now on, in the background. Returns at once."""
        self._interval_seconds = refresh_ms / 1000
        for worker in self.workers:
            worker.start()
        return self

    def stop_building(self) -> None:
        """Build no filter any more; one that is being built is given up, wherever it is. Returns at once."""
        self.workers[1].stop()
        with self._reading_lock:
            if self._reading is not None:
                interrupt(self._reading)

    def close(self, timeout_seconds: float | None = None) -> None:
        """Stop refreshing; `clean` answers nothing after that."""
        self.workers[0].stop()
        self.stop_building()
        for worker in self.workers:
            worker.close(timeout_seconds)
        with self._noting:
            self._view = None

    def built(self) -> bool:
        """True if a filter has been in use since the start: from then on clean lookups are answered from memory, but
        for the time in which a new one is built after a change of key epochs."""
        return self._was_built

    def ready(self) -> bool:
        """True if lookups can be answered from memory now."""
        view = self._view
        return view is not None and self._monotonic() - view.started <= MAX_STALENESS_MS / 1000

    def clean(self, epoch: int, tags: Sequence[bytes], min_index: int | None, now: datetime) -> int | None:
        """Return the size of a log of at most MAX_STALENESS_MS ago in which none of `tags` (32 bytes each) had a
        listing under `epoch` that is in effect at `now`; None where only the database has the answer."""
        view = self._view
        if view is None or epoch not in view.epochs:
            return None
        watermark = view.watermark
        if min_index is not None and min_index > watermark:
            return None
        (first, second), added = view.filters, view.added
        for tag in tags:
            if tag in added or (first(tag) and second(tag)):
                return None
        for begins, cooling in view.cooling:
            if now < begins:
                break
            if not cooling.isdisjoint(tags):
                return None
        return watermark if self._monotonic() - view.started <= MAX_STALENESS_MS / 1000 else None

    def note(self, tags: Collection[ListedTag]) -> None:
        """Take over the tags of listings that this process has just committed, so that it never answers
        `clear` for a person whose report it has accepted. (Other processes' reports are seen at the next refresh.)"""
        if not tags:
            return
        # If a refresh replaces the sets right now, it reads the database after this, so it reads these tags too.
        with self._noting:
            this_hour = self._take(tags)
            view = self._view
            if view is None:
                return
            view.added.update([tag for tag, hour in tags if hour <= this_hour])
            cooling = dict(view.cooling)
            for tag, hour in tags:
                if hour > this_hour:
                    cooling.setdefault(from_hour(hour), set()).add(tag)
            self._view = replace(view, cooling=tuple(sorted(cooling.items(), key=itemgetter(0))))

    def refresh(self) -> bool:
        """Read what is new and replace the view; return True if there is one now. Starts building a filter if one is
        needed.

        Raises DatabaseUnavailable; the view then stays, until it is too old.
        """
        if self._built is not None:
            with self._noting:
                self._base, self._built = self._built, None
                self._mark, self._added, self._cooling = self._base.mark, set(), {}
                self._take(self._base.cooling)
        started = self._monotonic()
        base = self._base
        if base is None:
            self._want()
            return False

        def read(connection: Connection) -> tuple[_Mark, tuple[EpochRow, ...], bool, list[ListedTag]]:
            mark, rows = _mark(connection), read_epochs(connection)
            known = rows == base.rows and _continues(connection, self._mark, mark)
            return mark, rows, known, tags_since(connection, self._mark.size) if known and mark != self._mark else []

        mark, rows, known, tags = read_again(self._soon, read, of_one_moment=True)
        if not known:
            with self._noting:
                self._view = self._base = None
            self._want()
            return False
        self._mark = mark
        epochs = frozenset(row.epoch for row in rows if row.state in LOOKUP_STATES)
        with self._noting:
            self._take(tags)
            cooling = tuple((from_hour(hour), self._cooling[hour]) for hour in sorted(self._cooling))
            self._view = _View(started, mark.size, epochs, base.filters, self._added, cooling)
        self._was_built = True
        if len(self._added) > ADDED_LIMIT or started - base.built_at > REBUILD_SECONDS:
            self._want()
        return True

    def build(self) -> None:
        """Build a filter from the whole table; the next refresh takes it over. Raises DatabaseUnavailable, and
        BuildStoppedError after `stop_building`."""
        built_at, hour = self._monotonic(), hour_floor(self._now())
        with snapshot_reading(self._engine) as connection, self._interruptible(connection):
            mark, rows = _mark(connection), read_epochs(connection)
            cooling = tuple(cooling_tags(connection, hour))
            tags = packed_tags(connection, hour, self._look)
        # Secret seeds: with known ones, tags could be made that all look listed, which would slow all lookups.
        first, second = (build(tags, secrets.token_bytes(SEED_BYTES), self._look) for _ in range(2))
        filters = FuseFilter.trusted(first).contains, FuseFilter.trusted(second).contains
        self._built = _Base(filters, len(first) + len(second), cooling, mark, rows, built_at)

    def _take(self, tags: Iterable[ListedTag]) -> int:
        """Put tags where they belong, and those whose hour has come among the added ones; the hour that it is. The
        caller holds `_noting`."""
        this_hour = hour_floor(self._now())
        for tag, hour in tags:
            (self._added if hour <= this_hour else self._cooling.setdefault(hour, set())).add(tag)
        for hour in [hour for hour in self._cooling if hour <= this_hour]:
            self._added |= self._cooling.pop(hour)  # the views of before go on with the set itself
        return this_hour

    def sizes(self) -> tuple[int, int]:
        """Return the bytes of the filter, and how many tags in effect were added since."""
        base = self._base
        return (0 if base is None else base.filter_bytes), len(self._added)

    def _turn(self) -> float:
        started = time.monotonic()
        self.refresh()  # while it fails, answers come from the database as soon as the view is too old
        # From start to start, so that a view is replaced before it is too old; with a breath in between.
        return max(self._interval_seconds / 10, self._interval_seconds - (time.monotonic() - started))

    def _want(self) -> None:
        if not self._building and self._built is None:
            self._wanted.set()

    @contextmanager
    def _interruptible(self, connection: Connection) -> Iterator[None]:
        with self._reading_lock:
            self._reading = connection
        try:
            self._look()  # it may have been stopped before the connection was known
            yield
        finally:
            with self._reading_lock:
                self._reading = None

    def _look(self) -> None:
        if self.workers[1].stopping():
            raise BuildStoppedError

    def _build(self) -> None:
        self._building = True
        try:
            self.build()
        except Exception:
            if not self.workers[1].stopping():
                raise  # else it was given up, or its connection was cut for that
        finally:
            self._building = False  # where it failed, the next refresh asks for it again


def _mark(connection: Connection) -> _Mark:
    head = log_store.read_head(connection)
    size = 0 if head is None else head.size
    return _Mark(size, log_store.read_leaf(connection, size - 1) if size else None)


def _continues(connection: Connection, before: _Mark, now: _Mark) -> bool:
    """True if the log at `now` is the log at `before` with entries appended since."""
    if now.size == before.size:
        return now.leaf == before.leaf
    if not before.size:
        return True
    return now.size > before.size and log_store.read_leaf(connection, before.size - 1) == before.leaf
