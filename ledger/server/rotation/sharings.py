"""New sharings of a key that several holders have: their succession, and their entries in the log.

A refresh or resharing makes the next generation of an epoch and leaves k, K, every element and every tag as they are,
so only the log and the list of holders change. A rotation announces its epoch with the same entry.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, Engine

from ledger.errors import HolderMismatch, InvalidRequest, RotationRefused
from ledger.protocol.ceremony.kinds import CeremonyKind
from ledger.server.db.engine import reading, writing
from ledger.server.keys.cards import NewSharing, check_addressed
from ledger.server.keys.epochs import (
    EpochRow,
    SharingRow,
    change_epoch,
    change_holder_url,
    current_of,
    insert_epoch,
    insert_sharing,
    newest_sharing,
    only,
    read_epochs,
)
from ledger.server.log.logged_keys import logged_keys
from ledger.server.log.writer import GovernanceDraft, append, open_head
from ledger.server.rotation.convert import emit_key_rotated, epoch_key, exclusive_run, in_force
from ledger.server.settings import Settings
from ledger.tlog.ceremony_files import verify_multiple
from ledger.tlog.entries import GovernanceType, key_rotation_body
from ledger.tlog.key_history import BEGUN_SINGLE, event_of
from ledger.tlog.key_statement import KeyStatement, check_succession, parse_statement

STAGES = {
    CeremonyKind.ROTATE: "announced",
    CeremonyKind.REFRESH: "refreshed",
    CeremonyKind.RESHARE: "reshared",
}
"""The `state` of the webhook about each kind of sharing."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Published:
    """The result of `publish_sharing`: the epoch with its holders, the log's entry of the sharing, and whether that
    entry is new (else only addresses could change)."""

    row: EpochRow
    entry_index: int
    is_new: bool


def publish_sharing(settings: Settings, engine: Engine, sharing: NewSharing, now: datetime) -> Published:
    """Log a refresh or resharing; its holders are those of the epoch from now on. For the sharing that was logged last,
    store the addresses that its cards name, and log nothing: so the command can be repeated.

    Raises RotationRefused for a 1-of-1 ledger and during another run; InvalidRequest for a rotation or a first
    ceremony; HolderMismatch, InvalidSignature if the sharing does not follow the logged one; ConfigurationError,
    LogFrozen, DatabaseUnavailable.
    """
    statement = sharing.statement
    with exclusive_run(settings):
        with writing(engine) as connection:
            newest = _newest(connection)
            if newest.statement == statement.canonical:
                for index, url in sharing.urls.items():
                    change_holder_url(connection, newest.epoch, newest.generation, index, url)
                row = next(row for row in read_epochs(connection) if row.epoch == newest.epoch)
                return Published(row, newest.entry_index, False)
        if statement.kind not in (CeremonyKind.REFRESH, CeremonyKind.RESHARE):
            raise InvalidRequest(
                "These cards are of a ceremony that makes a new key. For a rotation use `rotate --card`, for a new "
                "ledger `keys init --card`."
            )
        with reading(engine) as connection:
            check_follows(connection, settings, sharing, statement.kind)
        with writing(engine) as connection:
            row = append_sharing(connection, settings, sharing, now)
    assert row.statement_index is not None
    return Published(row, row.statement_index, True)


def check_follows(connection: Connection, settings: Settings, sharing: NewSharing, kind: CeremonyKind) -> KeyStatement:
    """Check that a sharing is of this ledger and `kind`, and follows the one that was logged last; return the statement
    of that one.

    Raises HolderMismatch, InvalidSignature, InvalidProof, RotationRefused (1 of 1), ConfigurationError.
    """
    statement = sharing.statement
    if statement.kind is not kind:
        raise HolderMismatch(f"The cards are of a ceremony of kind {statement.kind.value}, not {kind.value}.")
    check_addressed(settings, statement, logged_keys(connection)["log"]["key"])
    known = parse_statement(json.loads(_newest(connection).statement))
    check_succession(known, statement, sharing.endorsements, verify_multiple)
    return known


def append_sharing(connection: Connection, settings: Settings, sharing: NewSharing, now: datetime) -> EpochRow:
    """Append the entry of a checked sharing that follows the one logged last, and store its holders; return the epoch's
    row. The caller has checked it with `check_follows`.

    Raises RotationRefused if another machine has logged a sharing meanwhile, LogFrozen, ConfigurationError.
    """
    head, recorded_at = open_head(connection, now)
    statement, rows = sharing.statement, read_epochs(connection)
    keys, newest = statement.keys, _newest(connection)
    known, previous = parse_statement(json.loads(newest.statement)), statement.previous
    if previous is None or (previous.epoch, previous.generation, previous.public_key) != (
        known.epoch,
        known.keys.generation,
        known.keys.public_key,
    ):
        raise RotationRefused("Another machine has logged a sharing of the key just now.")
    current, following, waiting = current_of(rows), only(rows, "next"), only(rows, "previous")
    rotates = statement.kind is CeremonyKind.ROTATE
    if rotates and (following is not None or waiting is not None):
        raise RotationRefused("Another machine has announced an epoch just now: rotate there.")
    shared = sharing.shared_key(head.size)
    members = in_force(connection, rows, current)
    if current.epoch == statement.epoch:
        members["holders"] = shared
    elif rotates or (following is not None and following.epoch == statement.epoch):
        members["next_epoch"] = (statement.epoch, shared)
    else:
        raise RotationRefused("Only the keys of the current and of the announced epoch are shared anew.")
    if following is not None and following.epoch != statement.epoch:
        members["next_epoch"] = (following.epoch, epoch_key(following))
    if waiting is not None and waiting.grace_until is not None:
        members["previous_epoch"] = (waiting.epoch, epoch_key(waiting), waiting.grace_until)
    body = key_rotation_body(**members, kind=event_of(statement.kind), sharing=sharing.introduced(newest.entry_index))
    append(connection, head, [GovernanceDraft(GovernanceType.KEY_ROTATION, body)], recorded_at)
    if rotates:
        row = EpochRow(
            statement.epoch,
            "next",
            None,
            keys.public_key,
            head.size,
            None,
            announced_at=recorded_at,
            threshold=keys.threshold,
            generation=keys.generation,
        )
        insert_epoch(connection, row)
    else:
        change_epoch(connection, statement.epoch, threshold=keys.threshold, generation=keys.generation)
    insert_sharing(connection, sharing.sharing_row(head.size, recorded_at), sharing.holder_rows())
    emit_key_rotated(settings, connection, recorded_at, STAGES[statement.kind], statement.epoch, head.size)
    log.info(
        "sharing_logged",
        extra={
            "epoch": statement.epoch,
            "generation": keys.generation,
            "kind": statement.kind.value,
            "entry_index": head.size,
        },
    )
    return next(row for row in read_epochs(connection) if row.epoch == statement.epoch)


def _newest(connection: Connection) -> SharingRow:
    """Return the sharing that was logged last. Raises RotationRefused in a 1-of-1 ledger."""
    newest = newest_sharing(connection)
    if newest is None:
        raise RotationRefused(BEGUN_SINGLE)
    return newest
