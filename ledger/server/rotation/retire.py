"""The end of an epoch: it is retired in the log first, and destroyed when every process has read that.

Retiring proves the reports that were recorded under the old epoch after the switch, and logs their root. Destroying
deletes, in this order: listings and subjects of the epoch, its snapshots, the auditor's files, the key file (where
several holders share the key: the factor file). Each step can be repeated. So that file shows that work may be left to
do on this machine.
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
from ledger.server.keys.factors import converting_path
from ledger.server.keys.files import destroy_secret
from ledger.server.log.writer import GovernanceDraft, append, open_head
from ledger.server.reports.malformed import context_of, take_back_malformed
from ledger.server.rotation import queries as store
from ledger.server.rotation.audit import AuditFolder, Prover, audit_dir, forget_audit_dir, late_dir
from ledger.server.rotation.convert import (
    Conversion,
    Progress,
    RotationStage,
    emit_key_rotated,
    exclusive_run,
    in_force,
    load_conversion,
    silent,
)
from ledger.server.rotation.executor import multiplication_executor
from ledger.server.rotation.fill import convert_tail, prove_pairs
from ledger.server.rotation.run import TAIL_LIMIT, Clock
from ledger.server.settings import Settings
from ledger.server.snapshots import queries as snapshot_store
from ledger.server.snapshots.files import folder_of
from ledger.tlog.entries import GovernanceType, KeyEvent, RotationRecord, key_rotation_body

SETTLE = timedelta(minutes=1)
"""Time after a retirement until no process uses the epoch any longer. Processes accept no request on epochs that they
read more than MAX_AGE_SECONDS (5) ago; the rest of the time is for machines whose clocks differ."""

LATE_DAYS = 7
"""Days for which an auditor can fetch the batches of late reports. They are written at retirement, so retirement cannot
delete them."""

WINDOW = 1_000
"""Number of rows of a table that one transaction of the destruction reads at most."""

_MODELS: tuple[store.Model, ...] = (Listing, Subject, CaseTag)
"""Tables with rows of an epoch, which destruction deletes."""

log = logging.getLogger(__name__)


# --- retiring -----------------------------------------------------------------------------------------------


def retire(
    settings: Settings, engine: Engine, clock: Clock, *, early: bool = False, progress: Progress = silent
) -> EpochRow:
    """Retire the previous epoch, so that it answers no lookup from now on; return its new row.

    `early`: retire it before the end of its grace period. Raises RotationRefused if there is no previous epoch, during
    its grace period, or during another run; ConfigurationError, LogFrozen, Unavailable (the process that multiplies was
    killed), DatabaseUnavailable.
    """
    with exclusive_run(settings):
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
        conversion = load_conversion(settings, old, new)
        audit = AuditFolder(late_dir(settings, old.epoch, new.epoch))
        audit.destroy()
        take_back_malformed(context_of(settings, engine, clock))
        # A report since the switch has a subject under the old epoch only if it was sent under that epoch.
        switched = (new.switch_index, -1)
        with reading(engine) as connection:
            total = store.count_rows(connection, Subject, old.epoch, switched)
        with multiplication_executor(total) as executor:
            prover = Prover(audit, conversion.keys, conversion.factor, switched, executor, settings.oprf_threads)
            retired: EpochRow | None = None
            limit = TAIL_LIMIT
            while retired is None:
                prove_pairs(engine, conversion, prover, RotationStage.RETIRE, total, progress)
                with writing(engine) as connection:
                    retired = _retire(connection, settings, conversion, prover, clock(), limit)
                    progress(RotationStage.RETIRE, prover.elements, prover.elements + 1)
                limit *= 2
        log.info("epoch_retired", extra={"epoch": old.epoch})
        progress(RotationStage.RETIRE, prover.elements + 1, prover.elements + 1)
    return retired


def _retire(
    connection: Connection, settings: Settings, conversion: Conversion, prover: Prover, now: datetime, limit: int
) -> EpochRow | None:
    """Retire the epoch in this transaction; return None instead if more than `limit` late subjects are not proved
    yet."""
    head, recorded_at = open_head(connection, now)
    rows = read_epochs(connection)
    current = current_of(rows)
    if not conversion.new.same_keys(current) or not conversion.old.same_keys(only(rows, "previous")):
        raise RotationRefused("Another machine has retired this epoch.")
    if store.count_rows(connection, Subject, conversion.old.epoch, prover.last) > limit:
        return None
    convert_tail(connection, conversion, prover, limit, settings.oprf_threads)
    record = (
        RotationRecord(conversion.old.epoch, conversion.new.epoch, prover.elements, prover.root)
        if prover.elements
        else None
    )
    members = in_force(connection, rows, current)
    members["retired_epochs"] = sorted([*members["retired_epochs"], conversion.old.epoch])
    append(
        connection,
        head,
        [
            GovernanceDraft(
                GovernanceType.KEY_ROTATION, key_rotation_body(**members, kind=KeyEvent.RETIRE, rotation=record)
            )
        ],
        recorded_at,
    )
    change_epoch(connection, conversion.old.epoch, state="retired", retired_at=recorded_at)
    emit_key_rotated(settings, connection, recorded_at, "retired", conversion.old.epoch, head.size)
    if record is not None and conversion.new.switch_index is not None:
        prover.write_facts(switch_entry=conversion.new.switch_index, root_entry=head.size)
    return next(row for row in read_epochs(connection) if row.epoch == conversion.old.epoch)


# --- destroying ---------------------------------------------------------------------------------------------


def finish_due(settings: Settings, engine: Engine, clock: Clock) -> None:
    """Retire an epoch after its grace period, and destroy epochs retired at least `SETTLE` ago. Called regularly.

    Raises ConfigurationError if a key for the proofs is not on this machine, LogFrozen, Unavailable,
    DatabaseUnavailable, RotationRefused during another run. The next call does the work that is left.
    """
    with reading(engine) as connection:
        previous = only(read_epochs(connection), "previous")
    if previous is not None and previous.grace_until is not None and previous.grace_until <= clock():
        retire(settings, engine, clock)
    destroy_settled(settings, engine, clock)


def unsettled(rows: Sequence[EpochRow], settings: Settings, now: datetime) -> datetime | None:
    """Return the time at which the retired epochs whose keys or factors are on this machine can be destroyed; None if
    none has to wait."""
    waiting = [
        old.retired_at + SETTLE
        for old, new in _retired_pairs(rows)
        if old.retired_at is not None and converting_path(settings, old, new).exists()
    ]
    return max([moment for moment in waiting if moment > now], default=None)


def destroy_settled(settings: Settings, engine: Engine, clock: Clock, progress: Progress = silent) -> list[int]:
    """Destroy the data of epochs retired at least `SETTLE` ago; return their numbers. Raises ConfigurationError,
    LogFrozen, DatabaseUnavailable, RotationRefused during another run."""
    now = clock()
    with reading(engine) as connection:
        rows = read_epochs(connection)
    destroyed = []
    for old, new in _retired_pairs(rows):
        assert old.retired_at is not None
        if old.retired_at + SETTLE <= now and converting_path(settings, old, new).exists():
            with exclusive_run(settings):
                _destroy(settings, engine, old, new, now, progress)
            destroyed.append(old.epoch)
            log.info("epoch_destroyed", extra={"epoch": old.epoch})
        if old.retired_at + timedelta(days=LATE_DAYS) <= now:
            AuditFolder(late_dir(settings, old.epoch, new.epoch)).destroy()
            forget_audit_dir(settings, old.epoch, new.epoch)
    return destroyed


def _retired_pairs(rows: Sequence[EpochRow]) -> list[tuple[EpochRow, EpochRow]]:
    """Return each retired epoch with the epoch that replaced it."""
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
                has_rows = last is not None and store.any_in(connection, model, old.epoch, after, last)
            if last is None:
                break
            if has_rows:
                done += _destroy_window(engine, model, old, new, after, last, now)
            after = last
    _destroy_snapshots(settings, engine, old.epoch)
    progress(RotationStage.DESTROY, done + 1, done + 3)
    AuditFolder(audit_dir(settings, old.epoch, new.epoch)).destroy()
    progress(RotationStage.DESTROY, done + 2, done + 3)
    destroy_secret(converting_path(settings, old, new))
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
    """Delete the rows of the reports `after` < id <= `last`; return their number. The transaction holds the head, so
    that no other writer has locked rows of these reports.

    Records of lookups move to the new tags first, because people may still want to see which platforms looked them up.
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
