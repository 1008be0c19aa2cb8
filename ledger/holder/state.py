"""The state of a holder that its processes share in the database: admission, and the log.

A background thread reads all rows every `refresh_seconds`. Reading takes no lock: a refresh replaces one reference.
When the newest snapshot is older than `MAX_AGE_SECONDS`, because the database is not available, no request is accepted,
so that a suspension takes effect in every process within that time.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from types import MappingProxyType

from sqlalchemy import Connection, Engine

from ledger.errors import DatabaseUnavailable
from ledger.holder import queries as store
from ledger.holder.queries import HeadRow
from ledger.server.db.engine import read_again
from ledger.server.process.supervision import Worker
from ledger.tlog.entries import parse_canonical
from ledger.tlog.key_statement import KeyStatement, parse_statement

MAX_AGE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class AdmittedMember:
    """An admitted platform as a request uses it, and whether the holder's people or the log suspended it."""

    platform: str
    control_group: str
    suspended_here: bool
    suspended_by_log: bool

    @property
    def suspended(self) -> bool:
        """True if its tokens are refused."""
        return self.suspended_here or self.suspended_by_log


@dataclass(frozen=True, slots=True)
class AdmittedMemberKey:
    """A key of an admitted platform (32 bytes); `revoked` is what the holder or the log says."""

    platform: str
    kid: str
    public_key: bytes
    endorsed_by: str | None
    revoked: bool


@dataclass(frozen=True, slots=True)
class SeenStatement:
    """An accepted key statement of the log, and when the holder saw it first."""

    statement: KeyStatement
    entry_index: int
    seen_at: datetime

    @property
    def generation(self) -> int:
        """The generation of its sharing."""
        return self.statement.keys.generation


@dataclass(frozen=True, slots=True)
class HolderSnapshot:
    """All rows as one transaction read them; `started` is the monotonic time when the read began."""

    members: Mapping[str, AdmittedMember]
    keys: Mapping[tuple[str, str], AdmittedMemberKey]
    daily_elements: Mapping[str, int | None]
    head: HeadRow | None
    statements: tuple[SeenStatement, ...]
    refused_statements: Mapping[int, str]
    started: float

    @property
    def active_groups(self) -> frozenset[str]:
        """The control groups with a platform that the holder's people have not suspended and that has a key which is
        not revoked. A suspension by the log does not count: who writes the log can end it at any time."""
        signing = {key.platform for key in self.keys.values() if not key.revoked}
        members = self.members.values()
        return frozenset(row.control_group for row in members if not row.suspended_here and row.platform in signing)

    def of_epoch(self, epoch: int) -> list[SeenStatement]:
        """Return the accepted statements of an epoch, by generation."""
        return [seen for seen in self.statements if seen.statement.epoch == epoch]


class StateReader:
    """Reads snapshots, at the start and then in the background."""

    def __init__(
        self, engine: Engine, refresh_seconds: float = 1.0, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._engine, self._monotonic = engine, monotonic
        self._refreshing = threading.Lock()
        self._snapshot = read_snapshot(engine, monotonic())
        self.worker = Worker(
            "state",
            self.refresh,
            seconds=refresh_seconds,
            delay_seconds=refresh_seconds,
            patience_seconds=MAX_AGE_SECONDS,
        )

    def refresh(self) -> None:
        """Read all rows now. Raises DatabaseUnavailable; the last snapshot then stays until it is too old."""
        snapshot = read_snapshot(self._engine, self._monotonic())
        with self._refreshing:
            # Of two concurrent reads, the one that began first must not replace the result of the other.
            if snapshot.started >= self._snapshot.started:
                self._snapshot = snapshot

    @property
    def latest(self) -> HolderSnapshot:
        """The newest snapshot, whatever its age."""
        return self._snapshot

    def fresh(self) -> bool:
        """True if the snapshot is recent enough to accept requests."""
        return self._monotonic() - self._snapshot.started <= MAX_AGE_SECONDS

    def current(self) -> HolderSnapshot:
        """Return the newest snapshot. Raises DatabaseUnavailable when it is too old."""
        snapshot = self._snapshot
        if self._monotonic() - snapshot.started > MAX_AGE_SECONDS:
            raise DatabaseUnavailable("The holder's database cannot be read. Try again.", retry_after_seconds=1)
        return snapshot


def read_snapshot(engine: Engine, started: float = 0.0) -> HolderSnapshot:
    """Return the present rows. Raises DatabaseUnavailable."""

    def read(connection: Connection) -> HolderSnapshot:
        suspended = store.read_log_suspensions(connection)
        revocations = store.read_log_revocations(connection)
        # A revoked key must not come back under another name, nor another key under the revoked name.
        revoked_names = {(row.platform, row.kid) for row in revocations}
        revoked_keys = {(row.platform, row.public_key) for row in revocations}
        members = {
            row.name: AdmittedMember(row.name, row.control_group, row.suspended_at is not None, row.name in suspended)
            for row in store.read_admitted(connection)
        }
        keys = {
            (row.platform, row.kid): AdmittedMemberKey(
                row.platform,
                row.kid,
                row.public_key,
                row.endorsed_by,
                row.revoked_at is not None
                or (row.platform, row.kid) in revoked_names
                or (row.platform, row.public_key) in revoked_keys,
            )
            for row in store.read_admitted_keys(connection)
        }
        return HolderSnapshot(
            members=MappingProxyType(members),
            keys=MappingProxyType(keys),
            daily_elements=MappingProxyType(store.read_groups(connection)),
            head=store.read_head(connection),
            statements=tuple(
                [
                    SeenStatement(stored_statement(bytes(row.statement)), row.entry_index, row.seen_at)
                    for row in store.read_statements(connection)
                ]
            ),
            refused_statements=MappingProxyType(store.read_refused_statements(connection)),
            started=started,
        )

    return read_again(engine, read, of_one_moment=True)


@lru_cache(maxsize=256)
def stored_statement(canonical: bytes) -> KeyStatement:
    """Return the statement of its canonical bytes. Cached, because snapshots are read every second. Raises what
    `parse_statement` does."""
    return parse_statement(parse_canonical(canonical))
