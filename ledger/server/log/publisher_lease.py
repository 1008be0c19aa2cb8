"""The lease of the publisher: of all publishers on a database one signs, the others stand by.

The lease is one row. A publisher renews it every RENEW_SECONDS; one that was not renewed for LEASE_SECONDS (by the
database's clock) may be taken by another, with the next *fence*, a number that only grows. Every write of a publisher
(freezing, thawing, publishing) is done in the transaction that holds the row's lock and has found its own number in it,
so what a publisher with an old number still wants to write is lost, whatever it slept through.

A publisher without the log's guard may freeze the log only where the guard is its own business; `refusal` has the rule,
and docs/decisions/0018-one-publisher.md the reasons.
"""

from __future__ import annotations

import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from sqlalchemy import Connection, Engine

from ledger.server.db.engine import writing
from ledger.server.process import queries as store
from ledger.server.process.queries import LeaseRow

LEASE_SECONDS = 10.0
"""How long a lease is good after it was renewed."""

RENEW_SECONDS = 2.0

ABSENT_SECONDS = 600.0
"""After so long without any publisher the log may be frozen by one that has no guard, wherever it runs: a log that is
signed by none may be a restored copy, whose guard would have told."""


class LostLeaseError(Exception):
    """Another publisher has the lease, or this one may not take it; the message says why. It never leaves a round."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who wants the lease. `holder` is a process (32 hexadecimal digits), `place` names machine and folder of its
    guard, `guard_lock` the locked file itself: equal ones exclude each other by the file's lock."""

    holder: str
    place: str
    guard_lock: str


def identity(folder: Path, guard_lock: str) -> Identity:
    """The identity of this process, whose guard lies in `folder`."""
    place = f"{socket.gethostname()}:{folder.resolve()}"
    return Identity(secrets.token_hex(16), place[-255:], guard_lock[:160])


def refusal(row: LeaseRow | None, me: Identity, now: datetime, guard_fault: str | None) -> str | None:
    """Why `me` stands by (None: it may take the lease, or has it). `guard_fault` says what is wrong with its guard, not
    with the log; `now` is the database's time. The caller holds the lock of its guard's folder."""
    if row is None or row.holder == me.holder:
        return None
    age = (now - row.renewed_at).total_seconds()
    # The lock of the same file is ours: the process that held the lease under it has ended.
    live = row.holder is not None and age < LEASE_SECONDS and row.guard_lock != me.guard_lock
    if live and guard_fault is None:
        return f"the publisher at {row.place} signs"
    if live:
        return f"{guard_fault} here, and the publisher at {row.place} signs"
    if guard_fault is not None and row.place not in ("", me.place) and age < ABSENT_SECONDS:
        return f"{guard_fault} here, and no publisher signs: it was at {row.place}"
    return None


class Lease:
    """The lease as one publisher sees it. Not for several threads."""

    def __init__(self, engine: Engine, me: Identity) -> None:
        self._engine = engine
        self.me = me
        self.fence: int | None = None
        """The number under which this publisher writes; None while it has no lease."""

    def wants_renewal(self, row: LeaseRow | None, now: datetime) -> bool:
        """Whether the lease must be taken or renewed, though nothing else is to be written."""
        if row is None or row.holder != self.me.holder:
            return True
        return (now - row.renewed_at).total_seconds() >= RENEW_SECONDS

    @contextmanager
    def held(self, guard_fault: str | None = None) -> Iterator[Connection]:
        """A transaction that writes under the row's lock with this publisher's number; the lease is taken or renewed in
        it. Raises LostLeaseError (nothing is written then), DatabaseUnavailable."""
        with writing(self._engine) as connection:
            self._enter(connection, guard_fault)
            yield connection

    def release(self) -> None:
        """Give the lease back, so that the next publisher need not wait. Raises DatabaseUnavailable."""
        if self.fence is None:
            return
        with writing(self._engine) as connection:
            row = store.lock_lease(connection)
            if row is not None and row.holder == self.me.holder:
                now = store.database_now(connection)
                store.set_lease(connection, LeaseRow(row.fence, None, row.place, row.guard_lock, now))
        self.fence = None

    def _enter(self, connection: Connection, guard_fault: str | None) -> None:
        now = store.database_now(connection)
        row = store.lock_lease(connection)
        if row is None:
            store.create_lease(connection, now)
            row = store.lock_lease(connection)
            assert row is not None
        now = store.database_now(connection)  # the lock may have been waited for
        why = refusal(row, self.me, now, guard_fault)
        if why is not None:
            self.fence = None
            raise LostLeaseError(why)
        mine = (row.holder, row.fence) == (self.me.holder, self.fence)  # else it is another's, or an older copy's
        self.fence = row.fence if mine else row.fence + 1
        store.set_lease(connection, LeaseRow(self.fence, self.me.holder, self.me.place, self.me.guard_lock, now))
