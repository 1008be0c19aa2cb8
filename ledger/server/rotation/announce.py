"""The first stage: announces the next epoch's key in the log, so that platforms can tag their users under it before the
switch."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import Connection, Engine

from ledger.errors import RotationRefused
from ledger.protocol.voprf import public_key
from ledger.server.db.engine import reading, writing
from ledger.server.keys.epochs import EpochRow, current_of, insert_epoch, only, read_epochs
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
from ledger.server.settings import Settings
from ledger.tlog.entries import GovernanceType, PlatformState, key_rotation_body

GRANT_DAYS = 90
"""Days for which the elements granted for new tags can be used."""

log = logging.getLogger(__name__)


def ensure_announced(settings: Settings, engine: Engine, now: datetime, progress: Progress) -> Conversion:
    """Announce the next epoch unless one is announced already; return the conversion to it. The caller holds
    `exclusive_run`.

    A key file that a killed run left behind is used, because no other run has used it.
    Raises RotationRefused during a grace period, ConfigurationError, LogFrozen, DatabaseUnavailable.
    """
    progress(RotationStage.ANNOUNCE, 0, 2)
    with reading(engine) as connection:
        rows = read_epochs(connection)
    old, new = startable(rows), only(rows, "next")
    if new is None:
        number = max(row.epoch for row in rows) + 1
        load_oprf(settings, old.epoch)  # raises before anything is written
        if not oprf_path(settings, number).exists():
            create_oprf_file(settings, number)
        progress(RotationStage.ANNOUNCE, 1, 2)
        with writing(engine) as connection:
            new = _announce(connection, settings, number, now)
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
    body = key_rotation_body(**in_force(connection, rows, old), next_epoch=(number, [(holder, new.public_key)]))
    append(connection, head, [GovernanceDraft(GovernanceType.KEY_ROTATION, body)], recorded_at)
    insert_epoch(connection, new)
    emit_key_rotated(settings, connection, recorded_at, "announced", number, head.size)
    _grant(connection, settings, number, recorded_at)
    log.info("rotation_announced", extra={"epoch": number, "entry_index": head.size})
    return new


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
