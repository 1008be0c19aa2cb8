"""The lease of the publisher: of all publishers on a database one signs, the others stand by.

The lease is one row. A publisher renews it every RENEW_SECONDS. A lease that was not renewed for LEASE_SECONDS (by the
database's clock) may be taken by another publisher, with the next *fence*, a number that only grows. Every write of a
publisher (freezing, thawing, publishing) is done in the transaction that holds the row's lock and has read its own
fence in it. So writes of a publisher with an old fence are refused, however long it was suspended.

A publisher without the log's checkpoint lock file (the guard) may freeze the log only under the conditions of
`refusal`; docs/decisions/0018-one-publisher.md has the reasons.
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
"""How long a lease is valid after it was renewed."""

RENEW_SECONDS = 2.0

ABSENT_SECONDS = 600.0
"""After this time without any publisher, a publisher without a checkpoint file may freeze the log, wherever it runs: a
log that no publisher signs may be a restored copy, which its checkpoint file would have shown."""


class LostLeaseError(Exception):
    """Another publisher has the lease, or this one may not take it; the message says why. It never leaves a round."""


@dataclass(frozen=True, slots=True)
class Identity:
    """The publisher that requests the lease. `holder` is a process (32 hexadecimal digits), `place` names the machine
    and folder of its checkpoint lock file, `guard_lock` the locked file itself: equal ones exclude each other by the
    file's lock."""

    holder: str
    place: str
    guard_lock: str


def identity(folder: Path, guard_lock: str) -> Identity:
    """Return the identity of this process, whose checkpoint lock file is in `folder`."""
    place = f"{socket.gethostname()}:{folder.resolve()}"
    return Identity(secrets.token_hex(16), place[-255:], guard_lock[:160])


def refusal(row: LeaseRow | None, me: Identity, now: datetime, guard_fault: str | None) -> str | None:
    """Return why `me` stands by (None: it may take the lease, or has it).

    `guard_fault` is what is wrong with its checkpoint file, not with the log; `now` is the database's time. The caller
    holds the lock of its checkpoint folder.
    """
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
    """The lease as one publisher sees it. Not safe for several threads."""

    def __init__(self, engine: Engine, me: Identity) -> None:
        self._engine = engine
        self.me = me
        self.fence: int | None = None
        """The fence under which this publisher writes; None while it has no lease."""

    def wants_renewal(self, row: LeaseRow | None, now: datetime) -> bool:
        """True if the lease must be taken or renewed even if there is nothing else to write."""
        if row is None or row.holder != self.me.holder:
            return True
        return (now - row.renewed_at).total_seconds() >= RENEW_SECONDS

    @contextmanager
    def held(self, guard_fault: str | None = None) -> Iterator[Connection]:
        """Run a transaction that writes under the row's lock with this publisher's fence; it takes or renews the lease.
        Raises LostLeaseError (then nothing is written), DatabaseUnavailable."""
        with writing(self._engine) as connection:
            self._enter(connection, guard_fault)
            yield connection

    def release(self) -> None:
        """Release the lease, so that the next publisher need not wait. Raises DatabaseUnavailable."""
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
        is_holder = (row.holder, row.fence) == (
            self.me.holder,
            self.fence,
        )  # else another publisher has it
        self.fence = row.fence if is_holder else row.fence + 1
        store.set_lease(connection, LeaseRow(self.fence, self.me.holder, self.me.place, self.me.guard_lock, now))
