"""Appending to the log in a transaction that holds the head: dense indexes, leaves, bodies, tiles, head.

No other code writes to the record. The sequencer calls `append` once for a whole batch; operator commands call
`append_governance`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from ledger.errors import ConfigurationError, LogFrozen
from ledger.protocol.encoding import from_hour, hour_floor
from ledger.server.log import queries as log_store
from ledger.server.log.queries import Head
from ledger.tlog.entries import EventType, GovernanceType, commitment, event_leaf, governance_leaf
from ledger.tlog.merkle import edge_tiles, grow, leaf_hash


@dataclass(frozen=True, slots=True)
class EventDraft:
    """A private entry to append: its canonical body, and the fresh 32-byte salt that hides it."""

    type: EventType
    body: bytes
    salt: bytes


@dataclass(frozen=True, slots=True)
class GovernanceDraft:
    """A public entry to append."""

    type: GovernanceType
    body: Mapping[str, Any]


Draft = EventDraft | GovernanceDraft


def open_head(connection: Connection, now: datetime) -> tuple[Head, datetime]:
    """Lock the head. Return it with the time to record: `now`, but never before the newest entry.

    Raises LogFrozen, and ConfigurationError before genesis.
    """
    head = log_store.lock_head(connection)
    if head is None:
        raise ConfigurationError("The ledger has no log yet. Run `refund-ledger keys init` first.")
    if head.frozen is not None:
        raise LogFrozen(
            "The log is frozen: nothing can be recorded until its operator has repaired it.", retry_after_seconds=60
        )
    return head, max(now, head.recorded_at)


def append(connection: Connection, head: Head, drafts: Sequence[Draft], recorded_at: datetime) -> None:
    """Append `drafts` at indexes head.size, head.size + 1, ... The caller holds the head (see `open_head`). Raises the
    errors of SQLAlchemy."""
    if not drafts:
        return
    hour = from_hour(hour_floor(recorded_at))
    entries: list[dict[str, Any]] = []
    bodies: list[dict[str, Any]] = []
    hashes: list[bytes] = []
    for index, draft in enumerate(drafts, head.size):
        if isinstance(draft, EventDraft):
            leaf = event_leaf(index, hour, commitment(draft.salt, draft.body))
            bodies.append(
                {"entry_index": index, "type": draft.type.value, "hour": hour, "salt": draft.salt, "body": draft.body}
            )
        else:
            leaf = governance_leaf(index, draft.type, hour, draft.body)
            log_store.insert_governance(connection, index, draft.type.value)
        entries.append({"entry_index": index, "leaf": leaf})
        hashes.append(leaf_hash(leaf))
    edge = log_store.read_tiles(connection, edge_tiles(head.size))
    growth = grow(head.size, edge, hashes)
    log_store.insert_entries(connection, entries)
    log_store.insert_bodies(connection, bodies)
    log_store.write_tiles(connection, growth.tiles)
    log_store.move_head(connection, growth.size, recorded_at)


def append_governance(connection: Connection, type_: GovernanceType, body: Mapping[str, Any], now: datetime) -> int:
    """Append one governance entry in the caller's `writing` transaction, and return its index. Raises LogFrozen,
    ConfigurationError before genesis."""
    head, recorded_at = open_head(connection, now)
    append(connection, head, [GovernanceDraft(type_, body)], recorded_at)
    return head.size


def tile_reader(connection: Connection) -> Callable[[int, int], bytes]:
    """Return a `ReadTile` over stored tiles that reads each tile once."""
    seen: dict[tuple[int, int], bytes] = {}

    def read(level: int, index: int) -> bytes:
        place = (level, index)
        if place not in seen:
            seen[place] = log_store.read_tile(connection, level, index) or b""
        return seen[place]

    return read
