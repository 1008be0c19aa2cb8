"""The first stage: announces the next epoch's key in the log, so that platforms can tag their users under it before the
switch."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, Engine

from ledger.errors import HolderMismatch, RotationRefused
from ledger.protocol.ceremony.kinds import CeremonyKind
from ledger.protocol.voprf import public_key
from ledger.server.db.engine import reading, writing
from ledger.server.keys.cards import NewSharing, check_receiving_key
from ledger.server.keys.epochs import EpochRow, current_of, insert_epoch, only, read_epochs
from ledger.server.keys.factors import store_factor
from ledger.server.keys.files import create_oprf_file, load_oprf, oprf_path
from ledger.server.log.writer import GovernanceDraft, append, open_head
from ledger.server.oprf import budget_queries
from ledger.server.platforms import queries as members
from ledger.server.rotation import queries as store
from ledger.server.rotation.convert import (
    Conversion,
    Progress,
    RotationStage,
    emit_key_rotated,
    in_force,
    load_conversion,
)
from ledger.server.rotation.sharings import append_sharing, check_follows
from ledger.server.settings import Settings
from ledger.tlog.ceremony_files import open_factor
from ledger.tlog.entries import GovernanceType, KeyEvent, PlatformState, key_rotation_body
from ledger.tlog.key_history import BEGUN_SINGLE

HOLDERS_ROTATE = (
    "Several holders share the key, so they rotate it: each runs `refund-ledger holder rotate`, `certify` and "
    "`finish`. Then run `rotate --card ... --certificate ...` with the cards and certificates of all holders."
)

GRANT_DAYS = 90
"""Days for which the elements granted for new tags can be used."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RotationFiles:
    """What the holders of a shared key made for its rotation: their cards, and the texts of their certificate files,
    which carry the factor for the ledger."""

    sharing: NewSharing
    certificates: tuple[bytes, ...]


def ensure_announced(
    settings: Settings, engine: Engine, now: datetime, progress: Progress, files: RotationFiles | None = None
) -> Conversion:
    """Announce the next epoch unless one is announced already; return the conversion to it. The caller holds
    `exclusive_run`. `files` are needed exactly where several holders share the key and no epoch is announced yet.

    A key or factor file that a killed run left behind is used, because no other run has used it.
    Raises RotationRefused during a grace period, without `files` of a shared key, with `files` of a 1-of-1 ledger or of
    another rotation than the announced one; ConfigurationError, LogFrozen, DatabaseUnavailable; for the content of
    `files` HolderMismatch, InvalidSignature, InvalidProof, CeremonyFault, CeremonyMismatch, InvalidInput.
    """
    progress(RotationStage.ANNOUNCE, 0, 2)
    with reading(engine) as connection:
        rows = read_epochs(connection)
    old, new = startable(rows), only(rows, "next")
    if files is not None and not old.is_shared:
        raise RotationRefused(BEGUN_SINGLE)
    if new is None:
        number = max(row.epoch for row in rows) + 1
        if old.is_shared:
            new = _announce_shared(settings, engine, old, number, files, now, progress)
        else:
            load_oprf(settings, old.epoch)  # raises before anything is written
            if not oprf_path(settings, number).exists():
                create_oprf_file(settings, number)
            progress(RotationStage.ANNOUNCE, 1, 2)
            with writing(engine) as connection:
                new = _announce(connection, settings, number, now)
    elif files is not None and files.sharing.statement.keys.public_key != new.public_key:
        raise RotationRefused(f"Epoch {new.epoch} is announced with another key than that of these cards.")
    conversion = load_conversion(settings, old, new)
    progress(RotationStage.ANNOUNCE, 2, 2)
    return conversion


def startable(rows: Sequence[EpochRow]) -> EpochRow:
    """Return the current epoch. Raises RotationRefused in the grace period of an older epoch, ConfigurationError."""
    previous = only(rows, "previous")
    if previous is not None:
        raise RotationRefused(
            f"Epoch {previous.epoch} still answers lookups. It has to be retired before the next rotation.",
            epoch=previous.epoch,
            grace_until=previous.grace_until,
        )
    return current_of(rows)


def _announce(connection: Connection, settings: Settings, number: int, now: datetime) -> EpochRow:
    head, recorded_at = open_head(connection, now)
    rows = read_epochs(connection)
    old = startable(rows)
    if max(row.epoch for row in rows) + 1 != number:
        raise RotationRefused("Another machine has announced an epoch just now: rotate there.")
    _, holder, secret = load_oprf(settings, number)
    new = EpochRow(number, "next", holder, public_key(secret), head.size, None, announced_at=recorded_at)
    body = key_rotation_body(
        **in_force(connection, rows, old),
        kind=KeyEvent.ANNOUNCE,
        next_epoch=(number, [(holder, new.public_key)]),
    )
    append(connection, head, [GovernanceDraft(GovernanceType.KEY_ROTATION, body)], recorded_at)
    insert_epoch(connection, new)
    emit_key_rotated(settings, connection, recorded_at, "announced", number, head.size)
    _grant(connection, settings, number, recorded_at)
    log.info("rotation_announced", extra={"epoch": number, "entry_index": head.size})
    return new


def _announce_shared(
    settings: Settings,
    engine: Engine,
    old: EpochRow,
    number: int,
    files: RotationFiles | None,
    now: datetime,
    progress: Progress,
) -> EpochRow:
    """Store the factor of a rotation that the holders made, then announce its epoch. The holders grant the elements for
    new tags themselves."""
    if files is None:
        raise RotationRefused(HOLDERS_ROTATE)
    statement = files.sharing.statement
    with reading(engine) as connection:
        known = check_follows(connection, settings, files.sharing, CeremonyKind.ROTATE)
    if statement.epoch != number or known.epoch != old.epoch:
        raise HolderMismatch(f"The cards are of epoch {statement.epoch}; the next one is {number}.")
    factor = open_factor(check_receiving_key(settings), files.certificates, known, statement)
    store_factor(settings, old, number, statement.keys.public_key, factor)
    progress(RotationStage.ANNOUNCE, 1, 2)
    with writing(engine) as connection:
        return append_sharing(connection, settings, files.sharing, now)


def _grant(connection: Connection, settings: Settings, number: int, now: datetime) -> None:
    """Grant every active platform as many elements as it has had evaluated so far, so that it can tag its users under
    the next epoch."""
    used = store.oprf_uses(connection)
    for platform in members.read_platforms(connection):
        if platform.status == PlatformState.ACTIVE:
            elements = max(used.get(platform.name, 0), settings.oprf_daily_quota_elements)
            budget_queries.insert_grant(
                connection,
                platform=platform.name,
                elements=elements,
                reason=f"rotation to epoch {number}",
                granted_at=now,
                expires_at=now + timedelta(days=GRANT_DAYS),
            )
            log.info("oprf_granted", extra={"platform": platform.name, "elements": elements, "epoch": number})
