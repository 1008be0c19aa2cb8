"""A rotation from its announcement to its switch, and the status of the epochs."""

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
from ledger.server.keys.factors import factor_pairs, factor_path
from ledger.server.keys.files import oprf_path
from ledger.server.log.writer import GovernanceDraft, append, open_head
from ledger.server.reports.malformed import context_of, take_back_malformed
from ledger.server.rotation import queries as store
from ledger.server.rotation.announce import RotationFiles, ensure_announced
from ledger.server.rotation.audit import AuditFolder, Prover, audit_dir, choose_audit_dir
from ledger.server.rotation.convert import (
    Conversion,
    Progress,
    RotationStage,
    emit_key_rotated,
    epoch_key,
    exclusive_run,
    in_force,
    silent,
)
from ledger.server.rotation.executor import multiplication_executor
from ledger.server.rotation.fill import convert_tail, fill, prove_pairs
from ledger.server.rotation.queries import START
from ledger.server.settings import Settings
from ledger.tlog.entries import GovernanceType, KeyEvent, RotationRecord, key_rotation_body

TAIL_LIMIT = 100
"""Subjects that the switch itself converts and proves, while all new reports have to wait."""

log = logging.getLogger(__name__)

Clock = Callable[[], datetime]


@dataclass(frozen=True, slots=True)
class Switched:
    """A finished switch: its log entry, the number of converted elements, the Merkle root over them (32 bytes), the
    time until which the old epoch answers, and the folder of the auditor's files."""

    old_epoch: int
    new_epoch: int
    entry_index: int
    elements: int
    root: bytes
    grace_until: datetime
    audit_dir: Path


@dataclass(frozen=True, slots=True)
class EpochStatus:
    """An epoch, the number of its subjects, and whether the key file that it needs is on this machine: its key, or the
    factor that leads to it; None if it needs none."""

    row: EpochRow
    subjects: int
    key_here: bool | None


def rotate(
    settings: Settings,
    engine: Engine,
    clock: Clock,
    *,
    grace_days: int = 30,
    folder: Path | None = None,
    progress: Progress = silent,
    files: RotationFiles | None = None,
) -> Switched:
    """Run all stages up to the switch, or those that are left; return the switch. `folder` is for the auditor's files,
    `files` are what the holders of a shared key made (needed until the next epoch is announced).

    Reports with a malformed subject are withdrawn first (`server.reports.malformed`), because their elements cannot be
    converted.

    Raises RotationRefused during another run, during a grace period, or if rows are missing; ConfigurationError if key
    files are missing or wrong; LogFrozen; Unavailable if the process that multiplies was killed; DatabaseUnavailable;
    and for `files` what `ensure_announced` does. After an error, run it again.
    """
    with exclusive_run(settings):
        conversion = ensure_announced(settings, engine, clock(), progress, files)
        audit = AuditFolder(choose_audit_dir(settings, conversion.old.epoch, conversion.new.epoch, folder))
        audit.start()
        take_back_malformed(context_of(settings, engine, clock))
        with reading(engine) as connection:
            total = store.count_rows(connection, Subject, conversion.old.epoch)
        with multiplication_executor(total) as executor:
            prover = Prover(audit, conversion.keys, conversion.factor, START, executor, settings.oprf_threads)
            switched: Switched | None = None
            limit = TAIL_LIMIT
            while switched is None:
                fill(engine, conversion, clock, executor, settings.oprf_threads, progress)
                prove_pairs(engine, conversion, prover, RotationStage.PROVE, total, progress)
                progress(RotationStage.SWITCH, 0, 2)
                with writing(engine) as connection:
                    switched = _switch(
                        connection, settings, conversion, prover, clock(), limit, timedelta(days=grace_days)
                    )
                    if switched is not None:
                        progress(RotationStage.SWITCH, 1, 2)
                # Too many reports were recorded meanwhile: fill again without the head. The limit grows, so this ends.
                limit *= 2
        log.info("rotation_switched", extra={"epoch": conversion.new.epoch, "entry_index": switched.entry_index})
        progress(RotationStage.SWITCH, 2, 2)
    return switched


def announce(
    settings: Settings,
    engine: Engine,
    now: datetime,
    progress: Progress = silent,
    files: RotationFiles | None = None,
) -> EpochRow:
    """Run the first stage alone; platforms can tag their users under the next epoch from now on. Return the epoch.

    A second announcement changes nothing. Raises RotationRefused, ConfigurationError, LogFrozen, DatabaseUnavailable,
    and for `files` what `ensure_announced` does.
    """
    with exclusive_run(settings):
        return ensure_announced(settings, engine, now, progress, files).new


def status(settings: Settings, engine: Engine) -> list[EpochStatus]:
    """Return all epochs, oldest first. Counts every subject. Raises DatabaseUnavailable."""
    with reading(engine) as connection:
        rows = read_epochs(connection)
        converting = {new.epoch for _, new in factor_pairs(rows)}
        statuses = []
        for row in rows:
            if row.is_shared:
                here = factor_path(settings, row.epoch).exists() if row.epoch in converting else None
            else:
                here = oprf_path(settings, row.epoch).exists()
            statuses.append(EpochStatus(row, store.count_rows(connection, Subject, row.epoch), here))
        return statuses


def _switch(
    connection: Connection,
    settings: Settings,
    conversion: Conversion,
    prover: Prover,
    now: datetime,
    limit: int,
    grace: timedelta,
) -> Switched | None:
    """Make the next epoch the current one; return None instead if more than `limit` subjects are not converted yet.

    Raises RotationRefused if the states of the epochs have changed, or if a row is missing.
    """
    head, recorded_at = open_head(connection, now)
    rows = read_epochs(connection)
    old, new = current_of(rows), only(rows, "next")
    if not conversion.old.same_keys(old) or new is None or not conversion.new.same_keys(new):
        raise RotationRefused("Another machine has continued this rotation.")
    if store.count_rows(connection, Subject, conversion.old.epoch, prover.last) > limit:
        return None
    convert_tail(connection, conversion, prover, limit, settings.oprf_threads)
    missing = store.missing(connection, conversion.old.epoch, conversion.new.epoch)
    if any(missing):
        raise RotationRefused(
            f"{missing.subjects} subjects and {missing.listings} listings have no row under the next epoch, though all "
            "were filled. Another program writes to this database.",
            subjects=missing.subjects,
            listings=missing.listings,
        )
    grace_until = recorded_at.replace(microsecond=0) + grace
    body = key_rotation_body(
        **in_force(connection, rows, new),
        kind=KeyEvent.SWITCH,
        previous_epoch=(old.epoch, epoch_key(old), grace_until),
        rotation=RotationRecord(conversion.old.epoch, conversion.new.epoch, prover.elements, prover.root),
    )
    append(connection, head, [GovernanceDraft(GovernanceType.KEY_ROTATION, body)], recorded_at)
    change_epoch(connection, conversion.old.epoch, state="previous", grace_until=grace_until)
    change_epoch(connection, conversion.new.epoch, state="current", switch_index=head.size)
    emit_key_rotated(settings, connection, recorded_at, "switched", conversion.new.epoch, head.size)
    prover.write_facts(switch_entry=head.size, root_entry=head.size)
    return Switched(
        conversion.old.epoch,
        conversion.new.epoch,
        head.size,
        prover.elements,
        prover.root,
        grace_until,
        audit_dir(settings, conversion.old.epoch, conversion.new.epoch),
    )
