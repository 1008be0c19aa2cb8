"""The first stage: the next epoch's key, announced in the log, so that platforms can tag their users anew before."""

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
from ledger.server.oprf import budgets
from ledger.server.platforms import queries as members
from ledger.server.rotation import queries as store
from ledger.server.rotation.convert import Progress, RotationStage, Turn, in_force, load_turn, tell
from ledger.server.settings import Settings
from ledger.tlog.entries import GovernanceType, PlatformState, key_rotation_body

GRANT_DAYS = 90
"""How long the elements granted for tagging anew may be used."""

log = logging.getLogger(__name__)


def ensure_announced(settings: Settings, engine: Engine, now: datetime, progress: Progress) -> Turn:
    """Announce the next epoch unless one is announced already. The caller is alone.

    A key file that a killed run left behind is used: nothing but this run can have seen it.
    Raises RotationRefused while a grace runs, ConfigurationError, LogFrozen, DatabaseUnavailable.
    """
    progress(RotationStage.ANNOUNCE, 0, 2)
    with reading(engine) as connection:
        rows = read_epochs(connection)
    old, new = startable(rows), only(rows, "next")
    if new is None:
        number = max(row.epoch for row in rows) + 1
        load_oprf(settings, old.epoch)  # before anything is made
        if not oprf_path(settings, number).exists():
            create_oprf_file(settings, number)
        progress(RotationStage.ANNOUNCE, 1, 2)
        with writing(engine) as connection:
            new = _announce(connection, settings, number, now)
    turn = load_turn(settings, old, new)
    progress(RotationStage.ANNOUNCE, 2, 2)
    return turn


def startable(rows: Sequence[EpochRow]) -> EpochRow:
    """The current epoch. Raises RotationRefused while an older one still has its grace, ConfigurationError."""
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
    tell(settings, connection, recorded_at, "announced", number, head.size)
    _grant(connection, settings, number, recorded_at)
    log.info("rotation_announced", extra={"epoch": number, "entry_index": head.size})
    return new


def _grant(connection: Connection, settings: Settings, number: int, now: datetime) -> None:
    """To every active platform as many elements as it has had evaluated so far: its users are to be tagged anew."""
    used = store.oprf_uses(connection)
    for platform in members.read_platforms(connection):
        if platform.status == PlatformState.ACTIVE:
            elements = max(used.get(platform.name, 0), settings.oprf_daily_quota_elements)
            budgets.insert_grant(
                connection,
                platform=platform.name,
                elements=elements,
                reason=f"rotation to epoch {number}",
                granted_at=now,
                expires_at=now + timedelta(days=GRANT_DAYS),
            )
            log.info("oprf_granted", extra={"platform": platform.name, "elements": elements, "epoch": number})
