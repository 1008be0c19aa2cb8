"""The end of an epoch: retired in the log first, destroyed when every process must have noticed.

Retiring proves the reports that still came in under the old epoch after the switch, and logs their root. Destroying
deletes, in this order and each step repeatable: listings and subjects of the epoch, its snapshots, the auditor's files,
the key file. So a key file of a retired epoch says that something may be left to do on this machine.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import pairwise

from sqlalchemy import Connection, Engine

from ledger.errors import RotationRefused
from ledger.protocol.tags import tag
from ledger.server.db.engine import reading, writing
from ledger.server.db.index_walks import last_report
from ledger.server.db.tables.appeals import CaseTag
from ledger.server.db.tables.reports import Listing, Subject
from ledger.server.keys.epochs import EpochRow, change_epoch, current_of, only, read_epochs
from ledger.server.keys.files import fsync_folder, oprf_path
from ledger.server.log.writer import GovernanceDraft, append, open_head
from ledger.server.reports.malformed import context_of, take_back_malformed
from ledger.server.rotation import queries as store
from ledger.server.rotation.audit import AuditFolder, Prover, audit_dir, forget_audit_dir, late_dir
from ledger.server.rotation.convert import Progress, RotationStage, Turn, alone, in_force, load_turn, silent, tell
from ledger.server.rotation.executor import beside
from ledger.server.rotation.fill import prove_pairs, turn_tail
from ledger.server.rotation.run import TAIL_LIMIT, Clock
from ledger.server.settings import Settings
from ledger.server.snapshots import queries as snapshot_store
from ledger.server.snapshots.files import folder_of
from ledger.tlog.entries import GovernanceType, RotationRecord, key_rotation_body

SETTLE = timedelta(minutes=1)
"""After a retirement, until nothing rests on the epoch any more. Processes let nobody in on epochs that they read more
than MAX_AGE_SECONDS (5) ago; the rest is for machines whose clocks differ."""

LATE_DAYS = 7
"""How long an auditor can fetch the batches of late reports: they are made at retirement and cannot go with it."""

WINDOW = 1_000
"""Rows that one transaction of the destruction looks at."""

_MODELS: tuple[store.Model, ...] = (Listing, Subject, CaseTag)
"""Tables with rows of an epoch that has to be destroyed."""

log = logging.getLogger(__name__)


# --- retiring -----------------------------------------------------------------------------------------------


def retire(
    settings: Settings, engine: Engine, clock: Clock, *, early: bool = False, progress: Progress = silent
) -> EpochRow:
    """Make the previous epoch a retired one: it answers no lookup from now on. Returns its row as it is then.

    `early`: although its grace is not over. Raises RotationRefused when there is none, while its grace runs, or while
    another run is at work; ConfigurationError, LogFrozen, DatabaseUnavailable.
    """
    with alone(settings):
        with reading(engine) as connection:
            rows = read_epochs(connection)
        old, new = only(rows, "previous"), current_of(rows)
        if old is None:
            raise RotationRefused("No epoch is waiting to be retired.")
        assert old.grace_until is not None
        assert new.switch_index is not None
        if old.grace_until > clock() and not early:
            raise RotationRefused(
                f"Epoch {old.epoch} answers lookups until its grace is over.", grace_until=old.grace_until
            )
        turn = load_turn(settings, old, new)
        audit = AuditFolder(late_dir(settings, old.epoch, new.epoch))
        audit.destroy()
        take_back_malformed(context_of(settings, engine, clock))
        # A report since the switch has a subject under the old epoch only if it was made under it.
        switched = (new.switch_index, -1)
        with reading(engine) as connection:
            total = store.count_rows(connection, Subject, old.epoch, switched)
        with beside(total) as executor:
            prover = Prover(audit, turn.keys, turn.factor, switched, executor, settings.oprf_threads)
            retired: EpochRow | None = None
            limit = TAIL_LIMIT
            while retired is None:
                prove_pairs(engine, turn, prover, RotationStage.RETIRE, total, progress)
                with writing(engine) as connection:
                    retired = _retire(connection, settings, turn, prover, clock(), limit)
                    progress(RotationStage.RETIRE, prover.elements, prover.elements + 1)
                limit *= 2
        log.info("epoch_retired", extra={"epoch": old.epoch})
        progress(RotationStage.RETIRE, prover.elements + 1, prover.elements + 1)
    return retired


def _retire(
    connection: Connection, settings: Settings, turn: Turn, prover: Prover, now: datetime, limit: int
) -> EpochRow | None:
    """As `_switch`: None when more than `limit` late subjects are still to be proved."""
    head, recorded_at = open_head(connection, now)
    rows = read_epochs(connection)
    if current_of(rows) != turn.new or only(rows, "previous") != turn.old:
        raise RotationRefused("Another machine has retired this epoch.")
    if store.count_rows(connection, Subject, turn.old.epoch, prover.last) > limit:
        return None
    turn_tail(connection, turn, prover, limit, settings.oprf_threads)
    record = RotationRecord(turn.old.epoch, turn.new.epoch, prover.elements, prover.root) if prover.elements else None
    members = in_force(connection, rows, turn.new)
    members["retired_epochs"] = sorted([*members["retired_epochs"], turn.old.epoch])
    append(
        connection,
        head,
        [GovernanceDraft(GovernanceType.KEY_ROTATION, key_rotation_body(**members, rotation=record))],
        recorded_at,
    )
    change_epoch(connection, turn.old.epoch, state="retired", retired_at=recorded_at)
    tell(settings, connection, recorded_at, "retired", turn.old.epoch, head.size)
    if record is not None and turn.new.switch_index is not None:
        prover.write_facts(switch_entry=turn.new.switch_index, root_entry=head.size)
    return next(row for row in read_epochs(connection) if row.epoch == turn.old.epoch)


# --- destroying ---------------------------------------------------------------------------------------------


def finish_due(settings: Settings, engine: Engine, clock: Clock) -> None:
    """What happens by itself: retire an epoch whose grace is over, and destroy what has settled.

    Raises ConfigurationError when a key to prove with is not on this machine, LogFrozen, DatabaseUnavailable,
    RotationRefused when another run is at work: the next round finds what is left.
    """
    with reading(engine) as connection:
        previous = only(read_epochs(connection), "previous")
    if previous is not None and previous.grace_until is not None and previous.grace_until <= clock():
        retire(settings, engine, clock)
    destroy_settled(settings, engine, clock)


def unsettled(rows: Sequence[EpochRow], settings: Settings, now: datetime) -> datetime | None:
    """When the retired epoch whose key file is still here can be destroyed; None if there is none that has to wait."""
    waiting = [
        row.retired_at + SETTLE
        for row in rows
        if row.state == "retired" and row.retired_at is not None and oprf_path(settings, row.epoch).exists()
    ]
    return max([moment for moment in waiting if moment > now], default=None)


def destroy_settled(settings: Settings, engine: Engine, clock: Clock, progress: Progress = silent) -> list[int]:
    """Destroy what is left of epochs retired at least `SETTLE` ago; returns them. Raises as `finish_due`."""
    now = clock()
    with reading(engine) as connection:
        rows = read_epochs(connection)
    done = []
    for old, new in _retired_pairs(rows):
        assert old.retired_at is not None
        if old.retired_at + SETTLE <= now and oprf_path(settings, old.epoch).exists():
            with alone(settings):
                _destroy(settings, engine, old, new, now, progress)
            done.append(old.epoch)
            log.info("epoch_destroyed", extra={"epoch": old.epoch})
        if old.retired_at + timedelta(days=LATE_DAYS) <= now:
            AuditFolder(late_dir(settings, old.epoch, new.epoch)).destroy()
            forget_audit_dir(settings, old.epoch, new.epoch)
    return done


def _retired_pairs(rows: Sequence[EpochRow]) -> list[tuple[EpochRow, EpochRow]]:
    """Each retired epoch with the one that took its place."""
    switched = [row for row in rows if row.switch_index is not None]
    return [(old, new) for old, new in pairwise(switched) if old.state == "retired"]


def _destroy(
    settings: Settings, engine: Engine, old: EpochRow, new: EpochRow, now: datetime, progress: Progress
) -> None:
    with reading(engine) as connection:
        total = sum(store.count_rows(connection, model, old.epoch) for model in _MODELS)
    done = 0
    for model in _MODELS:
        after = -1
        while True:
            progress(RotationStage.DESTROY, done, max(done, total) + 3)
            with reading(engine) as connection:
                last = last_report(connection, model.report_id, after, WINDOW)
                found = last is not None and store.any_in(connection, model, old.epoch, after, last)
            if last is None:
                break
            if found:
                done += _destroy_window(engine, model, old, new, after, last, now)
            after = last
    _destroy_snapshots(settings, engine, old.epoch)
    progress(RotationStage.DESTROY, done + 1, done + 3)
    AuditFolder(audit_dir(settings, old.epoch, new.epoch)).destroy()
    progress(RotationStage.DESTROY, done + 2, done + 3)
    oprf_path(settings, old.epoch).unlink()
    fsync_folder(settings.keys_dir)
    progress(RotationStage.DESTROY, done + 3, done + 3)


def _destroy_window(
    engine: Engine,
    model: store.Model,
    old: EpochRow,
    new: EpochRow,
    after: int,
    last: int,
    now: datetime,
) -> int:
    """Delete the rows of reports `after` < id <= `last` under the head, so that no writer has others of them locked.

    Records of lookups move to the new tags first: people may still ask who looked them up.
    """
    with writing(engine) as connection:
        open_head(connection, now)
        if model is CaseTag:
            return store.delete_epoch(connection, model, old.epoch, after, last)
        if model is Listing:
            tags = dict(store.tag_pairs(connection, old.epoch, new.epoch, after, last))
        else:
            rows = store.pairs_between(connection, old.epoch, new.epoch, after, last)
            tags = {tag(row.kind, row.old_element): tag(row.kind, row.new_element) for row in rows}
        store.move_lookups(connection, tags)
        return store.delete_epoch(connection, model, old.epoch, after, last)


def _destroy_snapshots(settings: Settings, engine: Engine, epoch: int) -> None:
    with writing(engine) as connection:
        versions = store.snapshots_of(connection, epoch)
        snapshot_store.delete_snapshots(connection, versions)
    for version in versions:
        shutil.rmtree(folder_of(settings, version), ignore_errors=True)
