"""A rotation from its announcement to its switch, and how far one is."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from sqlalchemy import Connection, Engine

from ledger.errors import RotationRefused
from ledger.server.db.engine import reading, writing
from ledger.server.db.tables.reports import Subject
from ledger.server.keys.epochs import EpochRow, change_epoch, current_of, only, read_epochs
from ledger.server.keys.files import oprf_path
from ledger.server.log.writer import GovernanceDraft, append, open_head
from ledger.server.reports.malformed import context_of, take_back_malformed
from ledger.server.rotation import queries as store
from ledger.server.rotation.announce import ensure_announced
from ledger.server.rotation.audit import AuditFolder, Prover, audit_dir, choose_audit_dir
from ledger.server.rotation.convert import Progress, RotationStage, Turn, alone, in_force, silent, tell
from ledger.server.rotation.executor import beside
from ledger.server.rotation.fill import fill, prove_pairs, turn_tail
from ledger.server.rotation.queries import START
from ledger.server.settings import Settings
from ledger.tlog.entries import GovernanceType, RotationRecord, key_rotation_body

TAIL_LIMIT = 100
"""Subjects that the switch turns and proves itself, while everybody who reports has to wait."""

log = logging.getLogger(__name__)

Clock = Callable[[], datetime]


@dataclass(frozen=True, slots=True)
class Switched:
    """A finished switch: its log entry, how many elements were turned, the Merkle root over them (32 bytes), until when
    the old epoch answers, and where the auditor's files are."""

    old_epoch: int
    new_epoch: int
    entry_index: int
    elements: int
    root: bytes
    grace_until: datetime
    audit_dir: Path


@dataclass(frozen=True, slots=True)
class EpochStatus:
    """An epoch, its subjects, and whether its key file is on this machine."""

    row: EpochRow
    subjects: int
    key_here: bool


def rotate(
    settings: Settings,
    engine: Engine,
    clock: Clock,
    *,
    grace_days: int = 30,
    folder: Path | None = None,
    progress: Progress = silent,
) -> Switched:
    """All stages up to the switch, or what is left of them. `folder` is where the auditor's files go.

    Reports with a malformed subject are taken back first (`server.reports.malformed`): what they were recorded under
    cannot be turned.

    Raises RotationRefused while another run is at work, while a grace runs, or when rows are missing;
    ConfigurationError when key files are missing or wrong; LogFrozen, DatabaseUnavailable. Run it again then.
    """
    with alone(settings):
        turn = ensure_announced(settings, engine, clock(), progress)
        audit = AuditFolder(choose_audit_dir(settings, turn.old.epoch, turn.new.epoch, folder))
        audit.start()
        take_back_malformed(context_of(settings, engine, clock))
        with reading(engine) as connection:
            total = store.count_rows(connection, Subject, turn.old.epoch)
        with beside(total) as executor:
            prover = Prover(audit, turn.keys, turn.factor, START, executor, settings.oprf_threads)
            switched: Switched | None = None
            limit = TAIL_LIMIT
            while switched is None:
                fill(engine, turn, clock, executor, settings.oprf_threads, progress)
                prove_pairs(engine, turn, prover, RotationStage.PROVE, total, progress)
                progress(RotationStage.SWITCH, 0, 2)
                with writing(engine) as connection:
                    switched = _switch(connection, settings, turn, prover, clock(), limit, timedelta(days=grace_days))
                    if switched is not None:
                        progress(RotationStage.SWITCH, 1, 2)
                # If too much came in meanwhile: again, holding nobody up, but not for ever.
                limit *= 2
        log.info("rotation_switched", extra={"epoch": turn.new.epoch, "entry_index": switched.entry_index})
        progress(RotationStage.SWITCH, 2, 2)
    return switched


def announce(settings: Settings, engine: Engine, now: datetime, progress: Progress = silent) -> EpochRow:
    """The first stage alone: platforms can tag their users under the next epoch from now on. Raises as `rotate`.

    Announcing again changes nothing.
    """
    with alone(settings):
        return ensure_announced(settings, engine, now, progress).new


def status(settings: Settings, engine: Engine) -> list[EpochStatus]:
    """All epochs, oldest first. Counts every subject."""
    with reading(engine) as connection:
        return [
            EpochStatus(row, store.count_rows(connection, Subject, row.epoch), oprf_path(settings, row.epoch).exists())
            for row in read_epochs(connection)
        ]


def _switch(
    connection: Connection,
    settings: Settings,
    turn: Turn,
    prover: Prover,
    now: datetime,
    limit: int,
    grace: timedelta,
) -> Switched | None:
    """Make the next epoch the current one; None when more than `limit` subjects are still to be turned.

    Raises RotationRefused when the epochs are not what they were, or when a row is missing.
    """
    head, recorded_at = open_head(connection, now)
    rows = read_epochs(connection)
    if current_of(rows) != turn.old or only(rows, "next") != turn.new:
        raise RotationRefused("Another machine has gone on with this rotation.")
    if store.count_rows(connection, Subject, turn.old.epoch, prover.last) > limit:
        return None
    turn_tail(connection, turn, prover, limit, settings.oprf_threads)
    missing = store.missing(connection, turn.old.epoch, turn.new.epoch)
    if any(missing):
        raise RotationRefused(
            f"{missing.subjects} subjects and {missing.listings} listings have no row under the next epoch, though all "
            "were filled. Somebody else writes to this database.",
            subjects=missing.subjects,
            listings=missing.listings,
        )
    grace_until = recorded_at.replace(microsecond=0) + grace
    body = key_rotation_body(
        **in_force(connection, rows, turn.new),
        previous_epoch=(turn.old.epoch, [(turn.old.holder, turn.old.public_key)], grace_until),
        rotation=RotationRecord(turn.old.epoch, turn.new.epoch, prover.elements, prover.root),
    )
    append(connection, head, [GovernanceDraft(GovernanceType.KEY_ROTATION, body)], recorded_at)
    change_epoch(connection, turn.old.epoch, state="previous", grace_until=grace_until)
    change_epoch(connection, turn.new.epoch, state="current", switch_index=head.size)
    tell(settings, connection, recorded_at, "switched", turn.new.epoch, head.size)
    prover.write_facts(switch_entry=head.size, root_entry=head.size)
    return Switched(
        turn.old.epoch,
        turn.new.epoch,
        head.size,
        prover.elements,
        prover.root,
        grace_until,
        audit_dir(settings, turn.old.epoch, turn.new.epoch),
    )
