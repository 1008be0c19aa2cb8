"""`keys init`: keys, checkpoint lock file, schema and the log's first entries.

After a crash in any step, running it again completes that step. No file or row is ever overwritten.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import Connection

from ledger.errors import ConfigurationError, HolderMismatch
from ledger.protocol.ceremony.kinds import CeremonyKind
from ledger.protocol.voprf import public_key
from ledger.rules.policy.shipped import shipped_policy
from ledger.server.db import migrate
from ledger.server.db.engine import writing
from ledger.server.db.opening import open_database
from ledger.server.keys.cards import NewSharing, check_addressed, check_prepared, is_prepared, own_log_key
from ledger.server.keys.epochs import EpochRow, insert_epoch, insert_sharing
from ledger.server.keys.files import OPRF_FILE, create_key_files, key_files, load_log_key, load_oprf, raw_public
from ledger.server.log import queries as log_store
from ledger.server.log.checkpoint_lock import CheckpointLock
from ledger.server.log.logged_keys import check_log_key
from ledger.server.log.policy_queries import insert_text
from ledger.server.log.publisher import publish_once
from ledger.server.log.writer import GovernanceDraft, append, open_head
from ledger.server.settings import Settings
from ledger.tlog.checkpoint import Checkpoint, sign, verifier_key
from ledger.tlog.entries import GovernanceType, KeyEvent, key_rotation_body, policy_body
from ledger.tlog.key_history import BEGUN_SINGLE
from ledger.tlog.merkle import EMPTY_ROOT

KEY_FILE_COUNT = 3
FIRST_EPOCH = 1


@dataclass(frozen=True, slots=True)
class Initialised:
    """The result of `keys init`: whether the keys are new, and the log's size now."""

    created_keys: bool
    log_size: int


def init_keys(settings: Settings, now: datetime, sharing: NewSharing | None = None) -> Initialised:
    """Create the missing ones of keys, checkpoint lock file, schema and genesis entries. With `sharing`, the OPRF key
    is the one that its holders have made, and the other keys exist already (`keys.cards.prepare_for_holders`).

    Raises ConfigurationError when keys and database do not belong together, when only some key files exist, or when
    there is nothing left to do; HolderMismatch for cards of another ledger, epoch or ceremony; LogFrozen,
    InvalidCheckpoint, DatabaseUnavailable.
    """
    if sharing is not None:
        present = _check_genesis(settings, sharing)
    else:
        present = key_files(settings)
        if is_prepared(settings):
            raise ConfigurationError("This key folder waits for the cards of the holders: `keys init --card ...`.")
        if present and len(present) != KEY_FILE_COUNT:
            raise ConfigurationError(
                "Some key files exist and some are missing. Restore them; they are never made anew."
            )
    engine = open_database(settings, current=False, create=True, pool_size=1)
    try:
        if not migrate.is_current(engine):
            migrate.check_known(migrate.found_revision(engine))
            migrate.upgrade(settings.database_url)
        with writing(engine) as connection:
            head = log_store.read_head(connection)
            if head is not None and head.size > 0:
                if present:
                    check_log_key(load_log_key(settings), settings, connection)
                    raise ConfigurationError("Keys and log exist already. `keys init` never overwrites them.")
                raise ConfigurationError("The database holds a log whose keys are not in the key folder.")
        if not present:
            create_key_files(settings)
        key = load_log_key(settings)
        checkpoint_lock = CheckpointLock(settings.guard_dir, settings.origin, raw_public(key))
        try:
            if not checkpoint_lock.try_lock():
                raise ConfigurationError("A publisher holds the guard. Stop the server first.")
            _create_checkpoint(checkpoint_lock, key, settings)
            with writing(engine) as connection:
                _write_genesis(connection, settings, key, now, sharing)
            verdict = publish_once(engine, checkpoint_lock, key, settings.origin, now)
        finally:
            checkpoint_lock.close()
    finally:
        engine.dispose()
    return Initialised(created_keys=not present, log_size=verdict.signed_size or 0)


def _create_checkpoint(checkpoint_lock: CheckpointLock, key: Ed25519PrivateKey, settings: Settings) -> None:
    existing = checkpoint_lock.read()
    if existing is None:
        checkpoint_lock.write(sign(Checkpoint(settings.origin, 0, EMPTY_ROOT), key))
    elif existing[0].size > 0:
        raise ConfigurationError("The guard has seen a longer log than this empty database. Restore the database.")


def _check_genesis(settings: Settings, sharing: NewSharing) -> list[Path]:
    """Check the sharing with which a ledger begins against this key folder; return its key files."""
    if (settings.keys_dir / OPRF_FILE).exists():
        raise ConfigurationError(f"The key folder is that of a 1-of-1 ledger. {BEGUN_SINGLE}")
    check_prepared(settings)
    statement = sharing.statement
    check_addressed(settings, statement, own_log_key(settings))
    if statement.kind is not CeremonyKind.GENERATE or statement.previous is not None or statement.epoch != FIRST_EPOCH:
        raise HolderMismatch("A ledger begins with the cards of a ceremony that generates the key of epoch 1.")
    return key_files(settings)


def _write_genesis(
    connection: Connection, settings: Settings, key: Ed25519PrivateKey, now: datetime, sharing: NewSharing | None
) -> None:
    if log_store.read_head(connection) is None:
        log_store.create_head(connection, now)
    head, recorded_at = open_head(connection, now)
    log_key = verifier_key(settings.origin, raw_public(key))
    if sharing is None:
        epoch, holder, secret = load_oprf(settings)
        row = EpochRow(epoch, "current", holder, public_key(secret), head.size, head.size, announced_at=recorded_at)
        keys = key_rotation_body(
            epoch=epoch,
            holders=[(holder, row.public_key)],
            log_origin=settings.origin,
            log_key=log_key,
            kind=KeyEvent.GENESIS,
        )
    else:
        shared = sharing.statement.keys
        row = EpochRow(
            FIRST_EPOCH,
            "current",
            None,
            shared.public_key,
            head.size,
            head.size,
            announced_at=recorded_at,
            threshold=shared.threshold,
            generation=shared.generation,
        )
        keys = key_rotation_body(
            epoch=FIRST_EPOCH,
            holders=sharing.shared_key(head.size),
            log_origin=settings.origin,
            log_key=log_key,
            kind=KeyEvent.GENESIS,
            sharing=sharing.introduced(None),
        )
    text, policy = shipped_policy()
    insert_text(connection, text)
    # No member is bound by a policy before the first one, so it needs no week's notice.
    first = policy_body(
        version=policy.version,
        toml_sha256=hashlib.sha256(text.encode()).digest(),
        published_at=recorded_at,
        in_effect_at=recorded_at,
    )
    drafts = [GovernanceDraft(GovernanceType.KEY_ROTATION, keys), GovernanceDraft(GovernanceType.POLICY, first)]
    append(connection, head, drafts, recorded_at)
    insert_epoch(connection, row)
    if sharing is not None:
        insert_sharing(connection, sharing.sharing_row(head.size, recorded_at), sharing.holder_rows())
